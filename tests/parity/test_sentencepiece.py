"""SentencePiece models, as Moshi's text tokenizer is one."""

import pytest

from antiphon.models.moshi.text_tokenizer import TextTokenizer
from tests.models.moshi.test_text_tokenizer import TEXTS


def test_sentencepiece_models_are_read(tmp_path):
    spm = pytest.importorskip("sentencepiece")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS * 5))
    spm.SentencePieceTrainer.train(
        input=str(tmp_path / "texts.txt"), model_prefix=str(tmp_path / "tokenizer_spm"), vocab_size=36,
        pad_id=3, unk_id=0, bos_id=1, eos_id=2, minloglevel=2,
    )  # fmt: skip
    pieces = TextTokenizer.from_pretrained(tmp_path)
    assert len(pieces) == 36
    assert pieces.decode([3, *pieces.encode("Hello there"), 0]) == "Hello there"
    assert pieces.starts_word(pieces.encode_word("Hello")[0])
    assert "".join(map(pieces.piece, pieces.encode_word("there"))) == " there"
    pieces.save(tmp_path / "b")
    assert TextTokenizer.from_pretrained(tmp_path / "b").encode("how are") == pieces.encode("how are")
