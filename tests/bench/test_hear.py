"""The bench of hearing: its figures, what it refuses, and that the peer hears with the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.bench import hear
from antiphon.bench.hear import HearBenchConfig, bench_hear
from antiphon.errors import EvalError


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "speech"
    for name, seconds in (("a.wav", 20), ("b/c.flac", 25), ("d.wav", 30)):
        Audio(0.1 * torch.randn(seconds * 16000, generator=torch.Generator().manual_seed(0)), 16000).save(folder / name)
    (folder / "notes.txt").write_text("no sound")
    return folder


@pytest.mark.parametrize("peer", [True, False])
def test_figures(recordings: Path, monkeypatch: pytest.MonkeyPatch, peer: bool) -> None:
    asked = []

    def run(work, fields, title, threads):
        asked.append(fields | {"seconds": Audio.duration.fget(hear.io.load(fields["speech"]))})
        times = {"ours": [10.0, 12.0, 11.0], "theirs": [22.0, 22.0, 40.0]} if fields["peer"] else {"ours": [10.0]}
        return times, 3.5

    monkeypatch.setattr(hear, "in_fresh_process", run)
    monkeypatch.setattr(hear, "missing", lambda peers: [] if peer else ["faster_whisper"])
    monkeypatch.setattr(hear, "convert", lambda folder, target: None)
    monkeypatch.setattr(hear.hub, "folder", lambda role: Path("asr"))
    report = bench_hear(HearBenchConfig(recordings, minutes=1.0, threads=(2,)))
    assert asked[0]["seconds"] == pytest.approx(60.0)  # of the 75 that there are
    assert report.get("hear-memory-growth-mb-2-threads").value == 3.5
    speed, ratio = report.get("hear-speed-2-threads"), report.get("hear-vs-faster-whisper")
    if not peer:
        assert speed.value == pytest.approx(6.0) and speed.reference is None and ratio is None
        return
    assert speed.value == pytest.approx(60 / 11) and speed.reference == pytest.approx(60 / 28)
    assert ratio.value == pytest.approx(0.5) and ratio.met


def test_too_little_speech_is_told(recordings: Path) -> None:
    with pytest.raises(EvalError, match="20 s of sound; 30 s"):
        bench_hear(HearBenchConfig(recordings / "a.wav"))


@pytest.mark.slow
def test_the_peer_hears_with_the_same_weights(tmp_path: Path) -> None:
    faster_whisper = pytest.importorskip("faster_whisper")
    from antiphon import hub

    hear.convert(hub.folder("asr"), tmp_path / "peer")
    model = faster_whisper.WhisperModel(str(tmp_path / "peer"), device="cpu", compute_type="int8")
    question = Path(__file__).parents[2] / "examples" / "question.wav"
    found, about = model.transcribe(str(question), beam_size=1)
    assert "capital of italy" in " ".join(one.text for one in found).lower() and about.language == "en"
