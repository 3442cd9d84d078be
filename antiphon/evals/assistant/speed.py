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
from typing import Any

import torch
from torch import Tensor

from antiphon.audio.io import Audio, load
from antiphon.dialogue.events import AudioEvent, EndEvent
from antiphon.errors import EvalError
from antiphon.evals.assistant.evaluation import AssistantEvaluation
from antiphon.evals.assistant.material import Clip
from antiphon.evals.harness import rows_of
from antiphon.evals.machine import in_fresh_process, memory_bytes
from antiphon.evals.report import Figure

FRAME_SECONDS = 0.08
MAX_WAIT_SECONDS = 20.0  # after which no answer is taken for none
SILENCE_LEVEL = 0.01  # -40 dB of full scale: below it a test voice has stopped speaking


_READY = """
import json, sys
import antiphon
model, parts = json.loads(sys.argv[1])
antiphon.load(model, **parts)
print("ready", flush=True)
"""


_BUSY = "while True: pass"


def first_audio(evaluation: AssistantEvaluation, n: int) -> list[Figure]:
    """Questions fed in real time to a live session, 80 ms at a time; seconds from the last sample to the first sound.

    Silence at a question's end is cut off, so that nothing can be prepared in it. The end of the turn is told to the
    session (finding it is another job); so the figure is what hearing the rest, thinking and speaking cost.
    """
    return _first_audio(evaluation, n, "first-audio-s", evaluation.bar(base="<= 0.7", small="<= 0.7", mini="<= 1.0"))


def first_audio_busy(evaluation: AssistantEvaluation, n: int) -> list[Figure]:
    """The same while another program keeps one core busy."""
    with subprocess.Popen([sys.executable, "-c", _BUSY]) as other:
        try:
            return _first_audio(evaluation, n, "first-audio-busy-s", evaluation.bar(base="<= 1.2", small="<= 1.2"))
        finally:
            other.kill()


def _first_audio(evaluation: AssistantEvaluation, n: int, name: str, bar: str | None) -> list[Figure]:
    clips, model = evaluation.questions(n), evaluation.model
    for clip in clips[:1]:  # the first answer of a process pays for lazy set-up
        time_to_first_audio(model, trim_end(clip.audio))
    waits = evaluation.each("live questions", clips, lambda clip: time_to_first_audio(model, trim_end(clip.audio)))
    evaluation.save_items(name.removesuffix("-s"), rows_of({"question": [c.text for c in clips], "seconds": waits}))
    if min(waits) >= MAX_WAIT_SECONDS:
        raise EvalError(f"No question was answered aloud within {MAX_WAIT_SECONDS:.0f} s.")
    return [Figure(name, statistics.median(waits), "s, median", bar, None, len(clips))]


def time_to_first_audio(model, audio: Audio) -> float:
    """Seconds from the last sample of a question, fed in real time, to the answer's first sound; 20 where none came."""
    with model.session("half-duplex") as session:
        rate = session.sample_rate
        frames = list(in_frames(audio.mono().resample(rate).samples, round(FRAME_SECONDS * rate)))
        start = time.perf_counter()
        for i, frame in enumerate(frames):
            # A microphone hands a frame over when its last sample was recorded, not before.
            time.sleep(max(0.0, start + (i + 1) * FRAME_SECONDS - time.perf_counter()))
            session.step(frame)
        ended = start + len(frames) * FRAME_SECONDS
        session.end_of_turn()
        while (waited := time.perf_counter() - ended) < MAX_WAIT_SECONDS:
            for event in session.poll():
                if isinstance(event, (AudioEvent, EndEvent)):  # an end before any sound: nothing was understood
                    return waited if isinstance(event, AudioEvent) else MAX_WAIT_SECONDS
            time.sleep(0.005)
    return MAX_WAIT_SECONDS


def in_frames(samples: Tensor, size: int) -> Iterator[Tensor]:
    """[N] in pieces of `size`, the last one filled up with zeros."""
    for start in range(0, len(samples), size):
        piece = samples[start : start + size]
        yield torch.nn.functional.pad(piece, (0, size - len(piece)))


def trim_end(audio: Audio, threshold: float = SILENCE_LEVEL) -> Audio:
    """The sound up to its last sample above `threshold` of full scale (all of it if there is none)."""
    loud = (audio.mono().samples.abs() > threshold).nonzero()
    return Audio(audio.mono().samples[: int(loud[-1]) + 1], audio.sample_rate) if len(loud) else audio


def speed(evaluation: AssistantEvaluation, n: int) -> list[Figure]:
    """Seconds of speech over the seconds of work of thinker, talker and codec for it, in whole replies to questions."""
    clips = evaluation.questions(n)
    model = evaluation.model
    model.reply(clips[0].audio)  # pays for lazy set-up

    def one(clip) -> tuple[float, float]:
        reply = model.reply(clip.audio, seed=evaluation.config.seed)
        # Nothing heard, nothing said: such a question tells nothing about speed.
        return (reply.audio.duration, reply.timings["total"] - reply.timings["hear"]) if reply.text else (0.0, 0.0)

    made = evaluation.each("speed", clips, one)
    if not any(seconds for seconds, _ in made):
        raise EvalError(f"The model answered none of {len(clips)} questions aloud.")
    speech, work = zip(*made)
    columns = {"question": [clip.text for clip in clips], "speech_s": speech, "work_s": work}
    evaluation.save_items("realtime-speed", rows_of(columns))
    return [
        Figure(
            "realtime-speed", sum(speech) / sum(work), "x real time", evaluation.bar(mini=">= 1.3"), None, len(clips)
        )
    ]


def memory(evaluation: AssistantEvaluation, n: int) -> list[Figure]:
    """Peak resident memory of a fresh process that answers a spoken question, as `antiphon talk` does; the largest of
    `n`, in GB (10^9 bytes)."""
    config = evaluation.config
    with tempfile.TemporaryDirectory() as folder:

        def peak(clip: Clip) -> int:
            question = clip.audio.save(Path(folder) / "question.wav")
            fields = {"model": config.model, "parts": config.parts, "question": str(question)}
            return in_fresh_process(answer_aloud, fields, "Answering a question")

        peaks = evaluation.each("memory", evaluation.questions(n), peak)
    bar = evaluation.bar(base="<= 3.0", small="<= 1.8", mini="<= 2.5")
    return [Figure("peak-memory-gb", max(peaks) / 1e9, "GB", bar, None, len(peaks))]


def answer_aloud(fields: dict[str, Any]) -> int:
    """Loads a model, has it answer a recording, and says how many bytes this process had at most.

    The process reads its own high-water mark: what the kernel tells a parent about its children counts the parent's
    pages too.
    """
    import antiphon

    question = load(fields["question"], sample_rate=16000)
    reply = antiphon.load(fields["model"], **fields["parts"]).reply(question)
    reply.audio.save(Path(fields["question"]).with_name("answer.wav"))
    return memory_bytes("VmHWM")


def ready(evaluation: AssistantEvaluation, n: int) -> list[Figure]:
    """Seconds in which a fresh process has the model in memory, of weights that were fetched before."""
    config = evaluation.config
    waits = evaluation.each("ready", range(n), lambda _: seconds_until_ready(config.model, config.parts))
    return [Figure("ready-s", statistics.median(waits), "s, median", evaluation.bar(mini="<= 3.0"), None, n)]


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
