"""Rows of a duplex model's batches: random windows of conversations, or of one voice alone.

    talks = DialogueWindows([DialogueCodes("codes")], pieces, config)
    talks.window(np.random.default_rng(0), frames=250, count=len(talks), from_start=0.2, swap=0.0)       # [17, 250]

Together with text alone (`antiphon.data.dialogue.grid.TextGrids`) the three kinds that Moshi's stages learn from
(Defossez et al. 2024, sections 4.2 to 4.4). `NOTHING`, -1, stands where nothing is known, and past a clip's end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from antiphon.codecs.base import Tokenizer
from antiphon.data.codes import CodeSet
from antiphon.data.dialogue.codes import CodedDialogue, DialogueCodes
from antiphon.data.dialogue.format import MODEL, USER
from antiphon.data.dialogue.grid import NOTHING, grid, window
from antiphon.data.dialogue.monologue import inner_monologue
from antiphon.data.dialogue.single_speaker import SingleSpeakerDialogues
from antiphon.models.moshi.config import MoshiConfig
from antiphon.models.moshi.text_tokenizer import TextTokenizer

SPEAKING_BEFORE, SPEAKING_AFTER = 2, 12  # frames around a piece of text in which the model speaks


def speaking(text: Tensor, pad: int, end_pad: int) -> Tensor:
    """Frames [B, T] at which the model speaks, told from the text [B, T] around them."""
    word = (text != pad) & (text != end_pad) & (text != NOTHING)
    out = word.clone()
    for by in range(1, SPEAKING_AFTER + 1):
        out[:, by:] |= word[:, :-by]
    for by in range(1, SPEAKING_BEFORE + 1):
        out[:, :-by] |= word[:, by:]
    return out


def swapped(talk: CodedDialogue) -> CodedDialogue:
    """The same conversation with the user as the model and the model as the user."""
    other = {MODEL: USER, USER: MODEL}
    codes = np.concatenate([talk.codes[talk.codebooks :], talk.codes[: talk.codebooks]])
    return replace(talk, codes=codes, words=[replace(word, speaker=other[word.speaker]) for word in talk.words])


class DialogueWindows:
    """The conversations of several sets, numbered through. The text of each is put on the clock once, and kept.

    Args:
        sets: of dialogues.
        pieces: spell the words.
        config: which streams there are, and their delays.
        count: use only the first ones of each folder, so that a set that grows stays the same to a run.
        lag: seconds after which a window tells what the other one says, counted from where a word begins to sound;
            None leaves that out.

    Attributes:
        frames: of each conversation, int64 [len].
        text: index -> the model's inner monologue, int32 [frames].
        said_to: index, speaker -> what a speaker says, as an inner monologue that comes `lag` seconds later, int32
            [frames].
    """

    def __init__(
        self,
        sets: list[DialogueCodes],
        pieces: TextTokenizer,
        config: MoshiConfig,
        count: int | None = None,
        lag: float | None = None,
    ):
        self.places = [(codes, i) for codes in sets for i in range(len(codes))[:count]]
        self.frames = np.array([codes.frames[i] for codes, i in self.places], np.int64)
        self.pieces, self.config, self.lag = pieces, config, lag
        self.text = lru_cache(maxsize=None)(self._spelt)
        self.said_to = lru_cache(maxsize=None)(self._spelt_late)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> CodedDialogue:
        codes, i = self.places[index]
        return codes[i]

    def keep(self, indices: Sequence[int]) -> None:
        """Goes on with these conversations alone; before any is asked for."""
        self.places = [self.places[index] for index in indices]
        self.frames = self.frames[list(indices)]

    def _spelt(self, index: int) -> Tensor:
        return grid(self[index], self.pieces, self.config)[0].int()

    def _spelt_late(self, index: int, speaker: str) -> Tensor:
        talk, config = self[index], self.config
        words = [word for word in talk.words if word.speaker == speaker]
        about = (self.pieces, config.pad, config.end_pad, self.lag)
        return torch.from_numpy(inner_monologue(words, talk.frames, talk.frame_rate, *about)).int()

    def grid(self, index: int, swap: bool = False) -> Tensor:
        """A whole conversation, not delayed, [streams, frames]; with `swap` the user is the model."""
        if swap:
            return grid(swapped(self[index]), self.pieces, self.config)
        whole = grid(self[index], self.pieces, self.config, text=False)
        whole[0] = self.text(index)
        return whole

    def window(self, rng: np.random.Generator, frames: int, count: int, from_start: float, swap: float) -> Tensor:
        """A random window, delayed, [streams, frames]: every second is about equally likely. With a `lag` the last row
        is what the other one says.

        Args:
            rng: draws.
            frames: of the window.
            count: of the first so many conversations.
            from_start: chance that it begins where the conversation does.
            swap: chance that the user is the model.
        """
        ends = np.cumsum(self.frames[:count])
        index = int(np.searchsorted(ends, rng.integers(int(ends[-1])), side="right"))
        other, delays = bool(rng.random() < swap), list(self.config.delays)
        whole = self.grid(index, other)
        if self.lag is not None:
            whole = torch.cat([whole, self.said_to(index, MODEL if other else USER)[None]])
            delays.append(0)
        place, spare = rng.random(2), max(0, whole.shape[1] + self.config.max_delay - frames)
        start = 0 if place[0] < from_start else int(place[1] * (spare + 1))
        return window(whole, start, frames, delays)


class VoiceWindows:
    """A single voice's codes: utterances in a row fill a window; of a user nothing is known.

    Args:
        codes: of single voices; recordings without text are used, too: of theirs nothing is known.
        pieces, config: as for `DialogueWindows`.
        codec: that the codes are of.

    Raises:
        DataError: no utterance can be used, or the codes are of another codec.
    """

    def __init__(self, codes: CodeSet, pieces: TextTokenizer, config: MoshiConfig, codec: Tokenizer):
        self.said, self.pieces, self.config = SingleSpeakerDialogues(codes, codec), pieces, config

    def window(self, rng: np.random.Generator, frames: int, mask: float, jitter: float) -> Tensor:
        """A window, delayed, [streams, frames].

        Args:
            rng: draws.
            frames: of the window.
            mask: chance that nothing is known of its text.
            jitter: seconds by which the text may lie beside the sound, either way.
        """
        known, shift = rng.random() >= mask, rng.uniform(-jitter, jitter)
        parts, there = [], 0
        while there < frames:
            said = self.said[int(rng.integers(len(self.said)))]
            parts.append(grid(said, self.pieces, self.config, shift, known and bool(said.words)))
            there += said.frames
        whole = torch.cat(parts, dim=1)
        whole[1 + self.config.codebooks :] = NOTHING
        return window(whole, 0, frames, self.config.delays)
