"""The fixed replies of the duplex model and the small words of a conversation: `replies.jsonl` beside this file.

A few hundred replies, one or two for each of the 150 things that people ask for; backchannels, hesitations, ...

    read_phrases().extras["user backchannel"]          # "mhm", "uh-huh", ...
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from antiphon.errors import DataError

REPLIES = Path(__file__).with_name("replies.jsonl")


@dataclass(frozen=True)
class PhraseBank:
    """What the model says, and the small words of both; see `read_phrases`.

    Attributes:
        by_intent: intent -> its replies.
        extras: kind -> texts: "model backchannel", "user backchannel", "greeting", "hesitation", "cut-in" (how an
            interruption may begin), "preamble" (how a long turn may begin).
    """

    by_intent: dict[str, tuple[str, ...]]
    extras: dict[str, tuple[str, ...]]


def read_phrases(path: Path = REPLIES) -> PhraseBank:
    """The fixed replies.

    Args:
        path: JSON lines {"kind", "intent", "text"}; the kind "reply" has an intent, the others have none.

    Raises:
        DataError: the file is missing or broken.
    """
    by_intent: dict[str, list[str]] = defaultdict(list)
    extras: dict[str, list[str]] = defaultdict(list)
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            (by_intent[row["intent"]] if row["kind"] == "reply" else extras[row["kind"]]).append(row["text"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} cannot be read as replies, one JSON object a line: {error!r}.") from None
    return PhraseBank({k: tuple(v) for k, v in by_intent.items()}, {k: tuple(v) for k, v in extras.items()})
