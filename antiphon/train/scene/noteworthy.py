"""How likely it has to be that a voice sounds otherwise than plain to be worth a note.

Most voices are plain, and a note on one of them changes an answer for no reason. So what counts is not only how many of
the voices that laugh are told so, but how many plain ones are. Both are counted on examples that the network wasn't
trained on: of those that it was it is too sure.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from antiphon.data.scene.encoded import EncodedExample
from antiphon.models.scene.labels import GROUPS
from antiphon.models.scene.network import SceneNetwork
from antiphon.models.scene.notes import PLAIN, SOUNDS
from antiphon.train.scene.calibrate import Listened

OF_VOICES = ("feeling", "manner")
ENOUGH = 8  # voices with a label, and plain ones, from which a threshold is chosen
COMMON = 20.0  # a voice of any one label to so many plain ones
GRID = torch.tensor([*(step / 20 for step in range(2, 20)), 0.96, 0.97, 0.98, 0.99])


def noteworthy(network: SceneNetwork, heard: Sequence[Listened], unseen: Sequence[bool]) -> dict[str, float]:
    """Thresholds for notes by "group/label": for each label that which does most for the voices that have it, less what
    it does to plain ones. Where few examples have a label, or few are plain, it gets none (`notes.NOTED` holds).

    Args:
        network: whose probabilities they are.
        heard: `calibrate.listen`'s.
        unseen: which of them the network wasn't trained on. Of the recordings of the others it knows those groups of
            labels that these have, whatever else was made of them.
    """
    seen = [each.example for each, new in zip(heard, unseen, strict=True) if not new]
    plain = plain_voices([each.example for each in heard])
    quiet = [each for each, is_plain, new in zip(heard, plain, unseen, strict=True) if is_plain and new]
    voices = [each for each, new in zip(heard, unseen, strict=True) if new and _speaks(each.example)]
    chosen = {}
    for group in OF_VOICES:
        sources = {example.source for example in seen if group in example.known}
        new = [each for each in voices if each.example.source not in sources]
        for place, name in enumerate(network.config.labels.get(group, ())):
            true = [each for each in new if _is_true(each.example, "event" if name in SOUNDS else group, name)]
            if (group, name) in PLAIN or min(len(true), len(quiet)) < ENOUGH:
                continue
            told, wrongly = (_told(some, group, place) for some in (true, quiet))
            scores = told - COMMON * wrongly
            best = (scores >= scores.max() - 1e-6).nonzero()[:, 0]
            chosen[f"{group}/{name}"] = round(float(GRID[best[len(best) // 2]]), 2)
    return chosen


def plain_voices(examples: Sequence[EncodedExample]) -> list[bool]:
    """Of each example whether it is nothing but speech that nobody acted: no label says otherwise, and it is of sets of
    which none has feelings to it, as where those are to be heard not every label says so."""
    acted = {place for each in examples if "feeling" in each.known for place in _places(each)}
    return [_is_plain(each) and not _places(each) & acted for each in examples]


def _is_plain(example: EncodedExample) -> bool:
    others = {label for label in _labels(example) if label not in PLAIN}
    voiced = any(group in (*OF_VOICES, "event", "instrument") for group, _ in others)
    return _speaks(example) and not voiced and not {("kind", "music"), ("kind", "sound")} & others


def _told(heard: Sequence[Listened], group: str, place: int) -> Tensor:
    """The share of examples in which a label would be told, by threshold."""
    likely = torch.stack([each.whole[group] for each in heard])
    chances = likely[:, place]
    if GROUPS[group].exclusive:  # the likeliest alone is
        chances = torch.where(likely.argmax(1) == place, chances, torch.zeros_like(chances))
    return (chances >= GRID[:, None]).float().mean(1)


def _is_true(example: EncodedExample, group: str, name: str) -> bool:
    """Whether a label is true of the voice: beside a laugh, which is happy, nobody says what the words are."""
    return (group, name) in _labels(example) and bool({group, f"{group}/{name}"} & example.known)


def _labels(example: EncodedExample) -> set[tuple[str, str]]:
    return {(span.group, span.label) for span in example.spans}


def _speaks(example: EncodedExample) -> bool:
    return ("kind", "speech") in _labels(example)


def _places(example: EncodedExample) -> set[str]:
    """The sets that an example was made of."""
    return {source.split("/")[0] for source in example.source.split(" + ")}
