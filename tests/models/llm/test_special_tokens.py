"""Tokens with which no answer in words begins."""

from tokenizers import Tokenizer, models

from antiphon.models.llm.special_tokens import wordless_tokens


def test_words_begin_with_letters_and_digits_of_any_script() -> None:
    vocabulary = {
        text: token for token, text in enumerate(["Yes", "Ġno", "▁7", "Ð¿", "ä½ł", "{", 'Ġ{"', "```", "Ċ", "Ġ"])
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="Yes"))
    tokenizer.add_special_tokens(["<|end|>", "<call>"])
    wordless = {tokenizer.id_to_token(token) for token in wordless_tokens(tokenizer)}
    assert wordless == {"{", 'Ġ{"', "```", "Ċ", "Ġ", "<|end|>", "<call>"}
