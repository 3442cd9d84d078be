"""Log-probabilities by the reference model: made once before training, kept on disk, and read from then on.

So a run holds one model in memory, takes half of the forward passes, and goes on after a kill without making them anew.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from antiphon.data.preferences.pairs import PreferencePairs
from antiphon.data.store import ArrayStore, ArrayWriter

KIND = "log-probabilities"


def reference_log_probabilities(
    pairs: PreferencePairs,
    folder: Path | str,
    fingerprint: str,
    compute: Callable[[Sequence[int]], NDArray[np.floating]],
    batch: int = 8,
) -> NDArray[np.float32]:
    """Those of all pairs, [2, pairs]; only what the folder lacks is computed.

    Args:
        pairs: whose they are.
        folder: where they are kept.
        fingerprint: of the reference model and how it is asked; a folder of another one is refused.
        compute: indices of pairs -> log-probabilities [2, indices], the chosen ones first.
        batch: pairs at once.

    Raises:
        DataError: the folder is another model's, or can't be written.
    """
    names = ["|".join(pair_ids) for pair_ids in (pairs.ids(index) for index in range(len(pairs)))]
    with ArrayWriter(folder, KIND, {"model": fingerprint}, shard_seconds=60.0) as writer:
        todo = [index for index, name in enumerate(names) if name not in writer.done]
        with tqdm(total=len(todo), unit="pair", desc="reference", file=sys.stderr, disable=not todo) as bar:
            for at in range(0, len(todo), batch):
                some = todo[at : at + batch]
                for index, sides in zip(some, np.asarray(compute(some), np.float32).T, strict=True):
                    writer.add({"id": names[index]}, sides[None])
                bar.update(len(some))
    store = ArrayStore(folder, KIND)
    found = {row["id"]: store.array(row)[0] for row in store.rows}
    return np.stack([found[name] for name in names], axis=1)
