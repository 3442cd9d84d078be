"""What a model says about a sound, judged as the reference implementations judge it."""

from __future__ import annotations

import pytest

from antiphon.evals.metrics.hearing import (
    says_option,
    tempo_accuracies,
    translation_bleu,
    weighted_f1,
    word_edits,
)


@pytest.mark.parametrize("told", [100.0, 103.9, 104.1, 96.1, 95.9, 60.0, 200.0, 50.1, 33.4, 300.0, 130.0])
def test_accuracy_1_is_mir_evals(told: float) -> None:
    import numpy as np

    tempo = pytest.importorskip("mir_eval").tempo
    _, one, both = tempo.detection(np.array([100.0, 100.0]), 0.5, np.array([told, told]), tol=0.04)
    assert tempo_accuracies(told, 100.0)[0] == one == both


def test_accuracy_2_forgives_octaves_and_triplets() -> None:
    assert [tempo_accuracies(told, 100.0) for told in (100, 200, 300, 50, 33.4, 150, 66)] == [
        (True, True), (False, True), (False, True), (False, True), (False, True), (False, False), (False, False),
    ]  # fmt: skip
    assert tempo_accuracies(None, 100.0) == (False, False)


def test_an_option_is_judged_as_mmau_judges_it() -> None:
    options = ["a dog", "a cat", "two dogs"]
    assert says_option("It is a dog.", "a dog", options)
    assert not says_option("A dog or a cat.", "a dog", options), "another option's words"
    assert not says_option("dog", "a dog", options), "a word is missing"
    assert not says_option("", "a dog", options)


def test_other_measures_are_their_references() -> None:
    from sacrebleu import corpus_bleu
    from sklearn.metrics import f1_score

    said, right = ["the cat sat", "a dog ran off"], ["the cat sat down", "the dog ran"]
    assert translation_bleu(said, right) == pytest.approx(corpus_bleu(said, [right]).score)
    told, true = ["joy", "", "fear", "joy"], ["joy", "joy", "fear", "anger"]
    expected = f1_score(true, told, labels=["anger", "fear", "joy"], average="weighted", zero_division=0)
    assert weighted_f1(told, true) == pytest.approx(100 * expected)


def test_word_errors_are_jiwers_after_whispers_normalizer() -> None:
    assert word_edits("It's twenty-one degrees.", "it is 21 degrees") == (0, 4)
    assert word_edits("cats chase mice", "cats mice run") == (2, 3)
    assert word_edits("", "made up") == (2, 0)
