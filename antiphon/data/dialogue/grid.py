"""Conversations and texts as grids for a duplex model: text, own codes, user's codes, all on one clock.

    whole = grid(ConversationCodes("codes")[0], pieces, config)                   # [17, frames of the conversation]
    seen = window(whole, start=125, frames=250, delays=config.delays)             # [17, 250], as the model reads it
    weight = weights(seen, codebooks=8, predicted=8)                              # what each position counts: [9, 250]

Wherever nothing is known a grid is `NOTHING`, -1: it adds nothing to an input and is no target. That is so past the end
of a clip, too: nobody learns that conversations end in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from antiphon.data.dialogue.codes import CodedConversation
from antiphon.data.dialogue.format import MODEL
from antiphon.data.dialogue.monologue import Pieces, inner_monologue
from antiphon.errors import DataError
from antiphon.models.moshi.text_tokenizer import END, END_PAD, PAD
from antiphon.nn.delays import delay

NOTHING = -1


class Streams(Protocol):
    """What a grid needs to know of a model's config, such as `antiphon.models.moshi.config.MoshiConfig`.

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
) -> Tensor:
    """A whole conversation as a grid, not delayed.

    Args:
        coded: with at least as many codebooks as the model has; the first ones are taken.
        pieces: encodes the model's words.
        config: which streams there are.
        text_shift: seconds by which the text comes later than the sound.
        text: False leaves the text stream empty.

    Returns:
        int64 [1 + codebooks + user_codebooks, frames].

    Raises:
        DataError: too few codebooks.
    """
    own, user, there = config.codebooks, config.user_codebooks, coded.codebooks
    if max(own, user) > there:
        raise DataError(
            f"Conversation {coded.id!r} has {there} codebooks, the model {max(own, user)}: encode the set again with "
            "the model's codec."
        )
    row = np.full(coded.frames, NOTHING, np.int64)
    if text:
        said = [word for word in coded.words if word.speaker == MODEL]
        row = inner_monologue(said, coded.frames, coded.frame_rate, pieces, config.pad, config.end_pad, text_shift)
    codes = np.asarray(coded.codes)
    rows = np.concatenate([row[None], codes[:own], codes[there : there + user]]).astype(np.int64)
    return torch.from_numpy(rows)


def window(whole: Tensor, start: int, frames: int, delays: Sequence[int]) -> Tensor:
    """A window of a grid, delayed: a row of what a model is trained on.

    A model takes the first frame of whatever it reads for the first frame of a conversation: delayed streams come in
    late there, also where the window begins in the middle.

    Args:
        whole: grid of the conversation [streams, length]; a window that starts inside a word has the rest of its
            pieces.
        start: first frame.
        frames: how many.
        delays: frames by which each stream lags.

    Returns:
        [streams, frames], `NOTHING` where the conversation or a delayed stream has not begun or is over.

    Raises:
        ValueError: `start` is below 0, or there are not as many delays as streams.
    """
    if start < 0:
        raise ValueError(f"a window starts at frame 0 or later, not {start}")
    delayed = delay(whole[None, :, start : start + frames], list(delays), NOTHING)[0, :, :frames]
    return torch.nn.functional.pad(delayed, (0, frames - delayed.shape[1]), value=NOTHING)


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


class TextGrids:
    """Batches of text alone: the text stream is given, every code `NOTHING`.

    The pieces stand one after the other, as a language model reads them; `END` follows each text.

    Args:
        texts: sentences or turns, such as those of `antiphon.data.text.corpora`.
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
            raise DataError("There are no texts to make batches of.")
        self.ids = torch.tensor(ids, dtype=torch.int32)

    def batch(self, generator: np.random.Generator, batch: int, frames: int) -> Tensor:
        """[batch, streams, frames] int64: pieces from random places on; texts go round where they end."""
        starts = torch.from_numpy(generator.integers(len(self.ids), size=batch))
        places = (starts[:, None] + torch.arange(frames)) % len(self.ids)
        out = torch.full((batch, self.streams, frames), NOTHING, dtype=torch.int64)
        out[:, 0] = self.ids[places].long()
        return out
