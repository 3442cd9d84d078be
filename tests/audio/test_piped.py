"""Sound that is decoded while it comes."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch

from antiphon.audio.io import Audio, load
from antiphon.audio.piped import piped
from antiphon.errors import AudioError


class Pipe(io.RawIOBase):
    """Bytes that can be read forwards alone, and how many were."""

    def __init__(self, content: bytes):
        self.content, self.at = content, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        found = self.content[self.at : self.at + size] if size >= 0 else self.content[self.at :]
        self.at += len(found)
        return found


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_pipe_gives_what_the_file_gives(suffix: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    file = Audio(0.1 * torch.randn(2, 24000 * 8), 24000).save(tmp_path / f"a{suffix}")
    pipe, pieces, read = Pipe(file.read_bytes()), [], []
    for samples in piped(pipe, 16000):
        pieces.append(samples)
        read.append(pipe.at)
    heard, whole = torch.cat(pieces), load(file, sample_rate=16000).samples
    assert heard.dtype == torch.float32
    torch.testing.assert_close(heard, whole, atol=2e-4, rtol=0)
    assert read[0] < len(pipe.content) / 2, "it doesn't wait for the end"


def test_what_is_no_sound_is_told() -> None:
    with pytest.raises(AudioError, match="is no sound"):
        list(piped(Pipe(b"no sound at all" * 100), 16000))
