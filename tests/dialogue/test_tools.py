"""Functions that a conversation calls by itself: whatever they do, it goes on."""

from __future__ import annotations

import doctest
import threading
from enum import Enum
from functools import partial
from typing import Literal

import pytest
import torch
from pydantic import BaseModel

from antiphon.dialogue import tools as module
from antiphon.dialogue.chat import Chat
from antiphon.dialogue.events import CallEvent, EndEvent, FailedEvent, HeardEvent, ResultEvent, TextEvent
from antiphon.dialogue.session import TurnSession
from antiphon.dialogue.tool_calls import Message
from antiphon.dialogue.tools import MAX_RESULT_LETTERS, Tool, ToolChat, as_tool
from antiphon.errors import ToolCallError, TooLongError
from tests.serve.scripted import Scripted, ScriptedAnswer


class Unit(Enum):
    celsius = "celsius"
    fahrenheit = "fahrenheit"


class Place(BaseModel):
    title: str


def weather(city: str, day: Literal["today", "tomorrow"] = "today", unit: Unit = Unit.celsius) -> str:
    """Tells the weather in a city.

    Args:
        city: of which
            one.
        day: when.
    """
    return f"sun in {city} {day}, {unit.value}"


def asked(tools, words: str, **how) -> tuple[list, list[Message]]:
    """(the events, the past after them)"""
    past = [Message("user", words)]
    answer = ToolChat(Scripted(calls_functions=True).chat(), [as_tool(one) for one in tools], **how).answer(past)
    events = [event for event in answer.events() if event is not None]
    return events, [*past, answer.message]


def result_of(tools, words: str, **how) -> ResultEvent:
    (result,) = [event for event in asked(tools, words, **how)[0] if isinstance(event, ResultEvent)]
    return result


# Schemas


def test_a_schema_comes_from_type_hints_and_docstring() -> None:
    tool = as_tool(weather)
    assert (tool.name, tool.description) == ("weather", "Tells the weather in a city.")
    assert tool.parameters["required"] == ["city"]
    assert tool.parameters["properties"]["city"] == {"type": "string", "description": "of which one."}
    day = tool.parameters["properties"]["day"]
    assert (day["enum"], day["default"], day["description"]) == (["today", "tomorrow"], "today", "when.")


def test_arguments_are_made_what_the_type_hints_say() -> None:
    def visit(places: list[Place], title: str = "x") -> str:
        return " and ".join(place.title for place in places)

    tool = as_tool(visit)
    assert set(tool.parameters["properties"]) == {"places", "title"}
    assert tool.run({"places": [{"title": "Rome"}, {"title": "Oslo"}]}) == "Rome and Oslo"
    assert as_tool(weather).run({"city": "Rome", "unit": "fahrenheit"}) == "sun in Rome today, fahrenheit"


async def later(city: str) -> str:
    return city


def anything(*cities: str, **more: str) -> None: ...


def odd(thing: threading.Thread) -> None: ...


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda city: city, "with a name"),
        (partial(weather, "Rome"), "with a name"),
        ("weather", "with a name"),
        (later, "asynchronous"),
        (anything, "name each"),
        (odd, "have no schema"),
    ],
)
def test_what_can_be_no_tool_is_refused(function, said: str) -> None:
    with pytest.raises(ToolCallError, match=said):
        as_tool(function)


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(ToolCallError, match="same name"):
        ToolChat(Scripted().chat(), [as_tool(weather)] * 2)


# Rounds


def test_a_function_is_called_and_its_result_is_answered() -> None:
    events, past = asked([weather], 'say One moment. call weather {"city": "Rome"}')
    kinds = [type(event) for event in events if isinstance(event, CallEvent | ResultEvent | EndEvent)]
    assert kinds == [CallEvent, ResultEvent, EndEvent]
    assert events[-1].text == "One moment. It says sun in Rome today, celsius"
    assert [message.role for message in past] == ["user", "assistant", "function", "assistant"]
    assert past[1].calls[0].id == past[2].results[0].id != ""


def test_several_calls_run_in_their_order() -> None:
    events, _ = asked([weather], 'call weather {"city": "Rome"} call weather {"city": "Oslo"}')
    assert [event.call.arguments for event in events if isinstance(event, CallEvent)] == [
        '{"city": "Rome"}',
        '{"city": "Oslo"}',
    ]
    assert events[-1].text == "It says sun in Rome today, celsius and sun in Oslo today, celsius"


def test_a_model_that_calls_for_ever_has_to_answer_at_last() -> None:
    class Caller(ScriptedAnswer):
        def events(self):
            self.past = [Message("user", "call weather {}")]
            yield from super().events()

    class Chatty:
        def __init__(self):
            self.choices = []

        def answer(self, past, sampling, instructions, spoken, functions):
            self.choices.append(functions.choice)
            return Caller(Scripted(), list(past), sampling, None, spoken, functions)

    def weather() -> str:
        return "sun"

    chat = Chatty()
    answer = ToolChat(chat, [as_tool(weather)], max_rounds=3).answer([Message("user", "x")])
    events = list(answer.events())
    assert sum(isinstance(event, ResultEvent) for event in events) == 3
    assert chat.choices == ["auto"] * 3 + ["none"] and answer.text


