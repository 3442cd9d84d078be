"""How the model runs: time until it is ready and to first audio, seconds of speech per second of work, peak memory."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from antiphon.audio.io import Audio
from antiphon.dialogue.events import AudioEvent, EndEvent
from antiphon.errors import EvalError
from antiphon.evals.harness import Bench
from antiphon.evals.report import Figure

FRAME = 0.08  # seconds
PATIENCE = 20.0  # seconds after which no answer is taken for none
QUIET = 0.01  # -40 dB of full scale: below it a test voice has stopped speaking

_TALK = """
import sys
from antiphon.cli import main
try:
    main()
finally:
    import re, resource
    try:
        kilobytes = int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])
    except (OSError, TypeError):  # not Linux: macOS counts bytes
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        kilobytes = peak / 1024 if sys.platform == "darwin" else peak
    open({peak!r}, "w").write(str(kilobytes))
"""


_READY = """
import json, sys
import antiphon
model, parts = json.loads(sys.argv[1])
antiphon.load(model, **parts)
print("ready", flush=True)
"""


def first_audio(bench: Bench, n: int) -> list[Figure]:
    """Questions fed in real time to a live session, 80 ms at a time; seconds from the last sample to the first sound.

    Silence at a question's end is cut off, so that nothing can be prepared in it. The end of the turn is told to the
    session (finding it is another job); so the figure is what hearing the rest, thinking and speaking cost.
    """
    clips = bench.questions(n)
    for clip in clips[:1]:  # the first answer of a process pays for lazy set-up
        time_to_first_audio(bench.model, trim_end(clip.audio))
    waits = bench.each("live questions", clips, lambda clip: time_to_first_audio(bench.model, trim_end(clip.audio)))
    bench.save_items(
        "first-audio", [{"question": c.text, "seconds": round(w, 3)} for c, w in zip(clips, waits, strict=True)]
    )
    if min(waits) >= PATIENCE:
        raise EvalError(f"No question was answered aloud within {PATIENCE:.0f} s.")
    return [Figure("first-audio-s", statistics.median(waits), "s, median", "<= 1.0", None, len(clips))]


def time_to_first_audio(model, audio: Audio) -> float:
    """Seconds from the last sample of a question, fed in real time, to the answer's first sound; 20 where none came."""
    with model.session("half-duplex") as session:
        rate = session.sample_rate
        frames = list(in_frames(audio.mono().resample(rate).samples, round(FRAME * rate)))
        start = time.perf_counter()
        for i, frame in enumerate(frames):
            # A microphone hands a frame over when its last sample was recorded, not before.
            time.sleep(max(0.0, start + (i + 1) * FRAME - time.perf_counter()))
            session.step(frame)
        ended = start + len(frames) * FRAME
        session.end_of_turn()
        while (waited := time.perf_counter() - ended) < PATIENCE:
            for event in session.poll():
                if isinstance(event, (AudioEvent, EndEvent)):  # an end before any sound: nothing was understood
                    return waited if isinstance(event, AudioEvent) else PATIENCE
            time.sleep(0.005)
    return PATIENCE


def in_frames(samples: Tensor, size: int) -> Iterator[Tensor]:
    """[N] in pieces of `size`, the last one filled up with zeros."""
    for start in range(0, len(samples), size):
        piece = samples[start : start + size]
        yield torch.nn.functional.pad(piece, (0, size - len(piece)))


def trim_end(audio: Audio, threshold: float = QUIET) -> Audio:
    """The sound up to its last sample above `threshold` of full scale (all of it if there is none)."""
    loud = (audio.mono().samples.abs() > threshold).nonzero()
    return Audio(audio.mono().samples[: int(loud[-1]) + 1], audio.sample_rate) if len(loud) else audio


def speed(bench: Bench, n: int) -> list[Figure]:
    """Seconds of speech over the seconds of work of thinker, talker and codec for it, in whole replies to questions."""
    clips = bench.questions(n)
    model = bench.model
    model.reply(clips[0].audio)  # pays for lazy set-up

    def one(clip) -> tuple[float, float]:
        reply = model.reply(clip.audio, seed=bench.config.seed)
        # Nothing heard, nothing said: such a question tells nothing about speed.
        return (reply.audio.duration, reply.timings["total"] - reply.timings["hear"]) if reply.text else (0.0, 0.0)

    made = bench.each("speed", clips, one)
    if not any(seconds for seconds, _ in made):
        raise EvalError(f"The model answered none of {len(clips)} questions aloud.")
    bench.save_items(
        "realtime-speed", [{"question": c.text, "speech_s": s, "work_s": w} for c, (s, w) in zip(clips, made)]
    )
    value = sum(s for s, _ in made) / sum(w for _, w in made)
    return [Figure("realtime-speed", value, "x real time", ">= 1.3", None, len(clips))]


def memory(bench: Bench, n: int) -> list[Figure]:
    """Peak resident memory of a fresh process that runs one `antiphon talk`; the largest of `n`."""
    clips = bench.questions(n)
    with tempfile.TemporaryDirectory() as folder:
        peaks = bench.each("memory", clips, lambda clip: talk_peak(bench, clip.audio, Path(folder)))
    return [Figure("peak-memory-gb", max(peaks), "GB", "<= 2.5", None, len(clips))]


def talk_peak(bench: Bench, audio: Audio, folder: Path) -> float:
    """GB (10^9 bytes) that one `antiphon talk` needs at most.

    The child reads its own high-water mark: what the kernel tells a parent about its children counts the parent's
    pages too.

    Raises:
        EvalError: the process failed.
    """
    question, answer, peak = audio.save(folder / "question.wav"), folder / "answer.wav", folder / "peak"
    options = ["--model", bench.config.model]
    for role, source in bench.config.parts.items():
        options += ["--part", f"{role}={source}"]
    command = [sys.executable, "-c", _TALK.format(peak=str(peak)), "talk", str(question), "-o", str(answer), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or not peak.is_file():
        raise EvalError(f"`antiphon talk` failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return float(peak.read_text()) * 1024 / 1e9


def ready(bench: Bench, n: int) -> list[Figure]:
    """Seconds in which a fresh process has the model in memory, of weights that were fetched before."""
    waits = bench.each("ready", range(n), lambda _: seconds_until_ready(bench.config.model, bench.config.parts))
    return [Figure("ready-s", statistics.median(waits), "s, median", "<= 3.0", None, n)]


def seconds_until_ready(model: str, parts: dict[str, str]) -> float:
    """From the start of the interpreter until `antiphon.load` returns in it; PyTorch's import is a good part of it.

    Raises:
        EvalError: it couldn't be loaded.
    """
    start = time.perf_counter()
    command = [sys.executable, "-c", _READY, json.dumps([model, parts])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said = process.stdout.readline()
        seconds = time.perf_counter() - start
        told = process.communicate()[1]
    if said.strip() != "ready":
        raise EvalError(f"{model} could not be loaded: {(told.strip().splitlines() or ['no message'])[-1]}")
    return seconds
