"""Times of words: the warp is the slow obvious one, words are those of each script, pauses belong to nobody."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from antiphon.encoders.whisper.decoder import Reading
from antiphon.models.asr.words import split_words, spoken_words, timed_words, token_frames, warp


def letters() -> Tokenizer:
    """A token a byte."""
    vocabulary = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return made


def slow_warp(cost: np.ndarray) -> list[int]:
    rows, columns = cost.shape
    total = np.full((rows, columns), np.inf)
    for row in range(rows):
        for column in range(columns):
            before = [
                total[row - down, column - right]
                for down, right in ((1, 1), (1, 0), (0, 1))
                if row >= down and column >= right
            ]
            total[row, column] = cost[row, column] + min(before, default=0.0)
    row, column, entered = rows - 1, columns - 1, [0] * rows
    while row or column:
        ways = [(1, 1), (1, 0), (0, 1)]
        ways = [(down, right) for down, right in ways if row >= down and column >= right]
        down, right = min(ways, key=lambda way: total[row - way[0], column - way[1]])
        if down:
            entered[row] = column
        row, column = row - down, column - right
    return entered


@pytest.mark.parametrize("seed", range(40))
def test_the_warp_is_the_slow_one(seed: int) -> None:
    draw = np.random.default_rng(seed)
    cost = draw.normal(size=(draw.integers(1, 12), draw.integers(1, 30)))
    assert warp(cost).tolist() == slow_warp(cost)


@pytest.mark.parametrize(
    ("text", "language", "words"),
    [
        (" Hello, world.", "en", ["Hello,", "world."]),
        (' He said: "No!" - and left', "en", ["He", "said:", '"No!"', "- and", "left"]),
        (" c'était là", "fr", ["c'était", "là"]),
        (" Что это?", "ru", ["Что", "это?"]),
        ("你好，世界。", "zh", ["你", "好，", "世", "界。"]),
        ("「はい」 OKです", "ja", ["「は", "い」", "OK", "で", "す"]),
        (" end ...", "en", ["end ..."]),
        ("", "en", []),
        (" ", None, []),
    ],
)
def test_words_of_each_script(text: str, language: str | None, words: list[str]) -> None:
    tokenizer = letters()
    tokens = tokenizer.encode(text).ids
    found = split_words(tokenizer, tokens, language)
    assert [word for word, _ in found] == words
    assert not words or sum(count for _, count in found) == len(tokens)


def test_a_token_begins_where_it_looks() -> None:
    attention = torch.full((2, 4, 40), 1e-3)
    for token, (first, last) in enumerate([(0, 10), (10, 25), (25, 33), (33, 40)]):
        attention[:, token, first:last] = 1.0
    assert token_frames(attention / attention.sum(-1, keepdim=True)).tolist() == [0, 10, 25, 33]


def test_pauses_are_no_part_of_words() -> None:
    """Two words of 0.4 s with a pause of 0.6 s between them, over noise 60 dB below."""
    tokenizer = letters()
    tokens = tokenizer.encode(" a b").ids
    places = [(0, 20), (20, 45), (45, 60), (60, 70)]
    attention = torch.full((1, 5, 70), 1e-3)
    for token, (first, last) in enumerate([*places, (69, 70)]):
        attention[0, token, first:last] = 1.0
    sound = 1e-3 * torch.randn(70 * 320, generator=torch.Generator().manual_seed(0))
    sound[: 20 * 320] += 0.5 * torch.sin(torch.arange(20 * 320) / 5)
    sound[50 * 320 :] += 0.5 * torch.sin(torch.arange(20 * 320) / 5)
    reading = Reading(torch.zeros(5, 2), attention, torch.tensor([0.5, 0.25, 1.0, 0.5, 0.9]).log())
    first, second = timed_words(reading, tokens, tokenizer, sound, "en", begun=10.0)
    assert (first.text, second.text) == ("a", "b")
    assert first.start == pytest.approx(10.0, abs=0.05) and first.end == pytest.approx(10.4, abs=0.05)
    assert second.start == pytest.approx(11.0, abs=0.05) and second.end == pytest.approx(11.4, abs=0.05)
    assert first.confidence == pytest.approx(0.375) and second.confidence == pytest.approx(0.75)


def test_how_a_word_was_heard_is_the_mean_of_its_tokens() -> None:
    tokenizer = letters()
    tokens = tokenizer.encode(" a bc").ids
    attention = torch.zeros(2, 6, 3)
    attention[:, :, 0] = 1.0
    attention[0, 4], attention[1, 4] = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])  # the last letter
    features = torch.tensor([[1.0, 0.0], [0.0, 6.0], [6.0, 0.0]])
    reading = Reading(torch.arange(6.0)[:, None].expand(6, 2), attention, torch.zeros(6))
    found = spoken_words(reading, tokens, tokenizer, features, "en")
    assert found.texts == ("a", "bc")
    torch.testing.assert_close(found.states, torch.tensor([[0.5, 0.5, 1.0, 0.0], [3.0, 3.0, 5 / 3, 1.0]]))
    assert spoken_words(reading, [], tokenizer, features, "en") is None
