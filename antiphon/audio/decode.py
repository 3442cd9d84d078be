"""A sound file -> all of its sound.

Uncompressed and lossless formats, and Ogg, are read by libsndfile: quick, and their headers say how long they are. All
else goes through FFmpeg, frame by frame until nothing comes: what a header says of an MP3's length is an estimate. A
file that was joined from several is read part by part (`joined`), each at its own rate and with its own channels; of a
film's tracks the one that a player would choose is taken.
"""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from antiphon.audio import joined
from antiphon.audio.downmix import Downmix
from antiphon.errors import AudioError

log = logging.getLogger(__name__)

UNKNOWN = 2**62  # samples: what libsndfile says of a FLAC file that was written as a stream
BLOCK_SECONDS = 10.0  # how much is decoded between two looks at the limit
ESTIMATES = {"MP3", "MPEG"}  # formats of which libsndfile reads no more than a header promises
DOUBT = 2.0  # times the limit, from which an estimated length is believed
Block = tuple[NDArray[np.float32], int]  # [channels, samples] and their rate


def decode(path: Path, mono: bool, max_seconds: float | None) -> Block:
    """Decodes a file.

    Args:
        path: of a file that is there.
        mono: make one channel of several (`Downmix`).
        max_seconds: refuse longer files, before decoding them where that can be known; None for no limit.

    Returns:
        float32 [samples], or [channels, samples] with as many channels as the first part has; and its rate.

    Raises:
        AudioError: no sound that can be read, or too long.
    """
    collected = Collected(path, mono, max_seconds)
    parts = joined.parts(path)
    for number, (start, stop) in enumerate(parts):
        try:
            if len(parts) == 1:
                _decode_part(path, path, collected)
            else:
                with path.open("rb") as file:
                    file.seek(start)
                    _decode_part(path, file.read(stop - start), collected)
        except AudioError:
            if not collected.kept or collected.too_long:
                raise
            log.warning("part %d of the %d that %s was joined from can't be read", number + 1, len(parts), path)
    return collected.sound(), collected.rate


