"""What a run tells: a line on stderr, the same in log.jsonl, and curves for TensorBoard, every `log_every` steps."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from antiphon.train.config import StageConfig

FILE = "log.jsonl"
PACE = ("step", "seconds a step", "tokens a second", "mfu", "batches", "tokens", "flops", "seconds")  # of its lines


@dataclass
class Spent:
    """What a run has cost so far, in all its parts.

    Attributes:
        batches: learnt from, over all processes.
        tokens: read, of a task that counts them.
        flops: computed.
        seconds: taken.
    """

    batches: int = 0
    tokens: int = 0
    flops: float = 0.0
    seconds: float = 0.0

    def state_dict(self) -> dict[str, float]:
        """All of it."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on with what `state_dict` gave."""
        self.batches, self.tokens = int(state["batches"]), int(state["tokens"])
        self.flops, self.seconds = state["flops"], state["seconds"]


class Log:
    """Running means of the losses.

    Args:
        config: the stage.
        out: the run's folder.
        start: the step that it goes on with; lines of later ones, from before a kill, are taken out.
        spent: what the run costs, kept up to date by the engine.
        peak: FLOP/s that all its processes could compute; 0 where that isn't known.
    """

    def __init__(self, config: StageConfig, out: Path, start: int, spent: Spent, peak: float = 0.0):
        from torch.utils.tensorboard import SummaryWriter

        self.config, self.count, self.spent, self.peak = config, 0, spent, peak
        self.sums: dict[str, tuple[float, int]] = {}  # name -> (total, how many)
        self.path = out / FILE
        before = [line for line in read(out) if line["step"] <= start]
        part = self.path.with_suffix(".part")
        part.write_text("".join(json.dumps(line) + "\n" for line in before), encoding="utf-8")
        os.replace(part, self.path)  # whole at any moment
        self.writer = SummaryWriter(str(out / "curves"), purge_step=start or None)
        self.began, self.start, self.before = time.monotonic(), start, spent.state_dict()

    def add(self, step: int, values: dict[str, float]) -> None:
        """Takes in the losses of a step, and tells their means when it is time to."""
        for name, value in values.items():
            total, number = self.sums.get(name, (0.0, 0))
            self.sums[name] = (total + value, number + 1)
        self.count += 1
        if (step + 1) % self.config.log_every:
            return
        left = (self.config.steps - step - 1) * (time.monotonic() - self.began) / (step + 1 - self.start) / 60
        means = {name: total / number for name, (total, number) in self.sums.items()}
        new = {name: value - self.before[name] for name, value in self.spent.state_dict().items()}
        pace = {"seconds a step": new["seconds"] / self.count}
        if new["tokens"]:
            pace["tokens a second"] = new["tokens"] / new["seconds"]
        if self.peak and new["flops"]:
            pace["mfu"] = new["flops"] / new["seconds"] / self.peak
        for name, value in {**means, **{f"pace/{name}": value for name, value in pace.items()}}.items():
            self.writer.add_scalar(name, value, step + 1)
        self._write(step + 1, {**means, **pace, **self.spent.state_dict()})
        text = "  ".join(f"{name} {value:.4g}" for name, value in means.items())
        text += f"  {pace['seconds a step']:.2f} s/step"
        if "tokens a second" in pace:
            text += f"  {pace['tokens a second']:.0f} tokens/s"
        if "mfu" in pace:
            text += f"  MFU {pace['mfu']:.0%}"
        print(f"step {step + 1}/{self.config.steps}  {text}  {left:.0f} min left", file=sys.stderr, flush=True)
        self.sums, self.count, self.before = {}, 0, self.spent.state_dict()

    def measured(self, step: int, figures: dict[str, float]) -> None:
        """Writes down what a measure found."""
        for name, value in figures.items():
            self.writer.add_scalar(f"measure/{name}", value, step)
        self._write(step, {f"measure/{name}": value for name, value in figures.items()} | self.spent.state_dict())
        text = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        print(f"measured at step {step}: {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Writes what isn't written yet."""
        self.writer.close()

    def _write(self, step: int, values: dict[str, float]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")


def read(out: Path) -> list[dict[str, Any]]:
    """The lines of a run's log, without one that a kill cut off."""
    path, found = out / FILE, []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found
