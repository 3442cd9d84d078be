"""What a language model reads of a scene: what is noteworthy, in words, as their expected embeddings."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from antiphon.models.scene.reading import Named, SceneReading, noted, notes
from antiphon.models.scene.scene import Scene, SoundEvent

PLAIN = (
    ("kind", "speech"), ("sex", "female"), ("age", "adult"), ("feeling", "neutral"), ("manner", "question"),
    ("speakers", "one"), ("surroundings", "quiet"), ("surroundings", "room"),
)  # fmt: skip


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
    return nn.Embedding(60, 8).requires_grad_(False)


def words_of(text: str, tokenizer: Letters, table: nn.Embedding) -> Tensor:
    return table(torch.tensor(tokenizer.encode(text, add_special_tokens=False).ids))


def test_plain_speech_is_nothing_to_speak_of() -> None:
    assert notes(None) == [] and notes(Scene()) == [] and notes(scene(*PLAIN)) == []


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ([("event", "dog")], "[sound: a dog barks]"),
        ([("kind", "music")], "[music: music]"),
        ([("kind", "music"), ("instrument", "piano"), ("tempo", "119.7")], "[music: piano, 120 beats per minute]"),
        ([("kind", "speech"), ("feeling", "angry"), ("manner", "shouted")], "[the user sounds angry, shouts]"),
        ([("kind", "speech"), ("event", "laughing")], "[the user laughs]"),  # the voice's own sound
        ([("event", "laughing")], "[sound: someone laughs]"),
        ([("feeling", "angry")], ""),  # nobody speaks
        ([("kind", "speech"), ("event", "rain"), ("sex", "male")], "[sound: it rains] [the user is man]"),
    ],
)
def test_what_is_noteworthy_is_noted_in_words(labels: list[tuple[str, str]], wanted: str) -> None:
    assert noted(scene(*labels)) == wanted


def test_of_many_sounds_the_likeliest_are_noted_as_they_came_and_old_ones_are_not() -> None:
    sounds = [
        ("rain", 0.6, 0, 2),
        ("dog", 0.9, 60, 61),
        ("cow", 0.7, 70, 71),
        ("cat", 0.8, 65, 66),
        ("siren", 0.95, 69, 71),
    ]
    events = tuple(SoundEvent("event", *each) for each in sounds)
    assert noted(Scene(events, 80.0)) == "[sound: a dog barks, a cat meows, a siren wails]"
    assert noted(Scene(events[:1], 80.0)) == ""


def read(parts: list[str], tokenizer: Letters, table: nn.Embedding) -> Tensor:
    return torch.cat([words_of(part, tokenizer, table) for part in parts])


def test_what_is_certain_is_read_as_its_words(table: nn.Embedding) -> None:
    tokenizer = Letters()
    heard = scene(
        ("kind", "speech"), ("event", "dog"), ("feeling", "sad"), chances={"event": {"dog": 0.9, "wolf": 0.01}}
    )
    assert noted(heard) == "[sound: a dog barks] [the user sounds sad]"
    found = SceneReading(table, tokenizer, 8).read(heard)
    wanted = read(["[sound:", "a dog barks", "]", "[the user", "sounds sad", "]"], tokenizer, table)
    torch.testing.assert_close(found, wanted)


def test_what_is_doubtful_is_read_as_the_mean_of_the_labels_words_where_they_stand(table: nn.Embedding) -> None:
    tokenizer = Letters()
    chances = {"event": {"dog": 0.6, "sea_waves": 0.3, "cow": 0.9, "rain": 0.05}}
    heard = Scene((SoundEvent("event", "dog", 0.6, 0, 1), SoundEvent("event", "cow", 0.9, 1, 2)), 2.0, chances)
    found = SceneReading(table, tokenizer, 8).read(heard)
    dog, sea = (words_of(text, tokenizer, table) for text in ("a dog barks", "sea waves"))
    # "sea waves" has fewer words: its last stands for the rest. The cow is told itself, and the rain too unlikely.
    torch.testing.assert_close(found[1:4], (0.6 * dog + 0.3 * sea[[0, 1, 1]]) / 0.9)
    cow = words_of("a cow moos", tokenizer, table)
    torch.testing.assert_close(found[5:8], (0.9 * cow + 0.3 * sea[[0, 1, 1]]) / 1.2)


def test_the_reading_leads_back_to_what_heard_it(table: nn.Embedding) -> None:
    reading = SceneReading(table, Letters(), 8, summary=5)
    logits, vector = torch.zeros(2, requires_grad=True), torch.randn(5, requires_grad=True)
    note = ("[the user", Named("feeling", "angry", 0.5, " sounds "), "]")
    chances = dict(zip(("angry", "sad"), logits.softmax(0)))
    plain = reading([note], {"feeling": chances})
    found = reading([note], {"feeling": chances}, vector)
    assert torch.equal(found, plain)  # the residual begins at nothing
    found.square().sum().backward()
    assert logits.grad.abs().min() > 0 and reading.residual.weight.grad.abs().max() > 0
    with torch.no_grad():
        reading.residual.weight.normal_()
    changed = (reading([note], {"feeling": chances}, vector) - plain).abs().amax(1) > 0
    assert changed.tolist() == [False, False, True, True, False]  # the words that name what was heard, and no others


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
