"""What a caller gives as sound: an `Audio`, a file's name, or samples of NumPy or PyTorch with their rate.

audio = as_audio("question.wav")
audio = as_audio(samples, sample_rate=16000)          # [samples], [channels, samples] or [samples, channels]
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from antiphon.audio.io import MAX_SECONDS, Audio, load
from antiphon.errors import AudioError

if TYPE_CHECKING:
    from numpy import ndarray
    from torch import Tensor

    Sound = Audio | str | os.PathLike[str] | ndarray | Tensor


def as_audio(source: Sound, sample_rate: int | None = None, max_seconds: float = MAX_SECONDS) -> Audio:
    """A sound in whatever form it is given.

    Args:
        source: an `Audio`; a file's name (str or path); or samples, as an array or a tensor of any device. Of two
            dimensions, the longer one is time. Integers are scaled by the range of their type; floats beyond full
            scale are scaled down to fit.
        sample_rate: Hz, of an array or a tensor, which don't know their own.
        max_seconds: of a file; longer ones are refused.

    Raises:
        AudioError: something else, a file that can't be read, samples without a rate, or samples that are no sound.
    """
    if isinstance(source, (Audio, str, os.PathLike)):
        if sample_rate is not None:
            raise AudioError("An Audio or a file has its own sample rate: leave out sample_rate=.")
        return source if isinstance(source, Audio) else load(os.fspath(source), max_seconds=max_seconds)
    import numpy as np
    import torch

    if isinstance(source, np.ndarray) and source.dtype.kind in "iuf":
        native = source.astype(source.dtype.newbyteorder("="), copy=True)  # PyTorch takes neither big-endian nor views
        source = torch.from_numpy(native if native.dtype.itemsize <= 8 else native.astype(np.float64))
    if not isinstance(source, torch.Tensor) or source.dtype.is_complex or source.dtype == torch.bool:
        kind = getattr(source, "dtype", type(source).__name__)
        raise AudioError(f"A sound is a file's name, an Audio, or an array or tensor of numbers, not {kind}.")
    if sample_rate is None:
        raise AudioError("An array of samples doesn't say how fast they are: give sample_rate=, such as 16000.")
    return Audio(_samples(source.detach().cpu()), sample_rate)


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
