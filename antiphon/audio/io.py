"""Read and write sound files: any format that libsndfile or PyAV (FFmpeg) reads; wav and flac out.

    audio = load("question.m4a", sample_rate=16000)      # mono float32 in [-1, 1]
    audio.save("question.wav")

PyTorch is imported where it is first needed: a wrong file name is then told at once.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from antiphon.errors import AudioError

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

MAX_SECONDS = 600.0  # longer recordings are refused unless asked for: a model that answers speech has no use for them
SILENCE_PEAK = 1e-3  # -60 dB of full scale: below it nothing can be understood
UNKNOWN = 2**62  # samples: what libsndfile says of a FLAC file that was written as a stream
BLOCK_SECONDS = 10.0  # how much is decoded between two looks at the limit
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
        """The mean of the channels, `[samples]`."""
        return self if self.samples.ndim == 1 else Audio(self.samples.mean(dim=0), self.sample_rate)

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
        path: any format that libsndfile or FFmpeg knows; for a video, its sound.
        sample_rate: resample to this rate; None keeps the file's.
        mono: mix the channels into one.
        max_seconds: refuse longer files (before decoding them, where their header tells the length); None for no limit.

    Returns:
        float32 samples in [-1, 1], `[samples]` if mono, else `[channels, samples]`.

    Raises:
        AudioError: no such file, not a sound, no samples, samples that are not numbers, or too long.
    """
    path = Path(path)
    _check_file(path)
    samples, rate = _decode(path, mono, max_seconds)
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
        raise AudioError(f"{path} could not be written: {_reason(error)}. Choose another place.") from error
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
        raise AudioError(f"{path} could not be read: {_reason(error)}.") from error


def _decode(path: Path, mono: bool, max_seconds: float | None) -> tuple[np.ndarray, int]:
    """Returns `[samples]` or `[channels, samples]` and the rate. libsndfile first (quick, exact), then FFmpeg."""
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            if len(file) < UNKNOWN:
                _check_length(path, len(file) / rate, max_seconds)
            samples = _collect(path, _soundfile_blocks(file), rate, mono, max_seconds)
            # libsndfile takes some broken files for empty ones; FFmpeg may know better.
            if samples.shape[-1]:
                return samples, rate
    except (soundfile.LibsndfileError, OSError, ValueError):
        log.debug("libsndfile does not read %s; trying FFmpeg", path, exc_info=True)
    return _decode_with_av(path, mono, max_seconds)


def _decode_with_av(path: Path, mono: bool, max_seconds: float | None) -> tuple[np.ndarray, int]:
    import av

    unreadable = AudioError(f"{path} is not a sound file that can be read. Convert it to wav, flac or mp3 first.")
    try:
        # Only local files: a playlist renamed to .wav must not make us fetch anything.
        with av.open(str(path), options={"protocol_whitelist": "file"}) as container:
            if not container.streams.audio:
                raise AudioError(f"{path} holds no sound that can be read. Is it a wav, flac or mp3 file?")
            stream = container.streams.audio[0]
            rate = stream.rate
            if not rate:
                raise unreadable
            if container.duration:
                _check_length(path, container.duration / av.time_base, max_seconds)
            return _collect(path, _av_blocks(container, stream), rate, mono, max_seconds), rate
    except (av.FFmpegError, ValueError, OSError, IndexError) as error:
        raise unreadable from error


def _soundfile_blocks(file) -> Iterator[np.ndarray]:
    size = max(1, int(BLOCK_SECONDS * file.samplerate))
    while (block := file.read(size, dtype="float32", always_2d=True)).shape[0]:
        yield block.T


def _av_blocks(container, stream) -> Iterator[np.ndarray]:
    import av

    planar = av.AudioResampler(format="fltp")  # any sample format to float, rate and channels untouched
    for frame in container.decode(stream):
        for out in planar.resample(frame):
            yield out.to_ndarray()
    for out in planar.resample(None):
        yield out.to_ndarray()


def _collect(path: Path, blocks: Iterator[np.ndarray], rate: int, mono: bool, max_seconds: float | None) -> np.ndarray:
    """Joins blocks `[channels, n]`, stopping at the limit; a decoder that fails after a start ends the sound there."""
    import av
    import soundfile

    kept: list[np.ndarray] = []
    total = 0
    try:
        for block in blocks:
            total += block.shape[-1]
            _check_length(path, total / rate, max_seconds)
            kept.append(block.mean(axis=0) if mono else block)
    except (av.FFmpegError, soundfile.LibsndfileError) as error:
        if not total:
            raise
        log.warning("%s breaks off after %.1f s (%s); using what could be read", path, total / rate, _reason(error))
    return np.concatenate(kept, axis=-1) if kept else np.zeros(0, np.float32)


def _check_length(path: Path, seconds: float, max_seconds: float | None) -> None:
    if max_seconds is not None and seconds > max_seconds:
        raise AudioError(
            f"{path} is too long: at least {_clock(seconds)}, where {_clock(max_seconds)} is the most. Cut out the "
            "part that matters."
        )


def _clock(seconds: float) -> str:
    """87 -> '1:27', 3700 -> '1:01:40'."""
    whole = math.floor(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).rstrip(".")
