"""Conversations and texts as grids for a duplex model: text, own codes, user's codes, all on one clock.

    grids = Grids(ConversationCodes("codes"), pieces, config)
    batch, valid = grids.batch([(0, 0), (3, 125)], frames=250)      # (which, first frame) -> [2, 17, 250], [2]
    delayed = delay(batch, config.delays, fill=NOTHING)             # antiphon.nn.streams
    weight = weights(delayed, codebooks=8, predicted=8)             # what each position counts: [2, 9, 251]

Wherever nothing is known a grid is `NOTHING`, -1: it adds nothing to an input and is no target. That is so past the end
of a clip, too: nobody learns that conversations end in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antiphon.data.conversation_codes import CodedConversation
from antiphon.data.conversations import MODEL, ConversationError
from antiphon.data.monologue import Pieces, inner_monologue
from antiphon.models.pieces import END, END_PAD, PAD

NOTHING = -1


class Streams(Protocol):
    """What a grid needs to know of a model's config, such as `antiphon.models.moshi_config.MoshiConfig`.

    Attributes:
        codebooks, user_codebooks: codes a frame of the model and of the user.
        pad, end_pad: ids of the text stream.
    """

    codebooks: int
    user_codebooks: int
    pad: int
    end_pad: int


def grid(
    coded: CodedConversation, pieces: Pieces, config: Streams, text_shift: float = 0.0, text: bool = True
) -> tuple[Tensor, int]:
    """A whole conversation as a grid, not delayed.

    Args:
        coded: with at least as many codebooks as the model has; the first ones are taken.
        pieces: encodes the model's words.
        config: which streams there are.
        text_shift: seconds by which the text comes later than the sound.
        text: False leaves the text stream empty.

    Returns:
        int64 [1 + codebooks + user_codebooks, frames], and the number of frames.

    Raises:
        ConversationError: too few codebooks.
    """
    own, user, there = config.codebooks, config.user_codebooks, coded.codebooks
    if max(own, user) > there:
        raise ConversationError(f"Conversation {coded.id!r} has {there} codebooks, the model {max(own, user)}.")
    row = np.full(coded.frames, NOTHING, np.int64)
    if text:
        said = [word for word in coded.words if word.speaker == MODEL]
        row = inner_monologue(said, coded.frames, coded.frame_rate, pieces, config.pad, config.end_pad, text_shift)
    codes = np.asarray(coded.codes)
    rows = np.concatenate([row[None], codes[:own], codes[there : there + user]]).astype(np.int64)
    return torch.from_numpy(rows), coded.frames


def window(whole: Tensor, start: int, frames: int) -> tuple[Tensor, int]:
    """A piece of a grid (or of codes) [streams, T].

    Args:
        whole: of the conversation, so that a window that starts inside a word has the rest of its pieces.
        start: first frame.
        frames: how many.

    Returns:
        [streams, frames], `NOTHING` past the end, and how many frames are before it.
    """
    if start < 0:
        raise ValueError(f"a window starts at frame 0 or later, not {start}")
    piece = whole[:, start : start + frames]
    valid = piece.shape[1]
    return torch.nn.functional.pad(piece, (0, frames - valid), value=NOTHING), valid


def weights(
    delayed: Tensor,
    codebooks: int,
    predicted: int,
    pad: int = PAD,
    end_pad: int = END_PAD,
    semantic: float = 100.0,
    acoustic: float = 1.0,
    text: float = 1.0,
    text_padding: float = 0.5,
) -> Tensor:
    """What each target counts (Moshi, section 4.4): a first codebook 100, other codes 1, a PAD or EPAD half a piece.

    Args:
        delayed: grid [..., streams, T] after the delays, `NOTHING` where nothing is.
        codebooks: of each speaker.
        predicted: how many of the code streams the model predicts: its own, or its own and the user's.
        pad, end_pad: ids of the text stream.
        semantic, acoustic: weights of a speaker's first codebook and of the others.
        text, text_padding: weights of pieces and of PAD and EPAD.

    Returns:
        float32 [..., 1 + predicted, T]; 0 where there is no target.
    """
    target = delayed[..., : 1 + predicted, :]
    if target.shape[-2] != 1 + predicted:
        raise ValueError(f"{predicted} predicted codes of {delayed.shape[-2] - 1}")
    scale = [text, *(acoustic if k % codebooks else semantic for k in range(predicted))]
    out = torch.tensor(scale, device=delayed.device)[:, None].expand(target.shape).clone()
    words = target[..., 0, :]
    out[..., 0, :][(words == pad) | (words == end_pad)] = text_padding
    return out.masked_fill_(target < 0, 0.0)


class Grids:
    """Windows of many conversations; each conversation's text is put on the clock once.

    Args:
        coded: conversations, such as `ConversationCodes`.
        pieces, config: as in `grid`.
    """

    def __init__(self, coded: Sequence[CodedConversation], pieces: Pieces, config: Streams) -> None:
        self.coded, self.pieces, self.config = coded, pieces, config
        known = getattr(coded, "frames", None)
        self.frames: NDArray[np.int64] = np.array([c.frames for c in coded] if known is None else known, np.int64)
        self._ends = np.cumsum(self.frames)
        self._text: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.frames)

    def grid(self, index: int, text_shift: float = 0.0, text: bool = True) -> Tensor:
        """The whole of one, [streams, its frames]."""
        if text_shift or not text:
            return grid(self.coded[index], self.pieces, self.config, text_shift, text)[0]
        rows = grid(self.coded[index], self.pieces, self.config, text=index not in self._text)[0]
        rows[0] = self._text.setdefault(index, rows[0].clone())
        return rows

    def batch(
        self, places: Iterable[tuple[int, int]], frames: int, text_shift: Sequence[float] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Windows side by side.

        Args:
            places: (which conversation, first frame) of each.
            frames: of each window.
            text_shift: seconds, for each window.

        Returns:
            [batch, streams, frames] int64, and how many frames of each are before its end [batch].
        """
        places = list(places)
        shifts = [0.0] * len(places) if text_shift is None else text_shift
        cut = [window(self.grid(i, shift), start, frames) for (i, start), shift in zip(places, shifts, strict=True)]
        return torch.stack([rows for rows, _ in cut]), torch.tensor([valid for _, valid in cut])

    def draw(self, generator: np.random.Generator, batch: int, frames: int) -> list[tuple[int, int]]:
        """Places for `batch`: a conversation with a chance in proportion to its length, and a first frame such that
        the window is full where the conversation is long enough; else 0."""
        if not len(self) or not self._ends[-1]:
            raise ConversationError("There are no conversations to draw from (yet).")
        which = np.searchsorted(self._ends, generator.integers(int(self._ends[-1]), size=batch), side="right")
        return [(int(i), int(generator.integers(max(0, self.frames[i] - frames) + 1))) for i in which]


