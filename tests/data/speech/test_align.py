"""Manifests of recordings whose phones' times were found."""

from __future__ import annotations

import json

import pytest
import soundfile

from antiphon.data.recordings import recordings
from antiphon.data.speech.align import write_aligned
from antiphon.errors import DataError
from tests.models.asr.tones import aligner, sound


class Spelled:
    """Phonemes as they stand."""

    def __call__(self, text: str) -> str:
        return text


@pytest.fixture(autouse=True)
def _spelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("antiphon.data.speech.align.Phonemizer", Spelled)


def record(folder, name: str, text: str | None, *numbers: int) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    soundfile.write(folder / f"{name}.wav", sound(*numbers).numpy(), 16000)
    if text is not None:
        (folder / f"{name}.txt").write_text(text)


def test_a_folder_becomes_a_manifest_that_training_reads(tmp_path):
    record(tmp_path / "mine" / "deep", "one", "ab k", 0, 1, 2, 2, 0, 3)
    record(tmp_path / "mine", "two", "ba", 2, 1, 0)
    record(tmp_path / "mine", "untold", None, 1, 2)
    out = tmp_path / "elsewhere" / "aligned.jsonl"
    assert write_aligned(tmp_path / "mine", out, aligner(), print) == (2, 0)
    read = {recording.text: recording for recording in recordings(out)}
    assert [(phone, round(start, 2), round(end, 2)) for phone, start, end in read["ab k"].phones] == [
        ("a", 0.02, 0.04), ("b", 0.04, 0.08), (" ", 0.08, 0.1), ("k", 0.1, 0.12),
    ]  # fmt: skip
    assert read["ba"].load().samples.shape == (960,)


def test_it_goes_on_where_it_was_and_mends_half_a_line(tmp_path):
    for name in ("one", "two", "three"):
        record(tmp_path, name, "ab", 1, 2)
    out, heard = tmp_path / "aligned.jsonl", []
    write_aligned(tmp_path, out, aligner(), print)
    lines = out.read_text().splitlines()
    out.write_text(lines[0] + "\n" + lines[1][:20])
    again = aligner()
    align = again.align
    again.align = lambda *given: (heard.append(given), align(*given))[1]
    assert write_aligned(tmp_path, out, again, print) == (3, 0)
    assert len(heard) == 2 and out.read_text().splitlines() == lines


def test_what_cannot_be_aligned_is_told_and_the_rest_is_done(tmp_path):
    record(tmp_path, "fits", "ab", 1, 2)
    record(tmp_path, "other", "abkabkabk", 1, 2)
    record(tmp_path, "long", "ab", *[1, 2] * 800)
    record(tmp_path, "russian", "Какая столица у Италии?", 1, 2)
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    (tmp_path / "broken.txt").write_text("ab")
    told: list[str] = []
    assert write_aligned(tmp_path, tmp_path / "aligned.jsonl", aligner(), told.append) == (1, 4)
    assert [line.split()[0] for line in sorted(told)] == ["broken.wav", "long.wav", "other.wav", "russian.wav"]
    assert any("9 phones don't fit" in line for line in told) and any("32 s" in line for line in told)
    assert any("in Russian" in line for line in told)


def test_what_cannot_be_is_said(tmp_path):
    record(tmp_path / "mute", "one", None, 1)
    with pytest.raises(DataError, match="no recording has a text"):
        write_aligned(tmp_path / "mute", tmp_path / "x.jsonl", aligner(), print)
    record(tmp_path / "told", "one", "ab", 1, 2)
    (tmp_path / "x.jsonl").write_text(json.dumps({"something": "else"}) + "\n")
    with pytest.raises(DataError, match="no manifest that was made here"):
        write_aligned(tmp_path / "told", tmp_path / "x.jsonl", aligner(), print)
