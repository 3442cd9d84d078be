"""Calls of functions in an answer: however its text is cut, the same text and the same calls come out."""

from __future__ import annotations

import doctest
import json
import random
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.dialogue import tool_calls as module
from antiphon.dialogue.tool_calls import Call, Calling, CallParser, Functions, RepeatedCall, misfit, unmarked
from antiphon.errors import ToolCallError
from antiphon.models.llm.chat_template import HERMES, LLAMA, MISTRAL, CallForm
from antiphon.models.llm.thinker import GeneratedToken

NAMES: dict = {"weather": {}, "clock": {}}
ROME = Call("weather", '{"city": "Rome"}')
CLOCK = Call("clock", "{}")
FORMS = st.sampled_from([HERMES, MISTRAL, LLAMA])
SNIPPETS = st.sampled_from(
    [
        *'{}[]":,\\ \n',
        "<",
        "<tool_call>",
        "</tool_call>",
        "<tool_",
        "[TOOL_CALLS]",
        "[TOOL",
        "Rome is old.",
        "é😀",
        "; ",
    ]
    + ['{"name": "weather", "arguments": {"city": "Rome"}}', '[{"name": "clock"}]', '{"name": "none_such"}']
    + ['{"name": "clock", "parameters": {"a": "</tool_call>}\\""}}', "[TOOL_CALLS] [", "1"]
)


def shown(*names: str) -> tuple[dict, ...]:
    return tuple(
        {"type": "function", "function": {"name": name, "description": "", "parameters": {}}} for name in names
    )


def parsed(form: CallForm, pieces: list[str], cut: bool = False) -> list[str | Call]:
    """What comes out, texts that follow each other put together; the error at its end, if there is one."""
    parser, out = CallParser(form, NAMES), []
    try:
        for piece in pieces:
            out += parser.feed(piece)
        out += parser.finish(cut)
    except ToolCallError as error:
        return [*whole(out), f"ERROR {error}"]
    return whole(out)


def whole(found: list[str | Call]) -> list[str | Call]:
    out: list[str | Call] = []
    for one in found:
        if isinstance(one, str) and out and isinstance(out[-1], str):
            out[-1] += one
        else:
            out.append(one)
    return out


@pytest.mark.parametrize(
    ("form", "text", "found"),
    [
        (HERMES, "Rome is old.", ["Rome is old."]),
        (HERMES, "2 < 3 <tool", ["2 < 3 <tool"]),
        (HERMES, '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>', [ROME]),
        (HERMES, 'Well.\n<tool_call>{"name": "clock"}</tool_call>\n', ["Well.", CLOCK]),
        (
            HERMES,
            '<tool_call>{"name": "clock"}</tool_call>\n<tool_call>\n'
            '{"name": "weather", "arguments": "{\\"city\\": \\"Rome\\"}"}\n</tool_call>',
            [CLOCK, ROME],
        ),
        (HERMES, '<tool_call>[{"name": "clock"}, {"name": "clock"}]</tool_call>', [CLOCK, CLOCK]),
        (HERMES, '<tool_call>{"name": "clock"}<tool_call>{"name": "clock"}', [CLOCK, CLOCK]),  # ends forgotten
        (HERMES, 'a <tool_call>{"name": "clock"}</tool_call>b', ["a", CLOCK, " b"]),
        (
            HERMES,
            '<tool_call>{"name": "weather", "arguments": {"city": "</tool_call> {\\"} \\\\"}}</tool_call>',
            [Call("weather", json.dumps({"city": '</tool_call> {"} \\'}))],
        ),
        (
            MISTRAL,
            '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Rome"}}, {"name": "clock", "arguments": {}}]',
            [ROME, CLOCK],
        ),
        (MISTRAL, "[TOOLS] are fine", ["[TOOLS] are fine"]),
        (LLAMA, '{"name": "weather", "parameters": {"city": "Rome"}}', [ROME]),
        (LLAMA, '\n{"name": "weather", "parameters": {"city": "Rome"}}; {"name": "clock"}', [ROME, CLOCK]),
        (LLAMA, 'It is {"name": "clock"}', ['It is {"name": "clock"}']),
        (HERMES, '<tool_call>{"name": "weather", "arguments": {"city": "\\ud83d"}}</tool_call>',
         [Call("weather", '{"city": "\\ud83d"}')]),
    ],
)  # fmt: skip
def test_text_and_calls(form: CallForm, text: str, found: list) -> None:
    assert parsed(form, [text]) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<tool_call>call the clock</tool_call>", "no JSON"),
        ('<tool_call>{"name": clock}</tool_call>', "no JSON"),
        ('<tool_call>{"arguments": {}}</tool_call>', "doesn't name"),
        ("<tool_call>[]</tool_call>", "called none"),
        ("<tool_call>[1]</tool_call>", "doesn't name"),
        ('<tool_call>{"name": "bomb"}</tool_call>', "'bomb', which isn't among the functions: clock, weather"),
        ('<tool_call>{"name": "clock", "arguments": [1]}</tool_call>', "arguments of 'clock'"),
        ('<tool_call>{"name": "clock", "arguments": {"a": NaN}}</tool_call>', "arguments of 'clock'"),
        ('<tool_call>{"name": "clock", "arguments": {"a": 1e999}}</tool_call>', "arguments of 'clock'"),
        ('<tool_call>{"name": "clock"', "broke off"),
        ("<tool_call>", "broke off"),
        ("<tool_call>" + "[" * 5000 + "]" * 5000, "no JSON"),
    ],
)
def test_a_call_that_cannot_be_read_is_an_error_and_no_text(text: str, said: str) -> None:
    before, error = parsed(HERMES, [f"Well. {text}"])
    assert before == "Well." and error.startswith("ERROR") and said in error


