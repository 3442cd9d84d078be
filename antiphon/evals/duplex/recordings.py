"""Recorded conversations as cases to measure: no model is needed, whoever held them.

Three kinds of folders are read:

- our own sets and moshi-finetune's (`antiphon.data.dialogue.format`): index.jsonl, stereo sounds, left the model, right
  the user; sidecars whose "events" say what the user does;
- the same without events: then the user's channel says it. A stretch of speech of 1 s or more is a turn, with gaps of
  up to 0.6 s in it (v1.5's get_timing.py), and an interruption if the model was speaking when it began. Pauses can't be
  told from ends of turns that way;
- Full-Duplex-Bench's: a folder for each conversation with input.wav (the user), output.wav (the model), and what its
  own scripts read beside them: pause.json, turn_taking.json or interrupt.json, and output.json (the model's words).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from antiphon.audio import io
from antiphon.data.dialogue.format import USER, Conversation, Event, Word, read_conversations
from antiphon.errors import DataError
from antiphon.evals.duplex.metrics import Outcome, Segment, Vad, cases, from_words, measure, speech

USER_GAP_SECONDS = 0.6  # of silence in a user's turn (v1.5, get_timing.py)
USER_MIN_SECONDS = 1.0  # what is shorter is a sign of listening, and no turn


def recorded(folder: Path, vad: Vad = Vad()) -> Iterator[tuple[str, Outcome]]:
    """What the model did in each case of a set of recordings.

    Args:
        folder: see the module; or an index.

    Yields:
        (id of the recording and number of the case, outcome).

    Raises:
        DataError: not one case is there.
        DataError, AudioError: files that cannot be read.
    """
    some = False
    for identity, talk in _talks(folder):
        own = [word for word in talk.words if word.speaker != USER]
        segments = speech(talk.model, talk.sample_rate, vad) or from_words(own, vad.gap)
        events = talk.events
        if not any(event.speaker == USER for event in events):
            heard = speech(
                talk.user,
                talk.sample_rate,
                Vad(gap=USER_GAP_SECONDS, min_seconds=USER_MIN_SECONDS, threshold=vad.threshold),
            )
            events = [*events, *events_of(heard, segments)]
        for number, case in enumerate(cases(events, talk.seconds)):
            some = True
            yield f"{identity}-{number}", measure(case, segments, talk.words if own else None)
    if not some:
        raise DataError(
            f"{folder}: the user takes no turn in these recordings. Are the channels the right way round (left the "
            "model, right the user)?"
        )


def events_of(user: Sequence[Segment], model: Sequence[Segment]) -> list[Event]:
    """Turns and interruptions of a user, by when both speak.

    Args:
        user: the user's stretches of speech, each a turn.
        model: the model's.
    """
    return [
        Event("interruption" if any(a < start < b for a, b in model) else "turn", start, end, USER)
        for start, end in user
    ]


def _talks(folder: Path) -> Iterator[tuple[str, Conversation]]:
    if folder.is_file() or (folder / "index.jsonl").is_file():
        yield from read_conversations(folder)
        return
    found = sorted(path.parent for path in folder.glob("*/output.wav") if (path.parent / "input.wav").is_file())
    if not found:
        raise DataError(
            f"{folder} holds no recordings: neither an index.jsonl nor folders with input.wav and output.wav."
        )
    for each in found:
        try:
            talk = _benchmark(each)
        except (LookupError, TypeError, ValueError) as error:
            raise DataError(
                f"{each}: its notes (*.json) are not as Full-Duplex-Bench writes them ({error!r})."
            ) from error
        yield each.name, talk


def _benchmark(folder: Path) -> Conversation:
    """One conversation of Full-Duplex-Bench."""
    output = io.load(folder / "output.wav", max_seconds=None)
    given = io.load(folder / "input.wav", sample_rate=output.sample_rate, max_seconds=None)
    rate, model, user = output.sample_rate, output.samples.numpy(), given.samples.numpy()
    count = max(len(model), len(user))
    events: list[Event] = []
    if (found := _read(folder / "interrupt.json")) is not None:
        start, end = found[0]["timestamp"]
        events.append(Event("interruption", start, end, USER))
    elif (found := _read(folder / "turn_taking.json")) is not None:
        events.append(Event("turn", 0.0, found[0]["timestamp"][0], USER))  # eval_smooth_turn_taking.py: where it ends
    elif (found := _read(folder / "pause.json")) is not None:
        events.append(Event("turn", 0.0, len(user) / rate, USER))
        events += [Event("pause", *row["timestamp"][:2], USER) for row in found]
    rows = (_read(folder / "output.json") or {"chunks": []})["chunks"]
    words = [Word(row["text"].strip(), row["timestamp"][0], row["timestamp"][1] or row["timestamp"][0]) for row in rows]
    return Conversation(
        np.pad(model, (0, count - len(model))), np.pad(user, (0, count - len(user))), rate, words, events
    )


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from None
