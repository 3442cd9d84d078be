"""What the thinker's states are while a text is being said, for a whole code set: the talker learns to read them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from antiphon.data.codes import CodeSet
from antiphon.models.llm.thinker import Thinker
from antiphon.models.tts.phonemes import Phonemizer, Speller

ASKED = "Please go on."  # the user's turn before each text, which has no question of its own


@torch.inference_mode()
def thought_states(thinker: Thinker, texts: Sequence[str]) -> list[tuple[list[str], torch.Tensor]]:
    """Texts as the thinker would think them, in voice mode.

    Args:
        thinker: with the low-rank adapters that it speaks with.
        texts: replies, none of them empty; of like length, since the shorter ones are padded.

    Returns:
        for each text, its pieces and the state from which each was thought [pieces, hidden], as
        `GeneratedToken.hidden` is.
    """
    state = thinker.init_state(voice=True)
    thinker.add_user(state, ASKED)
    tokens = [thinker.tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    before = pad_sequence([torch.tensor(ids[:-1], dtype=torch.long) for ids in tokens], batch_first=True)
    hidden = state.hidden.expand(len(texts), 1, -1)
    if before.shape[1]:  # attention is causal: nothing sees the padding
        rest = thinker.model(thinker.model.embed(before), state.cache.fork([0] * len(texts)), thinker.lora)
        hidden = torch.cat([hidden, rest], dim=1)
    return [([thinker.tokenizer.decode([i]) for i in ids], row[: len(ids)]) for ids, row in zip(tokens, hidden)]


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


def think_set(codes: CodeSet, thinker: Thinker, folder: Path | str, count: int, batch: int = 16) -> StateSet:
    """Thinks through the texts of the first `count` utterances and keeps the states.

    An utterance whose spelling in pieces differs from its symbols (a text that isn't quite what was spoken) gets no
    states.
    """
    folder, speller = Path(folder), Speller(Phonemizer())
    count = min(count, len(codes))
    states, total = [], 0
    index = [[-1] * len(codes[i].symbols) for i in range(count)]
    order = sorted(range(count), key=lambda i: len(codes[i].text))
    for at in tqdm(range(0, count, batch), desc="states", unit=f"x {batch}", file=sys.stderr, mininterval=5):
        group = order[at : at + batch]
        for i, (pieces, hidden) in zip(group, thought_states(thinker, [codes[i].text for i in group])):
            spelled = spelled_with(pieces, speller)
            rows = [total + number if number >= 0 else -1 for phonemes, number in spelled for _ in phonemes]
            if len(rows) == len(index[i]) - 2:
                index[i][1:-1] = rows
                states.append(hidden.half().numpy())
                total += len(hidden)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "states.part.npy", np.concatenate(states))
    (folder / "index.json").write_text(json.dumps(index))
    os.replace(folder / "states.part.npy", folder / "states.npy")
    return StateSet(folder)
