"""Examples as batches: features padded to one length, each group's labels as numbers, and masks of what is known."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from antiphon.data.scene.example import Span, targets
from antiphon.models.scene.features import FRAME_SECONDS, SceneFeatures
from antiphon.models.scene.labels import GROUPS, TEMPO

LEAST_SECONDS = 0.1  # of a label that is heard at all
Labels = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Item:
    """One example's features [1 row] and labels; `start` is the second of the example at which the features begin."""

    features: SceneFeatures
    spans: Collection[Span]
    known: Collection[str]
    start: float = 0.0


def collate(items: Sequence[Item], labels: Labels) -> dict[str, object]:
    """A batch.

    Args:
        items: of any lengths.
        labels: the network's, by group.

    Returns:
        "layers", "level", "mel": as in `SceneFeatures`, zeros behind a row's own; "frames" [B];
        "times": {group: (values, mask)} [B, T, labels] of the groups with times; "whole": {group: (values, mask)}
        [B, labels] of all groups; "tempo" [B], beats a minute, 0 where there is none to tell.
    """
    frames = [item.features.frames for item in items]
    spans = [[span.moved(-item.start) for span in item.spans] if item.start else list(item.spans) for item in items]
    times: dict[str, tuple[Tensor, Tensor]] = {}
    whole: dict[str, tuple[Tensor, Tensor]] = {}
    for name, names in labels.items():
        if GROUPS[name].timed:
            each = [
                targets(own, item.known, name, count, FRAME_SECONDS, names)
                for own, item, count in zip(spans, items, frames)
            ]
            times[name] = _padded([values for values, _ in each]), _padded([mask for _, mask in each])
        each = [
            of_the_whole(own, item.known, name, count * FRAME_SECONDS, names)
            for own, item, count in zip(spans, items, frames)
        ]
        whole[name] = (
            torch.from_numpy(np.stack([values for values, _ in each])),
            torch.from_numpy(np.stack([mask for _, mask in each])),
        )
    return {
        "layers": pad_sequence(
            [item.features.layers[0].transpose(0, 1).float() for item in items], batch_first=True
        ).transpose(1, 2),
        "level": pad_sequence([item.features.level[0].float() for item in items], batch_first=True),
        "mel": pad_sequence([item.features.mel[0].T.float() for item in items], batch_first=True).transpose(1, 2),
        "frames": torch.tensor(frames),
        "times": times,
        "whole": whole,
        "tempo": torch.tensor([tempo_of(own, count * FRAME_SECONDS) for own, count in zip(spans, frames)]),
    }


def of_the_whole(
    spans: Collection[Span], known: Collection[str], group: str, seconds: float, names: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """What is true of `seconds` as a whole: 1 or 0 of each label, and whether that is known, [labels] each.

    Of labels that exclude each other it is the one that is heard longest.
    """
    values, mask = (each[0] for each in targets(spans, known, group, 1, seconds, names))
    if GROUPS[group].exclusive:
        return np.eye(len(names), dtype=np.float32)[values.argmax()] * values.max(initial=0.0).astype(bool), mask
    return (values * seconds >= min(LEAST_SECONDS, 0.5 * seconds)).astype(np.float32), mask


def tempo_of(spans: Collection[Span], seconds: float) -> float:
    """The tempo that is heard at the end of the first `seconds`; 0 where there is none."""
    return next((float(span.label) for span in spans if span.group == TEMPO and span.end >= seconds - 0.5), 0.0)


def features_of(batch: Mapping[str, object]) -> SceneFeatures:
    """The features of a batch."""
    return SceneFeatures(batch["layers"], batch["level"], batch["mel"])  # type: ignore[arg-type]


def _padded(rows: list[np.ndarray]) -> Tensor:
    return pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True)
