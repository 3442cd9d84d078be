"""A model that listens and speaks at once."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from antiphon import hub
from antiphon.audio.given import as_audio
from antiphon.audio.io import Audio
from antiphon.data.dialogue.format import MODEL
from antiphon.dialogue.backend import check_voice
from antiphon.dialogue.chat import Reply, joined
from antiphon.dialogue.duplex.engine import DuplexEngine, DuplexState
from antiphon.dialogue.duplex.replay import Replay, replay_recording
from antiphon.dialogue.duplex.session import DuplexSession
from antiphon.dialogue.duplex.stream import DuplexStream
from antiphon.dialogue.events import AudioEvent
from antiphon.model.base import Model, given_sampling, heard_from, named_parts
from antiphon.models.asr.heard import Heard
from antiphon.models.asr.recognizer import Recognizer
from antiphon.models.moshi.bundle import Duplex, codec_name
from antiphon.models.moshi.model import MoshiSampling

if TYPE_CHECKING:
    from antiphon.audio.endpoint import FindsEnds
    from antiphon.audio.given import Sound

SPEAKS_ON_SECONDS = 3.0  # at most, after the last word that a duplex model was given to say


class DuplexModel(Model):
    """Listens and speaks at once. Weights alone; conversations share them and nothing else.

    Args:
        duplex: Moshi, codec and text pieces.
        codec: the name or folder by which the codec is found again.
    """

    def __init__(self, duplex: Duplex, codec: str = "mini"):
        self.duplex, self.codec = duplex, codec

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "mini-duplex",
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        **parts: str | Path | None,
    ) -> DuplexModel:
        """Loads a preset or a folder; `parts` replaces `duplex`, `codec` or `asr` (the Whisper whose encoder
        one with `hearing` reads) by a folder or a hub id.

        The codec is the one that was saved with the model, or else the one that its config.json names, unless one is
        given. Moshi and codec compute on `device`, Moshi with weights of `dtype` (None: float32).

        Raises:
            HubError: a part that isn't there and can't be had.
            ModelError: parts that don't fit each other.
        """
        preset = hub.MINI_DUPLEX if isinstance(name, Path) else hub.preset(name)
        given = named_parts(name, parts, tuple(preset.parts))
        duplex, own = given.get("duplex"), given.get("codec")
        folder = hub.folder(duplex or (name if isinstance(name, Path) else "duplex"), preset)
        codec = hub.folder(own, preset) if own else codec_name(folder)
        beside = folder / "codec"
        if not own and (beside / "config.json").is_file():
            codec = beside
        encoder = hub.folder(whisper, preset) if (whisper := given.get("asr")) else None
        return cls(Duplex.from_pretrained(folder, codec, encoder, dtype or torch.float32).to(device), str(codec))

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
        return Recognizer.from_pretrained(self.duplex.encoder or hub.folder("asr"))

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
        return self.recognizer.hear(heard_from(audio, sample_rate), options)

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
        replay = self.replay(question, after, seed, replace(self.duplex.sampling, **given_sampling(temperature, top_k)))
        spans, rate = replay.spans[MODEL] or [(0.0, 0.0)], replay.sample_rate
        sound = replay.model[round(spans[0][0] * rate) : round(spans[-1][1] * rate)]
        timings |= {"total": time.perf_counter() - began, "speech": len(sound) / rate}
        return Reply(heard, " ".join(word.text for word in replay.words), Audio(sound, rate), timings)

    def say(
        self,
        text: str,
        seed: int = 0,
        temperature: float | None = None,
        top_k: int | None = None,
        voice: str | None = None,
    ) -> Audio:
        """See `Model.say`; as far as it has learnt to follow its own text (`DuplexEngine.say`)."""
        check_voice(voice, ("heart",))
        stream = self.stream(
            "simplex", replace(self.duplex.sampling, **given_sampling(temperature, top_k)), direction="speak", seed=seed
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
