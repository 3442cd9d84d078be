"""Mixtures: shares, epochs, and the same example for a number whoever asks."""

import pickle
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.data.mixture import BLOCK, Mix, Mixture, shuffled
from antiphon.errors import DataError

SIZES = {"speech": range(700), "text": range(100, 400), "rare": range(3)}


@given(st.integers(1, 2000), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_shuffled_is_a_permutation(length, key):
    assert sorted(shuffled(index, length, str(key)) for index in range(length)) == list(range(length))


def test_two_keys_give_two_orders():
    first, second = ([shuffled(index, 1000, key) for index in range(1000)] for key in "ab")
    assert sum(a == b for a, b in zip(first, second)) < 20
    assert first != list(range(1000))


def test_shares_are_those_of_the_weights_in_every_block():
    mixture = Mixture(SIZES, Mix(weights={"speech": 3, "text": 1, "rare": 0.001}))
    for block in (0, 5):
        counts = Counter(mixture.draw(block * BLOCK + n).source for n in range(BLOCK))
        assert sum(counts.values()) == BLOCK and counts["rare"] == 3
        assert abs(counts["speech"] - 0.75 * BLOCK) < 5


@pytest.mark.parametrize(("temperature", "share"), [(1.0, 0.9), (2.0, 0.75), (1e9, 0.5)])
def test_temperature_evens_out_sizes(temperature, share):
    mixture = Mixture({"a": range(900), "b": range(100)}, Mix(temperature=temperature))
    counts = Counter(mixture.draw(n).source for n in range(BLOCK))
    assert counts["a"] / BLOCK == pytest.approx(share, abs=1e-3)


def test_every_pass_over_a_source_gives_each_item_once():
    mixture = Mixture(SIZES, seed=3)
    seen = Counter((d.source, d.epoch, d.index) for d in map(mixture.draw, range(40_000)))
    assert set(seen.values()) == {1}
    passes = {(source, epoch) for source, epoch, _ in seen}
    assert ("speech", 5) in passes and ("rare", 5) in passes


def test_a_source_ends_after_its_epochs_and_the_others_share_its_place():
    mix = Mix(weights={"speech": 1, "text": 1, "rare": 1}, epochs={"rare": 2, "speech": 1.5})
    mixture = Mixture(SIZES, mix)
    draws = [mixture.draw(n) for n in range(30_000)]
    counts = Counter(draw.source for draw in draws)
    assert counts["rare"] == 6 and counts["speech"] == 1050 and counts["text"] == 30_000 - 1056
    assert max(n for n, draw in enumerate(draws) if draw.source == "rare") < 100


def test_a_mixture_that_ends_says_so():
    mixture = Mixture({"a": range(5), "b": range(7)}, Mix(epochs={"a": 2, "b": 1}))
    assert mixture.length == 17
    assert Counter(mixture.draw(n) for n in range(17)) and len({mixture.draw(n) for n in range(17)}) == 17
    with pytest.raises(DataError, match="ends after 17 examples"):
        mixture.draw(17)


def test_a_number_alone_decides_and_items_are_the_sources_own():
    mixture, other = Mixture(SIZES, seed=1), Mixture(dict(reversed(SIZES.items())), seed=1)
    numbers = [0, 12_345, 999_999_999, 7]
    assert [mixture.draw(n) for n in numbers] == [other.draw(n) for n in reversed(numbers)][::-1]
    draw = mixture.draw(12_345)
    assert mixture[12_345] == SIZES[draw.source][draw.index]
    sent = pickle.loads(pickle.dumps(mixture))  # to a worker
    assert sent.draw(12_345) == draw
    assert [Mixture(SIZES, seed=2).draw(n) for n in range(20)] != [mixture.draw(n) for n in range(20)]


@pytest.mark.parametrize(
    ("sources", "mix", "message"),
    [
        ({}, Mix(), "at least one source"),
        ({"a": range(3), "b": []}, Mix(), "the source 'b' of the mixture is empty"),
        ({"a": range(3)}, Mix(weights={"c": 1}), "mix.weights: there is no source 'c', only a"),
        ({"a": range(3)}, Mix(weights={"a": 0}), "a is 0; it must be above 0"),
        ({"a": range(3)}, Mix(epochs={"b": 1}), "mix.epochs: there is no source 'b'"),
        ({"a": range(3)}, Mix(temperature=0), "mix.temperature is 0"),
    ],
)
def test_what_makes_no_sense_is_told(sources, mix, message):
    with pytest.raises(DataError, match=message):
        Mixture(sources, mix)
