"""A memo gives what was measured before, and survives a killed writer."""

import torch

from antiphon.audio.io import Audio
from antiphon.evals.memo import Memo, key_of


def test_only_what_is_missing_gets_made(tmp_path):
    calls = []

    def make(rows):
        calls.append(rows)
        return [f"value {i}" for i in rows]

    path = tmp_path / "deep" / "memo.jsonl"
    assert Memo(path).all(["a", "b", "c"], make, chunk=2) == ["value 0", "value 1", "value 2"]
    assert calls == [[0, 1], [2]]
    with path.open("a") as file:
        file.write('{"key": "d", "val')
    # "a" has another place now, and keeps its value
    assert Memo(path).all(["x", "a", "d"], make) == ["value 0", "value 0", "value 2"]
    assert calls[2:] == [[0, 2]]


def test_a_broken_line_does_not_swallow_the_next(tmp_path):
    path = tmp_path / "memo.jsonl"
    path.write_text('{"key": "a", "val')
    Memo(path).all(["b"], lambda rows: ["two"])
    assert Memo(path).values == {"b": "two"}


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
