"""A reply that is begun while the user may still go on: nothing of it is heard before the turn is over.

    begun = SpeculativeReply(chat.answer(past, sampling), past)
    while begun.step(): ...                            # as long as it isn't decided
    begun.events()                                     # the turn is over: what was made so far, then the rest
    begun.drop()                                       # or the user went on

A conversation's past belongs to its caller: a reply that never gets into it is, for the next one, as if it had never
been, and what the language model read of it is unwound.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from antiphon.dialogue.backend import StreamingReply
from antiphon.dialogue.events import AudioEvent, Event
from antiphon.dialogue.tool_calls import Message

AHEAD_FRAMES = 12  # of sound that are made before it is decided whether they are wanted


class SpeculativeReply:
    """One reply. Its steps are taken, and it is dropped, by one thread at a time.

    Args:
        reply: not begun.
        past: that it answers.
        asked: with what else it was asked for, to be compared.

    Attributes:
        decided: it was, so that no more sound is to be made ahead; may be set by any thread.
    """

    def __init__(self, reply: StreamingReply, past: Sequence[Message], asked: object = None):
        self.reply, self.past, self.asked, self.decided = reply, list(past), asked, False
        self._making = reply.events()
        self._held: list[Event] = []
        self._frames = 0
        self._error: Exception | None = None
        self._over = False

    def step(self) -> bool:
        """Makes a little more; false if no more is to be made before it is decided."""
        if self.decided or self._over or self._frames >= AHEAD_FRAMES:
            return False
        try:
            event = next(self._making, self)
        except Exception as error:  # told where the reply would be: it may never be wanted
            self._error, event = error, self
        if event is self:
            self._over = True
            return False
        if event is not None:
            self._held.append(event)
            self._frames += isinstance(event, AudioEvent)
        return True

    def answers(self, past: Sequence[Message], asked: object = None) -> bool:
        """Whether it is what an answer to this past, asked for like this, would be."""
        same = len(past) == len(self.past) and all(mine.same(other) for mine, other in zip(self.past, past))
        return same and asked == self.asked

    def events(self) -> Generator[Event | None, None, None]:
        """All of the reply, from its beginning."""
        self.decided = True
        try:
            yield from self._held
            if self._error is not None:
                raise self._error
            yield from self._making
        finally:
            self._making.close()

    def drop(self) -> None:
        """It isn't wanted."""
        self.decided = True
        self._held.clear()
        self._making.close()
