"""Read and write sound files: any format that libsndfile or PyAV (FFmpeg) reads; wav and flac out.

    audio = load("question.m4a", sample_rate=16000)      # mono float32 in [-1, 1]
    audio.save("question.wav")

PyTorch is imported where it is first needed: a wrong file name is then told at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from antiphon.audio.decode import decode, reason
from antiphon.audio.downmix import Downmix
from antiphon.errors import AudioError

if TYPE_CHECKING:
    from torch import Tensor

MAX_SECONDS = 600.0  # longer recordings are refused unless asked for: a model that answers speech has no use for them
MAX_HEARD_SECONDS = 7200.0  # of a recording that is written down: it is heard in windows, and its words fit anywhere
SILENCE_PEAK = 1e-3  # -60 dB of full scale: below it nothing can be understood
SUBTYPES = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16")}


@dataclass(frozen=True)
class Audio:
    """A waveform with its sample rate.

    Attributes:
        samples: float32 in [-1, 1], `[samples]` (mono) or `[channels, samples]`.
        sample_rate: samples per second.
    """

    samples: Tensor
    sample_rate: int

    def __post_init__(self) -> None:
        if self.samples.ndim not in (1, 2):
            raise AudioError(
                f"Audio takes samples of shape [samples] or [channels, samples], not {list(self.samples.shape)}."
            )
        if self.sample_rate <= 0:
            raise AudioError(f"Audio needs a sample rate above 0, not {self.sample_rate}.")

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.samples.shape[-1] / self.sample_rate

    @property
    def peak(self) -> float:
        """Largest absolute sample; 0 for an empty waveform."""
        return float(self.samples.abs().max()) if self.samples.numel() else 0.0

    @property
    def silent(self) -> bool:
        """True if nothing in it is louder than -60 dB of full scale."""
        return self.peak < SILENCE_PEAK

    def mono(self) -> Audio:
        """One channel, `[samples]`: the mean, or where that cancels a channel (`Downmix`)."""
        if self.samples.ndim == 1:
            return self
        import torch

        mix = Downmix(len(self.samples), self.sample_rate)
        samples = np.ascontiguousarray(self.samples.detach().cpu().float().numpy())
        return Audio(torch.from_numpy(np.concatenate([mix.step(samples), mix.flush()])), self.sample_rate)

    def resample(self, sample_rate: int) -> Audio:
        """The same sound at another sample rate (soxr, high quality)."""
        if sample_rate == self.sample_rate:
            return self
        import soxr
        import torch

        frames = self.samples.detach().cpu().float().numpy().T  # soxr wants time first
        out = soxr.resample(np.ascontiguousarray(frames), self.sample_rate, sample_rate)
        return Audio(torch.from_numpy(np.ascontiguousarray(out.T)), sample_rate)

    def save(self, path: str | Path) -> Path:
        """Writes a 16-bit wav or flac file. See `save`."""
        return save(self, path)


def load(
    path: str | Path, sample_rate: int | None = None, mono: bool = True, max_seconds: float | None = MAX_SECONDS
) -> Audio:
    """Reads a sound file.

    A file that breaks off gives what could be read, with a warning in the log. Samples beyond full scale (some float
    files) are scaled down to fit.

    Args:
        path: any format that libsndfile or FFmpeg knows; of a film the track that a player would choose, of a
            file that was joined from several all of them.
        sample_rate: resample to this rate; None keeps the file's.
        mono: make one channel of several, the mean or where that cancels one of them.
        max_seconds: refuse longer files (before decoding them, where their header tells the length); None for no limit.

    Returns:
        float32 samples in [-1, 1], `[samples]` if mono, else `[channels, samples]`.

    Raises:
        AudioError: no such file, not a sound, no samples, samples that are not numbers, or too long.
    """
    path = Path(path)
    _check_file(path)
    samples, rate = decode(path, mono, max_seconds)
    if samples.shape[-1] == 0:
        raise AudioError(f"{path} holds no sound: its length is zero. Record it again.")
    if not np.isfinite(samples).all():
        raise AudioError(
            f"{path} holds samples that are not numbers (NaN or infinity). Export it again, as 16-bit wav."
        )
    peak = float(np.abs(samples).max())
    if peak > 1.0:
        samples = samples / peak
    import torch

    audio = Audio(torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32)), rate)
    return audio if sample_rate is None else audio.resample(sample_rate)


def save(audio: Audio, path: str | Path) -> Path:
    """Writes a 16-bit wav or flac file, by the name's ending; makes its folder if there is none.

    Args:
        audio: samples outside [-1, 1] are clipped.
        path: ends in .wav or .flac.

    Returns:
        The path written.

    Raises:
        AudioError: another ending, samples that are not numbers, or a place that cannot be written.
    """
    import soundfile
    import torch

    path = Path(path)
    check_writable_name(path)
    samples = audio.samples.detach().cpu().float()
    if not torch.isfinite(samples).all():
        raise AudioError(f"{path} was not written: the sound holds samples that are not numbers (NaN or infinity).")
    container, subtype = SUBTYPES[path.suffix.lower()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples.clamp(-1, 1).numpy().T, audio.sample_rate, format=container, subtype=subtype)
    except (OSError, soundfile.LibsndfileError) as error:
        raise AudioError(f"{path} could not be written: {reason(error)}. Choose another place.") from error
    return path


def check_writable_name(path: Path) -> None:
    """Raises AudioError unless `path` is a name that `save` can write: asked before long work, not after it."""
    if path.suffix.lower() not in SUBTYPES:
        raise AudioError(f"{path}: cannot write that format. Use a name that ends in .wav or .flac.")
    if path.is_dir():
        raise AudioError(f"{path} is a folder, not a file. Name a file in it.")


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise AudioError(f"{path} is a folder, not a sound file.")
        if not path.is_file():
            raise AudioError(f"{path}: no such file.")
        if path.stat().st_size == 0:
            raise AudioError(f"{path} is empty (0 bytes). Record it again.")
        with path.open("rb"):
            pass
    except OSError as error:
        raise AudioError(f"{path} could not be read: {reason(error)}.") from error
