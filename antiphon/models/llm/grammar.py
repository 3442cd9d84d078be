"""Replies that have to be written in some form: JSON that fits a schema, or calls of functions with such arguments.

    grammar = Grammars(tokenizer, ends).json('{"type": "object", "properties": {"city": {"type": "string"}}}')
    writing = grammar.begin(max_tokens=256)
    logits[~writing.allowed(len(logits))] = -torch.inf    # before each token
    writing.take(token)                                   # after it; False: another one has to be drawn

What may come next is told by `llguidance` (the extra "json"), a parser over the tokens of a vocabulary. JSON is written
compactly, with a space behind commas and colons.

A language model may run in circles within a string, or begin more than its tokens suffice for. So a reply is brought to
its end in time: a token after which the rest could no longer be written isn't taken, and from there on, as where it
goes round in circles, whatever may be closed is closed. What was asked for is whole, unless its schema can't be met
with so few tokens at all, or has a pattern of which the end isn't found.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from antiphon.errors import ConfigError
from antiphon.models.llm.chat_template import CallForm

ANY_OBJECT = '{"type": "object"}'
MAX_KEPT = 32  # grammars
MAX_SCHEMA_LETTERS = 32_768
CLOSING = (("}",), ("]",), ('"',), (",", ":"))  # in this order, where an end is wanted
WITHIN = (('"',), ("@", ":"))  # likewise within a string, which may be an address
OPENS_MORE = re.compile(r"\[[^\]]|\{[^}]")  # tokens that open something and don't close it at once
LETTERS = ("a", "z", "A", "Z", "_", " ")  # one of which may come within most strings, and where brackets close nowhere
SPACED = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
MARGIN = 8  # tokens, as the model may choose a longer way than the one that was counted
OPENING = frozenset(',:[{"\\')  # letters behind which more may be open than before
BITS = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8)
CIRCLES = 40  # tokens that are the same few over and over, four times at least


class Grammars:
    """The grammars of one language model's vocabulary; each is compiled once.

    Args:
        tokenizer: of the language model.
        ends: tokens that end a reply.

    Raises:
        ConfigError: `llguidance` isn't installed.
    """

    def __init__(self, tokenizer: Tokenizer, ends: Sequence[int]):
        self.library = _llguidance()
        self.tokenizer = tokenizer
        self.vocabulary = self.library.LLTokenizer(
            tokenizer.to_str(), n_vocab=tokenizer.get_vocab_size(), eos_token=sorted(ends)
        )
        self.ends = tuple(sorted(ends))
        added = tokenizer.get_added_tokens_decoder()
        self._marks = {one.content for token, one in added.items() if self.vocabulary.is_special_token(token)}
        pieces = tokenizer.get_vocab(with_added_tokens=False)
        self.opens_more = torch.tensor(
            [token for piece, token in pieces.items() if OPENS_MORE.search(piece)], dtype=torch.long
        )
        self._known: dict[str, Grammar] = {}

    def json(self, schema: str = ANY_OBJECT) -> Grammar:
        """JSON that fits a schema, which is JSON itself.

        Raises:
            ConfigError: the schema makes no sense, or asks for what can't be kept to.
        """
        check_schema(schema)
        return self._compiled(_compact(schema))

    def calls(self, form: CallForm, functions: Mapping[str, str], begun: str | None, parallel: bool) -> Grammar:
        """Calls of functions, behind what `CallForm.beginning` says.

        Args:
            form: in which the model writes them.
            functions: {name: schema of its arguments}.
            begun: the function that the beginning names; None for any.
            parallel: there may be more than one.

        Raises:
            ConfigError: see `json`.
        """
        for schema in functions.values():
            check_schema(schema)
        rules = [f"args{at}: %json {_compact(schema)}" for at, schema in enumerate(functions.values())]
        places = {name: at for at, name in enumerate(functions)}
        key = json.dumps(f'", "{form.key}": ')
        each = " | ".join(f'{json.dumps(name)} {key} args{at} "}}"' for name, at in places.items())
        first = each if begun is None else f'" " args{places[begun]} "}}"'
        start, end = json.dumps('{"name": "'), f'"\\n" {self._mark(form.closes)}' if form.closes else ""
        more = ""
        if parallel and form.closes:
            more = f'("\\n" {self._mark(form.opens)} "\\n" {start} any {end})*'
        elif parallel:
            more = f"({json.dumps(', ' if form.listed else '; ')} {start} any)*"
        listed = '"]"' if form.listed else ""
        return self._compiled(
            "\n".join([f"start: first {end} {more} {listed}", f"first: {first}", f"any: {each}", *rules])
        )

    def _mark(self, text: str) -> str:
        """A bracket of calls; one that the vocabulary has as a mark is that token."""
        return text if text in self._marks else json.dumps(text)

    def _compiled(self, source: str) -> Grammar:
        if source not in self._known:
            while len(self._known) >= MAX_KEPT:
                self._known.pop(next(iter(self._known)), None)
            matcher = self.library.LLMatcher
            made = matcher.grammar_from_lark(source if source.startswith("start") else f"start: %json {source}")
            self._known[source] = Grammar(self, matcher(self.vocabulary, made, log_level=0))
        return self._known[source]


class Grammar:
    """A form of replies.

    Raises:
        ConfigError: it makes no sense.
    """

    def __init__(self, grammars: Grammars, matcher: Any):
        if matcher.is_error():
            problem = matcher.get_error().partition("\n")[0][:200]
            raise ConfigError(f"The schema can't be kept to: {problem}.")
        self.grammars, self.matcher = grammars, matcher

    def begin(self, max_tokens: int) -> Writing:
        """A reply in this form, of at most so many tokens, its end included."""
        return Writing(self, max_tokens)


class Writing:
    """One reply while it is written.

    Attributes:
        closing: it is brought to its end.
    """

    def __init__(self, grammar: Grammar, max_tokens: int):
        grammars = grammar.grammars
        self.tokenizer, self.ends, self.left = grammars.tokenizer, grammars.ends, max_tokens
        self.matcher, self.closing = grammar.matcher.deep_copy(), False
        self._said: list[int] = []
        self._closing, self._opens_more = Closing(grammars.vocabulary, self.ends), grammars.opens_more
        self._cost = self._cost_of(self.matcher.deep_copy())

    def allowed(self, card: int) -> Tensor:
        """Which tokens may come next, bool [card]."""
        bits = self.matcher.compute_bitmask()
        found = torch.zeros(card, dtype=torch.bool)
        if self.closing and (first := self._closing.first(bits)):
            found[list(first)] = True
            return found
        packed = torch.frombuffer(bytearray(bits), dtype=torch.uint8)
        size = min(card, 8 * len(packed))
        found[:size] = (packed[:, None] & BITS).flatten()[:size] != 0
        if self.closing:  # an empty list is begun with its bracket alone
            fewer = found.clone()
            fewer[self._opens_more[self._opens_more < card]] = False
            return fewer if bool(fewer.any()) else found
        return found

    def take(self, token: int) -> bool:
        """The next token; false if it isn't taken, as there would be no end in time: then another has to be drawn."""
        if token in self.ends:
            return True
        if not self.closing and not self._affords(token):
            self.closing = True
            return False
        if not self.matcher.consume_token(token):
            raise ConfigError(f"The grammar doesn't take the token {token}: {self.matcher.get_error()[:200]}")
        self.left -= 1
        self._said.append(token)
        self.closing = self.closing or _in_circles(self._said)
        return True

    def _affords(self, token: int) -> bool:
        """Whether what is open behind a token can be closed with the tokens that are left.

        Within a value that takes as many as before it; so it is counted again where something may be opened.
        """
        text = self.tokenizer.id_to_token(token) or ""
        if self.left <= self._cost + MARGIN + 1 or any(letter in text for letter in OPENING):
            ahead = self.matcher.deep_copy()
            ahead.consume_token(token)
            self._cost = self._cost_of(ahead)
        return self._cost + MARGIN < self.left

    def _cost_of(self, ahead: Any) -> int:
        """Tokens that it takes to close all that is open."""
        count = 0
        while count < self.left and not ahead.is_stopped():
            if forced := ahead.compute_ff_tokens():
                ahead.consume_tokens(forced)
                count += len(forced)
                continue
            bits = ahead.compute_bitmask()
            first = self._closing.first(bits) or (_lowest(bits),)
            if first[0] in self.ends:
                break
            ahead.consume_token(first[0])
            count += 1
        return count + 1


