"""A sound as a notebook shows it: its wave, and a player."""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
WIDTH, HEIGHT = 480, 60
MAX_SECONDS = 300.0  # that are put into a notebook, which keeps them: 14 MB at 24 kHz


def shown(samples: Samples, sample_rate: int) -> str:
    """HTML of samples [n] or [channels, n], which needs nothing from elsewhere."""
    samples = np.atleast_2d(np.nan_to_num(samples).clip(-1, 1))
    channels, count = samples.shape
    told = f"{count / sample_rate:.2f} s at {sample_rate} Hz"
    told += f", {channels} channels" if channels > 1 else ""
    path = wave_path(samples.mean(0))
    picture = (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{escape(told)}">'
        f'<path d="{path}" fill="none" stroke="currentColor"/></svg>'
    )
    if count > MAX_SECONDS * sample_rate:
        player = f"<div>Longer than {MAX_SECONDS:.0f} s: save it to play it.</div>"
    else:
        data = base64.b64encode(as_wav(samples, sample_rate)).decode()
        player = f'<audio controls preload="none" style="width:{WIDTH}px" src="data:audio/wav;base64,{data}"></audio>'
    return f"<div>{picture}{player}<div>{escape(told)}</div></div>"


def wave_path(samples: Samples) -> str:
    """The drawing of an SVG path of samples [n] in [-1, 1]: for each column, a line from the highest to the lowest."""
    middle = HEIGHT / 2
    if not len(samples):
        return f"M0 {middle}H{WIDTH}"
    columns = np.array_split(samples, min(WIDTH, len(samples)))
    step = WIDTH / len(columns)
    return "".join(
        f"M{at * step:.1f} {middle * (1 - float(column.max())):.1f}V{middle * (1 - float(column.min())) + 0.5:.1f}"
        for at, column in enumerate(columns)
    )


def as_wav(samples: Samples, sample_rate: int) -> bytes:
    """A wav file of 16 bits of samples [channels, n] in [-1, 1]."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples.T, sample_rate, format="WAV", subtype="PCM_16")
    return file.getvalue()
