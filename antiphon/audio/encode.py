"""Sound files from strangers, read within bounds; and sound as it is made, written in any format as a stream."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor

from antiphon.audio.decode import Form
from antiphon.audio.io import load, stream
from antiphon.audio.pcm import RATE, pcm16
from antiphon.errors import AudioError

MIN_RATE, MAX_RATE, MAX_CHANNELS = 4000, 192_000, 8  # of files that are read; Hz
Format = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
MEDIA = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
WRITERS = {  # container, encoder, sample format, bits a second
    "mp3": ("mp3", "libmp3lame", "s16p", 64000),
    "opus": ("ogg", "libopus", "s16", 48000),
    "aac": ("adts", "aac", "fltp", 64000),
    "flac": ("flac", "flac", "s16", 0),
}


def read(data: bytes, seconds: float, kind: str | None = None) -> Tensor:
    """A sound file's bytes -> mono float32 [N] at 24 kHz.

    Args:
        data: of any format that `audio.io.load` reads.
        seconds: the most that is decoded.
        kind: "pcm16" for bare 16-bit samples at 24 kHz; otherwise the file says what it is.

    Raises:
        AudioError: it can't be read, is too long, or claims what no sound is.
    """
    if len(data) < 2:
        raise AudioError("The sound is empty.")
    if kind in ("pcm16", "pcm"):
        if len(data) > seconds * 2 * RATE:
            raise AudioError(f"The sound is longer than {seconds:.0f} seconds.")
        return torch.from_numpy(np.frombuffer(data[: len(data) & ~1], "<i2").astype(np.float32) / 32768)
    with tempfile.TemporaryDirectory(prefix="antiphon-") as folder:
        path = Path(folder) / "sound"
        path.write_bytes(data)
        try:
            audio = load(path, max_seconds=seconds, claims=_check_claims)
        except AudioError as error:
            raise AudioError(str(error).replace(str(path), "The sound file")) from None
    samples = audio.resample(RATE).samples
    if not len(samples):
        raise AudioError("The sound is empty.")
    return samples


def pieces(data: bytes, seconds: float) -> Iterator[Tensor]:
    """A sound file's bytes, however long it is -> mono float32 [n] at 24 kHz, some seconds at a time.

    Args:
        data, seconds: as for `read`.

    Raises:
        AudioError: as `read` does; where it is too long or breaks, once that is reached.
    """
    if len(data) < 2:
        raise AudioError("The sound is empty.")
    with tempfile.TemporaryDirectory(prefix="antiphon-") as folder:
        path = Path(folder) / "sound"
        path.write_bytes(data)
        try:
            yield from stream(path, RATE, seconds, _check_claims)
        except AudioError as error:
            raise AudioError(str(error).replace(str(path), "The sound file")) from None


def _check_claims(form: Form) -> None:
    """Raises AudioError for a sample rate or a number of channels that would make decoding a burden."""
    if not MIN_RATE <= form.rate <= MAX_RATE or not 1 <= form.channels <= MAX_CHANNELS:
        raise AudioError(f"The sound file claims {form.rate} samples a second in {form.channels} channels.")


class Sink:
    """What a container is written into: bytes that are taken away as they come. It can't be sought in."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def take(self) -> bytes:
        data, self._data = bytes(self._data), bytearray()
        return data


def written(pieces: Iterator[np.ndarray], kind: str, speed: float = 1.0) -> Iterator[bytes]:
    """Sound as it is made -> bytes of a file, as they are ready.

    Args:
        pieces: float32 [N] at 24 kHz.
        kind: a `Format`.
        speed: how much faster it is to be, at the same pitch.
    """
    if speed != 1.0:
        pieces = at_speed(pieces, speed)
    if kind == "pcm":
        yield from map(pcm16, pieces)
    elif kind == "wav":
        yield wav_header(2**32 - 1 - 36)  # nobody knows yet how long it will be: the largest, as others stream it
        yield from map(pcm16, pieces)
    else:
        yield from _encoded(pieces, *WRITERS[kind])


def wav_header(data_bytes: int) -> bytes:
    """What stands before so many bytes of 16-bit mono samples at 24 kHz in a wav file."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", 36 + data_bytes, b"WAVE") + form + struct.pack("<4sI", b"data", data_bytes)


def _encoded(pieces: Iterator[np.ndarray], container: str, encoder: str, form: str, bits: int) -> Iterator[bytes]:
    import av

    sink = Sink()
    # Without flushing after each packet FFmpeg would gather 32 kB first: seconds of speech.
    options = {"flush_packets": "1"} | ({"page_duration": "80000"} if container == "ogg" else {})
    with av.open(sink, "w", format=container, container_options=options) as out:
        stream = cast(av.AudioStream, out.add_stream(encoder, rate=RATE, layout="mono", format=form))
        if bits:
            stream.bit_rate = bits
        resampler = av.AudioResampler(format=form, layout="mono", rate=RATE)
        at = 0
        for piece in pieces:
            frame = av.AudioFrame.from_ndarray(piece.astype(np.float32)[None], format="flt", layout="mono")
            frame.sample_rate, frame.pts = RATE, at
            at += len(piece)
            for ready in resampler.resample(frame):
                out.mux(stream.encode(ready))
            if data := sink.take():
                yield data
        out.mux(stream.encode(None))
    if data := sink.take():
        yield data


def at_speed(pieces: Iterator[np.ndarray], speed: float) -> Iterator[np.ndarray]:
    """Sound made faster or slower at the same pitch (FFmpeg's atempo, which takes 0.5 to 2 at a time)."""
    import av

    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=RATE, format="flt", layout="mono")
    steps, left = [], speed
    while not 0.5 <= left <= 2.0:
        steps.append(0.5 if left < 0.5 else 2.0)
        left /= steps[-1]
    filters = [graph.add("atempo", f"{step}") for step in (*steps, left)]
    sink = graph.add("abuffersink")
    for one, next_one in zip([source, *filters], [*filters, sink]):
        one.link_to(next_one)
    graph.configure()

    def ready() -> Iterator[np.ndarray]:
        while True:
            try:
                yield cast(av.AudioFrame, sink.pull()).to_ndarray()[0]
            except (av.FFmpegError, BlockingIOError, EOFError):
                return

    at = 0
    for piece in pieces:
        frame = av.AudioFrame.from_ndarray(piece.astype(np.float32)[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts = RATE, at
        at += len(piece)
        source.push(frame)
        yield from ready()
    source.push(None)
    yield from ready()
