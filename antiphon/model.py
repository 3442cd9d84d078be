"""A model as one object that hears, thinks and speaks, whatever its kind: `load` finds out which it is.

model = antiphon.load()                           # or "mini-duplex", a folder that `save` wrote, a hub id
reply = model.reply("question.wav")               # .heard, .text, .audio, .timings
reply.audio.save("answer.wav")
with model.session() as session:                  # live: 80 ms frames in, events out
    for frame in microphone:
        for event in session.step(frame): ...
"""

from __future__ import annotations

import json
import os
import shutil
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from antiphon import hub
from antiphon.audio.given import as_audio
from antiphon.audio.io import Audio, stream
from antiphon.codecs.mini.model import MiniCodec
from antiphon.data.dialogue.format import MODEL
from antiphon.dialogue.chat import Chat, Reply, joined
from antiphon.dialogue.duplex.engine import DuplexEngine, DuplexState
from antiphon.dialogue.duplex.replay import Replay, replay_recording
from antiphon.dialogue.duplex.session import DuplexSession
from antiphon.dialogue.duplex.stream import DuplexStream
from antiphon.dialogue.events import AudioEvent, Sampling
from antiphon.dialogue.half_duplex import HalfDuplexBackend, as_hearing
from antiphon.dialogue.omni import OmniBackend
from antiphon.dialogue.session import Session, TurnSession
from antiphon.dialogue.tool_calls import Message
from antiphon.dialogue.tools import Tool, as_tool
from antiphon.errors import (
    ConfigError,
    HubError,
    ModelError,
    SessionError,
    ToolCallError,
    UnsaidWarning,
)
from antiphon.models.asr.heard import ENGLISH, Heard, HearingOptions
from antiphon.models.asr.recognizer import RATE as HEARING_RATE
from antiphon.models.asr.recognizer import Recognizer
from antiphon.models.llm.likelihood import said_likelihoods
from antiphon.models.llm.thinker import Thinker
from antiphon.models.moshi.bundle import Duplex, codec_name
from antiphon.models.moshi.model import MoshiSampling
from antiphon.models.omni.config import FAMILY as QWEN_OMNI
from antiphon.models.scene.hearing import SceneHearing
from antiphon.models.scene.reading import SceneReading
from antiphon.models.tts.phonemes import Phonemizer
from antiphon.models.tts.synthesizer import Synthesizer
from antiphon.models.tts.talker import Talker
from antiphon.nn.memory import map_large_blocks, return_memory

if TYPE_CHECKING:
    from antiphon.audio.endpoint import FindsEnds
    from antiphon.audio.given import Sound

THINKER_TALKER, MOSHI, OMNI = "thinker-talker", "moshi", "omni"  # families of models that can be talked to
SPEAKS_ON_SECONDS = 3.0  # at most, after the last word that a duplex model was given to say


