"""What the thinker's states are while a text is being said:
kept for a whole code set, so that the talker can learn to read them.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from antiphon.data.codes import CodeSet
from antiphon.models.phonemes import Phonemizer, Speller
from antiphon.models.thinker import Thinker

ASKED = "Please go on."  # the user's turn before each text, which has no question of its own


@torch.inference_mode()
def thought_states(thinker: Thinker, text: str) -> tuple[list[str], torch.Tensor]:
    """A text as the thinker would think it.

    Args:
        thinker: in voice mode.
        text: a reply.

    Returns:
        its pieces, and the state from which each was thought [pieces, hidden], as `Thought.hidden` is.
    """
    state = thinker.init_state(voice=True)
    thinker.add_user(state, ASKED)
    tokens = thinker.tokenizer.encode(text, add_special_tokens=False).ids
    first = state.hidden[None]
    if len(tokens) > 1:
        rest = thinker.model(thinker.model.embed(torch.tensor([tokens[:-1]])), state.cache, thinker.lora)[0]
        first = torch.cat([first, rest])
    return [thinker.tokenizer.decode([token]) for token in tokens], first


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
    """The states of a code set's first utterances, in a folder: states.npy float16 [pieces, hidden], index.json.

    `rows[i]` gives, for each symbol of utterance i, the row of its state; -1 where it has none.
    """

    def __init__(self, folder: Path | str):
        self.states = np.load(Path(folder) / "states.npy", mmap_mode="r")
        self.rows: list[list[int]] = json.loads((Path(folder) / "index.json").read_text())

    def __len__(self) -> int:
        return len(self.rows)

    def hidden(self, i: int) -> np.ndarray:
        """[symbols, hidden] float32 of utterance i; zeros where a symbol has no state."""
        rows = np.array(self.rows[i])
        return self.states[np.maximum(rows, 0)].astype(np.float32) * (rows >= 0)[:, None]


def think_set(codes: CodeSet, thinker: Thinker, folder: Path | str, count: int) -> StateSet:
    """Thinks through the texts of the first `count` utterances and keeps the states.

    An utterance whose spelling in pieces differs from its symbols (a text that isn't quite what was spoken) gets no
    states.
    """
    folder, speller = Path(folder), Speller(Phonemizer())
    states, index, total = [], [], 0
    for i in tqdm(range(min(count, len(codes))), desc="states", file=sys.stderr, mininterval=5):
        symbols = codes[i].symbols
        pieces, hidden = thought_states(thinker, codes[i].text)
        spelled = spelled_with(pieces, speller)
        rows = [total + number if number >= 0 else -1 for phonemes, number in spelled for _ in phonemes]
        fits = len(rows) == len(symbols) - 2
        index.append([-1, *rows, -1] if fits else [-1] * len(symbols))
        if fits:
            states.append(hidden.half().numpy())
            total += len(hidden)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "states.part.npy", np.concatenate(states))
    (folder / "index.json").write_text(json.dumps(index))
    os.replace(folder / "states.part.npy", folder / "states.npy")
    return StateSet(folder)
