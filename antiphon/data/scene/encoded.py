"""Examples as the scene network sees them, encoded once and kept: what a frozen encoder's layers give, with the labels.

On disk it is a store (`antiphon.data.store`) of kind "scenes", float16 [frames, numbers]: of each 80 ms the layers, the
level and the spectrogram of `antiphon.models.scene.features`, some 90 kB a second with Whisper base. The labels stand
in the manifest. A set can be trained on while it grows, and a run that was killed goes on where it stopped.

    encode("sets/emodb", ((id, example, "train") for ...), encoder)
    for example in (encoded := EncodedSet("sets/emodb")).examples:
        features = encoded(example)                   # one row
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from antiphon.data.scene.example import Example, Span
from antiphon.data.store import ArrayStore, ArrayWriter
from antiphon.encoders.whisper.encoder import WhisperBlockEncoder
from antiphon.errors import AudioError
from antiphon.models.scene.features import FRAME_SECONDS, MEL_PER_FRAME, SceneFeatures, extract

KIND = "scenes"


@dataclass(frozen=True)
class EncodedExample:
    """Where one example's features are, and what is known of it.

    Attributes:
        id: unique in the set.
        split: "train", "dev" or "test".
        spans, known, text, source: as in `Example`.
        seconds: how long it is.
        shard, offset, length: where its features are; the length is in frames of 80 ms.
    """

    id: str
    split: str
    spans: tuple[Span, ...]
    known: frozenset[str]
    seconds: float
    text: str = ""
    source: str = ""
    shard: str = ""
    offset: int = 0
    length: int = 0


class EncodedSet:
    """Reads a set, also while it is being written.

    Args:
        folder: the set's.

    Attributes:
        examples: those that have been read.

    Raises:
        DataError: no such set.
    """

    def __init__(self, folder: Path | str) -> None:
        self._store = ArrayStore(folder, KIND)
        self.examples: list[EncodedExample] = []
        self._read(self._store.rows)

    def refresh(self) -> list[EncodedExample]:
        """Takes in what was written since, and returns it."""
        return self._read(self._store.refresh())

    def __call__(self, example: EncodedExample, start: int = 0, stop: int | None = None) -> SceneFeatures:
        """Frames `start` to `stop` (None: the end), one row, float32."""
        header, place = self._store.header, {"shard": example.shard, "offset": example.offset, "length": example.length}
        rows = torch.from_numpy(np.array(self._store.array(place, start, stop), dtype=np.float32))
        depth, bands = header["layers"], header["bands"]
        layers, level, mel = rows.split([depth * header["width"], 1, MEL_PER_FRAME * bands], 1)
        return SceneFeatures(
            layers.view(len(rows), depth, -1).transpose(0, 1)[None], level.T, mel.reshape(-1, bands).T[None]
        )

    def _read(self, rows: list[dict]) -> list[EncodedExample]:
        came = [
            EncodedExample(
                **{**row, "spans": tuple(Span(*span) for span in row["spans"]), "known": frozenset(row["known"])}
            )
            for row in rows
        ]
        self.examples += came
        return came


def encode(
    folder: Path | str, examples: Iterable[tuple[str, Callable[[], Example], str]], encoder: WhisperBlockEncoder
) -> int:
    """Encodes examples into a set, passing over those that are there.

    Args:
        folder: made if there is none.
        examples: id, how to make the example, and its split.
        encoder: in blocks, whose layers are kept.

    Returns:
        How many were added.
    """
    config = encoder.config
    about = {"layers": config.layers + 1, "width": config.width, "bands": config.bands, "block": config.block}
    began, seconds, count = time.monotonic(), 0.0, 0
    with ArrayWriter(folder, KIND, about, shard_rows=20_000) as writer:
        for identity, make, split in examples:
            if identity in writer.done:
                continue
            try:
                example = make()
            except AudioError as error:  # one broken file of thousands
                writer.skip(identity, str(error))
                continue
            if len(example.samples) < FRAME_SECONDS * 16000:
                writer.skip(identity, "too short")
                continue
            rows = as_rows(extract(torch.from_numpy(np.asarray(example.samples, np.float32))[None], encoder))
            spans = [(span.group, span.label, round(span.start, 3), round(span.end, 3)) for span in example.spans]
            row = {"id": identity, "split": split, "spans": spans, "known": sorted(example.known)}
            more = {"seconds": round(example.seconds, 3), "text": example.text, "source": example.source}
            writer.add({**row, **more}, rows.numpy())
            count, seconds = count + 1, seconds + example.seconds
            if count % 100 == 0:
                pace = seconds / (time.monotonic() - began)
                print(
                    f"{folder}: {count} more, {seconds / 60:.0f} min, {pace:.0f} x real time",
                    file=sys.stderr,
                    flush=True,
                )
    return count


def as_rows(features: SceneFeatures) -> Tensor:
    """One row's frames as they are kept, float16 [T, numbers]."""
    parts = [features.layers[0].transpose(0, 1).flatten(1), features.level.T]
    parts.append(features.mel[0].T.reshape(features.frames, -1))
    return torch.cat(parts, 1).half()