class Model(ABC):
    """What every model that `load` gives can be asked for; one that can't do it says so (`SessionError`)."""

    @abstractmethod
    def hear(
        self,
        audio: Sound,
        sample_rate: int | None = None,
        language: str | None = None,
        translate: bool = False,
        words: bool = False,
        scene: bool = True,
    ) -> Heard:
        """What was said: `.text`, `.language`, and what else a thinker reads of it.

        Args:
            audio, sample_rate: see `as_audio`; a file may be of any length, and is read as it is heard.
            language: that is spoken ("ru", "Russian"); None to find out.
            translate: into English.
            words: with each word's times and confidence, `.words`.
            scene: with what else is heard, `.scene`, by a model that hears more than words; False saves the work.

        Raises:
            AudioError: it can't be read, or no sample rate stands beside an array.
            ModelError: a language that isn't known.
        """

    @abstractmethod
    def reply(
        self,
        audio: Sound,
        seed: int = 0,
        temperature: float | None = None,
        top_k: int | None = None,
        sample_rate: int | None = None,
    ) -> Reply:
        """Answers a spoken question aloud.

        Args:
            audio, sample_rate: the question; see `as_audio`.
            seed: the same seed gives the same wav.
            temperature, top_k: of the voice; None is the model's own.

        Raises:
            AudioError: it can't be read, or no sample rate stands beside an array.
        """

    def reply_text(self, text: str) -> str:
        """The answer of the voice assistant to typed words, without speaking it."""
        raise SessionError("This model can't be asked in writing: use reply(audio), or antiphon.load('base').")

    @abstractmethod
    def say(self, text: str, seed: int = 0, temperature: float | None = None, top_k: int | None = None) -> Audio:
        """Reads a text aloud.

        Raises:
            UnsayableError: nothing of it can be said.
        """

    def chat(
        self,
        sampling: Sampling | None = None,
        text_only: bool = False,
        tools: Sequence[Callable[..., Any] | Tool] = (),
    ) -> Chat:
        """A conversation in turns, typed or spoken, that remembers.

        Args:
            sampling: how answers are drawn.
            text_only: written, with the plain language model.
            tools: typed Python functions, with docstrings, that answers may call.

        Raises:
            SessionError: a model that listens and speaks at once.
            ToolCallError: the language model can't call functions, or one can't be a tool.
        """
        raise SessionError("This model talks live: use session(), or antiphon.load('base') for turns one by one.")

    @abstractmethod
    def session(self, mode: str = ..., *, direction: str = "listen", endpointer: FindsEnds | None = None) -> Session:
        """A live conversation: microphone frames in, events out.

        Args:
            mode: "full-duplex": both at once; "half-duplex": turns; "simplex": it only listens or only speaks.
            direction: of a simplex session: "listen" hears the user, "speak" reads aloud what `say` gives it.
            endpointer: finds the ends of the user's turns; None leaves them to `end_of_turn`.

        Raises:
            SessionError: a mode or a direction that this model doesn't have.
        """

    @abstractmethod
    def save(self, folder: Path | str) -> Path:
        """Writes a folder that `load` takes, and gives its path."""


def load(
    name: str | Path | None = None, *, device: str = "cpu", **parts: str | Path | None
) -> HalfDuplexModel | OmniModel | DuplexModel:
    """Loads a model.

    Args:
        name: a preset ("base", "small" and "mini" take turns, "mini-duplex" listens and speaks at once), or the folder
            or hub id of a model of either kind; None is "base", or "small" where memory is short. A folder that has a
            preset's name is given as "./mini".
        device: "cpu", where models talk; others are for training alone.
        parts: replace a part by a folder or a hub id, and the thinker by a GGUF file as well: `load("base",
            thinker="Qwen/Qwen2.5-7B-Instruct")`; `scene=None` hears words alone.

    Raises:
        ConfigError: a device that models don't talk on.
        HubError: no such preset or folder, or a part that can't be had.
        ModelError: a folder that holds something else, or a thinker that is too large for the memory.
    """
    if str(device) != "cpu":
        raise ConfigError(f"Models talk on the CPU, not on {device}: leave device out. Training takes a GPU by itself.")
    name = str(name) if name is not None else hub.default_preset()
    folder = None
    if name not in {preset.name for preset in hub.PRESETS} and (Path(name).is_dir() or "/" in name):
        folder = hub.folder(Path(name) if Path(name).is_dir() else name)
    family = hub.preset(name).family if folder is None else _family(folder)
    if family == THINKER_TALKER:
        return HalfDuplexModel.from_pretrained(folder or name, **parts)
    if family == OMNI and folder is not None:
        return OmniModel.from_pretrained(folder, **parts)
    if family == MOSHI:
        return DuplexModel.from_pretrained(folder or name, **parts)
    raise ModelError(f"{name} holds a {family!r}, which is no model to talk to; antiphon.codecs.load reads codecs.")


