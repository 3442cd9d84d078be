"""Little videos that are made for tests."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def film(path: Path, times: list[int], sound: bool = False) -> Path:
    """A video whose picture number n is of shade 20 n, shown at `times` in hundredths of a second."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=100)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 100)
        if sound:
            heard = file.add_stream("aac", rate=16000)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * number, np.uint8), "rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 100)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
        if sound:
            block = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), "fltp", "mono")
            block.sample_rate = 16000
            file.mux(heard.encode(block))
            file.mux(heard.encode())
    return path