class TextGrids:
    """Batches of text alone: the text stream is given, every code `NOTHING`.

    The pieces stand one after the other, as a language model reads them; `END` follows each text.

    Args:
        texts: sentences or turns, such as those of `antiphon.data.texts`.
        pieces, config: as in `grid`.
    """

    def __init__(self, texts: Iterable[str], pieces: Pieces, config: Streams) -> None:
        self.streams = 1 + config.codebooks + config.user_codebooks
        known: dict[str, list[int]] = {}
        ids: list[int] = []
        for sentence in texts:
            for word in sentence.split():
                if word not in known:
                    known[word] = pieces.encode_word(word, first=False)
                ids += known[word]
            ids.append(END)
        if not ids:
            raise ConversationError("There are no texts to make batches of.")
        self.ids = torch.tensor(ids, dtype=torch.int32)

    def batch(self, generator: np.random.Generator, batch: int, frames: int) -> Tensor:
        """[batch, streams, frames] int64: pieces from random places on; texts go round where they end."""
        starts = torch.from_numpy(generator.integers(len(self.ids), size=batch))
        places = (starts[:, None] + torch.arange(frames)) % len(self.ids)
        out = torch.full((batch, self.streams, frames), NOTHING, dtype=torch.int64)
        out[:, 0] = self.ids[places].long()
        return out
