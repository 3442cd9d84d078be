"""The bench of many clips: what it cuts, what it runs, its figures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from antiphon.audio.io import Audio, load
from antiphon.bench import hear_clips
from antiphon.bench.hear_clips import RATE, HearClipsConfig, bench_hear_clips, cut
from antiphon.errors import EvalError


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "speech"
    for name, seconds in (("a.wav", 25), ("b/c.flac", 12), ("short.wav", 4)):
        Audio(0.1 * torch.randn(seconds * RATE, generator=torch.Generator().manual_seed(0)), RATE).save(folder / name)
    (folder / "notes.txt").write_text("no sound")
    return folder


def test_clips_are_whole_and_as_many_as_asked_for(recordings: Path, tmp_path: Path) -> None:
    clips = cut(HearClipsConfig(recordings, clips=9), tmp_path / "clips")
    assert len(clips) == len(set(clips)) == 9
    assert [round(load(clip).duration) for clip in clips] == [10, 10, 10, 4, 10, 10, 10, 4, 10]
    (tmp_path / "nothing").mkdir()
    with pytest.raises(EvalError, match="no sound"):
        cut(HearClipsConfig(tmp_path / "nothing"), tmp_path / "none")


def test_figures(recordings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, ran = [0.0], []

    def run(command: list[str]) -> None:
        place = Path(command[2])
        ran.append(place.name)
        clock[0] += 8.0 if place.is_file() else 10.0
        if place.is_dir():
            out = Path(command[command.index("-o") + 1])
            out.mkdir()
            for clip in place.iterdir():
                (out / clip.name).write_text("")

    monkeypatch.setattr(hear_clips, "_run", run)
    monkeypatch.setattr(hear_clips.time, "perf_counter", lambda: clock[0])
    report = bench_hear_clips(HearClipsConfig(recordings, clips=10, alone=3))
    assert ran == ["000.wav", "001.wav", "002.wav", "clips"]
    ratio = report.get("hear-clips-over-a-process-each")
    assert ratio.value == pytest.approx(8.0) and ratio.met and ratio.n == 10
    assert report.get("hear-clip-seconds-together").reference == pytest.approx(8.0)


def test_a_command_that_fails_is_told(recordings: Path) -> None:
    with pytest.raises(EvalError, match="no-such-command failed"):
        hear_clips._run([str(Path(hear_clips.sys.executable).with_name("antiphon")), "no-such-command"])
