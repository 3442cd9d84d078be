"""ABX: is a phone nearer to another one of its kind than to one that differs? (Schatz et al. 2013.)

A triplet is two instances A and X of one category and an instance B of another: an error where X lies nearer to B than
to A, half of one where it lies just as near. Distances are those of the best alignment in time (dynamic time warping):
the mean over its path of the distances of frames. Error rates are averaged over the instances of each cell (A's and B's
phone, context and speaker), then over contexts, speakers and pairs of phones, each counting once, as in the ZeroSpeech
challenges (Nguyen et al. 2020, section 3.1) and the package `fastabx` (Poli et al. 2025), whose figures these are.

- *within* speaker: A, B and X are by one speaker; *across*: X is by another one than A and B.
- *within* context: A, B and X stand between the same phones; *any*: anywhere.

Features are compared by angle, codes by whether they are equal. 0.5 is chance, and less is better.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from antiphon.codecs.base import Tokenizer
from antiphon.data.shards import SpeechSet
from antiphon.errors import EvalError
from antiphon.evals.metrics.phones import Segment, segments, utterance_audio

Distance = Callable[[Tensor, Tensor], Tensor]  # [n, dim], [m, dim] -> [n, m]


@dataclass(frozen=True)
class Item:
    """One instance of a category.

    Attributes:
        phone: its category.
        before, after: the phones beside it.
        speaker: whose it is.
        values: [frames, dim]; codes as [frames, 1].
    """

    phone: str
    before: str
    after: str
    speaker: str
    values: Tensor


def angular(a: Tensor, b: Tensor) -> Tensor:
    """Angle between frames, 0 to 1; a frame of zeros is as far as can be from all but another one."""
    lengths_a, lengths_b = a.norm(dim=1), b.norm(dim=1)
    cosine = a @ b.T / (lengths_a[:, None] * lengths_b).clamp_min(1e-30)
    empty_a, empty_b = (lengths_a == 0)[:, None], (lengths_b == 0)[None, :]
    angle = cosine.clamp(-1, 1).acos() / math.pi
    return torch.where(empty_a & empty_b, 0.0, torch.where(empty_a | empty_b, 1.0, angle))


def euclidean(a: Tensor, b: Tensor) -> Tensor:
    """Distance between frames."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def identical(a: Tensor, b: Tensor) -> Tensor:
    """0 where codes are equal (all of a frame's), else 1."""
    return (a[:, None] != b[None]).any(-1).to(torch.float32)


DISTANCES: dict[str, Distance] = {"angular": angular, "euclidean": euclidean, "identical": identical}


