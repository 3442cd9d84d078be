"""Sampling: by hand, and each row as it wants it; the repetition guard."""

import pytest
import torch

from antiphon.errors import ConfigError
from antiphon.models.llm.sampling import TokenSampling, is_repeating, sample, sample_rows, token_chances, uniforms

LOGITS = torch.tensor([[0.0, 3.0, 2.9, -5.0]])


def drawn(**how) -> set[int]:
    return {sample_rows(LOGITS, [TokenSampling(seed=seed, **how)], [0], [[]])[0] for seed in range(80)}


def test_by_hand() -> None:
    assert drawn(temperature=0.0) == {1}
    assert drawn(temperature=1.0, top_k=2) == {1, 2}
    assert drawn(temperature=1.0, top_p=0.4) == {1}  # its share alone is half
    assert drawn(temperature=1.0, top_p=0.6) == {1, 2}
    assert drawn(temperature=9.0) == {0, 1, 2, 3}
    assert drawn(temperature=9.0, top_k=3) == {0, 1, 2}


def test_what_was_said_is_less_likely() -> None:
    assert sample_rows(LOGITS, [TokenSampling(repetition=1.1)], [0], [[1]]) == [2]
    assert sample_rows(-LOGITS, [TokenSampling(repetition=2.0)], [0], [[]]) == [3]
    assert LOGITS[0, 1] == 3.0  # they are the caller's


def test_penalties_are_taken_once_and_as_often_as_a_token_was_said() -> None:
    def likeliest(said: list[int], **how) -> int:
        return sample_rows(LOGITS, [TokenSampling(**how)], [0], [said])[0]

    assert likeliest([1], presence=0.05) == 1 and likeliest([1], presence=0.2) == 2
    assert likeliest([1, 1], presence=0.05) == 1 and likeliest([1, 1], frequency=0.06) == 2
    assert likeliest([1], frequency=0.06) == 1 and likeliest([1, 2], presence=0.2) == 1
    assert likeliest([3, 3], frequency=-5.0) == 3  # what was said may be wanted again


def test_a_bias_is_added_to_the_logits() -> None:
    def likeliest(*bias: tuple[int, float]) -> int:
        return sample_rows(LOGITS, [TokenSampling(bias=bias)], [0], [[]])[0]

    assert likeliest((1, -0.05)) == 1 and likeliest((1, -0.2)) == 2 and likeliest((3, 100.0)) == 3
    assert likeliest((1, -100.0), (2, -100.0)) == 0 and LOGITS[0, 1] == 3.0
    both = sample_rows(LOGITS.expand(2, -1), [TokenSampling(bias=((1, -9.0),)), TokenSampling()], [0, 0], [[], []])
    assert both == [2, 1]  # each row its own
    for gone in (4, -1):
        with pytest.raises(ConfigError, match=f"no token {gone}: this model has 4"):
            likeliest((gone, 1.0))


def test_chances_are_the_models_own() -> None:
    told = token_chances(LOGITS[0], 2, 2)
    likely = LOGITS[0].log_softmax(-1)
    assert told.token == (2, pytest.approx(float(likely[2])))
    assert [token for token, _ in told.top] == [1, 2] and told.top[0][1] == pytest.approx(float(likely[1]))
    assert token_chances(LOGITS[0], 3, 0).top == () and len(token_chances(LOGITS[0], 3, 20).top) == 4


def test_a_reply_does_not_begin_with_what_it_may_not() -> None:
    logits, how = torch.tensor([[3.0, 2.0, 1.0]] * 2), TokenSampling(not_first=(0, 1))
    assert sample_rows(logits, [how, TokenSampling()], [0, 0], [[], []]) == [2, 0]
    assert sample_rows(logits, [how, how], [0, 1], [[], [2]]) == [2, 0]


def test_draws_follow_the_distribution() -> None:
    chance = uniforms(torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long), 20000)[0]
    tokens = sample(LOGITS.expand(20000, -1), chance, 1.0, 0)
    shares = torch.bincount(tokens, minlength=4) / 20000
    torch.testing.assert_close(shares, LOGITS[0].softmax(-1), atol=0.01, rtol=0)
    nucleus = sample(LOGITS.expand(20000, -1), chance, 1.0, 0, top_p=0.6)
    kept = LOGITS[0, 1:3].softmax(-1)
    torch.testing.assert_close((nucleus == 1).float().mean(), kept[0], atol=0.01, rtol=0)


def test_rows_draw_as_if_they_were_alone() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, 50)
    samplings = [TokenSampling(), TokenSampling(1.0, 10, seed=1), TokenSampling(1.0, 0, 0.8, seed=2),
                 TokenSampling(1.0, 10, 1.0, 1.5, seed=3)]  # fmt: skip
    positions, said = [0, 7, 3, 2], [[], [], [4], [4, 9]]
    together = sample_rows(logits, samplings, positions, said)
    for row in range(4):
        alone = sample_rows(logits[row : row + 1], samplings[row : row + 1], [positions[row]], [said[row]])
        assert alone == together[row : row + 1]


def test_settings_that_make_no_sense_are_refused() -> None:
    for wrong in ({"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}, {"repetition": 0.0}):
        with pytest.raises(ConfigError, match="0 or more"):
            TokenSampling(**wrong)


@pytest.mark.parametrize(
    ("tokens", "repeats"),
    [
        ([1, 2, 3, 4, 5, 6], False),
        ([1, 2, 3, 4, 1, 2, 3, 4], True),
        ([9, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5], True),
        ([1, 2, 3, 1, 2, 3], False),
        ([7, 7, 7, 7], True),
        ([1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8], True),
    ],
)
def test_repetition_by_hand(tokens: list[int], repeats: bool) -> None:
    assert is_repeating(tokens) is repeats
