"""What the thinker's states are while a text is being said, for a set of codes: the talker learns to read them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from antiphon.data.speech.timed_codes import TimedSet
from antiphon.data.speech.utterances import Turn
from antiphon.data.store import ArrayStore, ArrayWriter
from antiphon.models.llm.thinker import Thinker
from antiphon.models.llm.thinker_state import ThinkerState
from antiphon.models.scene.notes import as_heard, noteworthy_parts
from antiphon.models.scene.reading import SceneReading
from antiphon.models.tts.phonemes import Phonemizer, Speller

ASKED = "Please go on."  # the user's turn before a text of which it isn't known what was said before
Thought = tuple[list[str], torch.Tensor]  # a text's pieces, and the state from which each was thought [pieces, hidden]
# Texts as they are thought after what was said before them.
Thoughts = Callable[[Sequence[str], Sequence[Turn]], list[Thought]]
# The state from which a reply to each turn of the user begins, oldest first [turns, hidden].
Beginnings = Callable[[Sequence[Turn]], torch.Tensor]


@torch.inference_mode()
def thought_states(thinker: Thinker, texts: Sequence[str], context: Sequence[Turn] = ()) -> list[Thought]:
    """Texts as the thinker would think them, in voice mode.

    Args:
        thinker: with the low-rank adapters that it speaks with.
        texts: replies, none of them empty; of like length, since the shorter ones are padded.
        context: what was said before them; none where nobody knows.

    Returns:
        for each text, its pieces and the state from which each was thought [pieces, hidden], as
        `GeneratedToken.hidden` is.
    """
    state, _ = _after(thinker, context)
    assert state.hidden is not None

    def read(tokens: torch.Tensor) -> torch.Tensor:
        return thinker.model(thinker.model.embed(tokens), state.cache.fork([0] * len(tokens)), thinker.lora)

    return states_of(texts, thinker.tokenizer, state.hidden, read)


def beginnings(thinker: Thinker, context: Sequence[Turn]) -> torch.Tensor:
    """The states from which the thinker's replies begin, in voice mode: to each turn of the user [turns, hidden]."""
    return torch.stack(_after(thinker, context)[1])


@torch.inference_mode()
def _after(thinker: Thinker, context: Sequence[Turn]) -> tuple[ThinkerState, list[torch.Tensor]]:
    """A conversation in which a reply to a context is due, and the states from which all its replies begin."""
    state, begins = thinker.init_state(voice=True), []
    reading = SceneReading(thinker.model.embed, thinker.tokenizer, thinker.model.width)

    def begin() -> None:
        thinker.begin_reply(state)
        assert state.hidden is not None
        begins.append(state.hidden)

    for turn in context or (Turn("user", ASKED),):
        if turn.role == "assistant":
            begin()
            thinker.rewind(state, len(state.turns) - 1)
        notes = reading(noteworthy_parts([as_heard(turn.heard)]), {}) if turn.heard else None
        thinker.add_message(state, turn.role, turn.text, notes)
    begin()
    return state, begins


def states_of(
    texts: Sequence[str], tokenizer: Tokenizer, first: torch.Tensor, read: Callable[[torch.Tensor], torch.Tensor]
) -> list[Thought]:
    """See `Thoughts`.

    Args:
        texts: none of them empty.
        tokenizer: of the thinker.
        first: the state [hidden] from which a text's first token is thought.
        read: the states [texts, tokens, hidden] after each of their tokens [texts, tokens].
    """
    tokens = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    before = pad_sequence([torch.tensor(ids[:-1], dtype=torch.long) for ids in tokens], batch_first=True)
    hidden = first.expand(len(texts), 1, -1)
    if before.shape[1]:  # attention is causal: nothing sees the padding
        hidden = torch.cat([hidden, read(before)], dim=1)
    return [([tokenizer.decode([i]) for i in ids], row[: len(ids)]) for ids, row in zip(tokens, hidden)]


