"""What is worth a note: as much of it as there is, and hardly a plain voice."""

from __future__ import annotations

import pytest
import torch

from antiphon.data.scene.encoded import EncodedExample
from antiphon.data.scene.example import Span
from antiphon.models.scene.network import NetworkConfig, SceneNetwork
from antiphon.train.scene.calibrate import Listened
from antiphon.train.scene.noteworthy import noteworthy, plain_voices

LABELS = {"feeling": ("neutral", "happy", "sad"), "manner": ("loud", "soft", "question")}
NEUTRAL = [0.8, 0.1, 0.1]
MANNER = frozenset({"manner/loud", "manner/soft", "manner/question"})


def network() -> SceneNetwork:
    sizes = dict(layers=2, features=4, bands=4, mixes=1, mixed=4, width=8, heads=1, inner=8, depth=1)
    return SceneNetwork(NetworkConfig(labels=LABELS, tempo=False, **sizes))


def example(source: str, known: frozenset[str], *labels: tuple[str, str]) -> EncodedExample:
    spans = tuple(Span(*label, 0.0, 2.0) for label in (("kind", "speech"), *labels))
    return EncodedExample(source, "dev", spans, known, 4.0, length=50, source=source)


def heard(source: str, label: tuple[str, str] | None, feeling: list[float], manner: list[float]) -> Listened:
    whole = {"feeling": torch.tensor(feeling), "manner": torch.tensor(manner)}
    known = frozenset({"feeling"}) if label and label[0] == "feeling" else MANNER
    return Listened(example(source, known, *([label] if label else [])), {}, whole)


def chosen(examples: list[Listened]) -> dict[str, float]:
    return noteworthy(network(), examples, [True] * len(examples))


def test_plain_are_voices_that_nobody_acted() -> None:
    examples = [
        example("read/1.flac", MANNER),
        example("read/2.flac", MANNER, ("manner", "question"), ("speakers", "one")),
        example("read/3.flac", MANNER, ("manner", "loud")),
        example("read/4.flac + sounds/1.flac", MANNER, ("event", "dog")),
        example("acted/1.flac", frozenset({"feeling"}), ("feeling", "neutral")),
        example("read/5.flac + acted/2.flac", frozenset()),  # nobody says which feeling that has
    ]
    assert plain_voices(examples) == [True, True, False, False, False, False]


def test_a_label_is_noted_from_where_hardly_a_plain_voice_has_it() -> None:
    sure = heard("read/1", ("manner", "loud"), NEUTRAL, [0.8, 0.0, 0.9])
    unsure = heard("read/2", ("manner", "loud"), NEUTRAL, [0.3, 0.0, 0.9])
    plain = heard("read/3", None, NEUTRAL, [0.1, 0.0, 0.9])
    told = chosen([sure] * 8 + [unsure] * 8 + [plain] * 100)
    assert set(told) == {"manner/loud"} and 0.1 < told["manner/loud"] <= 0.3  # no example is soft; who asks is plain
    some = heard("read/4", None, NEUTRAL, [0.5, 0.0, 0.9])
    told = chosen([sure] * 8 + [unsure] * 8 + [plain] * 92 + [some] * 8)
    assert told["manner/loud"] == pytest.approx(0.65, abs=0.1)  # half of the loud ones, no plain one
    told = chosen([sure] * 8 + [unsure] * 8 + [plain] * 99 + [some])
    assert told["manner/loud"] <= 0.3  # one plain one in a hundred is worth the other half


def test_of_what_excludes_each_other_the_likeliest_alone_is_told() -> None:
    sad = heard("acted/1", ("feeling", "sad"), [0.1, 0.2, 0.7], [0.0, 0.0, 0.0])
    plain = heard("read/1", None, [0.55, 0.0, 0.45], [0.0, 0.0, 0.0])
    told = chosen([sad] * 10 + [plain] * 50)
    assert told["feeling/sad"] == pytest.approx(0.4, abs=0.05)  # plain ones are told neutral, whatever it is
    assert chosen([sad] * 10) == {}


def test_what_was_trained_on_tells_nothing() -> None:
    sure = heard("read/1", ("manner", "loud"), NEUTRAL, [0.99, 0.0, 0.0])
    unsure = heard("read/2", ("manner", "loud"), NEUTRAL, [0.5, 0.0, 0.0])
    plain = heard("read/3", None, NEUTRAL, [0.2, 0.0, 0.0])
    sad = heard("acted/1", ("feeling", "sad"), [0.0, 0.0, 1.0], [0.0, 0.0, 0.0])
    acted = heard("acted/2", None, [0.0, 0.0, 1.0], [0.9, 0.0, 0.0])  # known by the set's other examples
    again = heard("acted/1", ("feeling", "sad"), [0.0, 0.0, 1.0], [0.0, 0.0, 0.0])  # made of the same recording
    every = [sure] * 90 + [unsure] * 8 + [plain] * 20 + [sad] * 8 + [acted] * 8 + [again] * 8
    told = noteworthy(network(), every, [all(each is not one for one in (sure, sad)) for each in every])
    assert set(told) == {"manner/loud"} and told["manner/loud"] == pytest.approx(0.4, abs=0.1)


def test_what_a_voice_does_besides_is_true_of_it_and_its_feeling_is_not() -> None:
    names = {"feeling": ("neutral", "happy"), "manner": ("laughing",), "event": ("laughing",)}
    sizes = dict(layers=2, features=4, bands=4, mixes=1, mixed=4, width=8, heads=1, inner=8, depth=1)
    whole = {"feeling": torch.tensor([0.1, 0.9]), "manner": torch.tensor([0.8])}
    labels = (("event", "laughing"), ("manner", "laughing"), ("feeling", "happy"))
    laughs = [Listened(example("burst/1", frozenset({"event"}), *labels), {}, whole)] * 10
    plain = {"feeling": torch.tensor([0.9, 0.1]), "manner": torch.tensor([0.1])}
    quiet = [Listened(example("read/1", frozenset({"event"})), {}, plain)] * 10
    told = noteworthy(SceneNetwork(NetworkConfig(labels=names, tempo=False, **sizes)), laughs + quiet, [True] * 20)
    assert set(told) == {"manner/laughing"}
