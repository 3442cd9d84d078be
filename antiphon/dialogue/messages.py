"""Messages of a conversation's past, with the calls of functions and what came of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from antiphon.dialogue.tool_calls import Call, Result, unmarked
from antiphon.models.llm.chat_template import Rendered, written_calls


@dataclass(frozen=True, eq=False)
class Message:
    """One message of the past. Two are the same only if they are the same object, or if they are the same calls or
    results of functions.

    Attributes:
        role: "user", "assistant" or "system"; "function" for results.
        text: its words.
        embeddings: what the language model reads instead of the words, [T, width], where it was heard.
        calls: of functions, by the assistant.
        results: of a "function".
    """

    role: str
    text: str
    embeddings: Tensor | None = None
    calls: tuple[Call, ...] = ()
    results: tuple[Result, ...] = ()

    def same(self, other: Message) -> bool:
        """Whether the language model reads the same, and has read it if it read the other."""
        mine = (self.role, self.text, self.calls, self.results)
        by_value = bool(self.calls or self.results)
        return self is other or (by_value and mine == (other.role, other.text, other.calls, other.results))


def joined(past: Sequence[Message]) -> list[Message]:
    """A past as it is read: calls stand with the text before them, results in one message, in the order of the calls.

    A call or result alone is a message of its own where it is kept; chat templates write them together.
    """
    found: list[Message] = []
    for message in past:
        last = found[-1] if found else None
        if last is not None and message.results and last.results:
            results = (*last.results, *message.results)
            ids = [call.id for call in found[-2].calls] if len(found) > 1 else []
            results = tuple(sorted(results, key=lambda one: ids.index(one.id) if one.id in ids else len(ids)))
            found[-1] = replace(last, results=results)
        elif last is not None and last.role == "assistant" and message.calls and not message.text.strip():
            found[-1] = replace(last, calls=(*last.calls, *message.calls))
        else:
            found.append(message)
    return found


def rendered(message: Message) -> list[Rendered]:
    """Calls or results as chat templates take them."""
    if message.calls:
        calls = [(call.name, unmarked(json.loads(call.arguments))) for call in message.calls]
        return [written_calls(unmarked(message.text).strip(), calls)]
    return [{"role": "tool", "content": unmarked(result.text)} for result in message.results]
