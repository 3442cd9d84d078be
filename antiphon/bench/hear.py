"""How fast recordings are written down, beside faster-whisper: the same weights in int8, beam 1, as many threads.

Both hear the same minutes of speech in one process, in turns (see `compare`), each from samples to words.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from antiphon import hub
from antiphon.audio import io
from antiphon.audio.io import Audio
from antiphon.bench.compare import Progress, add_ratios, in_turns, missing, on_threads, start_report
from antiphon.errors import AudioError, EvalError
from antiphon.evals.machine import in_fresh_process, memory_bytes
from antiphon.evals.report import Figure, Report
from antiphon.models.asr.recognizer import RATE, Recognizer

PEERS = ("faster_whisper", "ctranslate2")
BAR = "<= 1.2"  # of faster-whisper's time
MIN_SECONDS = 30.0


@dataclass(frozen=True)
class HearBenchConfig:
    """What to measure.

    Attributes:
        recordings: of speech: a file, or a folder of files that are heard one after the other, as one.
        minutes: of it that are heard, at most.
        threads: numbers of threads; where there are several, a figure is the worst of them.
        rounds: times that each side hears it.
    """

    recordings: Path
    minutes: float = 10.0
    threads: tuple[int, ...] = (2,)
    rounds: int = 1


def bench_hear(config: HearBenchConfig, progress: Progress = lambda line: None) -> Report:
    """Runs the bench.

    Raises:
        EvalError: less than half a minute of speech, or a process failed.
    """
    report = start_report(PEERS, config.threads, progress)
    peer = not missing(PEERS)
    found, memory = {}, {}
    with tempfile.TemporaryDirectory(prefix="antiphon-") as folder:
        speech, theirs = Path(folder) / "speech.wav", Path(folder) / "peer"
        seconds = _gather(config, speech)
        if peer:
            progress("converting the weights for faster-whisper")
            convert(hub.folder("asr"), theirs)
        fields = {"speech": str(speech), "peer": str(theirs) if peer else "", "rounds": config.rounds}
        for threads in config.threads:
            progress(f"{seconds / 60:.1f} minutes of speech, {on_threads(threads)}")
            label = on_threads(threads)
            found[label], memory[label] = in_fresh_process(work, fields | {"threads": threads}, "hear", threads)
    for label, times in found.items():
        name = label.replace(" ", "-")
        speed = [seconds / sum(each) * len(each) for each in times.values()]
        report.add(Figure(f"hear-speed-{name}", speed[0], "x real time", None, (*speed[1:], None)[0], config.rounds))
        report.add(Figure(f"hear-memory-growth-mb-{name}", memory[label], "MB", None, None, 1))
    add_ratios(report, "hear-vs-faster-whisper", found, "ours", "theirs", BAR, digits=0)
    return report


def _gather(config: HearBenchConfig, target: Path) -> float:
    """Writes the speech that is heard, in one file; gives its seconds."""
    place = config.recordings
    parts, left = [], config.minutes * 60
    for path in sorted(each for each in place.rglob("*") if each.is_file()) if place.is_dir() else [place]:
        try:
            for samples in io.stream(path, RATE):
                parts.append(samples[: max(0, int(left * RATE))])
                left -= len(samples) / RATE
                if left <= 0:
                    break
        except AudioError:  # a folder holds other things as well
            continue
        if left <= 0:
            break
    whole = torch.cat(parts) if parts else torch.zeros(0)
    if len(whole) < MIN_SECONDS * RATE:
        raise EvalError(f"{place} holds {len(whole) / RATE:.0f} s of sound; {MIN_SECONDS:.0f} s of speech are needed.")
    Audio(whole, RATE).save(target)
    return len(whole) / RATE


def convert(folder: Path, target: Path) -> None:
    """Writes a folder of Whisper as faster-whisper reads it, in int8."""
    from ctranslate2.converters import TransformersConverter
    from tokenizers import Tokenizer

    from antiphon.encoders.whisper.tokens import WhisperTokens

    TransformersConverter(str(folder)).convert(str(target), quantization="int8")
    shutil.copyfile(folder / "tokenizer.json", target / "tokenizer.json")
    config = json.loads((target / "config.json").read_text())
    languages = WhisperTokens(Tokenizer.from_file(str(folder / "tokenizer.json"))).languages
    (target / "config.json").write_text(json.dumps(config | {"lang_ids": list(languages.values())}))


def work(fields: dict[str, Any]) -> tuple[dict[str, list[float]], float]:
    """In a process of its own: seconds of the sides' rounds, and the megabytes by which ours grew after the first two
    and a half minutes."""
    torch.set_num_threads(fields["threads"])
    samples = io.load(fields["speech"], max_seconds=None).samples
    recognizer = Recognizer.from_pretrained(hub.folder("asr"))
    recognizer.hear(Audio(samples[: 150 * RATE], RATE))
    before = memory_bytes("VmHWM")
    recognizer.hear(iter(samples.split(10 * RATE)))
    grown = (memory_bytes("VmHWM") - before) / 1e6
    sides = {"ours": lambda i: recognizer.hear(iter(samples.split(10 * RATE)))}
    if fields["peer"]:
        from faster_whisper import WhisperModel

        model = WhisperModel(fields["peer"], device="cpu", compute_type="int8", cpu_threads=fields["threads"])
        sides["theirs"] = lambda i: [segment.text for segment in model.transcribe(np.asarray(samples), beam_size=1)[0]]
    return in_turns(sides, fields["rounds"], 0), grown
