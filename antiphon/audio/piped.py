"""Sound that comes while it is decoded: from a pipe, whose end nobody knows yet.

for samples in piped(sys.stdin.buffer, 16000): ...     # [n], mono, as they come
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from antiphon.audio.decode import OPTIONS, Form, planar
from antiphon.audio.io import one_channel
from antiphon.errors import AudioError

if TYPE_CHECKING:
    from torch import Tensor

# Nobody should wait for what is far behind the beginning; what a format is stands there.
SOON = {**OPTIONS, "probesize": "32768", "analyzeduration": "0"}


def piped(source: BinaryIO, sample_rate: int) -> Iterator[Tensor]:
    """Decodes a stream in any format that can be read from its beginning (wav, flac, ogg, mp3, webm, ...).

    Args:
        source: read forwards alone.
        sample_rate: Hz, of what is given.

    Yields:
        float32 [n] in [-1, 1], mono.

    Raises:
        AudioError: it is no sound.
    """
    import torch

    for samples in one_channel(_frames(source), sample_rate):
        if len(samples):
            yield torch.from_numpy(samples.clip(-1.0, 1.0))


def _frames(source: BinaryIO) -> Iterator[tuple[Form, np.ndarray]]:
    import av

    try:
        with av.open(source, "r", options=SOON, metadata_errors="replace") as container:
            stream = container.streams.best("audio")
            if stream is None:
                raise AudioError("There is no sound in what was piped in.")
            for frame in container.decode(stream):
                assert isinstance(frame, av.AudioFrame)
                samples = planar(frame)
                yield Form(frame.sample_rate, len(samples)), samples
    except (av.FFmpegError, ValueError, OSError) as error:
        raise AudioError(f"What was piped in is no sound ({error}): pipe a wav, flac, ogg or mp3.") from error
