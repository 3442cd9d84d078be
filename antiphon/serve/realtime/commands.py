"""What a Realtime machine asks of whoever runs the model, and how much a client may ask of the machine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from antiphon.dialogue.tool_calls import Functions
from antiphon.serve.realtime.items import Turn


@dataclass(frozen=True)
class Limits:
    """What one client may ask for.

    Attributes:
        turn_seconds: of one turn's sound.
        session_seconds: of a session.
        idle_seconds: without a word from the client.
        items: of a conversation.
        vad: how its speech is found: "silero" or "loudness".
    """

    turn_seconds: float = 120.0
    session_seconds: float = 3600.0
    idle_seconds: float = 600.0
    items: int = 1000
    vad: str = "silero"


@dataclass(frozen=True)
class Hear:
    """Command: hear this as part of the item's turn, float32 [N] at 24 kHz."""

    item_id: str
    samples: np.ndarray


@dataclass(frozen=True)
class Heard:
    """Command, if `tapped`: this came from the client, whatever it is part of; float32 [N] at 24 kHz."""

    samples: np.ndarray


@dataclass(frozen=True)
class Finish:
    """Command: the item's turn is over; call `heard`."""

    item_id: str


@dataclass(frozen=True)
class Peek:
    """Command: what was heard of the item's turn up to here? Call `peeked` with the same number."""

    item_id: str
    number: int


@dataclass(frozen=True)
class Drop:
    """Command: forget the item's turn."""

    item_id: str


@dataclass(frozen=True)
class Answer:
    """Command: make an answer; call `answer_begun`, `answered`, `answer_ended`.

    Attributes:
        turns: the past, see `realtime_items.messages`.
        most: tokens; None for the model's own limit.
        outside: of the conversation: with a memory of its own.
        functions: that may be called.
    """

    response_id: str
    turns: list[Turn]
    instructions: str | None
    spoken: bool
    most: int | None
    outside: bool
    functions: Functions | None = None


@dataclass(frozen=True)
class Stop:
    """Command: that answer is not wanted any more."""

    response_id: str
