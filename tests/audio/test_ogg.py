"""Ogg-Opus: there and back, however it is cut."""

from __future__ import annotations

import numpy as np
import pytest

from antiphon.audio.ogg import OpusReader, OpusWriter, crc
from antiphon.audio.pcm import BadAudio


def tone(seconds):
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * 24000)) / 24000)).astype(np.float32)


def is_tone(samples):
    middle = samples[4800 : 4800 + 9600]
    loudest = np.abs(np.fft.rfft(middle * np.hanning(len(middle)))).argmax() * 24000 / len(middle)
    return abs(loudest - 440) < 4 and 0.4 < np.abs(middle).max() < 0.6


@pytest.mark.parametrize("cut", [1, 7, 100, 10**6])
def test_opus_there_and_back_however_it_is_cut(cut):
    writer, reader, sound = OpusWriter(), OpusReader(), tone(1)
    data = writer.head() + b"".join(writer.step(sound[at : at + 1920]) for at in range(0, 24000, 1920))
    back = np.concatenate([reader.step(data[at : at + cut]) for at in range(0, len(data), cut)])
    assert 22500 < len(back) <= 24000 and is_tone(back)


@pytest.mark.parametrize("data", [b"x" * 100, b"OggS" + bytes(23) + b"\x00" * 5, b"OggS" + bytes(22) + b"\x01\x04abcd"])
def test_what_is_no_opus_stream_is_told_or_waited_for(data):
    reader = OpusReader()
    try:
        assert len(reader.step(data)) == 0
    except BadAudio:
        pass
    with pytest.raises(BadAudio):
        reader.step(b"\x00" * (2 << 20))


def test_the_checksum_is_ogg_s():
    assert crc(b"123456789") == 0x89A1897F  # CRC-32/MPEG-2 of the same polynomial, begun at zero