def test_a_call_that_the_limit_cuts_off_is_left_out() -> None:
    assert parsed(HERMES, ['So. <tool_call>{"name": "clock"'], cut=True) == ["So."]
    assert parsed(HERMES, ['<tool_call>{"name": "clock"}'], cut=True) == [CLOCK]


@settings(deadline=None)
@given(FORMS, st.lists(SNIPPETS, max_size=12), st.data())
def test_any_cut_gives_the_same(form: CallForm, snippets: list[str], data: st.DataObject) -> None:
    text = "".join(snippets)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)])]
    assert parsed(form, pieces) == parsed(form, [text])
    assert parsed(form, pieces, cut=True) == parsed(form, [text], cut=True)


@settings(deadline=None)
@given(FORMS, st.text(alphabet="ab <[tTO_é\n", max_size=40), st.integers(0, 40))
def test_text_without_calls_comes_through_whole(form: CallForm, text: str, at: int) -> None:
    assert "".join(parsed(form, [text[:at], text[at:]])) == text


def test_what_may_be_a_call_is_held_back_and_no_more() -> None:
    parser = CallParser(HERMES, NAMES)
    assert parser.feed("So <b> <to") == ["So <b>"]
    assert not parser.settled
    assert parser.feed("day>") == [" <today>"]
    assert parser.settled
    assert parser.feed(' <tool_call>{"name": "clock"}') == [] and not parser.settled
    assert parser.feed("</tool_call>") == [CLOCK] and parser.settled


def thoughts(text: str, size: int = 3, closed: list | None = None):
    try:
        for at in range(0, len(text), size):
            yield GeneratedToken(at, text[at : at + size], torch.full((2,), float(at)))
    finally:
        if closed is not None:
            closed.append(True)


TWICE = 'So.<tool_call>{"name": "clock"}</tool_call><tool_call>{"name": "clock"}</tool_call>'


@pytest.mark.parametrize(
    ("functions", "calls"),
    [
        (Functions(shown("clock")), 2),
        (Functions(shown("clock"), parallel=False), 1),
        (Functions(shown("clock"), choice="none"), 0),
    ],
)
def test_an_answer_has_as_many_calls_as_are_wanted(functions: Functions, calls: int) -> None:
    calling, closed = Calling(HERMES, functions), []
    out = list(calling.part(thoughts(TWICE, closed=closed), 100))
    assert "".join(one.text for one in out if isinstance(one, GeneratedToken)) == "So."
    assert [one for one in out if isinstance(one, Call)] == [CLOCK] * calls == calling.calls
    assert closed == [True]
    assert calling.settled is (calls == 2)  # else the model has thought a call that nobody was given


@pytest.mark.parametrize("form", [HERMES, MISTRAL, LLAMA])
@pytest.mark.parametrize("only", [None, "weather"])
def test_a_call_that_is_asked_for_is_begun(form: CallForm, only: str | None) -> None:
    calling = Calling(form, Functions(shown("weather", "clock"), choice="required", only=only))
    rest = f' {{"city": "Rome"}}}}{"]" if form.listed else ""}{form.closes}'
    if only is None:
        rest = f'weather", "{form.key}":{rest}'
    out = list(calling.part(thoughts(rest), 100))
    assert [one for one in out if isinstance(one, Call)] == [ROME]
    assert not any(one.text for one in out if isinstance(one, GeneratedToken))


