"""Tokens of a language model that stand for more than text: those that end a reply, and those that begin no words."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer

from antiphon.errors import ModelError
from antiphon.models.llm.chat_template import ChatTemplate


def end_tokens(folder: Path, tokenizer: Tokenizer, template: ChatTemplate) -> frozenset[int]:
    """Those that end a reply: what generation_config.json and config.json say, and what the template writes behind one.

    Raises:
        ModelError: none of them says anything.
    """
    ends: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        if (folder / name).is_file():
            said = json.loads((folder / name).read_text(encoding="utf-8")).get("eos_token_id")
            ends |= set(said if isinstance(said, list) else [] if said is None else [said])
    special = tokenizer.get_added_tokens_decoder()
    after = tokenizer.encode(template.assistant.after, add_special_tokens=False).ids
    ends |= {token for token in after[:1] if token in special and special[token].special}
    if not ends:
        raise ModelError(f"{folder} doesn't say what ends a reply: generation_config.json needs an eos_token_id")
    return frozenset(ends)


def wordless_tokens(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Those that don't begin with a letter or a digit: with one of them a call of a function begins, and an end, but no
    answer in words."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    return tuple(sorted(token for text, token in vocabulary.items() if not text.lstrip("Ġ▁Ċ ")[:1].isalnum()))
