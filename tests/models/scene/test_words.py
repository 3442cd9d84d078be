"""How words were said: found again in what is read, nothing before it is trained, and kept in a scene's folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from antiphon.models.asr.heard import Passage, SpokenWords
from antiphon.models.scene.reading import SceneReading
from antiphon.models.scene.words import WordResiduals, WordsResidual, word_of_letters
from tests.models.scene.test_reading import Letters


@pytest.mark.parametrize(
    ("text", "words", "owners"),
    [
        ("it's noon", ["It's,", "noon!"], "0000-1111"),
        ("say no and no again", ["Say", "no", "no"], "000-11-----22------"),
        ("a dog", ["cat", "dog"], "--111"),  # one that isn't there takes nothing away
        ("", ["dog"], ""),
        ("-", ["-", "a"], "-"),
        ("naïve 3.5", ["Naïve", "3.5."], "00000-111"),
    ],
)
def test_words_are_found_by_their_letters_in_their_order(text: str, words: list[str], owners: str) -> None:
    assert word_of_letters(text, words) == [-1 if each == "-" else int(each) for each in owners]


def test_every_token_of_a_word_gets_what_is_added_to_it_and_no_other_does() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    spans = [(-3, 0), (0, 3), (3, 5), (5, 10), (10, 11), (11, 14), (0, 0)]
    found = WordResiduals(("Hello", "there."), values)("hello there", spans)
    assert found.tolist() == [[0, 0], [1, 2], [1, 2], [3, 4], [3, 4], [0, 0], [0, 0]]


def test_it_is_nothing_at_first_and_gradients_reach_it() -> None:
    torch.manual_seed(0)
    residual, spoken = WordsResidual(3, 4), SpokenWords(("no", "way"), torch.randn(2, 6))
    told = residual.of([spoken, spoken])
    assert told.texts == ("no", "way", "no", "way") and not told.values.any()
    told("no way", [(0, 2), (2, 6)]).sum().backward()
    assert float(residual.up.weight.grad.abs().max()) > 0
    assert residual.read([Passage("no way")]) is None
    residual.up.weight.data.normal_()
    read = residual.read([Passage("no way", spoken=spoken), Passage("well")])
    assert read is not None and read.values.any() and not read.values.requires_grad


def test_a_folder_has_it_or_words_are_as_they_are(tmp_path: Path) -> None:
    torch.manual_seed(0)
    table = torch.nn.Embedding(20, 4).requires_grad_(False)
    reading = SceneReading(table, Letters(), 4, words=3)
    reading.words.up.weight.data.normal_()
    reading.save(tmp_path)
    again, states = SceneReading.from_pretrained(tmp_path, table, Letters(), 4), torch.randn(2, 6)
    assert again.residual is None and again.asks is None
    torch.testing.assert_close(again.words(states), reading.words(states), rtol=1e-2, atol=1e-2)
    assert SceneReading.from_pretrained(tmp_path / "none", table, Letters(), 4).words is None
    SceneReading(table, Letters(), 4, asks=True).save(tmp_path)
    assert SceneReading.from_pretrained(tmp_path, table, Letters(), 4).words is None
