"""A result cache gives what was measured before, and survives a killed writer."""

import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.errors import DataError
from antiphon.evals.cache import ResultCache, key_of


def test_only_what_is_missing_gets_made(tmp_path):
    calls = []

    def make(rows):
        calls.append(rows)
        return [f"value {i}" for i in rows]

    path = tmp_path / "deep" / "cache.jsonl"
    assert ResultCache(path).get(["a", "b", "c"], make, chunk=2) == ["value 0", "value 1", "value 2"]
    assert calls == [[0, 1], [2]]
    with path.open("a") as file:
        file.write('{"key": "d", "val')
    # "a" has another place now, and keeps its value
    assert ResultCache(path).get(["x", "a", "d"], make) == ["value 0", "value 0", "value 2"]
    assert calls[2:] == [[0, 2]]


def test_a_broken_line_does_not_swallow_the_next(tmp_path):
    path = tmp_path / "cache.jsonl"
    path.write_text('{"key": "a", "val')
    ResultCache(path).get(["b"], lambda rows: ["two"])
    assert ResultCache(path).values == {"b": "two"}


def test_any_text_is_kept_and_a_line_may_be_cut_anywhere(tmp_path):
    path, odd = tmp_path / "cache.jsonl", "one\u2028two\x85three caf\udce9"
    ResultCache(path).get([odd], lambda rows: [odd])
    with path.open("ab") as file:
        file.write('{"key": "\u00fc'.encode()[:-1])
    ResultCache(path).get(["b"], lambda rows: ["two"])
    assert ResultCache(path).values == {odd: odd, "b": "two"}
    assert key_of(odd) != key_of("one")


def test_what_cannot_be_kept_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cache.jsonl cannot be written"):
        ResultCache(tmp_path / "file" / "cache.jsonl").get(["a"], lambda rows: [1])


def test_keys_tell_sounds_and_texts_apart():
    sound = Audio(torch.ones(4), 16000)
    keys = [
        key_of("judge", sound),
        key_of("dnsmos", sound),
        key_of("judge", Audio(torch.ones(4), 8000)),
        key_of("judge", Audio(torch.ones(2, 2), 16000)),
        key_of("ab", "c"),
        key_of("a", "bc"),
    ]
    assert len(set(keys)) == 6
    assert key_of("judge", Audio(torch.ones(4), 16000)) == keys[0]
