"""Sound on the wire: 16-bit PCM and G.711 to samples and back, as streams.

G.711 is made of its definition (ITU-T G.711, 1988): 8 bits a sample, logarithmic, at 8 kHz.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import soxr

RATE = 24000
TELEPHONE_RATE = 8000
BYTES_A_SECOND = {"audio/pcm": 2 * RATE, "audio/pcmu": TELEPHONE_RATE, "audio/pcma": TELEPHONE_RATE}


@cache
def ulaw_table() -> np.ndarray:
    """Samples of the 256 mu-law codes, float32."""
    code = ~np.arange(256, dtype=np.uint8)
    exponent, mantissa = ((code >> 4) & 7).astype(np.int32), (code & 15).astype(np.int32)
    value = (((mantissa << 3) + 132) << exponent) - 132
    return (np.where(code & 128, -value, value) / 32768).astype(np.float32)


@cache
def alaw_table() -> np.ndarray:
    """Samples of the 256 A-law codes, float32."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent, mantissa = ((code >> 4) & 7).astype(np.int32), (code & 15).astype(np.int32)
    value = np.where(exponent == 0, (mantissa << 4) + 8, ((mantissa << 4) + 264) << np.maximum(exponent - 1, 0))
    return (np.where(code & 128, value, -value) / 32768).astype(np.float32)


@cache
def _sorted(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """(code of every sample value in ascending order, borders between them)."""
    table = ulaw_table() if kind == "audio/pcmu" else alaw_table()
    order = np.argsort(table, kind="stable")
    values = table[order].astype(np.float64)
    return order.astype(np.uint8), (values[1:] + values[:-1]) / 2


def companded(samples: np.ndarray, kind: str) -> bytes:
    """Samples at 8 kHz -> the nearest G.711 codes."""
    codes, borders = _sorted(kind)
    return codes[np.searchsorted(borders, samples)].tobytes()


def pcm16(samples: np.ndarray) -> bytes:
    """Samples in [-1, 1] -> 16-bit little-endian."""
    return (np.clip(np.nan_to_num(samples), -1, 1) * 32767).round().astype("<i2").tobytes()


class Decoder:
    """Bytes of one input format -> samples at 24 kHz, as they come.

    Args:
        kind: "audio/pcm", "audio/pcmu" or "audio/pcma".
    """

    def __init__(self, kind: str):
        self.kind, self._odd = kind, b""
        self._up = (
            None if kind == "audio/pcm" else soxr.ResampleStream(TELEPHONE_RATE, RATE, 1, dtype="float32", quality="MQ")
        )

    def step(self, data: bytes) -> np.ndarray:
        """The samples, float32 [N]; half a 16-bit sample waits for its other half."""
        if self._up is None:
            data = self._odd + data
            whole = len(data) & ~1
            data, self._odd = data[:whole], data[whole:]
            return np.frombuffer(data, "<i2").astype(np.float32) / 32768
        table = ulaw_table() if self.kind == "audio/pcmu" else alaw_table()
        return self._up.resample_chunk(table[np.frombuffer(data, np.uint8)])


class Encoder:
    """Samples at 24 kHz -> bytes of one output format, as they come.

    Args:
        kind: as for `Decoder`.
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._down = (
            None if kind == "audio/pcm" else soxr.ResampleStream(RATE, TELEPHONE_RATE, 1, dtype="float32", quality="MQ")
        )

    def step(self, samples: np.ndarray, last: bool = False) -> bytes:
        if self._down is None:
            return pcm16(samples)
        return companded(self._down.resample_chunk(samples.astype(np.float32), last=last), self.kind)
