"""What every codec is: waveform to codes and back, whole or live.

Families differ in what they keep of the sound; models and recipes see only this, so that one can be swapped for another
by name (`antiphon.codecs.load`). A semantic tokenizer is a codec with `encode` only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Tokenizer(Protocol):
    """Waveform to codes.

    Attributes:
        sample_rate: of the audio, Hz.
        channels: of the audio: 1, or 2 for stereo.
        frame_rate: frames of codes a second.
        codebooks: codes a frame, at most.
        codebook_size: number of codes in each codebook.
    """

    sample_rate: int
    channels: int
    frame_rate: float
    codebooks: int
    codebook_size: int

    def encode(self, audio: Tensor, codebooks: int | None = None) -> Tensor:
        """audio [batch, channels, samples] -> codes [batch, codebooks, frames] (int64); only the first `codebooks` if
        given. A last frame that isn't full is padded as the family's publication does."""


@runtime_checkable
class Codec(Tokenizer, Protocol):
    """Waveform to codes and back."""

    def decode(self, codes: Tensor) -> Tensor:
        """codes [batch, 1 to codebooks, frames] -> audio [batch, channels, samples]."""


@dataclass
class CodecState:
    """Where a stream stands, a value (see `antiphon.nn.state`): the two halves can be used apart.

    Attributes:
        encoder: of `encode_step`.
        decoder: of `decode_step`.
    """

    encoder: Any
    decoder: Any


@runtime_checkable
class StreamingCodec(Codec, Protocol):
    """A causal codec, live. Any split of the input gives what the whole input gives.

    Attributes:
        delay: samples by which `decode_step` lags behind `decode`: its output is `delay` samples of lead-in, then what
            `decode` gives.
    """

    delay: int

    def init_state(self, batch: int = 1) -> CodecState:
        """The state before the first sample of `batch` streams."""

    def encode_step(self, audio: Tensor, state: CodecState, last: bool = False) -> Tensor:
        """More audio [batch, channels, any number of samples] -> the codes that are now certain [batch, codebooks, n].

        What doesn't fill a frame waits in the state (n may be 0); `last` says that the signal ends here, and pads it as
        `encode` does. The state is changed in place.
        """

    def decode_step(self, codes: Tensor, state: CodecState, last: bool = False) -> Tensor:
        """More codes [batch, codebooks, n] -> the audio that is now certain [batch, channels, samples]; `last` says
        that none follow, and gives the rest. The state is changed in place."""
