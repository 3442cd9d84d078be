"""What a frozen encoder hears of the user in each frame of conversations: computed once, kept beside their codes.

    hear_dialogues("talks", encoder, "heard")             # goes on where it was stopped
    HeardDialogues("heard")["talk-0-000000"]              # float32 [frames, width]

On disk it is a store (`antiphon.data.store`) of kind "heard", float16 [frames, width].
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from antiphon.audio.mel import SAMPLE_RATE
from antiphon.codecs.base import fingerprint
from antiphon.data.dialogue.format import read_index
from antiphon.data.speech.augment import resample
from antiphon.data.store import ArrayStore, ArrayWriter
from antiphon.encoders.whisper.frames import FrameEncoder
from antiphon.errors import DataError

KIND = "heard"


class HeardDialogues:
    """Reads such a set by the conversations' ids.

    Args:
        folder: where it is.

    Raises:
        DataError: nothing there, or something else.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder, self._store = Path(folder), ArrayStore(folder, KIND)
        self._rows = {row["id"]: row for row in self._store.rows}

    def __contains__(self, identity: str) -> bool:
        return identity in self._rows

    def __getitem__(self, identity: str) -> Tensor:
        """float32 [frames, width].

        Raises:
            DataError: nothing was heard of this conversation.
        """
        if identity not in self._rows:
            raise DataError(f"{self.folder} has nothing of the conversation {identity!r}")
        return torch.from_numpy(np.array(self._store.array(self._rows[identity]), np.float32))


def hear_dialogues(
    index: str | Path, encoder: FrameEncoder, folder: str | Path, share: tuple[int, int] = (0, 1)
) -> HeardDialogues:
    """Encodes the user's channel of conversations that aren't in the folder yet.

    Args:
        index: of the conversations, or its folder.
        encoder: whose frames are kept.
        folder: of the result.
        share: (i, n): only every n-th conversation, from the i-th on: the part of one of n workers.

    Raises:
        DataError: as `read_index`, `Entry.load` and `ArrayWriter`.
    """
    about = {"width": encoder.width, "encoder": fingerprint(encoder.encoder)}
    with ArrayWriter(folder, KIND, about, worker=share[0], shard_rows=20_000) as writer:
        missing = [entry for entry in read_index(index)[share[0] :: share[1]] if entry.id not in writer.done]
        for entry in tqdm(missing, desc="heard", unit="talk", file=sys.stderr, mininterval=5):
            talk = entry.load()
            samples = torch.from_numpy(resample(talk.user, talk.sample_rate, SAMPLE_RATE))
            writer.add({"id": entry.id}, encoder.whole(samples).half().numpy())
    return HeardDialogues(folder)
