"""Stop sequences: an answer ends before the first of them, however its text is cut into pieces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from antiphon.dialogue.events import CallEvent, EndEvent, Event, TextChances, TextEvent


class StopSequences:
    """Takes an answer's text in any pieces and gives it as far as it can't be the beginning of a stop sequence.

    Args:
        sequences: none of them empty.

    Attributes:
        found: one of them has come; nothing more is given.
    """

    def __init__(self, sequences: Sequence[str]):
        self.sequences, self.found = sequences, False
        self._held = ""

    def feed(self, text: str) -> str:
        """More of the text -> what is sure to be said."""
        if self.found:
            return ""
        text = self._held + text
        places = [at for one in self.sequences if (at := text.find(one)) >= 0]
        if places:
            self.found, self._held = True, ""
            return text[: min(places)]
        held = max((self._begun(text, one) for one in self.sequences), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def finish(self) -> str:
        """The end of the text -> what was held back."""
        text, self._held = self._held, ""
        return text

    @staticmethod
    def _begun(text: str, sequence: str) -> int:
        """How much of the text's end is the beginning of a sequence."""
        longest = min(len(text), len(sequence) - 1)
        return next((length for length in range(longest, 0, -1) if sequence.startswith(text[-length:])), 0)


def until_stop(events: Iterator[Event | None], sequences: Sequence[str]) -> Iterator[Event | None]:
    """The events of a written answer up to the first stop sequence; then no more is made."""
    stops, chances = StopSequences(sequences), _HeldChances()
    try:
        for event in events:
            if isinstance(event, TextEvent):
                said = stops.feed(event.text)
                given = chances.of(said, event.chances)
                yield TextEvent(said, event.time, given) if said else None
                if stops.found:
                    return
                continue
            if isinstance(event, (CallEvent, EndEvent)) and (said := stops.finish()):
                yield TextEvent(said, chances=chances.of(said, ()))
            yield event
    finally:
        events.close()  # type: ignore[attr-defined]


class _HeldChances:
    """Of the tokens of a text, those that have begun in what was given of it."""

    def __init__(self) -> None:
        self.held: list[TextChances] = []
        self.due = 0  # bytes of the text that was given, over those of the tokens that were

    def of(self, said: str, more: Sequence[TextChances]) -> tuple[TextChances, ...]:
        """The tokens of what is given next, of those held and those that have come."""
        self.held, self.due = [*self.held, *more], self.due + len(said.encode())
        count = 0
        while count < len(self.held) and self.due > 0:
            self.due -= len(self.held[count].token[0])
            count += 1
        given, self.held = tuple(self.held[:count]), self.held[count:]
        return given
