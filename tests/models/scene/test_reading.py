"""What a language model reads of a scene: what is noteworthy, in words, as their expected embeddings."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from antiphon.models.scene.notes import Named
from antiphon.models.scene.reading import SceneNotes, SceneReading
from antiphon.models.scene.scene import Scene, SoundEvent


def scene(*labels: tuple[str, str], chances: dict[str, dict[str, float]] | None = None) -> Scene:
    return Scene(tuple(SoundEvent(group, label, 0.9, 0.0, 3.0) for group, label in labels), 3.0, chances or {})


class Letters:
    """A tokenizer with a token for each word."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def encode(self, text: str, add_special_tokens: bool = True) -> SimpleNamespace:
        assert not add_special_tokens  # some tokenizers begin a conversation with one
        words = text.split()
        self.words += [word for word in words if word not in self.words]
        return SimpleNamespace(ids=[self.words.index(word) for word in words])


@pytest.fixture
def table() -> nn.Embedding:
    torch.manual_seed(0)
    return nn.Embedding(200, 8).requires_grad_(False)


def words_of(text: str, tokenizer: Letters, table: nn.Embedding) -> Tensor:
    return table(torch.tensor(tokenizer.encode(text, add_special_tokens=False).ids))


def read(parts: list[str], tokenizer: Letters, table: nn.Embedding) -> Tensor:
    return torch.cat([words_of(part, tokenizer, table) for part in parts])


DOG, COW, ANGRY = Named("event", "dog", 0.6), Named("event", "cow", 0.9), Named("feeling", "angry", 0.5, " sounds ")


def test_what_is_certain_is_read_as_its_words(table: nn.Embedding) -> None:
    tokenizer = Letters()
    found = SceneReading(table, tokenizer, 8)(["You hear", DOG, "."], {"event": {"dog": 0.9, "wolf": 0.01}})
    torch.testing.assert_close(found, read(["You hear", "a dog barks", "."], tokenizer, table))


def test_what_is_doubtful_is_read_as_the_mean_of_the_labels_words_where_they_stand(table: nn.Embedding) -> None:
    tokenizer = Letters()
    chances = {"event": {"dog": 0.6, "sea_waves": 0.3, "cow": 0.9, "rain": 0.05}}
    found = SceneReading(table, tokenizer, 8)([DOG, ",", COW], chances)
    dog, sea, cow = (words_of(text, tokenizer, table) for text in ("a dog barks", "sea waves", "a cow moos"))
    # "sea waves" has fewer words: its last stands for the rest. The cow is told itself, and the rain too unlikely.
    torch.testing.assert_close(found[:3], (0.6 * dog + 0.3 * sea[[0, 1, 1]]) / 0.9)
    torch.testing.assert_close(found[4:], (0.9 * cow + 0.3 * sea[[0, 1, 1]]) / 1.2)


def test_what_is_true_beside_other_things_is_read_as_its_own_words(table: nn.Embedding) -> None:
    tokenizer, whispers = Letters(), Named("manner", "whispered", 0.9)
    found = SceneReading(table, tokenizer, 8)(["The user", whispers], {"manner": {"whispered": 0.9, "slow": 0.8}})
    torch.testing.assert_close(found, read(["The user", "whispers"], tokenizer, table))
    music = SceneReading(table, tokenizer, 8)([Named("kind", "music", 0.7)], {"kind": {"music": 0.7, "speech": 1.0}})
    torch.testing.assert_close(music, read(["music"], tokenizer, table))


def test_the_reading_leads_back_to_what_heard_it(table: nn.Embedding) -> None:
    reading = SceneReading(table, Letters(), 8, summary=5)
    logits, vector = torch.zeros(2, requires_grad=True), torch.randn(5, requires_grad=True)
    parts, chances = ["The user", ANGRY, "."], {"feeling": dict(zip(("angry", "sad"), logits.softmax(0)))}
    plain = reading(parts, chances)
    found = reading(parts, chances, vector)
    assert torch.equal(found, plain)  # the residual begins at nothing
    found.square().sum().backward()
    assert logits.grad.abs().min() > 0 and reading.residual.weight.grad.abs().max() > 0
    with torch.no_grad():
        reading.residual.weight.normal_()
    changed = (reading(parts, chances, vector) - plain).abs().amax(1) > 0
    assert changed.tolist() == [False, False, True, True, False]  # the words that name what was heard, and no others


def test_who_asks_is_told_everything_and_who_does_not_what_is_noteworthy(table: nn.Embedding) -> None:
    reading = SceneReading(table, Letters(), 8, asks=True)
    with torch.no_grad():
        reading.asks.weight.zero_()
        reading.asks.weight[0, 0], reading.asks.bias[0] = 1.0, -0.5
    with torch.inference_mode():  # as language models answer
        asking, other = torch.ones(8), torch.zeros(8)
    plain = reading.read(scene(("kind", "speech"), ("feeling", "neutral"), ("sex", "female")))
    assert plain.noteworthy is None and plain.behind(other) is None and len(plain.behind(asking)) > 5
    hum = reading.read(scene(("kind", "speech"), ("kind", "sound"), ("sex", "female")))  # a sound without a name
    assert hum.behind(other) is None and hum.behind(None) is None and len(hum.behind(asking)) > 5
    dog = reading.read(scene(("event", "dog")))
    assert torch.equal(dog.behind(other), dog.noteworthy) and torch.equal(dog.behind(asking), dog.everything)
    assert reading.read(None) is None and reading.read(Scene()) is None
    assert SceneReading(table, Letters(), 8).read(scene(("kind", "speech"))) is None  # nobody knows who asks
    assert SceneNotes(torch.ones(2, 8)).behind(asking).shape == (2, 8)


def test_a_residual_is_kept_for_the_language_model_that_it_was_trained_with(
    table: nn.Embedding, tmp_path: Path
) -> None:
    reading = SceneReading(table, Letters(), 8, summary=5)
    with torch.no_grad():
        reading.residual.weight.normal_()
    reading.save(tmp_path)
    again = SceneReading.from_pretrained(tmp_path, table, Letters(), 8)
    torch.testing.assert_close(again.residual.weight, reading.residual.weight, rtol=1e-3, atol=1e-3)
    assert SceneReading.from_pretrained(tmp_path, table, Letters(), 16).residual is None
