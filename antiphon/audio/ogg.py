"""Opus in Ogg as two streams: pages as they come to samples, samples as they come to pages (RFC 3533, RFC 7845).

FFmpeg codes the packets (by PyAV); the pages, some thirty bytes of framing, are made and read here, because a live
stream must neither wait for a whole file nor for a container's buffers.
"""

from __future__ import annotations

import secrets
import struct
from functools import cache

import av
import numpy as np
import soxr

from antiphon.audio.decode import planar
from antiphon.audio.downmix import Downmix
from antiphon.audio.pcm import RATE
from antiphon.errors import AudioError

OPUS_RATE = 48000  # of granule positions and of the decoder
PACKET = 480  # samples at 24 kHz in a packet: 20 ms
PRE_SKIP = 312  # samples at 48 kHz that libopus is behind
MAX_PAGE_BYTES = 27 + 255 + 255 * 255
MAX_PENDING_BYTES = 1 << 20  # that may wait for the rest of their page
MIX_SECONDS = 0.02  # of channels that are mixed at once, and held back at most: a packet


@cache
def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = ((value << 1) ^ 0x04C11DB7 if value & 0x80000000 else value << 1) & 0xFFFFFFFF
        table.append(value)
    return table


def crc(data: bytes) -> int:
    """Ogg's checksum: CRC-32 of polynomial 0x04C11DB7, neither reflected nor inverted."""
    value, table = 0, _crc_table()
    for byte in data:
        value = ((value << 8) & 0xFFFFFFFF) ^ table[(value >> 24) ^ byte]
    return value


class OpusWriter:
    """Samples at 24 kHz -> an Ogg-Opus stream. The first bytes are its two header pages."""

    def __init__(self) -> None:
        self._encoder = av.CodecContext.create("libopus", "w")
        self._encoder.sample_rate, self._encoder.format, self._encoder.layout = RATE, "flt", "mono"
        self._encoder.options = {"application": "voip", "frame_duration": "20"}
        self._serial, self._page, self._granule, self._at = secrets.randbits(32), 0, PRE_SKIP, 0
        self._rest = np.zeros(0, np.float32)

    def head(self) -> bytes:
        """The header pages; call it once, before `step`."""
        about = struct.pack("<8sBBHIhB", b"OpusHead", 1, 1, PRE_SKIP, RATE, 0, 0)
        tags = struct.pack("<8sI8sI", b"OpusTags", 8, b"antiphon", 0)
        return self._wrap([about], 2, 0) + self._wrap([tags], 0, 0)

    def step(self, samples: np.ndarray) -> bytes:
        """More samples, float32 [N]; the page that they complete, or nothing yet."""
        samples = np.concatenate([self._rest, samples.astype(np.float32)])
        whole = len(samples) // PACKET * PACKET
        self._rest, packets = samples[whole:], []
        for start in range(0, whole, PACKET):
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + PACKET], format="flt", layout="mono")
            frame.sample_rate, frame.pts = RATE, self._at
            self._at += PACKET
            packets += [bytes(packet) for packet in self._encoder.encode(frame)]
        if not packets:
            return b""
        self._granule += len(packets) * PACKET * OPUS_RATE // RATE
        return self._wrap(packets, 0, self._granule)

    def _wrap(self, packets: list[bytes], flags: int, granule: int) -> bytes:
        """Packets as one page."""
        lacing = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets)
        head = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, granule, self._serial, self._page, 0, len(lacing))
        page = head + lacing + b"".join(packets)
        self._page += 1
        return page[:22] + struct.pack("<I", crc(page)) + page[26:]


class OpusReader:
    """An Ogg-Opus stream, in pieces of any size -> samples at 24 kHz."""

    def __init__(self) -> None:
        self._decoder = av.CodecContext.create("opus", "r")
        self._down = soxr.ResampleStream(OPUS_RATE, RATE, 1, dtype="float32", quality="MQ")
        self._mixer = Downmix(1, OPUS_RATE)
        self._data, self._packet, self._headers = b"", b"", 0

    def step(self, data: bytes) -> np.ndarray:
        """More of the stream; the samples, float32 [N], that it completes.

        Raises:
            AudioError: it isn't an Ogg-Opus stream.
        """
        self._data += data
        pieces = [samples for packet in self._packets() for samples in self._decode(packet)]
        if len(self._data) > MAX_PENDING_BYTES:
            raise AudioError("a page without end")
        if not pieces:
            return np.zeros(0, np.float32)
        return self._down.resample_chunk(np.concatenate(pieces))

    def _packets(self) -> list[bytes]:
        found: list[bytes] = []
        while len(self._data) >= 27:
            if self._data[:4] != b"OggS":
                raise AudioError("this is no Ogg stream")
            count = self._data[26]
            lacing = self._data[27 : 27 + count]
            size = 27 + count + sum(lacing)
            if len(lacing) < count or len(self._data) < size:
                break
            at = 27 + count
            for length in lacing:
                self._packet += self._data[at : at + length]
                at += length
                if length < 255:
                    found.append(self._packet)
                    self._packet = b""
                elif len(self._packet) > MAX_PAGE_BYTES:
                    raise AudioError("a packet without end")
            self._data = self._data[size:]
        return found

    def _decode(self, packet: bytes) -> list[np.ndarray]:
        if self._headers < 2:  # OpusHead and OpusTags
            if self._headers == 0 and not packet.startswith(b"OpusHead"):
                raise AudioError("this is no Opus stream")
            self._headers += 1
            return []
        if not packet:
            return []
        try:
            frames = self._decoder.decode(av.Packet(packet))
        except (av.FFmpegError, ValueError) as error:
            raise AudioError("an Opus packet that can't be decoded") from error
        return [self._mixed(planar(frame)) for frame in frames]

    def _mixed(self, samples: np.ndarray) -> np.ndarray:
        """[channels, samples] -> [samples]."""
        if len(self._mixer.mean) != len(samples):
            self._mixer = Downmix(len(samples), OPUS_RATE, MIX_SECONDS)
        return self._mixer.step(samples)
