"""Linear classifiers beside the trained heads: as scikit-learn fits them, and mixed by what others show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from antiphon.train.config import StageConfig
from antiphon.train.scene.linear import PENALTY, fit_linear, fitted
from antiphon.train.scene.task import SceneTask
from tests.train.scene.test_task import config, folder  # noqa: F401


@pytest.mark.parametrize("labels", [3, 4])
def test_the_fit_is_scikit_learns(labels: int) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    draw = np.random.default_rng(0)
    x = draw.standard_normal((200, 5)) * [1, 2, 3, 1, 1] + 4
    truth = ((x - 4) @ draw.standard_normal((5, labels))).argmax(1)
    y = torch.eye(labels)[torch.from_numpy(truth)]
    weight, bias = fitted(torch.from_numpy(x).float(), y, torch.ones_like(y), exclusive=True)
    even = (x - x.mean(0)) / x.std(0)
    theirs = linear_model.LogisticRegression(C=1 / PENALTY, class_weight="balanced", max_iter=500).fit(even, truth)
    want = torch.from_numpy(theirs.predict_proba(even)).float()
    got = F.linear(torch.from_numpy(x).float(), weight, bias).softmax(-1)
    torch.testing.assert_close(got, want, atol=2e-2, rtol=0)


def test_what_is_not_known_is_not_fitted() -> None:
    torch.manual_seed(0)
    x = torch.randn(80, 4)
    y = torch.stack([(x[:, 0] > 0).float(), (x[:, 1] > 0).float()], 1)
    wrong, mask = y.clone(), torch.ones_like(y)
    wrong[:40, 1], mask[:40, 1] = 1 - wrong[:40, 1], 0.0
    weight, bias = fitted(x, wrong, mask, exclusive=False)
    told = (F.linear(x, weight, bias) > 0).float()
    assert (told == y).float().mean() > 0.9


def test_the_sum_is_the_mixture(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    stage: StageConfig = config(folder, tmp_path)
    task = SceneTask(stage)
    network = task.model.eval()
    source, one = task.dev[0]
    with torch.no_grad():
        trained = network(source(one))[1].logits
        shares = fit_linear(network, task.train, task.dev)
        mixed = network(source(one))[1]
        heads = {name: head.weight.abs().sum() for name, head in network.whole.items()}
    assert set(shares) == set(network.config.labels) and shares["event"] == 0.5  # six examples are too few to weigh on
    assert all(heads[name] > 0 for name in heads)
    assert any((mixed.logits[name] - trained[name]).abs().max() > 1e-3 for name in trained)
    right = 0
    for source, one in task.dev:
        logits = network(source(one))[1].logits["event"][0]
        names = network.config.labels["event"]
        right += any(span.label == names[int(logits.argmax())] for span in one.spans)
    assert right == len(task.dev)  # high and low tones are told apart, though nothing was trained