def _family(folder: Path) -> str:
    """What config.json says; Kyutai's own says nothing."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        published = OMNI if str(config.get("model_type")).startswith(QWEN_OMNI) else MOSHI
        return config.get("family", published)
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{folder / 'config.json'} can't be read ({error}): it is no model's folder.") from error


def _named(
    name: str | Path, parts: Mapping[str, str | Path | None], roles: Sequence[str]
) -> dict[str, str | Path | None]:
    """The given parts under today's names of their roles, of which these there are."""
    parts = {hub.role_of(role): part for role, part in parts.items()}
    if unknown := set(parts) - set(roles):
        raise HubError(f"{str(name)!r} has no part {min(unknown)!r}; its parts are {', '.join(dict.fromkeys(roles))}")
    return parts


def _saved(folder: Path) -> dict[str, Path]:
    """The parts in a folder that `HalfDuplexModel.save` wrote."""
    named = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("parts", [])
    return {hub.role_of(role): folder / role for role in named}


def _heard_from(audio: Sound, sample_rate: int | None) -> Audio | Iterator[torch.Tensor]:
    """A sound as a recognizer takes it: a file piece by piece, however long it is."""
    if isinstance(audio, (str, os.PathLike)) and sample_rate is None:
        return stream(os.fspath(audio), HEARING_RATE)
    return as_audio(audio, sample_rate)


def _beside(thinker: Path, talker: Path) -> bool:
    """Whether a talker was trained beside a thinker like this one, as far as their sizes tell."""
    widths = [
        json.loads((folder / "config.json").read_text(encoding="utf-8")).get(key)
        for folder, key in ((thinker, "hidden_size"), (talker, "hidden"))
    ]
    return widths[0] == widths[1]