@dataclass
class Collected:
    """What was decoded so far, brought to the rate and the channels of the first block.

    Attributes:
        path: of the file, for errors.
        mono, max_seconds: see `decode`.
        rate: of the first block, Hz; 0 before it.
        kept: blocks, [samples] if mono, else [channels, samples].
        too_long: the limit was passed.
    """

    path: Path
    mono: bool
    max_seconds: float | None
    rate: int = 0
    channels: int = 0
    kept: list[NDArray[np.float32]] = field(default_factory=list)
    too_long: bool = False
    _total: int = 0
    _run: tuple[int, int] = (0, 0)  # rate and channels of the blocks that come
    _mix: Downmix | None = None
    _resample: Any = None

    def add(self, block: NDArray[np.float32], rate: int) -> None:
        """The next block, [channels, samples] at `rate` Hz."""
        self.rate, self.channels = self.rate or rate, self.channels or len(block)
        if (rate, len(block)) != self._run:
            self._end_run()
            self._begin_run(rate, len(block))
        samples = self._mix.step(block)[None] if self._mix else self._fitted(block)
        self._keep(samples)

    def sound(self) -> NDArray[np.float32]:
        """All of it."""
        self._end_run()
        if not self.kept:
            return np.zeros(0, np.float32)
        whole = np.concatenate(self.kept, axis=1)
        return whole[0] if self.mono else whole

    def check(self, seconds: float) -> None:
        """Raises AudioError if so much is too long."""
        if self.max_seconds is not None and seconds > self.max_seconds:
            self.too_long = True
            raise AudioError(
                f"{self.path} is too long: at least {clock(seconds)}, where {clock(self.max_seconds)} is the most. Cut "
                "out the part that matters."
            )

    def _begin_run(self, rate: int, channels: int) -> None:
        import soxr

        self._run = (rate, channels)
        self._mix = Downmix(channels, rate) if self.mono else None
        kept = 1 if self.mono else self.channels
        self._resample = None if rate == self.rate else soxr.ResampleStream(rate, self.rate, kept, dtype="float32")

    def _end_run(self) -> None:
        if self._mix:
            self._keep(self._mix.flush()[None])
        if self._resample:
            self._keep(np.zeros((1 if self.mono else self.channels, 0), np.float32), last=True)
        self._mix, self._resample = None, None

    def _keep(self, samples: NDArray[np.float32], last: bool = False) -> None:
        if self._resample:
            samples = self._resample.resample_chunk(np.ascontiguousarray(samples.T), last=last).T
        self._total += samples.shape[1]
        self.check(self._total / self.rate)
        self.kept.append(samples)

    def _fitted(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """A block with as many channels as the first one had."""
        if len(block) == self.channels:
            return block
        return np.repeat(block.mean(axis=0, keepdims=True), self.channels, axis=0)


def _decode_part(path: Path, part: Path | bytes, collected: Collected) -> None:
    """Decodes one file, or a part of one: libsndfile first (quick, exact), then FFmpeg."""
    import av
    import soundfile

    before = len(collected.kept)
    try:
        with soundfile.SoundFile(_opened(part)) as file:
            if file.format not in ESTIMATES:
                if len(file) < UNKNOWN:
                    collected.check(len(file) / file.samplerate)
                _collect(collected, _soundfile_blocks(file))
                # libsndfile takes some broken files for empty ones; FFmpeg may know better.
                if len(collected.kept) > before:
                    return
    except (soundfile.LibsndfileError, OSError, ValueError):
        log.debug("libsndfile does not read %s; trying FFmpeg", path, exc_info=True)
    unreadable = AudioError(f"{path} is not a sound file that can be read. Convert it to wav, flac or mp3 first.")
    try:
        # Only local files: a playlist renamed to .wav must not make us fetch anything.
        with av.open(_opened(part), options={"protocol_whitelist": "file"}) as container:
            stream = container.streams.best("audio")
            if stream is None:
                raise AudioError(f"{path} holds no sound that can be read. Is it a wav, flac or mp3 file?")
            if container.duration:
                seconds = container.duration / av.time_base
                if collected.max_seconds is not None and seconds > DOUBT * collected.max_seconds:
                    collected.check(seconds)
            _collect(collected, _av_blocks(path, container, stream))
    except (av.FFmpegError, ValueError, OSError, IndexError) as error:
        raise unreadable from error
    if len(collected.kept) == before and not before:
        collected.rate = collected.rate or 1  # whoever asked is told that it is empty


def _opened(part: Path | bytes) -> str | BinaryIO:
    return str(part) if isinstance(part, Path) else io.BytesIO(part)


def _collect(collected: Collected, blocks: Iterator[Block]) -> None:
    """Takes blocks; a decoder that fails after a start ends the sound there."""
    import av
    import soundfile

    begun = False
    try:
        for block, rate in blocks:
            if block.shape[1]:
                collected.add(block, rate)
                begun = True
    except (av.FFmpegError, soundfile.LibsndfileError) as error:
        if not begun:
            raise
        log.warning("%s breaks off (%s); using what could be read", collected.path, reason(error))


def _soundfile_blocks(file: Any) -> Iterator[Block]:
    size = max(1, int(BLOCK_SECONDS * file.samplerate))
    while (block := file.read(size, dtype="float32", always_2d=True)).shape[0]:
        yield block.T, file.samplerate


def _av_blocks(path: Path, container: Any, stream: Any) -> Iterator[Block]:
    """The frames of a stream, each at the rate and with the channels that it has; what is no frame is passed over."""
    import av

    planar, kind, broken, decoded = None, None, 0, 0
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.InvalidDataError as error:
            broken, last = broken + 1, error
            continue
        for frame in frames:
            if (frame.sample_rate, frame.layout.name, frame.format.name) != kind:
                if planar is not None:
                    yield from ((out.to_ndarray(), out.sample_rate) for out in planar.resample(None))
                kind = (frame.sample_rate, frame.layout.name, frame.format.name)
                planar = av.AudioResampler(format="fltp")  # any sample format to float, rate and channels untouched
            decoded += 1
            yield from ((out.to_ndarray(), out.sample_rate) for out in planar.resample(frame))
    if planar is not None:
        yield from ((out.to_ndarray(), out.sample_rate) for out in planar.resample(None))
    if broken and not decoded:
        raise last
    if broken:
        log.warning("%s: %d pieces of it can't be read and were left out", path, broken)


def clock(seconds: float) -> str:
    """87 -> '1:27', 3700 -> '1:01:40'."""
    whole = math.floor(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def reason(error: Exception) -> str:
    """What an error says, without a full stop."""
    return getattr(error, "strerror", None) or str(error).rstrip(".")
