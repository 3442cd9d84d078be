"""Right calls and wrong ones; the requests that ship fit the functions that they are for."""

from __future__ import annotations

import doctest

import pytest

from antiphon.dialogue.tool_calls import misfit
from antiphon.dialogue.tools import as_tool
from antiphon.errors import DataError
from antiphon.evals.assistant.tools import TOOLS
from antiphon.evals.metrics import calls as module
from antiphon.evals.metrics.calls import DEVELOPMENT, TOOL_REQUESTS, Request, is_right_call, read_requests

WEATHER = Request("", "get_weather", {"city": ["rome*"], "day": ["today", None]})
LIST = Request("", "add", {"items": [["*milk", "*egg*"]]})


@pytest.mark.parametrize(
    ("request_", "calls", "right"),
    [
        (WEATHER, [("get_weather", {"city": "Rome, Italy"})], True),
        (WEATHER, [("get_weather", {"city": "rome", "day": "today"})], True),
        (WEATHER, [("get_weather", {"city": "Rome", "day": "tomorrow"})], False),
        (WEATHER, [("get_weather", {"city": "Rome", "hour": 1})], False),
        (WEATHER, [("get_weather", {"day": "today"})], False),
        (WEATHER, [("set_timer", {"city": "Rome"})], False),
        (WEATHER, [("get_weather", {"city": "Rome"})] * 2, False),
        (WEATHER, [], False),
        (LIST, [("add", {"items": ["a dozen eggs", "Milk"]})], True),
        (LIST, [("add", {"items": ["milk"]})], False),
        (LIST, [("add", {"items": "milk and eggs"})], False),
        (Request("", None, {}), [], True),
        (Request("", None, {}), [("add", {"items": []})], False),
    ],
)
def test_right_and_wrong_calls(request_: Request, calls: list, right: bool) -> None:
    assert is_right_call(request_, calls) is right


def test_the_requests_fit_the_functions_and_are_apart_from_those_for_development() -> None:
    requests, others = read_requests(TOOL_REQUESTS), read_requests(DEVELOPMENT)
    assert len(requests) == 80 and len(others) == 40
    assert sum(request.function is None for request in requests) == 27
    texts = [request.text.lower() for request in (*requests, *others)]
    assert len(set(texts)) == 120
    schemas = {tool.name: tool.parameters for tool in map(as_tool, TOOLS)}
    used = set()
    for request in (*requests, *others):
        if request.function is not None:
            used.add(request.function)
            first = {name: values[0] for name, values in request.arguments.items() if values[0] is not None}
            assert misfit(first, schemas[request.function]) is None, request.text
    assert used == set(schemas)


def test_a_file_that_holds_something_else_is_told(tmp_path) -> None:
    (tmp_path / "x.jsonl").write_text('{"text": "a", "function": null, "arguments": {}}\n{"text": "b"}\n')
    with pytest.raises(DataError, match="line 2"):
        read_requests(tmp_path / "x.jsonl")


def test_examples() -> None:
    assert doctest.testmod(module).failed == 0
