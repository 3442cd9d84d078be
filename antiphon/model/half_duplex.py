"""Models that take turns: `TurnModel`, whatever hears, thinks and speaks, and `HalfDuplexModel`, a part for each."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from antiphon import hub
from antiphon.audio.given import as_audio
from antiphon.audio.io import Audio
from antiphon.codecs.mini.model import MiniCodec
from antiphon.dialogue.backend import check_voice
from antiphon.dialogue.chat import Chat, Reply, joined
from antiphon.dialogue.events import Event, Sampling
from antiphon.dialogue.full_duplex import FullDuplexSession
from antiphon.dialogue.half_duplex import HalfDuplexBackend, as_hearing
from antiphon.dialogue.session import Session, TurnSession
from antiphon.dialogue.tool_calls import Message
from antiphon.dialogue.tools import Tool, as_tool
from antiphon.errors import HubError, ModelError, SessionError, ToolCallError, UnsaidWarning
from antiphon.model.base import Model, given_sampling, heard_from, named_parts
from antiphon.models.asr.heard import Heard
from antiphon.models.asr.recognizer import Recognizer
from antiphon.models.llm.likelihood import said_likelihoods
from antiphon.models.llm.thinker import Thinker
from antiphon.models.scene.hearing import SceneHearing
from antiphon.models.scene.reading import SceneReading
from antiphon.models.tts.phonemes import Phonemizer
from antiphon.models.tts.synthesizer import Synthesizer
from antiphon.models.tts.talker import Talker
from antiphon.nn.memory import map_large_blocks, return_memory

if TYPE_CHECKING:
    from antiphon.audio.endpoint import FindsEnds
    from antiphon.audio.given import Sound
    from antiphon.dialogue.backend import TurnBackend
    from antiphon.dialogue.turn_taking.decision import TakesTurns

FAMILY = "thinker-talker"


class TurnModel(Model):
    """Takes turns.

    Attributes:
        backend: what hears, thinks and speaks.
    """

    backend: TurnBackend

    def reply_text(self, text: str) -> str:
        """See `Model.reply_text`."""
        return self._written(Message("user", text))

    def _written(self, message: Message) -> str:
        answer = self.backend.chat().answer([message], spoken=False)
        for _ in answer.events():
            pass
        return answer.text.strip()

    def reply(
        self,
        audio: Sound,
        seed: int = 0,
        temperature: float | None = None,
        top_k: int | None = None,
        sample_rate: int | None = None,
    ) -> Reply:
        """See `Model.reply`."""
        how = replace(Sampling(seed), **given_sampling(temperature, top_k))
        return self.chat(how).say_spoken(as_audio(audio, sample_rate))

    def stream_reply(
        self,
        audio: Sound,
        seed: int = 0,
        temperature: float | None = None,
        top_k: int | None = None,
        sample_rate: int | None = None,
    ) -> Generator[Event, None, Reply]:
        """See `Model.stream_reply`."""
        how = replace(Sampling(seed), **given_sampling(temperature, top_k))
        return self.chat(how).stream_spoken(as_audio(audio, sample_rate))

    def chat(
        self,
        sampling: Sampling | None = None,
        text_only: bool = False,
        tools: Sequence[Callable[..., Any] | Tool] = (),
    ) -> Chat:
        """See `Model.chat`."""
        self._check_voice(sampling)
        return Chat(self.backend, sampling, text_only, self._tools(tools))

    def session(
        self,
        mode: str = "half-duplex",
        sampling: Sampling | None = None,
        endpointer: FindsEnds | None = None,
        direction: str = "listen",
        tools: Sequence[Callable[..., Any] | Tool] = (),
        turns: TakesTurns | None = None,
        echo: bool = False,
        backchannels: bool = False,
        pace: float | None = None,
        filler: str = "",
        nudge: float | None = None,
        selective: bool = False,
    ) -> Session:
        """See `Model.session`; there is "half-duplex", "full-duplex" and "simplex". `sampling` says how answers are
        drawn.

        `tools` are functions that answers may call, as in `chat`. In full duplex: `turns`, `echo`, `backchannels`,
        `pace`, `filler`, `nudge` and `selective` as `FullDuplexSession` has them.

        Raises:
            SessionError: what only another mode has.
        """
        self._check_voice(sampling)
        if mode != "full-duplex":
            asked = {"turns": turns, "echo": echo, "backchannels": backchannels, "pace": pace, "filler": filler,
                     "nudge": nudge, "selective": selective}  # fmt: skip
            if wrong := [name for name, value in asked.items() if value not in (None, False, "")]:
                raise SessionError(f"{' and '.join(wrong)} is of full duplex, and this is {mode}")
            return TurnSession(self.backend, mode, direction, sampling, endpointer, self._tools(tools))
        if endpointer is not None:
            raise SessionError("in full duplex `turns` says who has the floor; leave endpointer out")
        found = self._tools(tools)
        return FullDuplexSession(
            self.backend, turns, sampling, echo, backchannels, pace, found, filler, nudge, selective
        )

    def _check_voice(self, sampling: Sampling | None) -> None:
        check_voice(sampling.voice if sampling is not None else None, self.backend.voices)

    def _tools(self, tools: Sequence[Callable[..., Any] | Tool]) -> list[Tool]:
        if tools and not self.backend.calls_functions:
            raise ToolCallError("This model can't call functions: its chat template doesn't take them. Use 'base'.")
        return [as_tool(one) for one in tools]


class HalfDuplexModel(TurnModel):
    """Hears, then thinks, then speaks. Weights are shared by every conversation; what differs is kept in states.

    Args:
        recognizer, thinker, talker, codec: loaded parts.
        name: of the model.
        folders: where each part was read from, by role.
        phonemizer: loaded; by default a new one.
        scenes: hears what else is to be heard than words; None: words alone are.
        reading: has the thinker read that; by default a new one.
    """

    backend: HalfDuplexBackend

    # What ships comes first: a part that is missing is told before anything is downloaded. "adapter" and "lora" are
    # there where the thinker has them, "scene" where more than words is heard.
    ROLES = ("adapter", "lora", "scene", "codec", "talker", "asr", "thinker")
    OPTIONAL = frozenset(("adapter", "lora", "scene"))
    FITTED = frozenset(("adapter", "lora"))  # to the thinker that they were trained with

    def __init__(
        self,
        recognizer: Recognizer,
        thinker: Thinker,
        talker: Talker,
        codec: MiniCodec,
        name: str = "base",
        folders: Mapping[str, Path] | None = None,
        phonemizer: Phonemizer | None = None,
        scenes: SceneHearing | None = None,
        reading: SceneReading | None = None,
        own_thinker: bool = True,
    ):
        self.recognizer, self.thinker, self.talker, self.codec = recognizer, thinker, talker, codec
        if scenes is not None and reading is None:
            reading = SceneReading(thinker.model.embed, thinker.tokenizer, thinker.model.width)
        # A talker reads the states of the thinker that it was trained beside, and of another one the text alone.
        beside = own_thinker and talker.config.hidden == thinker.model.width
        self.synthesizer = Synthesizer(talker, codec, phonemizer or Phonemizer(), beside)
        self.backend = HalfDuplexBackend(recognizer, thinker, self.synthesizer, name, scenes, reading)
        self.folders = dict(folders or {})

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "base",
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        **parts: str | Path | None,
    ) -> HalfDuplexModel:
        """Loads a preset or a folder that `save` wrote; `parts` replaces any of `ROLES` by a folder or a hub id, and
        the thinker by a GGUF file as well. None leaves out a part that a model can do without.

        The adapter and the low-rank adapters of a preset go with its own thinker: beside another they are left out,
        unless that one is of the same width, as one trained further is. The thinker's language model computes on
        `device`, with weights of `dtype`.

        Raises:
            HubError: a part that isn't there and can't be had.
            ModelError: a thinker that is too large for the memory.
        """
        saved = name if isinstance(name, Path) else None
        preset = hub.BASE if saved else hub.preset(str(name))
        replaced = named_parts(name, parts, (*cls.ROLES, *preset.parts))
        sources = {**(_saved(saved) if saved else preset.parts), **replaced}
        if gone := {role for role, part in sources.items() if part is None} - cls.OPTIONAL:
            raise HubError(f"{str(name)!r} can't do without its {min(gone)}; it can without {', '.join(cls.OPTIONAL)}.")
        sources = {role: sources[role] for role in cls.ROLES if sources.get(role) is not None}
        hub.tell_needs(preset, [part for part in sources.values() if isinstance(part, hub.Part)])
        folders = {role: hub.folder(part, preset) for role, part in sources.items() if part is not None}
        if "thinker" in replaced and "adapter" in folders and not _fits(folders["thinker"], folders["adapter"]):
            folders = {role: path for role, path in folders.items() if role in replaced or role not in cls.FITTED}
        size = None if dtype is None else dtype.itemsize
        hub.check_memory(folders["thinker"], hub.weight_bytes(folders["thinker"], size))
        map_large_blocks()
        with ThreadPoolExecutor(1) as other:  # packing weights and reading files leave the core to one another
            thinker = other.submit(Thinker.from_pretrained, folders["thinker"], folders.get("lora"), device, dtype)
            recognizer = Recognizer.from_pretrained(folders["asr"], folders.get("adapter"), folders["thinker"])
            talker, codec = Talker.from_pretrained(folders["talker"]), MiniCodec.from_pretrained(folders["codec"])
            phonemizer, known, scenes, reading = Phonemizer(), saved.name if saved else str(name), None, None
            if "scene" in folders:
                scenes = SceneHearing.from_pretrained(folders["scene"], recognizer.encoder, recognizer.whole)
                llm = thinker.result()
                reading = SceneReading.from_pretrained(
                    folders["scene"], llm.model.embed, llm.tokenizer, llm.model.width
                )
            # Of one as wide, which thinks otherwise, it would read manners that nothing called for.
            own = not talker.config.situation or "thinker" not in replaced or "talker" in replaced
            model = cls(recognizer, thinker.result(), talker, codec, known, folders, phonemizer, scenes, reading, own)
        if model.thinker.lora is None:  # adapters are trained to answer, on words without capitals and marks
            recognizer.likelihoods = partial(said_likelihoods, model.thinker)
        return_memory()
        return model

    def save(self, folder: Path | str) -> Path:
        """See `Model.save`: a folder for each part, and config.json.

        The talker, the codec and the low-rank adapters are written as they are now, the other parts as they were read.

        Raises:
            ModelError: the model wasn't read from folders.
        """
        folder = Path(folder)
        if not set(self.ROLES) - self.OPTIONAL <= set(self.folders):
            raise ModelError("This model was put together in memory: save its parts, talker.save_pretrained and so on.")
        for role, source in self.folders.items():
            shutil.copytree(source, folder / role, dirs_exist_ok=True)
        self.talker.save_pretrained(folder / "talker")
        self.codec.save_pretrained(folder / "codec")
        if self.thinker.lora is not None:
            self.thinker.lora.save(folder / "lora")
        config = {"family": FAMILY, "parts": sorted(self.folders)}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        return folder

    def hear(
        self,
        audio: Sound,
        sample_rate: int | None = None,
        language: str | None = None,
        translate: bool = False,
        words: bool = False,
        scene: bool = True,
    ) -> Heard:
        """See `Model.hear`."""
        options = self.recognizer.options(language, translate=translate, words=words)
        return self.backend.hear(heard_from(audio, sample_rate), options, scene)

    def think(self, heard: Heard) -> str:
        """The answer to what was heard, as text and without speaking it; "" to nothing."""
        hearing = as_hearing(heard, self.backend.reading)
        return self._written(hearing.message()) if hearing.text else ""

    @torch.no_grad()
    def say(
        self,
        text: str,
        seed: int = 0,
        temperature: float | None = None,
        top_k: int | None = None,
        voice: str | None = None,
    ) -> Audio:
        """See `Model.say`; words that aren't English letters are left out, with an `UnsaidWarning`."""
        check_voice(voice, self.backend.voices)
        how, synthesizer = replace(Sampling(seed), **given_sampling(temperature, top_k)), self.synthesizer
        state = synthesizer.init_state(how.seed, how.temperature, how.top_k, voice)
        synthesizer.read(text, state)
        if unsaid := state.speller.unsaid:
            left_out = ", ".join(unsaid)
            left_out = left_out if len(left_out) <= 100 else left_out[:100] + "..."
            warnings.warn(f"The voice speaks English and left out: {left_out}", UnsaidWarning, stacklevel=2)
        return joined(list(iter(lambda: synthesizer.step(state), None)), synthesizer.sample_rate)


def _saved(folder: Path) -> dict[str, Path]:
    """The parts in a folder that `HalfDuplexModel.save` wrote."""
    named = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("parts", [])
    return {hub.role_of(role): folder / role for role in named}


def _fits(thinker: Path, adapter: Path) -> bool:
    """Whether an adapter, and what was trained along with it, is for a thinker like this one, as far as sizes tell."""
    widths = [
        json.loads((folder / "config.json").read_text(encoding="utf-8")).get(key)
        for folder, key in ((thinker, "hidden_size"), (adapter, "embedding"))
    ]
    return widths[0] == widths[1]
