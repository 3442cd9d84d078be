"""What a linear classifier reads off Whisper's last layer: the mark that a trained network has to pass.

Of whole recordings it sees the mean and the deviation over time; over time, each frame of 80 ms on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from antiphon.evals.hearing.evaluation import Recorded

ROUNDS = 400  # of the solver, at most
FRAMES = 8_000  # that a probe over time learns from, at most


def pooled(heard: Sequence[Recorded]) -> NDArray[np.float32]:
    """The last layer's mean and deviation over time, [recordings, 2 * width]."""
    rows = []
    for each in heard:
        last = each.features.layers[0, -1]
        rows.append(np.concatenate([last.mean(0).numpy(), last.std(0, correction=0).numpy()]))
    return np.stack(rows)


def probe(train: Sequence[Recorded], labels: Sequence[str]) -> Callable[[Sequence[Recorded]], list[str]]:
    """A linear classifier of whole recordings, each label's weight the same.

    Args:
        train: what it learns from.
        labels: of each of them.
    """
    model = _linear().fit(pooled(train), np.asarray(labels))
    return lambda heard: [str(label) for label in model.predict(pooled(heard))]


def regression(train: Sequence[Recorded], values: Sequence[float]) -> Callable[[Sequence[Recorded]], list[float]]:
    """A linear prediction of a number (ridge regression, its strength by leave-one-out)."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 5, 11))).fit(pooled(train), np.asarray(values))
    return lambda heard: [float(value) for value in model.predict(pooled(heard))]


def frame_probe(
    train: Sequence[Recorded], targets: Callable[[Recorded], NDArray[np.bool_]], seed: int = 0
) -> Callable[[Recorded], NDArray[np.float32]]:
    """A linear classifier of each label in each frame.

    Args:
        train: what it learns from.
        targets: of an example, [frames, labels]: whether each label is true.
        seed: which frames are taken where there are too many.

    Returns:
        How likely each label is in each frame of an example, [frames, labels].
    """
    frames = np.concatenate([each.features.layers[0, -1].numpy() for each in train])
    truth = np.concatenate([targets(each) for each in train])
    if len(frames) > FRAMES:
        chosen = np.random.default_rng(seed).choice(len(frames), FRAMES, replace=False)
        frames, truth = frames[chosen], truth[chosen]
    models = [_linear(100).fit(frames, column) if 0 < column.sum() < len(column) else None for column in truth.T]

    def tell(each: Recorded) -> NDArray[np.float32]:
        mine = each.features.layers[0, -1].numpy()
        columns = [np.zeros(len(mine)) if model is None else model.predict_proba(mine)[:, 1] for model in models]
        return np.stack(columns, 1).astype(np.float32)

    return tell


def _linear(rounds: int = ROUNDS) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=rounds))