@pytest.mark.parametrize(
    ("form", "text", "found"),
    [
        (HERMES, '```json\n{"name": "clock", "arguments": {}}\n```', [CLOCK]),
        (HERMES, 'Well. ```json\n{"name": "clock", "arguments": {}}\n``` So.', ["Well.", CLOCK, " So."]),
        (HERMES, '{"name": "weather", "arguments": {"city": "Rome"}}', [ROME]),
        (HERMES, '<tools>\n{"type": "function", "function": {"name": "clock", "arguments": {}}}\n</tools>', [CLOCK]),
        (MISTRAL, '{"name": "clock", "parameters": {}}', [CLOCK]),
        (HERMES, '```json\n{"a": 1}\n```', ['```json\n{"a": 1}\n```']),  # what was asked for, perhaps
        (HERMES, "```python\nprint({})\n```", ["```python\nprint({})\n```"]),
        (HERMES, '{"a": 1} is JSON', ['{"a": 1} is JSON']),
        (HERMES, "{curly} words", ["{curly} words"]),
    ],
)
def test_calls_in_another_form_are_calls_and_other_json_is_text(form: CallForm, text: str, found: list) -> None:
    assert parsed(form, [text]) == found
    assert parsed(form, list(text)) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('```json\n{"name": "bomb", "arguments": {}}\n```', "isn't among"),
        ('```json\n{"name": "clock", "arguments": {"a": }}\n```', "no JSON"),
        ('{"name": "clock", "arguments": {"a"', "broke off"),
    ],
)
def test_a_broken_call_in_another_form_is_an_error_too(text: str, said: str) -> None:
    (error,) = parsed(HERMES, list(text))
    assert error.startswith("ERROR") and said in error


def test_arguments_that_do_not_fit_the_schema_are_an_error() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    for arguments, said in (
        ('{"city": 3}', "city: 3 is not of type 'string'"),
        ("{}", "'city' is a required property"),
    ):
        with pytest.raises(ToolCallError, match=said):
            parser = CallParser(HERMES, {"weather": schema})
            assert parser.feed(f'<tool_call>{{"name": "weather", "arguments": {arguments}}}</tool_call>') == []


def test_a_schema_can_neither_fetch_nor_go_on_for_ever() -> None:
    bomb = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)} | {"d40": {}}
    for schema in ({"$ref": "http://127.0.0.1:9/x"}, {"$ref": "#"}, {"$ref": "#/$defs/d0", "$defs": bomb}, {"type": 3}):
        with pytest.raises(ToolCallError, match="schema of a function"):
            misfit({}, schema)
    assert misfit({"a": "a" * 50 + "b"}, {"properties": {"a": {"pattern": "^(a+)+$"}}}) is None


def test_a_function_is_chosen_if_it_is_likelier_than_an_answer_later_only_clearly() -> None:
    cases = [
        ([-2.0, -1.0, -9.0], True, "clock"),
        ([-2.0, -1.0, -9.0], False, None),
        ([-9.0, -8.0, -1.0], False, "weather"),
        ([-1.0, -2.0, -3.0], True, None),
    ]
    for likelihoods, first, begins in cases:
        calling = Calling(HERMES, Functions(shown("weather", "clock")))
        calling.choose(likelihoods, first)
        assert calling.begins == ("" if begins is None else HERMES.beginning(begins))
    own = Calling(HERMES, Functions(shown("answer")))
    assert own.choices == () and own.shown == shown("answer")  # the user's own function of that name


def test_a_call_whose_result_is_there_is_not_made_again() -> None:
    made, functions = Call("weather", '{"city": "Rome"}'), Functions(shown("weather"))
    again = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
    calling = Calling(HERMES, functions, [made])
    with pytest.raises(RepeatedCall):
        list(calling.part(thoughts(again), 100))
    calling.answer_in_words()
    assert calling.in_words and not calling.calls
    assert "".join(one.text for one in calling.part(thoughts("It is sunny."), 100)) == "It is sunny."
    other = Calling(HERMES, functions, [made])
    list(other.part(thoughts(again.replace("Rome", "Oslo")), 100))
    assert [json.loads(call.arguments) for call in other.calls] == [{"city": "Oslo"}]
    assert Calling(HERMES, Functions(shown("weather"), choice="none")).in_words


def test_a_call_that_is_asked_for_and_not_made_is_an_error() -> None:
    functions = Functions(shown("clock"), choice="required")
    with pytest.raises(ToolCallError, match="broke off"):
        list(Calling(HERMES, functions).part(thoughts("sorry"), 100))
    with pytest.raises(ToolCallError, match="did not"):
        list(Calling(HERMES, functions).part(thoughts(""), 100))


def test_marks_are_taken_out_of_all_that_clients_give() -> None:
    assert unmarked({"a<|im_end|>": ["<|im_<|x|>end|>b", 1, None]}) == {"a": ["b", 1, None]}
    nested = unmarked("<|" * 20_000 + "|>" * 20_000)  # in one pass
    assert nested == ""
    letters = random.Random(0)
    for _ in range(3000):
        left = unmarked("".join(letters.choice("<|>a") for _ in range(letters.randrange(24))))
        assert not re.search(r"<\|[^|]*\|>", left)
    deep: list = []
    for _ in range(50):
        deep = [deep]
    with pytest.raises(ToolCallError, match="nested"):
        unmarked(deep)
    assert doctest.testmod(module).failed == 0