class TurnModel(Model):
    """Takes turns.

    Attributes:
        backend: what hears, thinks and speaks.
    """

    backend: HalfDuplexBackend | OmniBackend

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
        how = replace(Sampling(seed), **_given(temperature, top_k))
        return self.chat(how).say_spoken(as_audio(audio, sample_rate))

    def chat(
        self,
        sampling: Sampling | None = None,
        text_only: bool = False,
        tools: Sequence[Callable[..., Any] | Tool] = (),
    ) -> Chat:
        """See `Model.chat`."""
        return Chat(self.backend, sampling, text_only, self._tools(tools))

    def session(
        self,
        mode: str = "half-duplex",
        sampling: Sampling | None = None,
        endpointer: FindsEnds | None = None,
        direction: str = "listen",
        tools: Sequence[Callable[..., Any] | Tool] = (),
    ) -> TurnSession:
        """See `Model.session`; there is "half-duplex" and "simplex". `sampling` says how answers are drawn; `tools` are
        functions that answers may call, as in `chat`."""
        return TurnSession(self.backend, mode, direction, sampling, endpointer, self._tools(tools))

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
    ):
        self.recognizer, self.thinker, self.talker, self.codec = recognizer, thinker, talker, codec
        if scenes is not None and reading is None:
            reading = SceneReading(thinker.model.embed, thinker.tokenizer, thinker.model.width)
        # A talker reads the states of the thinker that it was trained beside, and of another one the text alone.
        beside = talker.config.hidden == thinker.model.width
        self.synthesizer = Synthesizer(talker, codec, phonemizer or Phonemizer(), reads_thinker=beside)
        self.backend = HalfDuplexBackend(recognizer, thinker, self.synthesizer, name, scenes, reading)
        self.folders = dict(folders or {})

    @classmethod
    def from_pretrained(cls, name: str | Path = "base", **parts: str | Path | None) -> HalfDuplexModel:
        """Loads a preset or a folder that `save` wrote; `parts` replaces any of `ROLES` by a folder or a hub id, and
        the thinker by a GGUF file as well. None leaves out a part that a model can do without.

        The adapter and the low-rank adapters of a preset go with its own thinker: beside another they are left out,
        unless that one is of the same width, as one trained further is.

        Raises:
            HubError: a part that isn't there and can't be had.
            ModelError: a thinker that is too large for the memory.
        """
        saved = name if isinstance(name, Path) else None
        preset = hub.BASE if saved else hub.preset(str(name))
        replaced = _named(name, parts, (*cls.ROLES, *preset.parts))
        sources = {**(_saved(saved) if saved else preset.parts), **replaced}
        if gone := {role for role, part in sources.items() if part is None} - cls.OPTIONAL:
            raise HubError(f"{str(name)!r} can't do without its {min(gone)}; it can without {', '.join(cls.OPTIONAL)}.")
        sources = {role: sources[role] for role in cls.ROLES if sources.get(role) is not None}
        hub.tell_needs(preset, [part for part in sources.values() if isinstance(part, hub.Part)])
        folders = {role: hub.folder(part, preset) for role, part in sources.items() if part is not None}
        if "thinker" in replaced and not _beside(folders["thinker"], folders["talker"]):
            folders = {role: path for role, path in folders.items() if role in replaced or role not in cls.FITTED}
        hub.check_memory(folders["thinker"], hub.weight_bytes(folders["thinker"]))
        map_large_blocks()
        with ThreadPoolExecutor(1) as other:  # packing weights and reading files leave the core to one another
            thinker = other.submit(Thinker.from_pretrained, folders["thinker"], folders.get("lora"))
            recognizer = Recognizer.from_pretrained(folders["asr"], folders.get("adapter"), folders["thinker"])
            talker, codec = Talker.from_pretrained(folders["talker"]), MiniCodec.from_pretrained(folders["codec"])
            phonemizer, known, scenes, reading = Phonemizer(), saved.name if saved else str(name), None, None
            if "scene" in folders:
                scenes = SceneHearing.from_pretrained(folders["scene"], recognizer.whole)
                llm = thinker.result()
                reading = SceneReading.from_pretrained(
                    folders["scene"], llm.model.embed, llm.tokenizer, llm.model.width
                )
            model = cls(recognizer, thinker.result(), talker, codec, known, folders, phonemizer, scenes, reading)
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
        config = {"family": THINKER_TALKER, "parts": sorted(self.folders)}
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
        return self.backend.hear(_heard_from(audio, sample_rate), options, scene)

    def think(self, heard: Heard) -> str:
        """The answer to what was heard, as text and without speaking it; "" to nothing."""
        hearing = as_hearing(heard, self.backend.reading)
        return self._written(hearing.message()) if hearing.text else ""

    @torch.no_grad()
    def say(self, text: str, seed: int = 0, temperature: float | None = None, top_k: int | None = None) -> Audio:
        """See `Model.say`; words that aren't English letters are left out, with an `UnsaidWarning`."""
        how, synthesizer = replace(Sampling(seed), **_given(temperature, top_k)), self.synthesizer
        state = synthesizer.init_state(how.seed, how.temperature, how.top_k)
        synthesizer.read(text, state)
        if unsaid := state.speller.unsaid:
            left_out = ", ".join(unsaid)
            left_out = left_out if len(left_out) <= 100 else left_out[:100] + "..."
            warnings.warn(f"The voice speaks English and left out: {left_out}", UnsaidWarning, stacklevel=2)
        return joined(list(iter(lambda: synthesizer.step(state), None)), synthesizer.sample_rate)


