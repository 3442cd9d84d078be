"""How much is won by hearing many recordings with one command, over one command for each: the model is loaded once.

Both are what a user types, `antiphon hear clips/ -o out` and `antiphon hear clip.wav` for each clip, as processes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from antiphon.audio import io
from antiphon.audio.io import Audio
from antiphon.bench.compare import Progress
from antiphon.errors import AudioError, EvalError
from antiphon.evals.machine import environment
from antiphon.evals.report import Figure, Report
from antiphon.models.asr.recognizer import RATE

BAR = ">= 5"  # times as fast


@dataclass(frozen=True)
class HearClipsConfig:
    """What to measure.

    Attributes:
        recordings: of speech: a file, or a folder of files, from whose beginnings clips are cut.
        clips: how many; one after the other from the recordings, which begin anew where they don't suffice.
        seconds: of each.
        alone: clips of them that get a command each; the others are taken to need as long, as a command takes what its
            start takes.
        model: that hears.
    """

    recordings: Path
    clips: int = 100
    seconds: float = 10.0
    alone: int = 20
    model: str = "mini"


def bench_hear_clips(config: HearClipsConfig, progress: Progress = lambda line: None) -> Report:
    """Runs the bench.

    Raises:
        EvalError: there is no sound, or a command failed.
    """
    report = Report(environment={**environment(), "clips": config.clips, "alone": config.alone})
    with tempfile.TemporaryDirectory(prefix="antiphon-") as folder:
        clips = cut(config, Path(folder, "clips"))
        first = clips[: config.alone]
        progress(f"a command for each of {len(first)} clips")
        each = sum(_seconds(clip, "-m", config.model) for clip in first) / len(first)
        progress(f"one command for {len(clips)} clips")
        together = _seconds(clips[0].parent, "-o", Path(folder, "out"), "-m", config.model) / len(clips)
        if len(list(Path(folder, "out").iterdir())) != len(clips):
            raise EvalError("The command for all clips has left some out; see above.")
    report.add(Figure("hear-clips-over-a-process-each", each / together, "times as fast", BAR, None, len(clips)))
    report.add(Figure("hear-clip-seconds-together", together, "s a clip", None, each, len(clips)))
    return report


def cut(config: HearClipsConfig, folder: Path) -> list[Path]:
    """Writes the clips, and gives their files."""
    place = config.recordings
    paths = sorted(each for each in place.rglob("*") if each.is_file()) if place.is_dir() else [place]
    size, clips, pieces = int(config.seconds * RATE), [], 0
    while len(clips) < config.clips:
        for path in paths:
            try:
                samples = io.load(path, RATE, max_seconds=None).samples
            except AudioError:  # a folder holds other things as well
                continue
            for piece in samples.split(size):
                pieces += 1
                if len(clips) < config.clips and (len(piece) == size or len(samples) < size):
                    clips.append(Audio(piece, RATE).save(folder / f"{len(clips):03d}.wav"))
        if not pieces:
            raise EvalError(f"{place} holds no sound that can be read.")
    return clips


def _seconds(*arguments: str | Path) -> float:
    """That `antiphon hear ARGUMENTS` takes, from its start to its end."""
    start = time.perf_counter()
    command = Path(sys.executable).with_name("antiphon")  # of the same environment
    _run([str(command), "hear", *map(str, arguments)])
    return time.perf_counter() - start


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise EvalError(f"{' '.join(command[1:])} failed: {done.stderr.strip()[-500:]}")
