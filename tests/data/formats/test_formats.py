from __future__ import annotations

import random

import numpy as np
import pytest

from antiphon.data.formats.example import Example
from antiphon.data.formats.formats import (
    Interleaving,
    Weights,
    interleaved,
    prompt,
    spans,
    speech,
    speech_to_text,
    text,
    text_to_speech,
    undo,
)
from antiphon.data.formats.item import Item, Word, make_item, piece, word_starts
from antiphon.errors import ConfigError, DataError
from tests.models.speech_lm.tiny import speech_lm

ONE = speech_lm()
THREE = speech_lm(codebooks=3, deduplicated=False)
WORDS = "the cat sat on the mat and the dog sat on the log".split()


def item(model, words=WORDS, seed=0) -> Item:
    rng = np.random.default_rng(seed)
    ends = np.cumsum(rng.integers(1, 5, len(words)))
    units = rng.integers(0, 20, (model.vocabulary.codebooks, int(ends[-1])))
    found = tuple(Word(w, int(a), int(b)) for w, a, b in zip(words, [0, *ends[:-1]], ends))
    return Item(units[0] if len(units) == 1 else units, " ".join(words), found)


def test_the_first_three_stand_as_on_the_slide():
    said = Item(np.array([5, 6]), "the cat", speaker="joe", language="en")
    v, words = ONE.vocabulary, ONE.text_ids(" the cat")
    begin = [v.tag("B"), v.tag("speaker:joe"), v.tag("language:en")]
    units = [v.first_unit + 5, v.first_unit + 6]
    given = Weights(text=2.0, tags=0.5, given=0.25)
    assert speech(said, ONE).tokens.tolist() == [*begin, *units, v.tag("E")]
    assert speech(said, ONE, given).weights.tolist() == [0, 0, 0, 1, 1, 0.5]
    asr = speech_to_text(said, ONE, given)
    assert asr.tokens.tolist() == [*begin, v.tag("S"), *units, v.tag("T"), *words, v.tag("E")]
    assert asr.weights.tolist() == [0, 0, 0, 0, 0.25, 0.25, 0.5, *[2.0] * len(words), 0.5]
    tts = text_to_speech(said, ONE, given)
    assert tts.tokens.tolist() == [*begin, v.tag("T"), *words, v.tag("S"), *units, v.tag("E")]
    assert tts.weights.tolist() == [0, 0, 0, 0, *[0.5] * len(words), 0.5, 1, 1, 0.5]
    assert prompt(said, ONE, ("T",)).tolist() == [*begin, v.tag("S"), *units, v.tag("T")]


@pytest.mark.parametrize("model", [ONE, THREE], ids=["one", "three"])
def test_each_format_is_undone(model):
    said = item(model)
    (only,) = undo(speech(said, model).tokens, model)
    assert (only.units == said.units).all()
    heard, wrote = undo(speech_to_text(said, model).tokens, model)
    assert (heard.units == said.units).all() and wrote.text == said.text
    wrote, spoke = undo(text_to_speech(said, model).tokens, model)
    assert (spoke.units == said.units).all() and wrote.text == said.text
    assert [each.text for each in undo(text("the dog", model).tokens, model)] == ["the dog"]


@pytest.mark.parametrize("model", [ONE, THREE], ids=["one", "three"])
@pytest.mark.parametrize("cuts", [Interleaving(), Interleaving((1, 1), (1, 2), "text"), Interleaving(poisson=2.0)])
def test_interleaving_cuts_at_words_and_is_undone(model, cuts):
    said = item(model)
    for seed in range(20):
        found = undo(interleaved(said, model, cuts, random.Random(seed), Weights()).tokens, model)
        plan = spans(len(said.words), cuts, random.Random(seed))
        assert len(found) == len(plan)
        for part, (is_speech, start, end) in zip(found, plan):
            words = said.words[start:end]
            if is_speech:
                assert (part.units == said.units[..., words[0].start : words[-1].end]).all()
            else:
                assert part.text == " ".join(word.text for word in words)


@pytest.mark.parametrize("first", ["speech", "text", "either"])
def test_spans_cover_all_words_in_turn_within_their_bounds(first):
    cuts, firsts = Interleaving((2, 3), (4, 6), first), set()
    for seed in range(50):
        found = spans(40, cuts, random.Random(seed))
        firsts.add(found[0][0])
        assert [start for _, start, _ in found] == [0, *(end for _, _, end in found[:-1])] and found[-1][2] == 40
        assert all(a[0] != b[0] for a, b in zip(found, found[1:]))
        for is_speech, start, end in found[:-1]:
            assert (2 <= end - start <= 3) if is_speech else (4 <= end - start <= 6)
    assert firsts == {"speech": {True}, "text": {False}, "either": {True, False}}[first]