class OmniModel(TurnModel):
    """Qwen2.5-Omni: hears and sees by itself, thinks, and speaks while it thinks.

    Args:
        backend: loaded.
    """

    def __init__(self, backend: OmniBackend):
        self.backend = backend

    @classmethod
    def from_pretrained(cls, folder: Path, **parts: str | Path | None) -> OmniModel:
        """Loads a folder; `thinker` replaces the thinker's language model, as `weights.save_language_model` writes it.

        Raises:
            ModelError: it is no whole model, or is too large for the memory.
        """
        thinker = _named(folder, parts, ("thinker",)).get("thinker")
        hub.check_memory(folder, hub.weight_bytes(folder))
        return cls(OmniBackend.from_pretrained(folder, None if thinker is None else hub.folder(thinker)))

    def save(self, folder: Path | str) -> Path:
        """See `Model.save`: a folder as it is published."""
        self.backend.save(folder)
        return Path(folder)

    def hear(
        self,
        audio: Sound,
        sample_rate: int | None = None,
        language: str | None = None,
        translate: bool = False,
        words: bool = False,
        scene: bool = True,
    ) -> Heard:
        """See `Model.hear`; the thinker writes it down."""
        return self.backend.hear(_heard_from(audio, sample_rate), HearingOptions(language, ENGLISH, translate, words))

    def say(self, text: str, seed: int = 0, temperature: float | None = None, top_k: int | None = None) -> Audio:
        """See `Model.say`."""
        how = replace(Sampling(seed), **_given(temperature, top_k))
        return joined([piece.samples for piece in self.backend.say(text, how)], self.backend.sample_rate)


