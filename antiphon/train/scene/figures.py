"""What a scene network gets right, by group, from its outputs for labelled batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from antiphon.models.scene.labels import GROUPS, TEMPO
from antiphon.models.scene.network import Readings, SceneNetwork, Summary

Found = Sequence[tuple[Mapping[str, Any], Readings, Summary]]


def figures(network: SceneNetwork, found: Found) -> dict[str, float]:
    """Figures of what was found, 0 to 1.

    Args:
        network: whose outputs they are.
        found: batches (`batches.collate`) with the network's readings and summaries.

    Returns:
        "GROUP-accuracy": of labels that exclude each other the share of examples whose likeliest label is right; of
        others the share of examples with one label whose likeliest it is. "GROUP-balanced", for those others: the mean
        over labels of the mean of the shares right where the label is true and where it isn't. "GROUP-by-frame": the
        share of frames whose labels are all right. "tempo-accuracy": within 4 %. Groups of which nothing is known have
        none.
    """
    out: dict[str, float] = {}
    for name in network.config.labels:
        logits = torch.cat([summary.logits[name] for _, _, summary in found])
        values = torch.cat([batch["whole"][name][0] for batch, _, _ in found])
        mask = torch.cat([batch["whole"][name][1] for batch, _, _ in found])
        single = mask.all(-1) & (values.sum(-1) == 1)
        if single.any() and name != "kind":
            right = logits[single].argmax(-1) == values[single].argmax(-1)
            out[f"{name}-accuracy"] = float(right.float().mean())
        if not GROUPS[name].exclusive and (both := _balanced(logits, values, mask)) is not None:
            out[f"{name}-balanced"] = both
    for name in network.config.timed:
        right = []
        for batch, readings, _ in found:
            values, mask = batch["times"][name]
            known = mask.all(-1)
            right.append((((readings.frames[name] > 0) == (values >= 0.5)).all(-1))[known])
        if len(all_right := torch.cat(right)):
            out[f"{name}-by-frame"] = float(all_right.float().mean())
    if network.tempo is not None:
        tempi = torch.cat([batch["tempo"] for batch, _, _ in found])
        if (tempi > 0).any():
            logits = torch.cat([summary.tempo for _, _, summary in found if summary.tempo is not None])
            near = (network.tempo.tempo(logits)[0] / tempi - 1).abs() < 0.04
            out[f"{TEMPO}-accuracy"] = float(near[tempi > 0].float().mean())
    return out


def _balanced(logits: Tensor, values: Tensor, mask: Tensor) -> float | None:
    """The mean over labels of how much is right of those that are there and of those that aren't."""
    each = []
    for column in range(values.shape[1]):
        known, there = mask[:, column], values[:, column] >= 0.5
        yes, no = known & there, known & ~there
        if yes.any() and no.any():
            told = logits[:, column] > 0
            each.append((told[yes].float().mean() + (~told[no]).float().mean()) / 2)
    return float(torch.stack(each).mean()) if each else None
