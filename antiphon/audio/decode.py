"""Sound files into blocks of samples: all of the sound, at the rate and in the channels that each part has.

libsndfile reads what isn't compressed, and FLAC: it is quick and knows their lengths. Of MPEG and Ogg it estimates the
length and stops there, so FFmpeg (PyAV) decodes these and everything else, to the end. Files that were joined are
decoded one after the other.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from antiphon.audio.joined import parts
from antiphon.errors import AudioError

log = logging.getLogger(__name__)

UNKNOWN = 2**62  # samples: what libsndfile says of a FLAC file that was written as a stream
BLOCK_SECONDS = 10.0  # how much is decoded at once
ESTIMATED = ("MPEG", "VORBIS", "OPUS")  # subtypes whose length libsndfile estimates
# No decoder may open anything but the file that it is given: a playlist renamed to .wav must fetch nothing.
OPTIONS = {"protocol_whitelist": "none"}


class Form(NamedTuple):
    """What a stretch of a file is made of: sample rate in Hz, and how many channels."""

    rate: int
    channels: int


Begins = Callable[[Form, float | None], None]


class _Unreadable(Exception):
    """This decoder can't read it."""


def decode(path: Path, begins: Begins | None = None) -> Iterator[tuple[Form, NDArray[np.float32]]]:
    """Decodes a file, of several sound streams the default one or else the best.

    What is broken is passed over, with a warning in the log.

    Args:
        path: a file that is there and isn't empty.
        begins: called before each stretch of one form is decoded, with its length in seconds where that is known; what
            it raises ends the decoding.

    Yields:
        A form, and samples [channels, n] of it: some seconds, maybe none.

    Raises:
        AudioError: there is no sound that can be read.
    """
    begins = begins or (lambda form, seconds: None)
    pieces, failures = parts(path), []
    for start, stop in pieces:
        try:
            yield from _decode_part(path, (start, stop) if len(pieces) > 1 else None, begins)
        except _Unreadable as error:
            failures.append(error)
            if len(pieces) > 1:
                log.warning("%s: what begins at byte %d of it cannot be read", path, start)
    if len(failures) == len(pieces):
        if str(failures[0]):
            raise AudioError(f"{path} holds no sound that can be read. Is it a wav, flac or mp3 file?")
        raise AudioError(f"{path} is not a sound file that can be read. Convert it to wav, flac or mp3 first.")


def _decode_part(
    path: Path, span: tuple[int, int] | None, begins: Begins
) -> Iterator[tuple[Form, NDArray[np.float32]]]:
    """Decodes the bytes from start to stop, or the whole file, with the decoder that knows it best."""
    readers = [_soundfile_blocks, _av_blocks]
    if _is_estimated(path, span):
        readers.reverse()
    got = False
    for number, reader in enumerate(readers):
        try:
            for form, block in reader(path, span, begins):
                got |= block.shape[1] > 0
                yield form, block
            # libsndfile takes some broken files for empty ones; FFmpeg may know better.
            if got:
                return
        except _Unreadable:
            if got or number:
                raise
            log.debug("%s: another decoder may read %s", reader.__name__, path, exc_info=True)


def _open(path: Path, span: tuple[int, int] | None) -> io.BufferedIOBase:
    file = path.open("rb")
    if span is None:
        return file
    with file:
        file.seek(span[0])
        return io.BytesIO(file.read(span[1] - span[0]))


def _is_estimated(path: Path, span: tuple[int, int] | None) -> bool:
    """Whether libsndfile would read it, but may not know how long it is."""
    import soundfile

    try:
        with _open(path, span) as file, soundfile.SoundFile(file) as sound:
            return sound.format in ("OGG", "MPEG", "MP3") or sound.subtype.startswith(ESTIMATED)
    except (soundfile.LibsndfileError, OSError, ValueError, TypeError):
        return False


def _soundfile_blocks(path: Path, span: tuple[int, int] | None, begins: Begins) -> Iterator:
    import soundfile

    try:
        # Given a name, libsndfile reads by itself; from a file object only by way of Python, which takes longer.
        sound = soundfile.SoundFile(path if span is None else _open(path, span))
    except (
        soundfile.LibsndfileError,
        OSError,
        ValueError,
        TypeError,
    ) as error:  # TypeError: .raw needs to be told more
        raise _Unreadable from error
    with sound:
        form, total = Form(sound.samplerate, sound.channels), 0
        begins(form, len(sound) / form.rate if len(sound) < UNKNOWN else None)
        try:
            while (block := sound.read(max(1, int(BLOCK_SECONDS * form.rate)), dtype="float32", always_2d=True)).shape[
                0
            ]:
                total += len(block)
                yield form, block.T
        except (soundfile.LibsndfileError, OSError) as error:
            if not total:
                raise _Unreadable from error
            log.warning(
                "%s breaks off after %.1f s (%s); using what could be read", path, total / form.rate, str(error)
            )


def _av_blocks(path: Path, span: tuple[int, int] | None, begins: Begins) -> Iterator:
    """As `_soundfile_blocks`; a packet that cannot be decoded is passed over."""
    import av

    kept: list[NDArray[np.float32]] = []
    count, form, said = 0, Form(0, 0), False
    good = bad = 0
    try:
        with _open(path, span) as file, av.open(file, options=OPTIONS, metadata_errors="replace") as container:
            stream = container.streams.best("audio")
            if stream is None:
                raise _Unreadable("no sound")
            for frame in _frames(container, stream):
                if frame is None:
                    bad += 1
                    continue
                good += 1
                samples = planar(frame)
                now = Form(frame.sample_rate, len(samples))
                if now != form or count >= BLOCK_SECONDS * form.rate:
                    if kept:
                        said = True
                        yield form, np.concatenate(kept, axis=1)
                    if now != form:
                        begins(now, None)
                    form, kept, count = now, [], 0
                kept.append(samples)
                count += samples.shape[1]
    except (av.FFmpegError, ValueError, OSError, IndexError) as error:
        if not good:
            raise _Unreadable from error
        log.warning("%s breaks off (%s); using what could be read", path, error)
    if not said and bad > good:  # what is decoded of noise by chance is no sound
        raise _Unreadable
    if bad:
        log.warning("%s: %d packets of %d could not be decoded", path, bad, good + bad)
    if kept:
        yield form, np.concatenate(kept, axis=1)


def _frames(container, stream) -> Iterator:
    """The frames of a stream; None for each packet that can't be decoded."""
    import av

    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.EOFError:
            return
        except av.FFmpegError:
            yield None


def planar(frame) -> NDArray[np.float32]:
    """A frame of any sample format as float32 [channels, samples]."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    half = 2.0 ** (8 * samples.dtype.itemsize - 1)
    zero = half if samples.dtype.kind == "u" else 0.0
    return ((samples - zero) / half).astype(np.float32) if zero else samples.astype(np.float32) / np.float32(half)