class DuplexModel(Model):
    """Listens and speaks at once. Weights alone; conversations share them and nothing else.

    Args:
        duplex: Moshi, codec and text pieces.
        codec: the name or folder by which the codec is found again.
    """

    def __init__(self, duplex: Duplex, codec: str = "mini"):
        self.duplex, self.codec = duplex, codec

    @classmethod
    def from_pretrained(cls, name: str | Path = "mini-duplex", **parts: str | Path | None) -> DuplexModel:
        """Loads a preset or a folder; `parts` replaces `duplex` or `codec` by a folder or a hub id.

        The codec is the one that was saved with the model, or else the one that its config.json names, unless one is
        given.

        Raises:
            HubError: a part that isn't there and can't be had.
            ModelError: parts that don't fit each other.
        """
        preset = hub.MINI_DUPLEX if isinstance(name, Path) else hub.preset(name)
        given = _named(name, parts, tuple(preset.parts))
        duplex, own = given.get("duplex"), given.get("codec")
        folder = hub.folder(duplex or (name if isinstance(name, Path) else "duplex"), preset)
        codec = hub.folder(own, preset) if own else codec_name(folder)
        beside = folder / "codec"
        if not own and (beside / "config.json").is_file():
            codec = beside
        return cls(Duplex.from_pretrained(folder, codec), str(codec))

    def save(self, folder: Path | str) -> Path:
        """See `Model.save`: the model in float16, its codec in a folder of its own."""
        folder = Path(folder)
        self.duplex.save_pretrained(folder, self.codec)
        codec: Any = self.duplex.codec  # every one can, though streaming doesn't ask for it
        codec.save_pretrained(folder / "codec")
        return folder

    @cached_property
    def recognizer(self) -> Recognizer:
        """Writes down what the user says, where that is asked for: Whisper, fetched when first used. The model itself
        needs no words for what it hears."""
        return Recognizer.from_pretrained(hub.folder("asr"))

    def hear(
        self,
        audio: Sound,
        sample_rate: int | None = None,
        language: str | None = None,
        translate: bool = False,
        words: bool = False,
        scene: bool = True,
    ) -> Heard:
        """See `Model.hear`; done by the `recognizer`."""
        options = self.recognizer.options(language, translate=translate, words=words)
        return self.recognizer.hear(_heard_from(audio, sample_rate), options)

    def reply(
        self,
        audio: Sound,
        seed: int = 0,
        temperature: float | None = None,
        top_k: int | None = None,
        sample_rate: int | None = None,
        after: float = 8.0,
    ) -> Reply:
        """See `Model.reply`: what the model says to the question and in `after` seconds of silence behind it."""
        began, question = time.perf_counter(), as_audio(audio, sample_rate)
        heard = self.hear(question).text
        timings = {"hear": time.perf_counter() - began}
        replay = self.replay(question, after, seed, replace(self.duplex.sampling, **_given(temperature, top_k)))
        spans, rate = replay.spans[MODEL] or [(0.0, 0.0)], replay.sample_rate
        sound = replay.model[round(spans[0][0] * rate) : round(spans[-1][1] * rate)]
        timings |= {"total": time.perf_counter() - began, "speech": len(sound) / rate}
        return Reply(heard, " ".join(word.text for word in replay.words), Audio(sound, rate), timings)

    def say(self, text: str, seed: int = 0, temperature: float | None = None, top_k: int | None = None) -> Audio:
        """See `Model.say`; as far as it has learnt to follow its own text (`DuplexEngine.say`)."""
        stream = self.stream(
            "simplex", replace(self.duplex.sampling, **_given(temperature, top_k)), direction="speak", seed=seed
        )
        stream.say(text)
        silence, sound = torch.zeros(stream.frame_samples), list[torch.Tensor]()
        left = round(SPEAKS_ON_SECONDS / stream.frame_seconds)  # frames after the script in which it may speak on
        while stream.has_script or (left and (stream.speaking or len(sound) <= self.duplex.delay)):
            left -= not stream.has_script
            sound += [event.audio.samples for event in stream.step(silence) if isinstance(event, AudioEvent)]
        return joined(sound, stream.sample_rate)

    def session(
        self,
        mode: str = "full-duplex",
        sampling: MoshiSampling | None = None,
        endpointer: FindsEnds | None = None,
        direction: str = "listen",
        start: DuplexState | None = None,
        seed: int = 0,
        hear: bool = False,
        sample_rate: int | None = None,
        patience: float | None = None,
    ) -> DuplexSession:
        """See `Model.session`; there are all modes. On a thread of its own.

        Args:
            mode, direction, endpointer: see `Model.session`.
            sampling, start, seed: see `DuplexStream`.
            hear: also write down what the user says (`HeardEvent`), with `recognizer`.
            sample_rate, patience: see `DuplexSession`.
        """
        stream = self.stream(mode, sampling, endpointer, direction, start, seed)
        return DuplexSession(stream, self.recognizer if hear else None, sample_rate, patience=patience)

    def stream(
        self,
        mode: str = "full-duplex",
        sampling: MoshiSampling | None = None,
        endpointer: FindsEnds | None = None,
        direction: str = "listen",
        start: DuplexState | None = None,
        seed: int = 0,
    ) -> DuplexStream:
        """The same without a thread, on the clock of the frames: see `DuplexStream`."""
        return DuplexStream(self.duplex, mode, direction, start, sampling, seed, endpointer)

    def engine(self, sampling: MoshiSampling | None = None, capacity: int = 1) -> DuplexEngine:
        """Many conversations in one batch: see `DuplexEngine`."""
        return DuplexEngine(self.duplex, sampling, capacity)

    def prompt(self, text: str = "", voice: Audio | Path | str | None = None, seed: int = 0) -> DuplexState:
        """A start for conversations, with a past: see `DuplexEngine.prompt`. `voice` may be a file."""
        return self.engine().prompt(text, None if voice is None else as_audio(voice), seed)

    def replay(
        self,
        recording: Audio | Path | str,
        after: float = 4.0,
        seed: int = 0,
        sampling: MoshiSampling | None = None,
        start: DuplexState | None = None,
        hear: bool = False,
    ) -> Replay:
        """Plays a recording to the model, as if somebody said it now.

        Args:
            recording: the user, or its file.
            after: seconds of silence after it, in which it can answer.
            seed, sampling, start: of the conversation.
            hear: also write down what the user says.
        """
        stream = self.stream(sampling=sampling, start=start, seed=seed)
        return replay_recording(stream, as_audio(recording), after, self.recognizer if hear else None)


def _given(temperature: float | None, top_k: int | None) -> dict[str, Any]:
    """Those that were given; a model's own hold for the others."""
    return {name: value for name, value in (("temperature", temperature), ("top_k", top_k)) if value is not None}
