"""What a larger run would reach, from small ones: `antiphon train --fit RUN RUN RUN`.

The loss L of runs of different compute C is fitted by L = E + A C^-a (Hestness et al. 2017; Hoffmann et al. 2022, fit
in the logarithm, with Huber's loss). E is what no compute takes away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from antiphon.errors import TrainingError
from antiphon.train import log

LAST = 0.1  # of a run's logged steps, whose mean is what it reached


@dataclass(frozen=True)
class Reached:
    """What a run reached.

    Attributes:
        run: its folder.
        flops: that it took.
        loss: at its end.
    """

    run: str
    flops: float
    loss: float


@dataclass(frozen=True)
class Law:
    """L = floor + scale * flops^-exponent."""

    floor: float
    scale: float
    exponent: float

    def loss(self, flops: float) -> float:
        """What a run of so much compute would reach."""
        return self.floor + self.scale * flops**-self.exponent


def reached(run: Path | str, loss: str | None = None) -> Reached:
    """Reads what a run reached from its log.

    Args:
        run: its folder.
        loss: name of a loss or figure in the log; None for a measured one if there is only one, else the first loss.

    Raises:
        TrainingError: no log there, nothing of that name in it, or no compute (of a task that doesn't count tokens).
    """
    lines = log.read(Path(run))
    if not lines:
        raise TrainingError(f"{run} has no {log.FILE}: give the folders of runs (their `out`)")
    names = list(dict.fromkeys(name for line in lines for name in line))
    measured = [name for name in names if name.startswith("measure/")]
    learnt = [name for name in names if name not in log.PACE and not name.startswith(("norm/", "measure/"))]
    chosen = loss or (measured[0] if len(measured) == 1 else learnt[0])
    known = [(line["flops"], line[chosen]) for line in lines if chosen in line]
    if not known:
        raise TrainingError(f"{run}: its log has no {chosen!r}; there are {', '.join(measured + learnt)}")
    if not known[-1][0]:
        raise TrainingError(f"{run}: its log has no FLOPs: its task doesn't count tokens")
    last = 1 if chosen in measured else max(1, math.ceil(LAST * len(known)))
    return Reached(str(run), known[-1][0], float(np.mean([value for _, value in known[-last:]])))


def fit(runs: Sequence[Reached]) -> Law:
    """Fits the law.

    Args:
        runs: of at least three different computes.

    Raises:
        TrainingError: too few, or losses that aren't above zero.
    """
    from scipy.optimize import least_squares

    if len({run.flops for run in runs}) < 3:
        raise TrainingError(f"{len(runs)} runs: at least three of different compute are needed for a fit")
    if min(run.loss for run in runs) <= 0:
        raise TrainingError("a loss that is not above zero can't be fitted by this law")
    compute = np.array([run.flops for run in runs])
    losses = np.array([run.loss for run in runs])
    middle = float(np.exp(np.log(compute).mean()))  # so that the scale is of the order of the losses

    def law(values: np.ndarray) -> np.ndarray:
        floor, scale, exponent = np.exp(values)
        return floor + scale * (compute / middle) ** -exponent

    def residuals(values: np.ndarray) -> np.ndarray:
        return np.log(law(values)) - np.log(losses)

    low, span = losses.min(), max(losses.max() - losses.min(), 1e-3)
    starts = [(low * share, span, exponent) for share in (0.05, 0.5, 0.9) for exponent in (0.05, 0.2, 0.6)]
    found = [
        least_squares(residuals, np.log(start), loss="huber", f_scale=1e-2, max_nfev=5000, xtol=1e-12, ftol=1e-12)
        for start in starts
    ]
    floor, scale, exponent = np.exp(min(found, key=lambda each: each.cost).x)
    return Law(float(floor), float(scale * middle**exponent), float(exponent))


def spread(runs: Sequence[Reached], flops: float) -> tuple[float, float] | None:
    """The least and the largest loss that fits to all runs but one foresee; None of fewer than four runs."""
    if len(runs) < 4:
        return None
    foreseen = []
    for left_out in range(len(runs)):
        rest = [run for number, run in enumerate(runs) if number != left_out]
        if len({run.flops for run in rest}) >= 3:
            foreseen.append(fit(rest).loss(flops))
    return (min(foreseen), max(foreseen)) if foreseen else None


def lines(runs: Sequence[Reached], at: Sequence[float] = ()) -> list[str]:
    """For people: the runs, the law, and what it says of larger ones.

    Args:
        runs: what they reached.
        at: FLOPs to foresee; ten and a hundred times those of the largest run where none are given.
    """
    law, largest = fit(runs), max(run.flops for run in runs)
    told = [f"{run.flops:9.3g} FLOP  {run.loss:.4f}  (fit {law.loss(run.flops):.4f})  {run.run}" for run in runs]
    told.append(f"loss = {law.floor:.4f} + {law.scale:.4g} * FLOP^-{law.exponent:.4f}")
    for flops in at or (10 * largest, 100 * largest):
        between = spread(runs, flops)
        range_ = f"  ({between[0]:.4f} to {between[1]:.4f} without one of the runs)" if between else ""
        told.append(f"{flops:9.3g} FLOP  {law.loss(flops):.4f}{range_}")
    return told
