"""What a caller gives as sound: an `Audio`; a file, by its name, its address, opened or as bytes; or samples of NumPy
or PyTorch with their rate.

audio = as_audio("question.wav")                      # or "https://example.org/question.ogg"
audio = as_audio(request.body)                        # bytes of a file of any format; or an open one
audio = as_audio(samples, sample_rate=16000)          # [samples], [channels, samples] or [samples, channels]
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from antiphon.audio.io import MAX_SECONDS, Audio, load, stream
from antiphon.audio.places import ADDRESSES, Named, fetched, on_disk
from antiphon.errors import AudioError

if TYPE_CHECKING:
    from numpy import ndarray
    from torch import Tensor

    File = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]
    Sound = Audio | File | ndarray | Tensor

GIVEN = "What was given"  # of a file that has no name


def as_audio(source: Sound, sample_rate: int | None = None, max_seconds: float = MAX_SECONDS) -> Audio:
    """A sound in whatever form it is given.

    Args:
        source: an `Audio`; a file: its name (str or path), its address (http or https), what it holds as bytes, or
            an object to read those from; or samples, as an array or a tensor of any device. Of two
            dimensions, the longer one is time. Integers are scaled by the range of their type; floats beyond full
            scale are scaled down to fit.
        sample_rate: Hz, of an array or a tensor, which don't know their own.
        max_seconds: of a file; longer ones are refused.

    Raises:
        AudioError: something else, a file that can't be read or had, samples without a rate, or samples that are no
            sound.
    """
    if isinstance(source, Audio) or is_file(source):
        if sample_rate is not None:
            raise AudioError("An Audio or a file has its own sample rate: leave out sample_rate=.")
        if isinstance(source, Audio):
            return source
        with _as_file(source) as path:  # type: ignore[arg-type]
            return load(path, max_seconds=max_seconds)
    import numpy as np
    import torch

    if isinstance(source, np.ndarray) and source.dtype.kind in "iuf":
        native = source.astype(source.dtype.newbyteorder("="), copy=True)  # PyTorch takes neither big-endian nor views
        source = torch.from_numpy(native if native.dtype.itemsize <= 8 else native.astype(np.float64))
    if not isinstance(source, torch.Tensor) or source.dtype.is_complex or source.dtype == torch.bool:
        kind = getattr(source, "dtype", type(source).__name__)
        raise AudioError(
            "A sound is a file (its name, address, bytes, or opened), an Audio, or an array or tensor of numbers, not "
            f"{kind}."
        )
    if sample_rate is None:
        raise AudioError("An array of samples doesn't say how fast they are: give sample_rate=, such as 16000.")
    return Audio(_samples(source.detach().cpu()), sample_rate)


def as_stream(source: Sound, rate: int, sample_rate: int | None = None) -> Audio | Iterator[Tensor]:
    """A sound for who hears it from its beginning to its end: a file of any length piece by piece, mono, at `rate` Hz;
    anything else as `as_audio` gives it."""
    if is_file(source) and sample_rate is None:
        return _pieces(source, rate)  # type: ignore[arg-type]
    return as_audio(source, sample_rate)


def is_file(source: object) -> bool:
    """Whether it is a file in one of its forms."""
    return isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)) or callable(
        getattr(source, "read", None)
    )


def _pieces(source: File, rate: int) -> Iterator[Tensor]:
    with _as_file(source) as path:
        yield from stream(path, rate)


@contextmanager
def _as_file(source: File) -> Iterator[str | Path]:
    """A file's name, as long as the context lasts."""
    if isinstance(source, (str, os.PathLike)):
        place = os.fspath(source)
        if not place.lower().startswith(ADDRESSES):
            yield place
            return
        with fetched(Named(place, "")) as path:
            yield path
        return
    opened = io.BytesIO(source) if isinstance(source, (bytes, bytearray, memoryview)) else source
    with on_disk(opened, GIVEN) as path:
        yield path


def _samples(given: Tensor) -> Tensor:
    """Samples of any number type and order -> float32 in [-1, 1], [samples] or [channels, samples]."""
    import torch

    shape = list(given.shape)
    if given.ndim not in (1, 2) or not given.numel():
        raise AudioError(f"Samples have the shape [samples] or [channels, samples] and aren't empty, not {shape}.")
    if given.dtype.is_floating_point:
        samples = given.float()
    else:
        about = torch.iinfo(given.dtype)
        middle = 0 if about.min else (about.max + 1) // 2  # unsigned samples are silent in the middle
        samples = ((given.double() - middle) / (about.max + 1 - middle)).float()
    if not torch.isfinite(samples).all():
        raise AudioError("The samples aren't all numbers (NaN or infinity, perhaps of a failed recording).")
    if samples.ndim == 2 and samples.shape[0] > samples.shape[1]:
        samples = samples.T
    return (samples / samples.abs().max().clamp(min=1.0)).contiguous()
