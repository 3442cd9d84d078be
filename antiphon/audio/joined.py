"""Where the files lie that a file was joined from.

Recorders of radio and voice, and scripts around a TTS, write one sound file after the other into a single one. Readers
of most formats stop where the first ends. So the parts are found here, and each is decoded as the file that it is.
MP3 and ADTS are streams of frames without a beginning: a decoder goes through them, so only tags between them count.
"""

from __future__ import annotations

import mmap
import re
import struct
from pathlib import Path
from typing import Literal

# Beginnings that can't well come about by chance: 6 to 16 bytes are given, or a form is.
BEGINNINGS = {
    b"fLaC": re.compile(rb"fLaC[\x00\x80]\x00\x00\x22"),  # with STREAMINFO, 34 bytes, as its first block
    b"#!AM": re.compile(rb"#!AMR(?:-WB)?\n"),
    b"\x1a\x45\xdf\xa3": re.compile(rb"\x1a\x45\xdf\xa3.{1,64}?\x42\x82.(?:webm|matroska)", re.DOTALL),
    b"\x30\x26\xb2\x75": re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c"),  # ASF, WMA
}
FIRST_PAGE = re.compile(rb"OggS\x00[\x02\x06]")  # of a logical Ogg stream
TAG = re.compile(rb"ID3[\x02-\x04]\x00")


def parts(path: Path) -> list[tuple[int, int]]:
    """The files that a file consists of.

    Args:
        path: of a file that isn't empty.

    Returns:
        (start, stop) of each in bytes, one after the other from 0 to the file's end; mostly there is just one.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        starts = _starts(data)
        return list(zip(starts, [*starts[1:], len(data)]))


def _starts(data: mmap.mmap) -> list[int]:
    """Where the parts begin; the first is 0."""
    head = data[:12]
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        return _chunk_starts(data, b"RIFF", "<")
    if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
        return _chunk_starts(data, b"FORM", ">")
    if head[:4] == b"OggS":
        return _ogg_starts(data)
    if head[4:8] == b"ftyp":
        return _mp4_starts(data)
    if head[:3] == b"ID3" or (head[0] == 0xFF and head[1] & 0xE0 == 0xE0):
        return _mpeg_starts(data)
    form = BEGINNINGS.get(head[:4])
    return _and_zero([found.start() for found in form.finditer(data)] if form else [])


def _and_zero(starts: list[int]) -> list[int]:
    """Whatever stands before the first known beginning is a part, too."""
    return starts if starts[:1] == [0] else [0, *starts]


def _chunk_starts(data: mmap.mmap, name: bytes, order: Literal["<", ">"]) -> list[int]:
    """WAV or AIFF: a header says how long it is, unless it was written before that was known."""
    starts: list[int] = []
    at: int | None = 0
    while at is not None:
        starts.append(at)
        size = struct.unpack_from(f"{order}I", data, at + 4)[0]
        end = at + 8 + size
        if size == 0 or end > len(data):
            # Of an unknown length: another one begins where its header is. Only WAV is streamed so.
            end = data.find(b"WAVEfmt ", at + 12) - 8 if name == b"RIFF" else -1
        at = next((p for p in (end, end + 1) if p > at and data[p : p + 4] == name and p + 12 <= len(data)), None)
    return starts


def _ogg_starts(data: mmap.mmap) -> list[int]:
    """Ogg: a page that begins a stream begins a part, unless it follows another such page (several streams at once)."""
    starts, end = [], -1
    for found in FIRST_PAGE.finditer(data):
        at = found.start()
        if at != end:
            starts.append(at)
        lacing = data[at + 27 : at + 27 + data[at + 26]] if at + 27 <= len(data) else b""
        end = at + 27 + len(lacing) + sum(lacing)
    return _and_zero(starts)


def _mp4_starts(data: mmap.mmap) -> list[int]:
    """MP4 and its kin: a file type after a movie begins another file."""
    starts, at, movie = [0], 0, False
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if size == 1 and at + 16 <= len(data):
            size = struct.unpack_from(">Q", data, at + 8)[0]
        if kind == b"ftyp" and movie:
            starts.append(at)
            movie = False
        movie |= kind == b"moov"
        if size < 8:  # 0: to the end
            break
        at += size
    return starts


def _mpeg_starts(data: mmap.mmap) -> list[int]:
    """MP3: an ID3v2 tag before a frame begins another file: its picture must not be taken for sound."""
    starts = [0]
    for found in TAG.finditer(data, 10):
        size = data[found.start() + 6 : found.start() + 10]
        if len(size) < 4 or max(size) > 127:
            continue
        after = found.start() + 10 + (size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3])
        frame = data[after : after + 2]
        layer = frame[1] & 0x06 if len(frame) == 2 else 0  # 0 is ADTS, whose readers know such tags
        if layer and frame[0] == 0xFF and frame[1] & 0xE0 == 0xE0:
            starts.append(found.start())
    return starts
