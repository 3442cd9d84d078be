import math

import pytest

from antiphon.evals.metrics import captions
from antiphon.evals.metrics.captions import bleu, cider_d, meteor, rouge_l


def test_bleu_of_captions_by_hand() -> None:
    # Of five words four are right, of four pairs two; as long as the reference.
    said, right = ["a calm slow piano song"], ["A calm, slow guitar song."]
    assert bleu(said, right, 1) == pytest.approx(80.0)
    assert bleu(said, right, 2) == pytest.approx(100 * (0.8 * 0.5) ** 0.5)
    assert bleu(["calm"], right, 1) == pytest.approx(100 * 2.718281828 ** (1 - 5)), "brevity costs"


def test_rouge_is_googles() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    said, right = ["the cat sat", "a dog ran off"], ["the cat sat down", "the dog ran"]
    scores = [RougeScorer(["rougeL"]).score(b, a)["rougeL"].fmeasure for a, b in zip(said, right)]
    assert rouge_l(said, right) == pytest.approx(50 * sum(scores))


def test_meteor_is_nltks_and_goes_without_wordnet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "knows_synonyms", lambda: False)
    # All of five words are right, in two pieces: harmonic mean 1, less half the cube of 2 / 5.
    said, right = ["played loud drums a band"], ["A band played loud drums."]
    assert meteor(said, right) == pytest.approx(100 * (1 - 0.5 * (2 / 5) ** 3))
    assert meteor(["cats played"], ["a cat plays"]) > meteor(["dogs barked"], ["a cat plays"]) == 0, "stems match"


def test_cider_d_by_hand() -> None:
    # No n-gram is in both references, so each weighs log 2.
    right = ["a calm piano", "loud drums"]
    assert cider_d(right, ["A calm, piano.", "Loud drums!"]) == pytest.approx(1000 * (3 / 4 + 2 / 4) / 2), "no 4-grams"
    # Of "a calm flute" two of three words and one of two pairs are right; it is as long.
    assert cider_d(["a calm flute", ""], right) == pytest.approx(1000 * (2 / 3 + 1 / 2) / 4 / 2)
    # Said twice a word counts once, and a caption that is too long pays for it.
    twice = (3 / math.sqrt(3 * 12) + 2 / math.sqrt(2 * 9) + 1 / math.sqrt(1 * 6)) / 4
    assert cider_d(["a calm piano a calm piano", ""], right) == pytest.approx(
        1000 * twice * math.exp(-(3**2) / (2 * 6**2)) / 2
    )
    assert cider_d(["a"], ["a"]) == 0, "one reference tells nothing of what is rare"