def warp(cost: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Dynamic time warping of many pairs at once.

    The path is the cheapest in sum; of equally cheap steps back it takes the diagonal first, then the one that stays in
    its row. The result is its sum over its length.

    Args:
        cost: distances of frames [pairs, n, m]; what is outside of a pair's own size doesn't matter.
        rows, columns: each pair's own size [pairs].

    Returns:
        [pairs].
    """
    pairs, n, m = cost.shape
    total = np.empty_like(cost)
    steps = np.ones((pairs, n, m), np.int32)  # frames on the best path up to here
    for i in range(n):
        for j in range(m):
            if i == 0 or j == 0:
                before = total[:, 0, j - 1] if j else total[:, i - 1, 0] if i else 0.0
                total[:, i, j], steps[:, i, j] = cost[:, i, j] + before, i + j + 1
                continue
            diagonal, left, up = total[:, i - 1, j - 1], total[:, i, j - 1], total[:, i - 1, j]
            straight, stays = (diagonal <= left) & (diagonal <= up), left <= up
            total[:, i, j] = cost[:, i, j] + np.minimum(np.minimum(up, diagonal), left)
            behind = np.where(stays, steps[:, i, j - 1], steps[:, i - 1, j])
            steps[:, i, j] = 1 + np.where(straight, steps[:, i - 1, j - 1], behind)
    at = np.arange(pairs), rows - 1, columns - 1
    return total[at] / steps[at]


def distances(xs: Sequence[Tensor], ys: Sequence[Tensor], distance: Distance) -> np.ndarray:
    """Distances of every x to every y, each [frames, dim] -> [len(xs), len(ys)]."""
    many = distance(torch.cat(list(xs)), torch.cat(list(ys))).numpy()
    sizes_x, sizes_y = (np.array([len(part) for part in parts]) for parts in (xs, ys))
    starts_x, starts_y = np.cumsum(sizes_x) - sizes_x, np.cumsum(sizes_y) - sizes_y
    at_x = np.minimum(starts_x[:, None] + np.arange(sizes_x.max()), len(many) - 1)
    at_y = np.minimum(starts_y[:, None] + np.arange(sizes_y.max()), many.shape[1] - 1)
    cost = many[at_x[:, None, :, None], at_y[None, :, None, :]]  # [xs, ys, frames, frames]
    rows, columns = (size.ravel() for size in np.meshgrid(sizes_x, sizes_y, indexing="ij"))
    return warp(cost.reshape(-1, *cost.shape[2:]), rows, columns).reshape(len(xs), len(ys))


def _error(to_a: np.ndarray, to_b: np.ndarray, same: bool) -> float:
    """Error rate of a cell: distances of X to A [x, a] and of X to B [x, b]; `same` if X and A are the same items."""
    wrong = (to_a[:, :, None] > to_b[:, None]) + 0.5 * (to_a[:, :, None] == to_b[:, None])
    if same:
        wrong[np.arange(len(to_a)), np.arange(len(to_a))] = 0.0
        return float(wrong.sum() / (len(to_a) * (len(to_a) - 1) * to_b.shape[1]))
    return float(wrong.mean())


def abx(
    items: Sequence[Item],
    speaker: str = "within",
    context: str = "within",
    distance: str = "angular",
    most: int | None = 10,
    most_across: int | None = 5,
    seed: int = 0,
) -> float:
    """The ABX error rate of items.

    Args:
        items: instances of phones.
        speaker, context: see the module. "within" context is the rule for items that hold their neighbours too.
        distance: angular, euclidean or identical (for codes).
        most: instances of A, of B and of X in a cell; drawn where there are more. None takes all.
        most_across: other speakers that X is drawn from, for each A and B.
        seed: of what is drawn.

    Returns:
        0 to 1; chance is 0.5.

    Raises:
        EvalError: an unknown condition, or items among which nothing can be compared.
    """
    if speaker not in ("within", "across") or context not in ("within", "any") or distance not in DISTANCES:
        raise EvalError(
            f"speaker {speaker!r}, context {context!r}, distance {distance!r}: choose within or across, within or any, "
            f"and {', '.join(DISTANCES)}"
        )
    draw = np.random.default_rng(seed)
    cells: dict[tuple, dict[str, dict[str, list[Tensor]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for item in items:
        around = (item.before, item.after) if context == "within" else ()
        cells[around][item.speaker][item.phone].append(item.values)
    # pair of phones -> speaker of A and B -> error rates of its contexts and of those who say X
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for around in sorted(cells):
        who = cells[around]
        groups = {
            name: {phone: _some(values, most, draw) for phone, values in sorted(phones.items())}
            for name, phones in sorted(who.items())
        }
        for name, phones in groups.items():
            for a in phones:
                others = [b for b in phones if b != a]
                if not others:
                    continue
                if speaker == "within":
                    said = [phones[a]] if len(phones[a]) > 1 else []
                else:
                    names = _some([x for x in groups if x != name and a in groups[x]], most_across, draw)
                    said = [groups[x][a] for x in names]
                for xs in said:
                    scores = _scores(xs, phones[a], [phones[b] for b in others], distance, same=speaker == "within")
                    for b, score in zip(others, scores):
                        found[a, b][name].append(score)
    if not found:
        raise EvalError(
            f"Among {len(items)} items nothing can be compared {speaker} speakers and {context} context: more speech, "
            "or other conditions, are needed."
        )
    pairs = [np.mean([np.mean(scores) for scores in by_speaker.values()]) for by_speaker in found.values()]
    return float(np.mean(pairs))


def _some(values: list, most: int | None, draw: np.random.Generator) -> list:
    """At most so many of them, in their order."""
    if most is None or len(values) <= most:
        return values
    return [values[i] for i in sorted(draw.choice(len(values), most, replace=False))]


def _scores(xs: list[Tensor], others: list[Tensor], bs: list[list[Tensor]], distance: str, same: bool) -> list[float]:
    """Error rates of the cells that share X and A, one for each B."""
    targets = [*others, *(value for values in bs for value in values)]
    table = distances(xs, targets, DISTANCES[distance])
    scores, at = [], len(others)
    for values in bs:
        scores.append(_error(table[:, : len(others)], table[:, at : at + len(values)], same))
        at += len(values)
    return scores


def make_items(
    values: Callable[[Tensor], Tensor],
    sample_rate: int,
    frame_rate: float,
    speech: SpeechSet,
    indices: Iterable[int],
    span: str = "triphone",
) -> list[Item]:
    """Items out of a set with phoneme times.

    A frame belongs to an item if its middle lies in it; one without any is left out. Items don't reach over pauses. Who
    speaks is the voice and, if those were changed, its pitch and throat.

    Args:
        values: samples [n] -> [frames, dim].
        sample_rate, frame_rate: of these, Hz.
        speech: the set.
        indices: of its utterances.
        span: "triphone" (a phone with its neighbours, as in ZeroSpeech) or "phone" (alone).

    Returns:
        One for each phone that has a neighbour on both sides.
    """
    if span not in ("triphone", "phone"):
        raise EvalError(f"span is {span!r}; choose triphone or phone")
    found = []
    for index in indices:
        said = speech.utterances[index]
        heard = values(utterance_audio(speech, index, sample_rate)).cpu()
        changes = [f"{name} {said.changes[name]:.3f}" for name in ("formant", "pitch") if name in said.changes]
        speaker = " ".join([said.voice, *changes])
        found += items_of(heard, frame_rate, segments(said), speaker, span)
    return found


def items_of(
    heard: Tensor, frame_rate: float, phones: Sequence[Segment | None], speaker: str, span: str = "triphone"
) -> list[Item]:
    """Items out of one recording: its values [frames, dim], its phones with None for pauses, and who speaks; the rest
    as in `make_items`."""
    found = []
    for before, phone, after in zip(phones, phones[1:], phones[2:]):
        if before is None or phone is None or after is None:
            continue
        start, end = (before.start, after.end) if span == "triphone" else (phone.start, phone.end)
        first, last = math.ceil(start * frame_rate - 0.5), math.floor(end * frame_rate - 0.5) + 1
        piece = heard[max(first, 0) : last]
        if len(piece):
            found.append(Item(phone.phone, before.phone, after.phone, speaker, piece))
    return found


@torch.no_grad()
def measure_abx(
    tokenizer: Tokenizer,
    speech: SpeechSet,
    indices: Iterable[int],
    codebook: int = 0,
    span: str = "triphone",
    speaker: str = "within",
    context: str = "within",
    seed: int = 0,
) -> float:
    """The ABX error rate of a tokenizer's codes; arguments as in `make_items` and `abx`."""

    def codes(samples: Tensor) -> Tensor:
        return tokenizer.encode(samples.expand(1, tokenizer.channels, -1), codebook + 1)[0, codebook, :, None]

    items = make_items(codes, tokenizer.sample_rate, tokenizer.frame_rate, speech, indices, span)
    return abx(items, speaker, context, "identical", seed=seed)
