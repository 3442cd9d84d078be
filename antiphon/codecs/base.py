"""What every codec is: waveform to codes and back, whole or live.

Families differ in what they keep of the sound; models and recipes see only this, so that one can be swapped for another
by name (`antiphon.codecs.load`). A semantic tokenizer is a codec with `encode` only.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, cast, runtime_checkable

import torch
from torch import Tensor, nn

from antiphon.hub.weights import configured, load_ours, read_config, read_weights, write

FOLLOWING = (".total", ".ready")  # ends of the names of buffers that aren't saved: they follow from codes and usage


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


def fewer(codebooks: int | None, there: int, min_kept: int = 1) -> int:
    """How many codebooks to load where `codebooks` are asked for, all when None.

    Raises:
        ValueError: fewer than `min_kept`, those that are always needed.
    """
    if codebooks is not None and codebooks < min_kept:
        raise ValueError(f"{codebooks} codebooks can't be kept: {min_kept} to {there}, or None for all")
    return there if codebooks is None else min(codebooks, there)


def fingerprint(codec: Any, without: tuple[str, ...] = ()) -> str:
    """16 hex digits of a hash over a codec's weights, and its `settings`, a text, where codes depend on more: the same
    for whatever folder they were loaded from.

    Names and order of the tensors don't count, nor do tensors of one repeated value and copies, so that it stays what
    it was when parts are renamed or statistics for training come and go.

    Args:
        codec: whatever has weights.
        without: what the names of tensors that are left out begin with.
    """
    found = set()
    for name, tensor in codec.state_dict().items() if isinstance(codec, torch.nn.Module) else ():
        if name.startswith(without):
            continue
        flat = tensor.detach().cpu().contiguous().view(-1)
        if flat.numel() and bool((flat != flat[0]).any()):
            found.add(hashlib.sha256(flat.view(torch.uint8).numpy()).digest())
    about = type(codec).__name__ + getattr(codec, "settings", "")
    return hashlib.sha256(about.encode() + b"".join(sorted(found))).hexdigest()[:16]


def code_fingerprint(codec: Any) -> str:
    """Of what codes depend on: of all weights but those that only make sound of codes (`only_decode`, the beginnings of
    their names), so that codes stay a codec's own while its decoder is trained on."""
    return fingerprint(codec, getattr(codec, "only_decode", ()))


def has_codes_of(codec: Any, known: str) -> bool:
    """Whether codes by which this is noted are a codec's: its `code_fingerprint` or, in older notes, its `fingerprint`;
    or none, where nobody knew."""
    return not known or known in (code_fingerprint(codec), fingerprint(codec))


class CodecModule(nn.Module):
    """Base of the codecs: what the config tells, checks of what comes in, and our own format of folders.

    Args:
        config: a dataclass with `sample_rate`, `samples_per_frame`, `codebooks`, `codebook_size`, and `channels` unless
            it is mono.

    Attributes:
        family: what config.json says the folder is; the class's import path where it is "".
        config_class: of `config`; needed by `from_pretrained`.
    """

    family = ""
    config_class: type

    min_codebooks = 1  # that are always there

    def __init__(self, config: Any):
        super().__init__()
        if config.codebooks < 1:
            raise ValueError(f"a codec has one codebook or more, not {config.codebooks}")
        self.config = config

    @property
    def sample_rate(self) -> int:
        return self.config.sample_rate

    @property
    def channels(self) -> int:
        return getattr(self.config, "channels", 1)

    @property
    def frame_rate(self) -> float:
        return self.config.sample_rate / self.config.samples_per_frame

    @property
    def codebooks(self) -> int:
        return self.config.codebooks

    @property
    def codebook_size(self) -> int:
        return self.config.codebook_size

    def codebook_vectors(self) -> list[Tensor]:
        """What each code adds to the latent, [codebook_size, latent] a codebook."""
        return cast(Any, self.quantizer).vectors()

    def save_pretrained(self, folder: Path | str) -> None:
        """Writes config.json and model.safetensors in our own format; weight norm is multiplied out."""
        family = self.family or f"{type(self).__module__}:{type(self).__qualname__}"
        write(folder, {"family": family, **dataclasses.asdict(self.config)}, self.state_dict(), FOLLOWING)

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> Self:
        """Reads what `save_pretrained` wrote, in float32 and evaluation mode.

        Raises:
            HubError: the folder holds something else.
        """
        config = configured(cls.config_class, read_config(folder), folder)
        codec = configured(cls, {"config": config}, folder)
        load_ours(codec, read_weights(folder), folder)
        return codec.eval()

    def _checked(self, audio: Tensor, rows: Tensor | None = None) -> Tensor:
        """The audio, if it is [batch, channels, samples] of floating-point numbers, for a state of `rows` [batch]."""
        if audio.ndim != 3 or audio.shape[1] != self.channels:
            raise ValueError(f"audio must be [batch, {self.channels}, samples], got {list(audio.shape)}")
        if not audio.is_floating_point():
            raise ValueError(f"audio must be floating point in [-1, 1], got {audio.dtype}: divide 16 bits by 32768")
        return _of_rows(audio, rows)

    def _checked_codes(self, codes: Tensor, rows: Tensor | None = None, first: int = 0, min_code: int = 0) -> Tensor:
        """The codes, if they are [batch, 1 to codebooks, frames], of codebook `first` and those behind it, and not
        below `min_code`; for a state of `rows` [batch]. On a GPU, a look at them would take longer than a step."""
        max_codebooks = self.codebooks - first
        if codes.ndim != 3 or not 1 <= codes.shape[1] <= max_codebooks:
            raise ValueError(f"codes must be [batch, 1 to {max_codebooks} codebooks, frames], got {list(codes.shape)}")
        if codes.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"codes must be int64, got {codes.dtype}")
        if codes.device.type == "cpu" and codes.numel():
            lowest, highest = (int(bound) for bound in torch.aminmax(codes))
            if lowest < min_code or highest >= self.codebook_size:
                raise ValueError(f"codes must be 0 to {self.codebook_size - 1}, got {lowest} to {highest}")
        return _of_rows(codes, rows)

    def _levels(self, codebooks: int | None) -> int:
        """How many codebooks are asked for; all when None."""
        levels = self.codebooks if codebooks is None else codebooks
        if not self.min_codebooks <= levels <= self.codebooks:
            raise ValueError(f"{levels} codebooks were asked for; there are {self.min_codebooks} to {self.codebooks}")
        return levels


def _of_rows(x: Tensor, rows: Tensor | None) -> Tensor:
    if rows is not None and len(rows) != len(x):
        raise ValueError(f"a step of {len(x)} streams can't go on from a state of {len(rows)}: join or select states")
    return x