def test_poisson_spans_make_the_share_text():
    for share in (0.0, 0.3, 1.0):
        found = spans(50, Interleaving(poisson=5.0, share=share), random.Random(1))
        assert sum(end - start for is_speech, start, end in found if not is_speech) == round(50 * share)


def test_a_delayed_grid_by_hand():
    """Two codebooks, two frames: the second stream a column later; tags in the first alone."""
    model = speech_lm(codebooks=2, deduplicated=False)
    v = model.vocabulary
    made = speech(Item(np.array([[1, 2], [3, 4]])), model)
    first, second = v.first_unit, v.first_unit + 20
    assert made.tokens.tolist() == [
        [v.tag("B"), first + 1, first + 2, v.tag("E")],
        [-1, -1, second + 3, second + 4],
    ]
    asked = speech_to_text(Item(np.array([[1], [3]]), "a"), model, Weights(given=0.0, tags=0.5))
    assert asked.tokens.tolist() == [
        [v.tag("B"), v.tag("S"), first + 1, v.tag("T"), *model.text_ids(" a"), v.tag("E")],
        [-1, -1, -1, second + 3, *[-1] * len(model.text_ids(" a")), -1],
    ]
    assert asked.weights[:4].tolist() == [0, 0, 0, 0.5]


def test_words_of_deduplicated_units_begin_where_their_runs_begin():
    codes = np.array([[7, 7, 7, 8, 8, 9, 9, 9]])  # at 10 a second: 0.1 s each
    phones = [("a", 0.05, 0.2), ("b", 0.2, 0.3), (" ", 0.3, 0.35), ("c", 0.35, 0.6), (" ", 0.6, 0.6), ("d", 0.6, 0.7)]
    assert word_starts(phones) == [0.05, 0.35, 0.6]
    made = make_item(codes, 10.0, "Ab c d.", phones)
    assert made.units.tolist() == [7, 8, 9]
    assert made.words == (Word("Ab", 0, 2), Word("c", 2, 3), Word("d.", 3, 3))
    plain = make_item(codes, 10.0, "Ab c d.", phones, deduplicated=False)
    assert [(word.start, word.end) for word in plain.words] == [(0, 4), (4, 6), (6, 8)]


@pytest.mark.parametrize("model", [ONE, THREE], ids=["one", "three"])
def test_a_piece_is_a_run_of_words_with_their_units(model):
    said, counts, firsts = item(model), set(), set()
    for seed in range(200):
        found = piece(said, 1, 4, random.Random(seed))
        words = found.text.split()
        first = next(
            i for i in range(len(WORDS)) if WORDS[i : i + len(words)] == words and _units(said, i, words, found)
        )
        assert [word.text for word in found.words] == words and found.words[0].start == 0
        assert found.words[-1].end == found.units.shape[-1]
        counts.add(len(words))
        firsts.add(first)
    assert counts == {1, 2, 3, 4} and firsts == set(range(len(WORDS)))
    assert piece(said, 20, 30, random.Random(0)).text == said.text
    untimed = Item(said.units, said.text)
    assert piece(untimed, 1, 2, random.Random(0)) is untimed


def _units(said: Item, first: int, words: list[str], found: Item) -> bool:
    expected = said.units[..., said.words[first].start : said.words[first + len(words) - 1].end]
    return expected.shape == found.units.shape and bool((expected == found.units).all())


def test_numbers_are_written_as_they_are_said_where_that_fits_the_times():
    phones = [(" " if i % 2 else "x", i / 10, i / 10 + 0.1) for i in range(7)]
    made = make_item(np.arange(10)[None], 10.0, "At 8:30 pm.", phones)
    assert len(made.words) == 4 and made.text.lower().startswith("at eight thirty")
    assert make_item(np.arange(10)[None], 10.0, "One two three.", phones).words == ()


def test_what_cannot_be_is_refused():
    with pytest.raises(DataError, match="nobody knows when"):
        interleaved(Item(np.array([1]), "a b"), ONE, Interleaving(), random.Random(0))
    with pytest.raises(DataError, match="without text"):
        speech_to_text(Item(np.array([1])), ONE)
    with pytest.raises(DataError, match="1 codebooks of units for a vocabulary of 3"):
        speech(Item(np.array([1])), THREE)
    with pytest.raises(ConfigError, match="choose speech, text or either"):
        Interleaving(first="both")
    with pytest.raises(ConfigError, match="the fewest first"):
        Interleaving((3, 2))
    with pytest.raises(ValueError, match="as many weights"):
        Example(np.zeros(3, np.int64), np.zeros(2, np.float32))
