"""Text pieces: reserved ids, words and back, folders."""

import pytest

from antiphon.errors import ConfigError, HubError
from antiphon.models.moshi.text_tokenizer import PAD, TextTokenizer

TEXTS = ["Hello there, how are you today?", "I'm fine. The capital of France is Paris.", "there are two"] * 4


@pytest.fixture(scope="module")
def pieces() -> TextTokenizer:
    return TextTokenizer.train(TEXTS, 300)


def test_reserved_ids_are_never_a_words(pieces):
    assert (pieces.end_pad, pieces.pad) == (0, 3)
    assert len(pieces) == 300
    ids = pieces.encode("Hello there, how are you? naïve 日本 <pad>")
    assert min(ids) > PAD and max(ids) < len(pieces)


def test_decoding_gives_the_text_back_and_passes_over_special_ones(pieces):
    text = "Hello there, I'm naïve: 日本 & Paris."
    ids = pieces.encode(text)
    assert pieces.decode(ids) == text
    mixed = [3, 3, 0, ids[0], 3, *ids[1:], 0, 3, -1]
    assert pieces.decode(mixed) == text
    assert "".join(pieces.piece(i) for i in pieces.encode("Hello there") + [3, 0]) == " Hello there"


def test_words_one_by_one_are_the_text(pieces):
    words = "The capital of France".split()
    ids = [pieces.encode_word(word) for word in words]
    assert sum(ids, []) == pieces.encode("The capital of France")
    assert all(pieces.starts_word(word[0]) and not any(map(pieces.starts_word, word[1:])) for word in ids)
    assert not pieces.starts_word(pieces.encode_word("France", first=True)[0])
    assert not pieces.starts_word(PAD)
    assert pieces.decode(pieces.encode_word("France", first=True)) == "France"
    assert pieces.encode_word("  ") == []


def test_frequent_words_are_short(pieces):
    assert len(pieces.encode_word("there")) < len(pieces.encode_word("xqzvk"))


def test_a_folder_keeps_them(pieces, tmp_path):
    pieces.save(tmp_path / "a")
    again = TextTokenizer.from_pretrained(tmp_path / "a")
    assert again.encode("how are you") == pieces.encode("how are you") and len(again) == len(pieces)


def test_what_is_wrong_is_said(tmp_path):
    with pytest.raises(ConfigError, match="260"):
        TextTokenizer.train(TEXTS, 200)
    with pytest.raises(HubError, match="no text pieces"):
        TextTokenizer.from_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(HubError, match="cannot be read"):
        TextTokenizer.from_pretrained(tmp_path)


def test_other_pieces_are_refused(tmp_path):
    from tokenizers import Tokenizer, models

    Tokenizer(models.BPE({"a": 0, "b": 1}, [])).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(HubError, match="other pieces"):
        TextTokenizer.from_pretrained(tmp_path)
