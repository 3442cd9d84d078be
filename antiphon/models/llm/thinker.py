"""The thinker: reads what the user said, as text or as embeddings, and thinks a reply, token by token.

Two modes over the same weights, chosen per conversation:

- voice: with the low-rank adapters, which answer shortly and as one speaks, and a guard against loops;
- text: the untouched language model with its own chat template; greedy, it says token for token what
  `transformers`' `generate` says.

    state = thinker.init_state(voice=True)
    thinker.add_user(state, "What is the capital of Italy?")
    for token in thinker.stream(state):
        print(token.text, end="")

Conversations that share a step (`stream_many`) may stand anywhere, each with its own sampling.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from functools import cached_property
from itertools import takewhile
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from antiphon.errors import ModelError, TooLongError
from antiphon.models.llm.chat_template import MARKS, ChatTemplate, Rendered
from antiphon.models.llm.detokenizer import IncrementalDetokenizer, mark_tokens
from antiphon.models.llm.grammar import Grammar, Grammars
from antiphon.models.llm.load import Cache, CausalLM, Forgets
from antiphon.models.llm.placed import open_placed
from antiphon.models.llm.prompts import assistant_prompt
from antiphon.models.llm.reading import SharedReading
from antiphon.models.llm.sampling import TokenSampling, is_repeating, sample_rows, token_chances
from antiphon.models.llm.special_tokens import end_tokens, wordless_tokens
from antiphon.models.llm.text import as_words
from antiphon.models.llm.thinker_state import GeneratedToken, ReadPrompt, ThinkerState
from antiphon.models.lora import Lora
from antiphon.nn.batching import Batcher
from antiphon.nn.cache import join

MAX_CONTEXT_TOKENS = 2048  # of a conversation that are kept; older turns are forgotten
MAX_KEPT_PROMPTS = 8  # system prompts that are kept read
MIN_SHARED_TOKENS = 16  # at the beginning of two prompts, that are worth copying what the first left
GREEDY = TokenSampling()
log = logging.getLogger(__name__)
Residuals = Callable[[str, Sequence[tuple[int, int]]], Tensor]
"""From words and the characters [start, end) of each token there to what is added to its embedding, [tokens, width]."""


class Thinker(nn.Module):
    """A language model that holds conversations.

    Args:
        model: the language model.
        folder: its folder, with tokenizer.json and tokenizer_config.json (chat template, see `ChatTemplate`).
        lora: adapters for voice mode; None: voice mode runs without, by the assistant's prompt alone.

    Attributes:
        batcher: by it, conversations on several threads share steps.
        ends: the tokens that end a reply.
    """

    def __init__(self, model: CausalLM, folder: Path | str, lora: Lora | None = None):
        super().__init__()
        self.model, self.lora, self.batcher = model, lora, Batcher()
        self._run = SharedReading(model, self.batcher)
        folder = Path(folder)
        try:
            self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self.template = ChatTemplate.from_folder(folder)
        except ModelError as error:
            raise ModelError(f"{folder}: {error}") from error
        except Exception as error:  # tokenizers raises bare Exception
            raise ModelError(f"{folder} has no readable tokenizer.json and chat template: {error!r}") from error
        self.ends = end_tokens(folder, self.tokenizer, self.template)
        self.marks = mark_tokens(self.tokenizer, MARKS)
        special = [token.content for token in self.tokenizer.get_added_tokens_decoder().values() if token.special]
        self._special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or r"(?!)")
        self._prompts: dict[tuple[bool, str | None, str], ReadPrompt] = {}

    @cached_property
    def _stops(self) -> frozenset[int]:
        """The tokens that end a sentence."""
        return frozenset(token for mark in ".?!" if (token := self.tokenizer.token_to_id(mark)) is not None)

    @cached_property
    def wordless(self) -> tuple[int, ...]:
        """See `wordless_tokens`."""
        return wordless_tokens(self.tokenizer)

    @cached_property
    def grammars(self) -> Grammars:
        """Forms that a reply may be held to.

        Raises:
            ConfigError: what that takes isn't installed.
        """
        return Grammars(self.tokenizer, sorted(self.ends))

    @classmethod
    def from_pretrained(
        cls,
        llm: Path | str,
        lora: Path | str | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> Thinker:
        """Load the language model's folder and, for voice mode, the adapters' folder; see `open_placed`."""
        model, adapters = open_placed(llm, lora, device, dtype)
        return cls(model, llm, adapters).eval()

    @torch.inference_mode()
    def init_state(
        self, voice: bool = True, system: str | None = None, functions: Sequence[Rendered] = ()
    ) -> ThinkerState:
        """Start a conversation.

        Args:
            voice: answer as a voice, with adapters; False: the untouched language model.
            system: system prompt; None: in voice mode what the adapters were trained with, or without adapters an
                assistant's, with date and time; in text mode the template's own.
            functions: that the model may call, as its template takes them: {"type": "function", "function": {"name",
                "description", "parameters"}}.

        Each prompt is read once; later conversations get a copy of what it left, as long as it is one of the last few.
        Of another prompt, only what differs is read.

        Raises:
            ModelError: there is no room for so many functions.
        """
        system, bare = self._system(voice, system)
        key = (voice, system, json.dumps(functions) if functions else "")
        known = self._prompts.pop(key, None)
        if known is None:
            opening, first = self.template.opening(system, functions)
            tokens = [] if bare and not functions else self._ids(opening)
            room = min(MAX_CONTEXT_TOKENS, self.model.context) * 3 // 4
            if len(tokens) > room:
                raise ModelError(f"the functions and instructions take {len(tokens)} tokens; there is room for {room}")
            cache, read = self._read_before(voice, tokens)
            state = ThinkerState(voice, cache, len(tokens), first, guarded=voice and not functions)
            if tokens[read:]:
                self._read(state, self._embed(tokens[read:]))
            known = ReadPrompt(tokens, state)
        self._prompts[key] = known  # the last of the queue again
        for old in list(self._prompts)[:-MAX_KEPT_PROMPTS]:  # a copy: other threads begin conversations, too
            self._prompts.pop(old, None)
        return known.state.fork()

    def _system(self, voice: bool, system: str | None) -> tuple[str | None, bool]:
        """The system prompt, and whether there is none at all, as some adapters were trained."""
        if system is not None or not voice:
            return system, False
        system = assistant_prompt(datetime.now()) if self.lora is None else self.lora.config.system
        return system, system is None

    def _read_before(self, voice: bool, tokens: list[int]) -> tuple[Cache, int]:
        """A cache that has read the beginning of a prompt, and how many tokens: as many as any prompt that is kept."""
        best, most = None, MIN_SHARED_TOKENS - 1
        for prompt in list(self._prompts.values()):
            same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(prompt.tokens, tokens)))
            if same > most and prompt.state.voice == voice:
                best, most = prompt.state.cache, same
        if best is None:
            return self.model.init_cache(), 0
        cache = best.fork()
        cache.cut(most)
        return cache, most

    @torch.inference_mode()
    def add_user(self, state: ThinkerState, said: str | Sequence[int] | Tensor) -> None:
        """Read a turn of the user.

        Args:
            state: the conversation; a reply that is still unfinished there is ended.
            said: text, or token ids, or embeddings `[T, width]` in the language model's embedding space. Of a text,
                voice mode with adapters reads the words alone (`as_words`).

        Raises:
            ModelError: nothing was said, or more than fits.
        """
        turn = self._turn(state, "user", said, self.template.reply)
        self._take_turn(state, turn, ("user", said if isinstance(said, str) else self._text(said)))

    @torch.inference_mode()
    def add_message(
        self,
        state: ThinkerState,
        role: str,
        said: str | Sequence[int] | Tensor,
        notes: Tensor | None = None,
        residuals: Residuals | None = None,
    ) -> None:
        """Read a message that is complete and that no reply is due to yet: see :meth:`begin_reply`.

        It is read together with what comes next, as few words take as long to read as one. Messages and `begin_reply`
        together read what `add_user` reads at once; they are for a past that may be edited, as each is a turn that
        :meth:`rewind` can go back to.

        Args:
            state, said: as in `add_user`; of a user's text, voice mode with adapters reads the words alone.
            role: "user", "assistant" or "system".
            notes: of what was heard besides the words, embeddings `[T, width]`, read behind them; the
                words may be "".
            residuals: what is added to the embeddings of a text's tokens.

        Raises:
            ModelError: nothing was said, or more than fits.
        """
        entry = (role, said if isinstance(said, str) else self._text(said))
        self._take_turn(state, self._turn(state, role, said, notes=notes, residuals=residuals), entry, wait=True)
        state.after = len(self._ids(self.template.user.after)) if role == "user" and notes is None else 0

    def _turn(
        self,
        state: ThinkerState,
        role: str,
        said: str | Sequence[int] | Tensor,
        reply: str = "",
        notes: Tensor | None = None,
        residuals: Residuals | None = None,
    ) -> Tensor:
        """The embeddings [T, width] of a turn, and of what begins a reply to it."""
        around = {"user": self.template.user, "assistant": self.template.assistant}.get(role, self.template.system)
        before, after = around.before, around.after + reply
        if role == "user" and not state.turns:
            before = state.first
        own_words = self._words(state.voice, role, said) if isinstance(said, str) else None
        if own_words is not None and notes is None:
            return self._embed_turn(state, before, own_words, after, residuals)
        behind = self._embed(after)
        if notes is not None and said == "":
            behind = torch.cat((notes, behind))
        elif notes is not None:
            # A turn of their own behind the words: so a draft of the words stays read whatever turns out to have been
            # heard, and a model takes them for what it is told, not for what the user said.
            own = self.template.system
            behind = torch.cat((self._embed(around.after + own.before), notes, self._embed(own.after + reply)))
        if own_words is not None:
            return torch.cat((self._embed_turn(state, before, own_words, "", residuals), behind))
        content = said if isinstance(said, Tensor) and said.is_floating_point() else self._embed(said)
        if content.ndim != 2 or content.shape[1] != self.model.width or not len(content):
            raise ModelError(
                f"a user's turn is text, token ids or embeddings [T, {self.model.width}]; got {tuple(content.shape)}"
            )
        return torch.cat((self._embed(before), content.float(), behind))

    def prompt(self, said: str, voice: bool = True) -> list[int]:
        """The tokens that a first question is read as, those before it and those that begin the reply included."""
        system, bare = self._system(voice, None)
        opening, first = self.template.opening(system)
        words = self._words(voice, "user", said)
        return self._ids(f"{'' if bare else opening}{first}{words}{self.template.user.after}{self.template.reply}")

    def _words(self, voice: bool, role: str, said: str) -> str:
        """What of a text is read: marks of turns are the template's alone, and leave a space, as what is around one may
        be another; adapters were trained on a user's words without capitals and punctuation."""
        words = self._special.sub(" ", said)
        return as_words(words) if role == "user" and voice and self.lora is not None else words

    @torch.inference_mode()
    def add_rendered(self, state: ThinkerState, role: str, text: str) -> None:
        """Read a turn as the chat template writes it, with its marks: calls of functions, and what came of them.

        Raises:
            ModelError: more than fits.
        """
        self._take_turn(state, self._embed_turn(state, text), (role, text), wait=True)

    @torch.inference_mode()
    def begin_reply(self, state: ThinkerState, begins: str = "") -> None:
        """Make a reply due to all that was added with `add_message`; `stream` thinks it, after what it `begins` with.
        It is a turn of its own."""
        self._take_turn(state, self._embed(self.template.reply + begins), None)

    @torch.inference_mode()
    def likelihoods(self, state: ThinkerState, begins: str, options: Sequence[str]) -> list[float]:
        """How likely a reply is to go on with each of several texts, after what it `begins` with: the log-likelihood of
        the tokens in which it differs from the others along the likeliest way. The conversation stays as it was.

        Where the options part, all but the likeliest way are done with; so it mostly takes no more than one step.
        """
        self.begin_reply(state, begins)
        assert state.hidden is not None
        tokens, hidden = [self._ids(option) for option in options], state.hidden
        found, left, sure = [0.0] * len(options), list(range(len(options))), 0.0
        for depth in range(max(map(len, tokens))):
            logits = self._run.logits(hidden[None])[0].float().log_softmax(-1)
            for option in left:
                found[option] = sure + float(logits[tokens[option][depth]])
            best = tokens[max(left, key=found.__getitem__)][depth]
            left = [option for option in left if tokens[option][depth] == best and len(tokens[option]) > depth + 1]
            if len(left) < 2:
                break
            sure += float(logits[best])
            hidden = self._read(state, self._embed([best]))[-1]
        history = list(state.history)
        self.rewind(state, len(state.turns) - 1)
        state.history = history
        return found

    @torch.inference_mode()
    def read_draft(self, state: ThinkerState, said: str, residuals: Residuals | None = None) -> int:
        """Read the beginning of the user's next turn ahead, while it is still being said; gives the tokens read.

        Of what an earlier draft has read, all up to the first token that differs stays, and likewise when the turn is
        added; what becomes of the conversation is the same as without. A draft that is too long, or that would need
        old turns to be forgotten, is not read.

        Args:
            state: a conversation whose last reply is finished.
            said: the words so far.
            residuals: as in `add_message`.
        """
        around = self.template.user
        before, words = around.before if state.turns else state.first, self._words(state.voice, "user", said)
        tokens = self._ids(before + words)
        room = min(MAX_CONTEXT_TOKENS, self.model.context) - state.prefix
        finished = state.hidden is None and not state.pending
        if not finished or sum(map(len, state.turns)) + len(tokens) > room * 3 // 4 or len(tokens) > room // 2:
            state.draft_hidden = None
            return 0
        x = self._embed_turn(state, before, words, "", residuals)
        x = x if state.unread is None else torch.cat((state.unread, x))
        if state.draft is not None and state.draft_hidden is not None and torch.equal(state.draft, x):
            return 0
        new = x[self._keep_draft(state, x[:-1]) :]
        state.draft_hidden = self._run(new[None], state.cache, self._lora([state]))[0, -1]
        state.draft = x
        return len(new)

    @torch.inference_mode()
    def draft_end(self, state: ThinkerState) -> float:
        """How likely the turn of which a draft was read is over with it, 0 to 1, as the language model expects it from
        the words; 0 if none was read. Where it reads words alone, without punctuation, a full stop is an end, too."""
        if state.draft_hidden is None:
            return 0.0
        chances = self._run.logits(state.draft_hidden[None])[0].float().softmax(-1)
        stops = self._stops if state.voice and self.lora is not None else frozenset()
        return float(chances[sorted(self.ends | stops)].sum())

    def draft_state(self, state: ThinkerState, said: str, residuals: Residuals | None = None) -> Tensor | None:
        """The last hidden state `[width]` behind the words of a turn that is complete, read as a draft if need be; None
        where drafts aren't read."""
        self.read_draft(state, said, residuals)
        return state.draft_hidden

    def _keep_draft(self, state: ThinkerState, x: Tensor) -> int:
        """Cuts what was read of a draft where it differs from embeddings `[T, width]`; gives the tokens that stay."""
        draft, state.draft, state.draft_hidden = state.draft, None, None
        if draft is None:
            return 0
        size = min(len(draft), len(x))
        same = int((draft[:size] == x[:size]).all(1).long().cumprod(0).sum())
        state.cache.cut(int(state.cache.length) - len(draft) + same)
        return same

    def add_notes(
        self, state: ThinkerState, said: str, notes: Tensor, begins: str = "", residuals: Residuals | None = None
    ) -> None:
        """Reads notes behind the words of the message to which a reply is due, as if they had come with it."""
        history = state.history[:-1]
        self.rewind(state, len(state.turns) - 2)
        state.history = history
        self.add_message(state, "user", said, notes, residuals)
        self.begin_reply(state, begins)

    def rewind(self, state: ThinkerState, turns: int) -> None:
        """Forget all but the first `turns` of `state.turns`, as if they had never been: no work, nothing is read again.

        For states that were made by `add_message` and `begin_reply`, with replies that are finished.
        """
        gone = len(state.turns) - turns
        if gone > 0:
            del state.turns[turns:], state.history[max(0, len(state.history) - gone) :]
            state.cache.cut(state.prefix + sum(map(len, state.turns)))
            state.hidden, state.pending, state.unread = None, [], None
            state.draft = state.draft_hidden = state.words_hidden = None

    def _take_turn(self, state: ThinkerState, turn: Tensor, entry: tuple[str, str] | None, wait: bool = False) -> None:
        """Read a turn `[T, width]`, forgetting old ones where it needs their room; ends a reply that is unfinished.

        With `wait`, what waited so far is read, and the turn waits.
        """
        room = self._room(state, len(turn))
        if state.hidden is not None or state.pending:
            self._end_replies([state], state.cache)
        if entry is not None:
            state.history.append(entry)
        if state.prefix + sum(map(len, state.turns)) + len(turn) > room * 3 // 4:
            self._forget(state, room // 2 - len(turn))
        state.turns.append(turn)
        unread, state.unread, state.hidden, state.words_hidden = state.unread, turn if wait else None, None, None
        if not wait:
            behind, drafted = state.after and state.after + len(turn), state.draft_hidden
            read = self._read(state, turn if unread is None else torch.cat((unread, turn)))
            state.hidden, state.after = read[-1], 0
            if behind:
                state.words_hidden = read[-1 - behind] if len(read) > behind else drafted
        elif unread is not None:
            self._read(state, unread)

    def _forget(self, state: ThinkerState, room: int) -> None:
        """Forgets the oldest turns, until those that are left have at most so many tokens."""
        if state.draft is not None:
            self._keep_draft(state, state.draft[:0])
        waiting = [] if state.unread is None else [state.turns.pop()]  # isn't in the cache yet
        before, gone = len(state.turns), 0
        while state.turns and sum(map(len, state.turns + waiting)) > room:
            gone += len(state.turns.pop(0))
        log.info("a long conversation: its first %d turns were forgotten", before - len(state.turns))
        if isinstance(self.model, Forgets):
            self.model.forget(state.cache, state.prefix, gone)
        else:
            state.cache.cut(state.prefix)
            for past in state.turns:
                self._read(state, past)
        state.turns += waiting

    def stream(
        self,
        state: ThinkerState,
        max_tokens: int = 64,
        sampling: TokenSampling = GREEDY,
        grammar: Grammar | None = None,
    ) -> Iterator[GeneratedToken]:
        """Think the reply that is due, token by token; may be abandoned at any point.

        Args:
            state: a conversation whose last turn is the user's.
            max_tokens: the reply is cut after so many.
            sampling: how tokens are drawn; the same seed gives the same reply.
            grammar: of `grammars`, what the reply has to be.

        Yields:
            The tokens; the end of the turn is not among them.

        Raises:
            ModelError: no reply is due.
        """
        with closing(self.stream_many([state], max_tokens, [sampling], [grammar])) as steps:
            for tokens in steps:
                yield from tokens.values()

    def stream_many(
        self,
        states: Sequence[ThinkerState],
        max_tokens: int = 64,
        samplings: Sequence[TokenSampling] | None = None,
        grammars: Sequence[Grammar | None] | None = None,
    ) -> Iterator[dict[int, GeneratedToken]]:
        """Think the replies that are due to several conversations, a token of each at a time; see `stream`.

        Each gets what it gets alone: they may be of any length, and end when they end.

        Args:
            states: conversations, all of them with adapters or none.
            max_tokens, samplings, grammars: as in `stream`.

        Yields:
            The next tokens, by the number of their conversation; those whose reply is over are missing.

        Raises:
            ModelError: no reply is due to one of them, or their modes differ.
        """
        if any(state.hidden is None for state in states):
            raise ModelError("no reply is due: add what the user said first (add_user)")
        lora, samplings = self._lora(states), samplings or [GREEDY] * len(states)
        texts = [IncrementalDetokenizer(self.tokenizer, self.marks) for _ in states]
        said: list[list[int]] = [[] for _ in states]
        forms = [None if each is None else each.begin(max_tokens) for each in grammars or [None] * len(states)]
        for state in states:
            state.history.append(("assistant", ""))
        cache = states[0].cache if len(states) == 1 else join([state.cache for state in states])
        going = list(range(len(states)))
        try:
            for position in range(max_tokens):
                with torch.inference_mode():
                    logits = self._run.logits(torch.stack([states[row].hidden for row in going]))
                    chosen = sample_rows(
                        logits, [samplings[row] for row in going], [position] * len(going),
                        [said[row] for row in going], [forms[row] for row in going],
                    )  # fmt: skip
                tokens: dict[int, GeneratedToken] = {}
                for at, (row, token) in enumerate(zip(going, chosen)):
                    state, told = states[row], samplings[row].top_chances
                    guarded = state.guarded and forms[row] is None
                    if token in self.ends or (guarded and is_repeating([*said[row], token])):
                        continue
                    said[row].append(token)
                    text = texts[row].add(token)
                    state.history[-1] = ("assistant", state.history[-1][1] + text)
                    state.pending = [token]
                    chances = None if told is None else token_chances(logits[at], token, told)
                    tokens[row] = GeneratedToken(token, text, state.hidden, chances)
                going = list(tokens)
                if not going:
                    return
                yield tokens
                with torch.inference_mode():
                    x = self._embed([tokens[row].token if row in tokens else 0 for row in range(len(states))])
                    counts = torch.tensor([row in tokens for row in range(len(states))], dtype=torch.long)
                    hidden = self._run(x[:, None], cache, lora, counts if len(going) < len(states) else None)[:, 0]
                for row in going:
                    states[row].turns[-1] = torch.cat((states[row].turns[-1], x[row : row + 1]))
                    states[row].hidden, states[row].pending = hidden[row], []
        finally:
            self._end_replies(states, cache)

    def reply(self, said: str | Sequence[int] | Tensor, voice: bool = True, max_tokens: int = 64) -> str:
        """The greedy reply to one question, as text."""
        state = self.init_state(voice)
        self.add_user(state, said)
        return "".join(token.text for token in self.stream(state, max_tokens)).strip()

    @torch.inference_mode()
    def reply_many(
        self, questions: Sequence[str], voice: bool = True, max_tokens: int = 64, batch: int = 32
    ) -> list[str]:
        """The greedy replies to many single questions, several at once: for measuring, where it is several times as
        fast. Each is what :meth:`reply` gives, up to the rounding of other matrix shapes."""
        replies = [""] * len(questions)
        for first in range(0, len(questions), batch):
            states = [self.init_state(voice) for _ in questions[first : first + batch]]
            for state, asked in zip(states, questions[first:]):
                self.add_user(state, asked)
            for tokens in self.stream_many(states, max_tokens):
                for row, token in tokens.items():
                    replies[first + row] += token.text
        return [reply.strip() for reply in replies]

    def _lora(self, states: Sequence[ThinkerState]) -> Lora | None:
        """The adapters that conversations share a step with."""
        if len({state.voice for state in states}) > 1:
            raise ModelError("conversations in voice mode and in text mode can't share a step")
        return self.lora if states[0].voice else None

    def _end_replies(self, states: Sequence[ThinkerState], cache: Cache) -> None:
        """Read what of the replies is unread, and the ends of the turns, into the cache that has a row of each."""
        with torch.inference_mode():
            after = self._ids(self.template.assistant.after)
            ends = [self._remember(state, [*state.pending, *after]) for state in states]
            counts = torch.tensor([len(end) for end in ends])
            self._run(pad_sequence(ends, batch_first=True), cache, self._lora(states), counts)
        for row, state in enumerate(states):
            state.cache = cache if len(states) == 1 else cache.fork([row])
            state.hidden, state.pending = None, []

    def _remember(self, state: ThinkerState, tokens: list[int]) -> Tensor:
        x = self._embed(tokens)
        state.turns[-1] = torch.cat((state.turns[-1], x))
        return x

    def _read(self, state: ThinkerState, x: Tensor) -> Tensor:
        """Feed embeddings `[T, width]`; returns their hidden states, but of those that a draft has read, which aren't
        read again (but for the last of them, whose hidden state is wanted)."""
        x = x[self._keep_draft(state, x[:-1]) :]
        return self._run(x[None], state.cache, self._lora([state]))[0]

    def _room(self, state: ThinkerState, tokens: int) -> int:
        """Tokens of turns that are kept; raises TooLongError for a turn that is too long for them."""
        room = min(MAX_CONTEXT_TOKENS, self.model.context) - state.prefix
        if tokens > room // 2:
            raise TooLongError(f"the turn has {tokens} tokens; at most {room // 2} are understood: say it in parts")
        return room

    def _embed_turn(
        self, state: ThinkerState, before: str, words: str = "", after: str = "", residuals: Residuals | None = None
    ) -> Tensor:
        """The embeddings of a turn, which are a hundred times its size: only if it isn't too long. What is added to its
        words is not added to what stands around them."""
        encoding = self.tokenizer.encode(before + words + after, add_special_tokens=False)
        self._room(state, len(encoding.ids))
        x = self._embed(encoding.ids)
        if residuals is None:
            return x
        return x + residuals(words, [(start - len(before), end - len(before)) for start, end in encoding.offsets])

    def _embed(self, said: str | Sequence[int] | Sequence[Sequence[int]] | Tensor) -> Tensor:
        if isinstance(said, str):
            said = self._ids(said)
        return self.model.embed(torch.as_tensor(said, dtype=torch.long))

    def _ids(self, text: str) -> list[int]:
        """A template's text as tokens; it says itself where a conversation begins."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def _text(self, said: Sequence[int] | Tensor) -> str:
        if isinstance(said, Tensor) and said.is_floating_point():
            return ""
        return self.tokenizer.decode([int(token) for token in said])
