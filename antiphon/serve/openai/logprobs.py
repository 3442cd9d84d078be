"""`logprobs` of a chat: how likely the tokens of an answer were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from antiphon.dialogue.events import TextChances

LEAST = -9999.0  # what OpenAI says of a token that can't be


def shown_logprobs(chances: Sequence[TextChances] | None) -> dict[str, Any] | None:
    """As a choice has them; None where they aren't asked for."""
    if chances is None:
        return None
    return {"content": [_shown(one.token) | {"top_logprobs": list(map(_shown, one.top))} for one in chances],
            "refusal": None}  # fmt: skip


def _shown(likely: tuple[bytes, float]) -> dict[str, Any]:
    said, logprob = likely
    return {"token": said.decode(errors="replace"), "logprob": max(logprob, LEAST), "bytes": list(said)}
