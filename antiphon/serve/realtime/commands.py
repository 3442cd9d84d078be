"""What a Realtime session says: events for its client, and commands for whoever runs the model; and its bounds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from antiphon.dialogue.tool_calls import Functions
from antiphon.dialogue.turn_taking.network import NetworkTurns
from antiphon.serve.realtime.items import Turn, new_id

Event = dict[str, Any]


@dataclass(frozen=True)
class Limits:
    """What one client may ask for.

    Attributes:
        turn_seconds: of one turn's sound.
        session_seconds: of a session.
        items: of a conversation.
        vad: how its speech is found: "silero" or "loudness".
        turns: makes what decides with `semantic_vad` whose turn it is, by eagerness; None where there is none.
        judges: there is a turn detector besides, which is asked by `Judge`.
    """

    turn_seconds: float = 120.0
    session_seconds: float = 3600.0
    items: int = 1000
    vad: str = "silero"
    turns: Callable[[str], NetworkTurns] | None = None
    judges: bool = False


@dataclass(frozen=True)
class ServedModel:
    """What a session may promise of the model.

    Attributes:
        name, voices: without a voice it only writes.
        supports_tools: it can call functions.
        transcribes: what the user says is turned into words.
        languages: codes of those that are understood.
        sees: messages may have pictures and videos.
        writes_down: what the user says is written down, for whoever wants transcripts.
    """

    name: str
    voices: Sequence[str]
    supports_tools: bool = False
    transcribes: bool = True
    languages: Collection[str] = ("en",)
    sees: bool = False
    writes_down: bool = True


@dataclass(frozen=True)
class Hear:
    """Command: hear this as part of the item's turn, float32 [N] at 24 kHz."""

    item_id: str
    samples: np.ndarray


@dataclass(frozen=True)
class Received:
    """Command: this came from the client, whatever it is part of; float32 [N] at 24 kHz."""

    samples: np.ndarray


@dataclass(frozen=True)
class Finish:
    """Command: the item's turn is over; call `heard`."""

    item_id: str


@dataclass(frozen=True)
class Judge:
    """Command: does the turn of which this is the end sound finished? Call `judged` with the same number.

    Attributes:
        samples: float32 [N] at 16 kHz.
    """

    item_id: str
    number: int
    samples: Tensor


@dataclass(frozen=True)
class Drop:
    """Command: forget the item's turn."""

    item_id: str


@dataclass(frozen=True)
class Answer:
    """Command: make an answer; call `answer_begun`, `answered`, `answer_ended`.

    Attributes:
        turns: the past, see `items.messages`.
        max_tokens: None for the model's own limit.
        outside: of the conversation: with a memory of its own.
        functions: that may be called.
        voice: that speaks; None is the model's first.
    """

    response_id: str
    turns: list[Turn]
    instructions: str | None
    spoken: bool
    max_tokens: int | None
    outside: bool
    functions: Functions | None = None
    voice: str | None = None


@dataclass(frozen=True)
class Expect:
    """Command: the item's turn has begun, and this will be wanted when it is over; what there is of it may be read
    ahead.

    Attributes:
        answer: as it would be asked for now, without the turn itself.
    """

    item_id: str
    answer: Answer


@dataclass(frozen=True)
class Begin:
    """Command: the item's turn is likely over: hear it to its end, and if an answer is given (see `Expect`) call
    `worded` with the same number, and begin to answer. Nothing of the answer is told before `Finish` and an `Answer`
    that asks for the same."""

    item_id: str
    number: int
    answer: Answer | None


@dataclass(frozen=True)
class Resume:
    """Command: the item's turn wasn't over: what was begun is void."""

    item_id: str


@dataclass(frozen=True)
class Stop:
    """Command: that answer is not wanted any more."""

    response_id: str


@dataclass(frozen=True)
class Mute:
    """Command to a duplex model: it is to be silent, or may speak again."""

    silent: bool


class Outbox:
    """What a session has said and nobody has taken yet: dicts for the client and commands, in order."""

    def __init__(self) -> None:
        self._out: list[Any] = []

    def emit(self, *events: Event) -> None:
        """Events for the client; each gets an id."""
        self._out += [{"event_id": new_id("event"), **event} for event in events]

    def command(self, *commands: object) -> None:
        self._out += commands

    def take(self) -> list[Any]:
        """What came since the last call."""
        out, self._out = self._out, []
        return out
