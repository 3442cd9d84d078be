"""Replies in a form: a model that knows nothing writes JSON that fits, in time, and calls that can be read."""

import json
import sys
from pathlib import Path

import pytest
import torch
from jsonschema import Draft202012Validator

from antiphon.dialogue.tool_calls import CallParser
from antiphon.errors import ConfigError
from antiphon.models.llm.chat_template import HERMES, LLAMA, MISTRAL
from antiphon.models.llm.grammar import Grammars, check_schema, is_installed
from antiphon.models.llm.sampling import TokenSampling, sample_rows
from antiphon.models.llm.thinker import Thinker
from tests.models.llm.test_thinker import TEMPLATE, folder, make_llm, thinker  # noqa: F401

needs_library = pytest.mark.skipif(not is_installed(), reason="could not import 'llguidance'")
TEXT = {"type": "string"}
PERSON = {
    "type": "object",
    "properties": {"name": TEXT, "age": {"type": "number"}, "kind": {"enum": ["cat", "dog"]}},
    "required": ["name", "kind"],
    "additionalProperties": False,
}
SCHEMAS = [
    PERSON,
    {"type": "object", "properties": {"all": {"type": "array", "items": PERSON, "minItems": 1}}, "required": ["all"]},
    {"type": "object", "additionalProperties": TEXT},
    {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
    {"type": "object"},
    {"type": "object", "properties": {"mail": {"type": "string", "format": "email"}}, "required": ["mail"]},
]


def written(thinker: Thinker, grammar, max_tokens: int, **how) -> str:  # noqa: F811
    state = thinker.init_state(voice=False)
    thinker.add_user(state, "One?")
    tokens = list(thinker.stream(state, max_tokens, TokenSampling(**how), grammar))
    assert len(tokens) < max_tokens  # its end is thought, too
    return "".join(token.text for token in tokens)


@needs_library
@pytest.mark.parametrize("schema", SCHEMAS)
def test_what_is_drawn_by_chance_fits_the_schema_and_ends_in_time(thinker, schema):  # noqa: F811
    grammar = thinker.grammars.json(json.dumps(schema))
    said = {written(thinker, grammar, 70 + seed, temperature=3.0, seed=seed) for seed in range(4)}
    for text in said:
        assert not list(Draft202012Validator(schema).iter_errors(json.loads(text))), text
    assert len(said) > 1  # it is the model that writes


@needs_library
def test_who_goes_round_in_circles_is_brought_to_an_end(thinker, monkeypatch):  # noqa: F811
    """A model that would say the same letter for ever."""
    letter = thinker.tokenizer.encode("a").ids[0]
    likes = torch.zeros(thinker.tokenizer.get_vocab_size())
    likes[letter] = 99.0
    monkeypatch.setattr(type(thinker.model), "logits", lambda self, hidden: likes.expand(*hidden.shape[:-1], -1))
    text = written(thinker, thinker.grammars.json(json.dumps(PERSON)), 400)
    assert 30 < len(json.loads(text)["name"]) < 60


@needs_library
def test_rows_with_a_form_and_without_share_a_step(thinker):  # noqa: F811
    alone = written(thinker, grammar := thinker.grammars.json(json.dumps(PERSON)), 60)
    states = [thinker.init_state(voice=False) for _ in range(2)]
    for state in states:
        thinker.add_user(state, "One?")
    texts = ["", ""]
    for tokens in thinker.stream_many(states, 60, None, [None, grammar]):
        for row, token in tokens.items():
            texts[row] += token.text
    free = thinker.init_state(voice=False)
    thinker.add_user(free, "One?")
    assert texts == ["".join(token.text for token in thinker.stream(free, 60)), alone]


@needs_library
@pytest.mark.parametrize(
    ("form", "begun", "special"),
    [(HERMES, "find", True), (HERMES, None, False), (LLAMA, "find", False), (MISTRAL, None, False)],
)
def test_calls_that_are_held_to_their_schemas_can_be_read(tmp_path: Path, form, begun, special):
    make_llm(tmp_path, TEMPLATE, (("<tool_call>", special), ("</tool_call>", special)))
    thinker = Thinker.from_pretrained(tmp_path)  # noqa: F811
    functions = {"find": json.dumps(PERSON), "wait": '{"type": "object", "properties": {"s": {"type": "integer"}}}'}
    for seed, parallel in enumerate((False, True)):
        grammar = thinker.grammars.calls(form, functions, begun, parallel)
        text = form.beginning(begun) + written(thinker, grammar, 110, temperature=2.0, seed=seed)
        parser = CallParser(form, {name: json.loads(schema) for name, schema in functions.items()})
        calls = [*parser.feed(text), *parser.finish(cut=False)]
        assert calls and not any(isinstance(call, str) and call.strip() for call in calls)
        assert begun is None or calls[0].name == begun
        assert parallel or len(calls) == 1


@needs_library
@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ('{"type": "objec"}', "objec"),
        ('{"$ref": "https://example.org/s"}', "can't be kept to"),
        ('{"not": {"type": "string"}}', "not"),
        ("[]", "JSON object"),
        ("{", "no JSON"),
        ('{"x": "' + "a" * 40_000 + '"}', "letters"),
    ],
)
def test_a_schema_that_cannot_be_kept_to_is_refused(thinker, schema, says):  # noqa: F811
    with pytest.raises(ConfigError, match=says):
        thinker.grammars.json(schema)


@needs_library
def test_a_grammar_is_compiled_once(thinker):  # noqa: F811
    grammars = Grammars(thinker.tokenizer, sorted(thinker.ends))
    first = grammars.json()
    assert grammars.json() is first
    for number in range(40):
        grammars.json(json.dumps({"const": number}))
    assert grammars.json() is not first and len(grammars._known) <= 32


def test_without_the_library_it_is_said_what_to_install(thinker, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "llguidance", None)
    assert not is_installed()
    with pytest.raises(ConfigError, match="antiphon\\[json\\]"):
        Grammars(thinker.tokenizer, sorted(thinker.ends))
    check_schema("{}")


def test_a_form_may_refuse_what_was_drawn():
    class Picky:
        def __init__(self):
            self.left = {0, 1, 2}

        def allowed(self, card: int):
            return torch.tensor([token in self.left for token in range(card)])

        def take(self, token: int) -> bool:
            self.left.discard(token)
            return token == 0

    logits = torch.tensor([[0.0, 1.0, 2.0, 9.0], [0.0, 1.0, 2.0, 9.0]])
    assert sample_rows(logits, [TokenSampling()] * 2, [0, 0], [[], []], [Picky(), None]) == [0, 3]
    assert logits[0, 3] == 9.0  # they are the caller's
