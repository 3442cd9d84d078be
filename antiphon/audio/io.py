"""Read and write sound files: any format that libsndfile or PyAV (FFmpeg) reads; wav and flac out.

    audio = load("question.m4a", sample_rate=16000)      # mono float32 in [-1, 1]
    audio.save("question.wav")
    for samples in stream("hours.mp3", 16000): ...       # the same samples, some seconds at a time

PyTorch is imported where it is first needed: a wrong file name is then told at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from antiphon.audio.decode import Form, decode
from antiphon.audio.downmix import Downmix
from antiphon.errors import AudioError

if TYPE_CHECKING:
    from torch import Tensor

MAX_SECONDS = 600.0  # longer recordings are refused unless asked for: a model that answers speech has no use for them
SILENCE_PEAK = 1e-3  # -60 dB of full scale: below it nothing can be understood
_NO_LENGTH = "{} holds no sound: its length is zero. Record it again."
_NOT_NUMBERS = "{} holds samples that are not numbers (NaN or infinity). Export it again, as 16-bit wav."
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
        """One channel, `[samples]`: the mean, or a channel where the mean cancels (see `audio.downmix`)."""
        if self.samples.ndim == 1:
            return self
        import torch

        samples = self.samples.detach().cpu().float().numpy()
        return Audio(torch.from_numpy(_one_channel(samples, self.sample_rate)), self.sample_rate)

    def resample(self, sample_rate: int) -> Audio:
        """The same sound at another sample rate (soxr, high quality)."""
        if sample_rate == self.sample_rate:
            return self
        import torch

        out = _resample(self.samples.detach().cpu().float().numpy(), self.sample_rate, sample_rate)
        return Audio(torch.from_numpy(out), sample_rate)

    def save(self, path: str | Path) -> Path:
        """Writes a 16-bit wav or flac file. See `save`."""
        return save(self, path)

    def _repr_html_(self) -> str:
        """In a notebook: its wave, and a player."""
        from antiphon.audio.notebook import shown

        return shown(self.samples.detach().cpu().float().numpy(), self.sample_rate)


def load(
    path: str | Path,
    sample_rate: int | None = None,
    mono: bool = True,
    max_seconds: float | None = MAX_SECONDS,
    claims: Callable[[Form], None] | None = None,
) -> Audio:
    """Reads a sound file.

    All of the sound, also of files that were joined; if rate or channels change on the way, in those of the beginning.
    Of several sound streams (a video's languages) it is the default one, else the best as FFmpeg chooses. A file that
    breaks off gives what could be read, with a warning in the log. Samples beyond full scale (some float files) are
    scaled down to fit.

    Args:
        path: any format that libsndfile or FFmpeg knows; for a video, its sound.
        sample_rate: resample to this rate; None keeps the file's.
        mono: mix the channels into one, as `Audio.mono`.
        max_seconds: refuse longer files (before decoding them, where their header tells the length); None for no limit.
        claims: called with the rate and the channels of each stretch before it is decoded; raises to refuse it.

    Returns:
        float32 samples in [-1, 1], `[samples]` if mono, else `[channels, samples]`.

    Raises:
        AudioError: no such file, not a sound, no samples, samples that are not numbers, or too long.
    """
    path = Path(path)
    _check_file(path)
    samples, rate = _gather(path, mono, max_seconds, claims)
    if samples.shape[-1] == 0:
        raise AudioError(_NO_LENGTH.format(path))
    if not np.isfinite(samples).all():
        raise AudioError(_NOT_NUMBERS.format(path))
    peak = float(np.abs(samples).max())
    if peak > 1.0:
        samples = samples / peak
    import torch

    audio = Audio(torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32)), rate)
    return audio if sample_rate is None else audio.resample(sample_rate)


def stream(
    path: str | Path,
    sample_rate: int,
    max_seconds: float | None = None,
    claims: Callable[[Form], None] | None = None,
) -> Iterator[Tensor]:
    """Reads a sound file of any length, some seconds at a time: one channel, as `load` gives it.

    Samples beyond full scale are scaled down by the largest so far.

    Args:
        path, max_seconds, claims: see `load`.
        sample_rate: of what is given, Hz.

    Yields:
        float32 [n] in [-1, 1], any n but 0.

    Raises:
        AudioError: as `load` does; where a file is too long or breaks, once that is reached.
    """
    import torch

    path = Path(path)
    _check_file(path)
    total, peak, given = 0.0, 1.0, False

    def begins(form: Form, seconds: float | None) -> None:
        if claims is not None:
            claims(form)
        _check_length(path, total + (seconds or 0.0), max_seconds)

    def blocks() -> Iterator[tuple[Form, np.ndarray]]:
        nonlocal total
        for form, block in decode(path, begins):
            total += block.shape[1] / form.rate
            _check_length(path, total, max_seconds)
            yield form, block

    for samples in one_channel(blocks(), sample_rate):
        if len(samples):
            given = True
            largest = float(np.abs(samples).max())
            if not math.isfinite(largest):
                raise AudioError(_NOT_NUMBERS.format(path))
            peak = max(peak, largest)
            yield torch.from_numpy(samples / np.float32(peak) if peak > 1.0 else samples)
    if not given:
        raise AudioError(_NO_LENGTH.format(path))


def one_channel(blocks: Iterable[tuple[Form, np.ndarray]], sample_rate: int) -> Iterator[np.ndarray]:
    """Mixes and resamples what is decoded while it comes.

    Args:
        blocks: forms, and samples [channels, n] of them.
        sample_rate: of what is given, Hz.

    Yields:
        float32 [n], perhaps none.
    """
    import soxr

    now: Form | None = None
    mixer, resampler = Downmix(1, sample_rate), soxr.ResampleStream(sample_rate, sample_rate, 1, dtype="float32")
    for form, block in blocks:
        if form != now:
            if now is not None:
                yield resampler.resample_chunk(mixer.flush(), last=True)
            now, mixer = form, Downmix(form.channels, form.rate)
            resampler = soxr.ResampleStream(form.rate, sample_rate, 1, dtype="float32")
        yield resampler.resample_chunk(mixer.step(np.ascontiguousarray(block)))
    if now is not None:
        yield resampler.resample_chunk(mixer.flush(), last=True)


def is_silent(path: str | Path) -> bool:
    """Whether nothing in a sound file is louder than -60 dB of full scale. It is read as far as the first sound.

    Raises:
        AudioError: as `load` does.
    """
    return all(float(samples.abs().max()) < SILENCE_PEAK for samples in stream(path, 16000))


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
            if re.match(r"[a-z]\w+:/", str(path), re.IGNORECASE):  # a path holds one of the two slashes
                raise AudioError(f"{path} is an address, not a file. Download it first, and give the file.")
            raise AudioError(f"{path}: no such file.")
        if path.stat().st_size == 0:
            raise AudioError(f"{path} is empty (0 bytes). Record it again.")
        with path.open("rb"):
            pass
    except OSError as error:
        raise AudioError(f"{path} could not be read: {_reason(error)}.") from error


def _gather(
    path: Path, mono: bool, max_seconds: float | None, claims: Callable[[Form], None] | None
) -> tuple[np.ndarray, int]:
    """`[samples]` or `[channels, samples]`, and the rate: those of the beginning, also for what has others later on."""
    total = 0.0  # seconds

    def begins(form: Form, seconds: float | None) -> None:
        if claims is not None:
            claims(form)
        _check_length(path, total + (seconds or 0.0), max_seconds)

    stretches: list[tuple[Form, Downmix, list[np.ndarray]]] = []
    for form, block in decode(path, begins):
        total += block.shape[1] / form.rate
        _check_length(path, total, max_seconds)
        if not stretches or stretches[-1][0] != form:
            stretches.append((form, Downmix(form.channels, form.rate), []))
        _, mixer, kept = stretches[-1]
        kept.append(mixer.step(block) if mono else block)
    if not stretches:
        return np.zeros(0, np.float32), 1
    first = stretches[0][0]
    whole = []
    for form, mixer, kept in stretches:
        if mono:
            kept.append(mixer.flush())
        samples = np.concatenate(kept, axis=-1)
        if form != first and samples.size:
            samples = _resample(samples, form.rate, first.rate)
            if not mono and form.channels != first.channels:
                samples = np.repeat(_one_channel(samples, first.rate)[None], first.channels, axis=0)
        whole.append(samples)
    return np.concatenate(whole, axis=-1) if len(whole) > 1 else whole[0], first.rate


def _one_channel(samples: np.ndarray, rate: int) -> np.ndarray:
    mixer = Downmix(len(samples), rate)
    return np.concatenate([mixer.step(samples), mixer.flush()])


def _resample(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """`[..., samples]` at another rate (soxr, high quality)."""
    import soxr

    return np.ascontiguousarray(soxr.resample(np.ascontiguousarray(samples.T), rate, new_rate).T)  # it wants time first


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
