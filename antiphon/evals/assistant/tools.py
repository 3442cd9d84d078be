"""Whether the assistant calls functions when it is asked to, and only then: 80 requests, spoken and typed."""

from __future__ import annotations

import json
from typing import Any, Literal

from antiphon.dialogue.events import Sampling
from antiphon.dialogue.tool_calls import Functions, Message
from antiphon.dialogue.tools import as_tool
from antiphon.errors import EvalError, ToolCallError
from antiphon.evals.assistant import material
from antiphon.evals.assistant.evaluation import AssistantEvaluation
from antiphon.evals.harness import rows_of
from antiphon.evals.metrics.calls import is_right_call, read_requests
from antiphon.evals.report import Figure
from antiphon.evals.rows import spread

MAX_TOKENS = 96


def get_weather(city: str, day: Literal["today", "tomorrow"] = "today") -> None:
    """Tells the weather in a city.

    Args:
        city: name of the city
        day: which day
    """


def set_timer(minutes: float) -> None:
    """Sets a timer that rings when the time is over.

    Args:
        minutes: how long, in minutes
    """


def play_music(query: str) -> None:
    """Plays music.

    Args:
        query: a song, an artist or a kind of music
    """


def send_message(to: str, text: str) -> None:
    """Sends a text message to somebody.

    Args:
        to: who gets it
        text: what it says
    """


def switch_light(room: str, on: bool) -> None:
    """Switches the light in a room on or off.

    Args:
        room: the room
        on: true for on, false for off
    """


def add_to_shopping_list(items: list[str]) -> None:
    """Puts things on the shopping list.

    Args:
        items: what to buy
    """


TOOLS = (get_weather, set_timer, play_music, send_message, switch_light, add_to_shopping_list)


def tool_calls(evaluation: AssistantEvaluation, n: int) -> list[Figure]:
    """The right function with the right arguments, or none, of spoken requests; and the same typed.

    Raises:
        EvalError: the model can't call functions.
    """
    if not evaluation.model.backend.calls_functions:
        raise EvalError("this model can't call functions: measure it with a thinker whose chat template takes them")
    requests = spread(read_requests(), n)
    clips = material.spoken([request.text for request in requests], evaluation.cached("tool-requests"))
    heard = evaluation.each("hears requests", clips, lambda clip: evaluation.model.hear(clip.audio))
    messages = [Message("user", one.text, one.embeddings, heard=True) for one in heard]
    spoken = evaluation.each("requests, spoken", messages, lambda message: calls_of(evaluation.model.backend, message))
    typed = evaluation.each(
        "requests, typed", requests, lambda request: calls_of(evaluation.model.backend, Message("user", request.text))
    )
    right, typed_right = (
        [calls is not None and is_right_call(request, calls) for request, calls in zip(requests, made, strict=True)]
        for made in (spoken, typed)
    )
    columns = {"text": [request.text for request in requests], "heard": [one.text for one in heard]}
    columns |= {"calls": spoken, "right": right, "typed": typed, "typed_right": typed_right}
    evaluation.save_items("tool-calls-right", rows_of(columns))
    share, typed_share = sum(right) / len(requests), sum(typed_right) / len(requests)
    return [
        Figure("tool-calls-right", share, "share", evaluation.bar(base=">= 0.85"), typed_share, len(requests)),
        Figure("tool-calls-right-typed", typed_share, "share", None, None, len(requests)),
    ]


def calls_of(backend: Any, message: Message) -> list[tuple[str, dict[str, Any]]] | None:
    """(function, arguments) of each call in the answer to a message; None if one can't be read."""
    functions = Functions(tuple(as_tool(function).shown for function in TOOLS))
    answer = backend.chat().answer([message], Sampling(max_tokens=MAX_TOKENS), None, False, functions)
    try:
        for _ in answer.events():
            pass
    except ToolCallError:
        return None
    calls = answer.message.calls if answer.message is not None else ()
    return [(call.name, json.loads(call.arguments)) for call in calls]