# What functions do


def test_what_a_function_throws_is_told_to_the_model_and_seen() -> None:
    def weather(city: str) -> str:
        raise RuntimeError("no\nsatellite")

    result = result_of([weather], 'call weather {"city": "Rome"}')
    assert result.error and result.text == "Error: RuntimeError: no satellite"
    events, _ = asked([weather], 'call weather {"city": "Rome"}')
    assert events[-1].text == "It says Error: RuntimeError: no satellite"


def test_a_function_that_exits_ends_nothing() -> None:
    def weather() -> str:
        raise SystemExit(3)

    assert result_of([weather], "call weather {}").text == "Error: SystemExit: 3"


def test_ten_megabytes_are_cut_with_a_note() -> None:
    def weather() -> str:
        return "x" * 10_000_000

    def clock() -> list[int]:
        return [1] * 3_000_000

    text = result_of([weather], "call weather {}").text
    assert text.endswith("... (cut: 10000000 letters in all)") and len(text) < MAX_RESULT_LETTERS + 50
    text = result_of([clock], "call clock {}").text
    assert text.startswith("[1, 1,") and text.endswith("(cut: 9000000 letters in all)")


def test_a_function_that_never_returns_is_left_to_itself() -> None:
    free = threading.Event()

    def weather() -> str:
        free.wait()
        return "late"

    result = result_of([weather], "call weather {}", timeout=0.1)
    free.set()
    assert result.error and result.text == "Error: no result within 0.1 s."


def test_a_result_that_is_too_long_for_the_model_is_shortened_until_it_fits() -> None:
    class Narrow(ScriptedAnswer):
        def events(self):
            if any(len(result.text) > 300 for result in self.past[-1].results):
                raise TooLongError("too long")
            yield from super().events()

    class Chatty:
        def answer(self, past, sampling, instructions, spoken, functions):
            return Narrow(Scripted(), list(past), sampling, None, spoken, functions)

    def weather() -> str:
        return "y" * 5000

    past = [Message("user", "call weather {}")]
    list(ToolChat(Chatty(), [as_tool(weather)]).answer(past).events())
    assert 150 < len(past[2].results[0].text) <= 300 and "cut" in past[2].results[0].text


# Conversations


class Typed(Scripted):
    """A scripted backend as `Chat` takes it."""

    def chat(self, assistant: bool = True):
        return super().chat()


def test_a_chat_calls_and_remembers() -> None:
    chat = Chat(Typed(calls_functions=True), tools=[as_tool(weather)])
    reply = chat.say_typed('call weather {"city": "Rome"}')
    assert reply.text == "It says sun in Rome today, celsius" and reply.audio.duration > 0
    assert [(one.call.name, one.text) for one in reply.calls] == [("weather", "sun in Rome today, celsius")]
    assert chat.say_typed("say So.").text == "So."
    assert [message.role for message in chat._past] == ["user", "assistant", "function", "assistant"] + [
        "user",
        "assistant",
    ]


def test_a_call_that_cannot_be_read_fails_its_turn_alone() -> None:
    chat = Chat(Typed(calls_functions=True), tools=[as_tool(weather)])
    with pytest.raises(ToolCallError, match="bomb"):
        chat.say_typed("say Well. call bomb {}")
    assert chat._past == []
    assert chat.say_typed("say So.").text == "So."


def events_of(session: TurnSession) -> list:
    """What a session gives until a turn's end."""
    session.step(torch.full((1920,), 0.25))
    session.end_of_turn()
    found: list = []
    waited = threading.Event()
    while not any(isinstance(event, EndEvent) for event in found):
        found += session.poll()
        waited.wait(0.01)
    return found


def test_a_live_session_calls_and_a_turn_that_fails_does_not_end_it() -> None:
    backend = Scripted(calls_functions=True, hears='call weather {"city": "Rome"}')
    with TurnSession(backend, tools=[as_tool(weather)]) as session:
        events = events_of(session)
        assert [type(event) for event in events if not isinstance(event, TextEvent)][:3] == [
            HeardEvent,
            CallEvent,
            ResultEvent,
        ]
        assert events[-1].text == "It says sun in Rome today, celsius"
        backend.hears = "call bomb {}"
        events = events_of(session)
        assert isinstance(events[-2], FailedEvent) and "bomb" in events[-2].error
        backend.hears = "say So."
        assert events_of(session)[-1].text == "So."


def test_a_tool_may_be_made_by_hand() -> None:
    tool = Tool("weather", "", {"type": "object", "properties": {}}, lambda arguments: {"sky": "blue"})
    assert result_of([tool], "call weather {}").text == '{"sky": "blue"}'


def test_examples() -> None:
    assert doctest.testmod(module).failed == 0
