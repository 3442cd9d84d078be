"""Pictures out of a video, at even times: what is shown then, also where frames are unevenly apart.

pictures, seconds = load_video("clip.mp4")          # uint8 [pictures, 3, height, width], from one to the next
"""

from __future__ import annotations

import io
import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from antiphon.audio.decode import OPTIONS
from antiphon.encoders.vision.pictures import check_size
from antiphon.errors import DataError

FPS = 2.0
MAX_PICTURES = 768
log = logging.getLogger(__name__)


@contextmanager
def opened(source: str | os.PathLike[str] | bytes) -> Iterator[tuple[Any, Any, str]]:
    """A file's container, its pictures' stream, and its name.

    Raises:
        DataError: there is no such file, or nothing in it that can be seen, or more than is decoded.
    """
    import av

    name = "the video" if isinstance(source, bytes) else os.fspath(source)
    try:
        data = io.BytesIO(source) if isinstance(source, bytes) else Path(name).open("rb")
    except OSError as error:
        raise DataError(f"{name} can't be read: {error.strerror or error}") from error
    with data:
        try:
            container = av.open(data, options=OPTIONS, metadata_errors="replace")
        except (av.FFmpegError, ValueError) as error:
            raise DataError(f"{name} is no video that can be read: give an mp4, webm, mov or avi") from error
        with container:
            streams = container.streams.video
            if not streams:
                raise DataError(f"{name} has no pictures: there is nothing to see in it")
            check_size(streams[0].codec_context.width, streams[0].codec_context.height, name)
            yield container, streams[0], name


def as_picture(frame: Any) -> Tensor:
    """A decoded frame as uint8 [3, height, width]."""
    return torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1).contiguous()


def load_video(
    source: str | os.PathLike[str] | bytes, fps: float = FPS, most: int = MAX_PICTURES,
    shrink: Callable[[Tensor, int], Tensor] = lambda picture, expected: picture,
) -> tuple[Tensor, float]:  # fmt: skip
    """The pictures of a video.

    Args:
        source: a file, or its bytes.
        fps: pictures a second; a video that would have more than `most` at that rate is seen at a lower one.
        most: pictures.
        shrink: what is kept of each picture [3, height, width], of which so many are expected (at least as many as
            come); all of it is only there while it is looked at.

    Returns:
        [pictures, ...] as `shrink` gives them; seconds from one to the next.

    Raises:
        DataError: it can't be read, has no pictures, is too large, or is longer than its header says and than `most`.
    """
    with opened(source) as (container, stream, name):
        length = _seconds(container, stream)
        if length is not None and length * fps > most:
            fps = most / length
        expected = most if length is None else min(most, math.ceil(length * fps) + 1)
        kept: list[Tensor] = []
        for picture in shown(frames(container, stream, name), fps):
            if len(kept) == most:
                raise DataError(f"{name} has more than {most} pictures at {fps:g} a second: give a shorter part of it")
            kept.append(shrink(as_picture(picture), expected))
    if not kept:
        raise DataError(f"{name} has no pictures that can be decoded: it is empty or broken")
    return torch.stack(kept), 1.0 / fps


def check_video(source: str | os.PathLike[str] | bytes, seconds: float | None = None) -> None:
    """Looks at the head of a video, which isn't decoded.

    Raises:
        DataError: it can't be read, has no pictures, is too large, or is longer than `seconds`, or tells no length.
    """
    with opened(source) as (container, stream, name):
        length = _seconds(container, stream)
        if seconds is not None and (length is None or length > seconds):
            told = "of unknown length" if length is None else f"{length:.0f} s long"
            raise DataError(f"{name} is {told}; at most {seconds:.0f} s are seen: give a shorter part of it")


def has_sound(source: str | os.PathLike[str] | bytes) -> bool:
    """Whether there is something to hear in a video."""
    with opened(source) as (container, _, _):
        return bool(container.streams.audio)


def _seconds(container: Any, stream: Any) -> float | None:
    """How long it is, as its header says; None where it doesn't."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / 1e6


def frames(container: Any, stream: Any, name: str) -> Iterator[tuple[float, float, Any]]:
    """Decoded frames: when they are shown, counted from the first one, for how long if that is known (else 0), and
    they. What is broken is passed over; where a file breaks off, it ends."""
    import av

    first: float | None = None
    decoding = container.decode(stream)
    while True:
        try:
            frame = next(decoding)
        except StopIteration:
            return
        except av.FFmpegError as error:
            log.warning("%s: its pictures end early, the rest can't be decoded (%s)", name, error)
            return
        if frame.time is None:
            continue
        first = frame.time if first is None else first
        length = getattr(frame, "duration", None) or 0
        yield frame.time - first, float(length * (frame.time_base or 0)), frame


def shown(timed: Iterator[tuple[float, float, Any]], fps: float) -> Iterator[Any]:
    """Of frames in order, what is shown at 0, 1 / fps, 2 / fps, ... until the last one's time is over."""
    number, current, end = 0, None, 0.0
    for time, length, frame in timed:
        while current is not None and number / fps < time - 1e-6:
            yield current
            number += 1
        current, end = frame, max(time + length, time + 1e-6)
    while current is not None and number / fps < end - 1e-9:
        yield current
        number += 1
