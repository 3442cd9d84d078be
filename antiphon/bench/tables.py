"""lm-eval's tasks through our thinker, beside lm-eval's own model of `transformers`: the same weights in float32, the
same questions, on one thread. Told is the time, and whether answers and scores are the same.

Times are of the processor, of the model's part alone: building the tasks is lm-eval's in both.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from antiphon.bench.compare import Progress, missing, start_report
from antiphon.errors import EvalError
from antiphon.evals.report import Figure, Report

PEERS = ("lm_eval", "peft")  # the second is imported by its model of transformers
ASKED = ("loglikelihood", "generate_until")


@dataclass(frozen=True)
class TablesBenchConfig:
    """What to measure.

    Attributes:
        folder: of a language model, as `transformers` saves it.
        data: of the sets.
        tasks: of the text table.
        n: questions of each.
        batch: requests that lm-eval's own model reads at once; 1 is its default.
        max_tokens: of a reply.
    """

    folder: Path
    data: Path
    tasks: tuple[str, ...] = ("arc_easy", "openbookqa", "hellaswag")
    n: int = 50
    batch: int = 1
    max_tokens: int = 128


def bench_tables(config: TablesBenchConfig, progress: Progress = lambda line: None) -> Report:
    """Runs the bench.

    Raises:
        EvalError: lm-eval isn't installed.
        DataError: a set isn't there.
    """
    report = start_report(PEERS, (1,), progress)
    if gone := missing(PEERS):
        raise EvalError(f"{', '.join(gone)} must be there: pip install 'antiphon[tables,parity]'")
    from lm_eval.models.huggingface import HFLM

    from antiphon.evals.tables.text.lm import ThinkerLM
    from antiphon.evals.tables.text.measure import measure_text
    from antiphon.models.llm.thinker import Thinker

    torch.set_num_threads(1)
    ours = ThinkerLM(Thinker.from_pretrained(config.folder), str(config.folder))
    theirs = HFLM(pretrained=str(config.folder), device="cpu", dtype="float32", batch_size=config.batch)
    for task in config.tasks:
        name, found = task.replace("_", "-"), []
        for side, lm in (("ours", ours), ("lm-eval's", theirs)):
            clock = _clocked(lm)
            _, items = measure_text(task, lm, config.data, config.n, max_tokens=config.max_tokens)
            found.append((sum(clock), items))
            progress(f"{task}, {side}: {sum(clock):.1f} s")
        (mine, own), (other, their) = found
        same = sum(a.answer == b.answer and a.score == b.score for a, b in zip(own, their, strict=True))
        report.add(Figure(f"{name}-vs-lm-eval", other / mine, "times as fast", ">= 2", None, len(own)))
        report.add(Figure(f"{name}-answers-equal", same / len(own), "share", ">= 1", None, len(own)))
    return report


def _clocked(lm: Any) -> list[float]:
    """Has a model note the seconds of the processor that it takes from now on."""
    seconds: list[float] = []
    for name in ASKED:
        real = getattr(type(lm), name)

        def timed(requests: list[Any], *args: Any, real: Any = real, **options: Any) -> Any:
            start = time.process_time()
            try:
                return real(lm, requests, *args, **options)
            finally:
                seconds.append(time.process_time() - start)

        setattr(lm, name, timed)
    return seconds
