"""A tokenizer from vocab.json and merges.txt: `transformers`' own, and errors that say what is wrong."""

from __future__ import annotations

import json

import pytest

from antiphon.errors import HubError
from antiphon.hub.bpe import read_bpe
from tests.models.speech_lm.tiny import tokenizer


@pytest.fixture
def folder(tmp_path):
    model = json.loads(tokenizer().to_str())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [" ".join(merge) for merge in model["merges"]]
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    added = {len(model["vocab"]) + at: name for at, name in enumerate(("<|im_start|>", "<|im_end|>", "<think>"))}
    write(tmp_path, added)
    return tmp_path


def write(folder, added: dict[int, str]) -> None:
    told = {str(number): {"content": name, "special": name.startswith("<|")} for number, name in added.items()}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": told}))


TURN = "<|im_start|>user\nThe cat's 123 dogs,\n\n  <think> é e\u0301 漢字<|im_end|>\n"


@pytest.mark.parametrize("text", ["the cat sat on the mat", TURN, ""])
def test_tokens_are_those_of_transformers(folder, text):
    from transformers import Qwen2TokenizerFast

    own = read_bpe(folder)
    ids = own.encode(text).ids
    assert ids == Qwen2TokenizerFast.from_pretrained(folder)(text)["input_ids"]
    assert own.decode(ids, skip_special_tokens=False) == text.replace("e\u0301", "é")
    assert "<|im_end|>" not in own.decode(ids) and ("<think>" in own.decode(ids)) == ("<think>" in text)


def test_what_is_wrong_is_told(folder):
    write(folder, {9999: "<|more|>"})
    with pytest.raises(HubError, match="'<.more.>' would get another number"):
        read_bpe(folder)
    (folder / "merges.txt").unlink()
    with pytest.raises(HubError, match="no tokenizer can be made of vocab.json, merges.txt and tokenizer_config.json"):
        read_bpe(folder)
