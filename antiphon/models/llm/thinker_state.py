"""One conversation of a language model, as a value, and the tokens of its replies."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Tensor

from antiphon.models.llm.load import Cache
from antiphon.models.llm.sampling import TokenChances


@dataclass(frozen=True)
class GeneratedToken:
    """One token of a reply.

    Attributes:
        token: its id.
        text: what it adds to the reply; "" while a character is still incomplete. The texts of a reply concatenate to
            it.
        hidden: float32 `[width]`: the language model's last hidden state (after its final norm) that chose this token.
        chances: how likely it was, where `TokenSampling.top_chances` asks for that.
    """

    token: int
    text: str
    hidden: Tensor
    chances: TokenChances | None = None


@dataclass
class ThinkerState:
    """One conversation.

    Attributes:
        voice: adapters on.
        cache: of everything read and thought so far, one row.
        prefix: how many positions of it are the system prompt, which is never forgotten.
        first: what stands before the words of the first turn, if that is the user's.
        turns: what was fed for each past turn, embeddings `[T, width]`, oldest first; for reading again after
            forgetting.
        hidden: the last hidden state `[width]` where a reply is due, else None.
        pending: reply tokens that were thought but not read yet.
        unread: the last of `turns`, where it waits to be read together with what comes next, else None.
        draft: what is in the cache after all that was read of `turns`, embeddings `[T, width]`: see `read_draft`.
        draft_hidden: the last hidden state `[width]` of it.
        after: tokens behind the words of the turn that waits to be read; 0 where notes stand behind them, too.
        words_hidden: where a reply is due, the hidden state `[width]` behind the words that it is due to; None where
            notes stand behind them.
        history: ("user" or "assistant", text); what came as embeddings has the text "".
        guarded: replies that go round in circles are ended; with functions they aren't, as two calls look alike.
    """

    voice: bool
    cache: Cache
    prefix: int
    first: str = ""
    turns: list[Tensor] = field(default_factory=list)
    hidden: Tensor | None = None
    pending: list[int] = field(default_factory=list)
    history: list[tuple[str, str]] = field(default_factory=list)
    guarded: bool = False
    unread: Tensor | None = None
    draft: Tensor | None = None
    draft_hidden: Tensor | None = None
    after: int = 0
    words_hidden: Tensor | None = None

    def fork(self) -> ThinkerState:
        """A copy that goes its own way."""
        lists = {"turns": list(self.turns), "pending": list(self.pending), "history": list(self.history)}
        return replace(self, cache=self.cache.fork(), **lists)


@dataclass
class ReadPrompt:
    """A system prompt as tokens, and the state that has read it."""

    tokens: list[int]
    state: ThinkerState