class Closing:
    """Which tokens close what is open.

    Args:
        vocabulary: of `llguidance`.
        ends: tokens that end a reply.
    """

    def __init__(self, vocabulary: Any, ends: Sequence[int]):
        def single(texts: Sequence[str]) -> tuple[int, ...]:
            found = [vocabulary.tokenize_str(text) for text in texts]
            return tuple(tokens[0] for tokens in found if len(tokens) == 1)

        self.outside = [tuple(ends), *map(single, CLOSING)]
        self.within = [*map(single, WITHIN)]
        self.letters = single(LETTERS)

    def first(self, bits: bytes) -> tuple[int, ...]:
        """Of the groups of tokens, those of the first of which any is allowed; () where none closes anything."""

        def allowed(group: Sequence[int]) -> tuple[int, ...]:
            return tuple(token for token in group if bits[token >> 3] >> (token & 7) & 1)

        return next(filter(None, map(allowed, self.within if allowed(self.letters) else self.outside)), ())


def is_installed() -> bool:
    """Whether replies can be held to a form here."""
    try:
        return bool(_llguidance())
    except ConfigError:
        return False


def check_schema(schema: str) -> None:
    """Raises ConfigError for a schema that is too long, or is none."""
    if len(schema) > MAX_SCHEMA_LETTERS:
        raise ConfigError(f"A schema has at most {MAX_SCHEMA_LETTERS} letters, not {len(schema)}.")
    try:
        read = json.loads(schema)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"The schema is no JSON: {error}.") from error
    if not isinstance(read, dict):
        raise ConfigError("A schema is a JSON object.")


def _compact(schema: str) -> str:
    """A schema whose JSON has no other space than behind commas and colons: models run in circles with it."""
    return json.dumps(json.loads(schema) | {"x-guidance": SPACED})


def _lowest(bits: bytes) -> int:
    """The first token that is allowed: of those of one letter, in most vocabularies, so the longest way."""
    at = next(at for at, byte in enumerate(bits) if byte)
    return 8 * at + (bits[at] & -bits[at]).bit_length() - 1


def _in_circles(said: Sequence[int]) -> bool:
    """Whether the last `CIRCLES` tokens are the same few over and over."""
    last = said[-CIRCLES:]
    return len(last) == CIRCLES and any(last[size:] == last[:-size] for size in range(1, CIRCLES // 4 + 1))


def _llguidance() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise ConfigError("JSON that fits a schema needs llguidance: pip install 'antiphon[json]'.") from error
    return llguidance
