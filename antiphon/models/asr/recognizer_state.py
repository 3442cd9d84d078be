"""A turn that is being heard, as a value, and the windows of it that are being written down."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from antiphon.audio import mel
from antiphon.audio.vad import SileroState
from antiphon.encoders.base import FRAME_SAMPLES
from antiphon.encoders.whisper.decoder import Pair, Writing
from antiphon.encoders.whisper.encoder import EncoderState
from antiphon.models.asr.heard import ENGLISH, HearingOptions, Passage
from antiphon.models.asr.transcripts import voiced_seconds
from antiphon.nn.state import fork

RATE = mel.SAMPLE_RATE
SHORT_SECONDS, LEAD_SECONDS = 3.0, 0.1  # a word that begins at once is heard better after a moment of silence


@dataclass
class Window:
    """A stretch of at most 30 s that is being written down. Fields are replaced and never written into.

    Attributes:
        samples: [n] at 16 kHz.
        voice: of each of the detector's chunks, how likely it is speech.
        options: how it is to be heard.
        begun: the sample of the turn at which it begins.
        draft: tokens that the transcript is likely to be.
        language: that is spoken, as far as is known: at first that of the window before.
        hidden: the encoder's activations after `layers` of its layers; None before the first.
        writing: the decoder's transcript under way; None before the encoder is done.
        drafted: what the adapter alone heard.
    """

    samples: Tensor
    voice: Tensor
    options: HearingOptions
    begun: int
    draft: list[int] = field(default_factory=list)
    language: str = ENGLISH
    hidden: Tensor | None = None
    layers: int = 0
    writing: Writing | None = None
    drafted: str = ""

    @property
    def frames(self) -> int:
        """Encoder frames that the samples reach into."""
        return -(-len(self.samples) // FRAME_SAMPLES)

    @property
    def lead(self) -> int:
        """Encoder frames of silence that stand before them."""
        return round(LEAD_SECONDS * RATE) // FRAME_SAMPLES if len(self.samples) < SHORT_SECONDS * RATE else 0

    @property
    def voiced(self) -> float:
        """Seconds of speech."""
        return voiced_seconds(self.voice)

    def clone(self) -> Window:
        """A snapshot that can go its own way."""
        return replace(self, writing=replace(self.writing) if self.writing else None)


@dataclass
class RecognizerState:
    """One speaker's turn under way. Fields are replaced and never written into: a copy is a snapshot.

    Attributes:
        vad: where the voice activity detector stands.
        mel, encoder: where the spectrogram and the encoder in blocks stand.
        begun: the sample of the turn at which the current window begins.
        samples: of the current window, [n] at 16 kHz; `taken`: how many of them the spectrogram has.
        voice: of each of the detector's chunks since `begun`, how likely it is speech.
        sound: what the decoder's attention needs of the encoder's `frames` of this window, per layer.
        draft: the decoder's tokens for what was said so far; `writing`: while they are written, of `reading` frames.
        drafted_in: the draft's language.
        closed: windows that are over and not written down yet, oldest first.
        passages: what was heard in the windows that are.
        options: how the turn is to be heard.
        language: that was spoken in the last window that was written down; before the first, that is expected.
    """

    vad: SileroState
    mel: mel.MelState
    encoder: EncoderState
    begun: int = 0
    samples: Tensor = field(default_factory=lambda: torch.zeros(0))
    taken: int = 0
    voice: Tensor = field(default_factory=lambda: torch.zeros(0))
    sound: list[Pair] = field(default_factory=list)
    draft: list[int] = field(default_factory=list)
    writing: Writing | None = None
    reading: int = 0
    drafted_in: str = ENGLISH
    closed: list[Window] = field(default_factory=list)
    passages: list[Passage] = field(default_factory=list)
    options: HearingOptions = HearingOptions()
    language: str = ENGLISH

    def clone(self) -> RecognizerState:
        """A snapshot that can go its own way."""
        return replace(
            self,
            vad=self.vad.clone(),
            encoder=fork(self.encoder),
            writing=replace(self.writing) if self.writing else None,
            closed=[window.clone() for window in self.closed],
            passages=list(self.passages),
        )

    @property
    def frames(self) -> int:
        """Encoder frames of the current window that `sound` has."""
        return self.sound[0][0].shape[2] if self.sound else 0
