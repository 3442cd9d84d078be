"""A tokenizer from vocab.json and merges.txt, as folders of Qwen hold it that have no tokenizer.json."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from antiphon.errors import HubError
from antiphon.hub.convert_gguf import WORDS

VOCABULARY, MERGES, SETTINGS = "vocab.json", "merges.txt", "tokenizer_config.json"


def read_bpe(folder: Path | str) -> Tokenizer:
    """Byte-level merges, words cut as Qwen2's are, and the added tokens that tokenizer_config.json names.

    Raises:
        HubError: a file is missing or holds something else.
    """
    folder = Path(folder)
    try:
        vocabulary = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
        lines = (folder / MERGES).read_text(encoding="utf-8").splitlines()
        pairs = [line.partition(" ") for line in lines if line and not line.startswith("#version")]
        merges = [(first, second) for first, _, second in pairs]
        settings = folder / SETTINGS
        added = json.loads(settings.read_text(encoding="utf-8")).get("added_tokens_decoder", {})
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
        known = sorted((int(number), token) for number, token in added.items())
        tokens = [
            AddedToken(token["content"], special=token.get("special", False), normalized=False) for _, token in known
        ]
    except Exception as error:  # the library raises plain Exceptions
        raise HubError(
            f"{folder}: no tokenizer can be made of {VOCABULARY}, {MERGES} and {SETTINGS} ({error})"
        ) from error
    tokenizer.normalizer = normalizers.NFC()
    pieces = [
        pre_tokenizers.Split(Regex(WORDS % r"\p{N}"), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(pieces)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(tokens)
    wrong = [token["content"] for number, token in known if tokenizer.token_to_id(token["content"]) != number]
    if wrong:
        raise HubError(f"{folder / SETTINGS}: {wrong[0]!r} would get another number: {VOCABULARY} is of another model")
    return tokenizer