def spelled_with(pieces: list[str], speller: Speller) -> list[tuple[str, int]]:
    """Phonemes as the speller gives them while the pieces come, each with the number of the piece that set them free.

    The last phonemes come when the text ends; they belong to no piece, number -1.
    """
    state, spelled = speller.init_state(), []
    for number, piece in enumerate(pieces):
        if phonemes := speller.step(piece, state):
            spelled.append((phonemes, number))
    if phonemes := speller.step("", state, last=True):
        spelled.append((phonemes, -1))
    return spelled


class StateSet:
    """The states of utterances, on disk a store (`antiphon.data.store`) of kind "states": float16 [tokens, hidden].

    The manifest tells, for each symbol of an utterance, the number of its state; -1 where it has none.

    Args:
        folder: where they are.
    """

    def __init__(self, folder: Path | str):
        self._store = ArrayStore(folder, "states")
        self._rows = {row["id"]: row for row in self._store.rows}

    def __len__(self) -> int:
        return len(self._rows)

    def states(self, identity: str) -> np.ndarray:
        """[states, hidden] float32: all that are kept of an utterance."""
        return self._store.array(self._rows[identity]).astype(np.float32)

    def hidden(self, identity: str) -> np.ndarray:
        """[symbols, hidden] float32 of an utterance; zeros where a symbol has no state."""
        row = self._rows[identity]
        states, numbers = self._store.array(row).astype(np.float32), np.array(row["symbols"], np.int64)
        if not len(states):
            return np.zeros((len(numbers), states.shape[1]), np.float32)
        return states[np.maximum(numbers, 0)] * (numbers >= 0)[:, None]


def think_beginnings(codes: TimedSet, begin: Beginnings, folder: Path | str, count: int) -> StateSet:
    """Has what was said before the first `count` utterances read, and keeps the states from which the replies in it
    began and this one begins; goes on where it was stopped."""
    with ArrayWriter(folder, "states", {}) as writer:
        for context, group in tqdm(_by_context(codes, count, writer), desc="states", file=sys.stderr, mininterval=5):
            states = begin(context).half().numpy()
            for i in group:
                writer.add({"id": codes.ids[i], "symbols": []}, states)
    return StateSet(folder)


def _by_context(codes: TimedSet, count: int, writer: ArrayWriter) -> list[tuple[tuple[Turn, ...], list[int]]]:
    """Those of the first `count` utterances that aren't written yet, by what was said before them."""
    after: dict[tuple[Turn, ...], list[int]] = {}
    for i in range(min(count, len(codes))):
        if codes.ids[i] not in writer.done:
            after.setdefault(codes.context(i), []).append(i)
    return list(after.items())


def think_set(codes: TimedSet, thoughts: Thoughts, folder: Path | str, count: int, batch: int = 16) -> StateSet:
    """Has the texts of the first `count` utterances thought and keeps the states; goes on where it was stopped.

    An utterance whose spelling in tokens differs from its symbols (a text that isn't quite what was spoken) gets no
    states.
    """
    speller = Speller(Phonemizer())
    with ArrayWriter(folder, "states", {}) as writer:
        groups = []
        for context, places in _by_context(codes, count, writer):
            order = sorted(places, key=lambda i: len(codes[i].text))
            groups += [(context, order[at : at + batch]) for at in range(0, len(order), batch)]
        for context, group in tqdm(groups, desc="states", file=sys.stderr, mininterval=5):
            for i, (tokens, hidden) in zip(group, thoughts([codes[i].text for i in group], context)):
                numbers = _numbers(tokens, codes[i].symbols, speller)
                row = {"id": codes.ids[i], "symbols": numbers or [-1] * len(codes[i].symbols)}
                writer.add(row, hidden.half().numpy()[: len(hidden) if numbers else 0])
    return StateSet(folder)


def _numbers(pieces: list[str], symbols: np.ndarray, speller: Speller) -> list[int]:
    """The number of each symbol's state, -1 where it has none; nothing where the pieces aren't spelled as the
    symbols."""
    numbers = [number for phonemes, number in spelled_with(pieces, speller) for _ in phonemes]
    return [-1, *numbers, -1] if len(numbers) == len(symbols) - 2 else []
