"""Preference objectives by hand, and which way each pushes."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from antiphon.errors import ConfigError, DataError
from antiphon.train.objectives.preference import (
    OBJECTIVES,
    Preference,
    answer_log_probabilities,
    dpo,
    ipo,
    kto,
    simpo,
)
from antiphon.train.objectives.reference import reference_log_probabilities


def of(*values: float) -> torch.Tensor:
    return torch.tensor(values)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_dpo_by_hand():
    # gains: -10 - -12 = 2 and -20 - -15 = -5, apart by 7
    loss = dpo(of(-10.0), of(-20.0), of(-12.0), of(-15.0), beta=0.5)
    assert loss.item() == pytest.approx(-math.log(sigmoid(3.5)))
    smooth = dpo(of(-10.0), of(-20.0), of(-12.0), of(-15.0), beta=0.5, smoothing=0.1)
    assert smooth.item() == pytest.approx(-0.9 * math.log(sigmoid(3.5)) - 0.1 * math.log(sigmoid(-3.5)))


def test_ipo_by_hand():
    assert ipo(of(-1.0), of(-2.0), of(-1.5), of(-1.75), beta=0.25).item() == pytest.approx((0.75 - 2.0) ** 2)


def test_simpo_by_hand():
    assert simpo(of(-1.0), of(-1.5), beta=2.0, gamma=0.5).item() == pytest.approx(-math.log(sigmoid(0.5)))


def test_kto_by_hand():
    loss = kto(of(-10.0, -10.0), of(-12.0, -12.0), torch.tensor([True, False]), beta=0.5, divergence=1.0)
    assert loss.tolist() == pytest.approx([1 - sigmoid(0.5), 1 - sigmoid(-0.5)])


@pytest.mark.parametrize("loss", OBJECTIVES)
def test_every_objective_raises_the_better_and_lowers_the_worse(loss):
    answers = torch.tensor([[-30.0, -40.0], [-31.0, -39.0]], requires_grad=True)
    tokens = torch.tensor([[10.0, 10.0], [10.0, 10.0]])
    found = Preference(loss).losses(answers, tokens, answers.detach() + 0.5)
    found["preference"].backward()
    assert (answers.grad[0] < 0).all() and (answers.grad[1] > 0).all()
    assert not found["margin"].requires_grad and not found["preferred"].requires_grad


def test_length_counts_only_where_it_is_not_averaged():
    answers, tokens = torch.tensor([[-10.0], [-30.0]]), torch.tensor([[10.0], [30.0]])
    summed = Preference("dpo", reference=False).losses(answers, tokens, None)
    averaged = Preference("dpo", average=True, reference=False).losses(answers, tokens, None)
    assert summed["margin"].item() == 20.0 and averaged["margin"].item() == 0.0
    assert averaged["preference"].item() == pytest.approx(math.log(2))


def test_without_a_reference_it_is_zero():
    answers, tokens, held = torch.tensor([[-10.0], [-12.0]]), torch.ones(2, 1), torch.tensor([[-10.0], [-11.0]])
    assert Preference("dpo").losses(answers, tokens, held)["margin"].item() == 1.0
    assert Preference("dpo", reference=False).losses(answers, tokens, held)["margin"].item() == 2.0
    assert Preference("simpo").losses(answers, tokens, held)["margin"].item() == 2.0


@pytest.mark.parametrize(
    ("fields", "told"), [({"loss": "ppo"}, "choose dpo"), ({"beta": 0.0}, "beta"), ({"smoothing": 0.5}, "smoothing")]
)
def test_what_makes_no_sense_is_refused(fields, told):
    with pytest.raises(ConfigError, match=told):
        Preference(**fields)


def test_log_probabilities_of_answers_count_what_their_weights_say():
    scores = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    targets, rows = torch.tensor([3, 1, -1, 0, 6]), torch.tensor([0, 0, 0, 1, 1])
    weights = torch.tensor([1.0, 0.5, 1.0, 0.0, 2.0])
    sums, counts = answer_log_probabilities(scores, targets, weights, rows, 2)
    logs = F.log_softmax(scores, -1)
    assert sums.tolist() == pytest.approx([float(logs[0, 3] + 0.5 * logs[1, 1]), float(2 * logs[4, 6])], rel=1e-5)
    assert counts.tolist() == [1.5, 2.0]


class ThreePairs:
    def __len__(self) -> int:
        return 3

    def ids(self, index: int) -> tuple[str, str]:
        return f"{index}-0", f"{index}-1"


def test_reference_log_probabilities_are_made_once(tmp_path):
    asked: list[int] = []

    def compute(indices):
        asked.extend(indices)
        return np.array([[-1.0 * i for i in indices], [-2.0 * i for i in indices]])

    for _ in range(2):
        found = reference_log_probabilities(ThreePairs(), tmp_path, "a", compute, batch=2)
        assert found.tolist() == [[0.0, -1.0, -2.0], [0.0, -2.0, -4.0]]
    assert asked == [0, 1, 2]
    with pytest.raises(DataError, match="another folder"):
        reference_log_probabilities(ThreePairs(), tmp_path, "b", compute)
