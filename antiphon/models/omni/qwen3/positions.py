"""Positions of Qwen3-Omni (TM-RoPE; Xu et al. 2025, section 2.2): those of `omni.positions` with other habits.

Thirteen positions are a second. Pictures of a video stand where their time is, between two positions if need be; a
video's own sound takes turns with them token by token, by their times; of two markers on a side each has a position of
its own. Pairs of channels follow time, height and width by turns instead of in sections.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from antiphon.models.omni.positions import Part, Sound, Text, Video

PER_SECOND = 13
SECTIONS = (24, 20, 20)


def positions(parts: Iterable[Part], start: float = 0.0, per_second: float = PER_SECOND) -> tuple[Tensor, float]:
    """Where the tokens of parts stand.

    Args:
        parts: in their order; text between two of them is a part of its own.
        start: 0, or what the call for the parts before them gave.
        per_second: positions of a second.

    Returns:
        [3, tokens] float32 (time, height, width); and where the next part starts.
    """
    pieces = [torch.zeros(3, 0)]
    for part in parts:
        if isinstance(part, Text):
            new, start = _in_step(part.tokens, start)
            pieces.append(new)
            continue
        marks = 2 if isinstance(part, Video) and part.sound is not None else 1
        before, start = _in_step(marks, start)
        inside, start = _inside(part, start, per_second)
        after, start = _in_step(marks, start)
        pieces += [before, inside, after]
    return torch.cat(pieces, dim=1), start


def interleaved(part: Video, per_second: float = PER_SECOND) -> list[tuple[bool, int, int]]:
    """The order of a video's tokens and those of its sound: whether a run of them is sound, its first token and its
    end, counted in pictures and in sound apart. Of two at the same time the picture comes first."""
    size, sound = part.height * part.width, part.sound or 0
    runs: list[tuple[bool, int, int]] = []
    heard = 0
    for frame, time in enumerate(_times(part, per_second).tolist()):
        before = heard
        while heard < sound and heard < time:
            heard += 1
        runs += [(True, before, heard), (False, frame * size, (frame + 1) * size)]
    runs.append((True, heard, sound))
    return [run for run in runs if run[1] < run[2]]


def angles(places: Tensor, frequencies: Tensor, sections: Sequence[int] = SECTIONS) -> Tensor:
    """By what each pair of channels is turned.

    Args:
        places: [3, ...].
        frequencies: of the pairs, [pairs].
        sections: how many pairs follow time, height and width; together all of them. They take turns as long as there
            are some of height and of width left; the rest follow time.

    Returns:
        [..., pairs] float32.
    """
    turned = places[..., None].float() * frequencies.to(places.device)
    axes = torch.zeros(len(frequencies), dtype=torch.long, device=places.device)
    for axis in (1, 2):
        axes[axis : 3 * sections[axis] : 3] = axis
    return turned.gather(0, axes.expand(1, *turned.shape[1:]))[0]


def _in_step(tokens: int, start: float) -> tuple[Tensor, float]:
    """Tokens that move one step in all coordinates, and where the next ones start, in float32 as published."""
    places = torch.arange(tokens + 1) + torch.tensor(start, dtype=torch.float32)
    return places[:-1].expand(3, -1), float(places[-1])


def _times(part: Part, per_second: float) -> Tensor:
    """When a video's frames are, from 0; an image's only one."""
    if not isinstance(part, Video):
        return torch.zeros(1)
    return torch.arange(part.frames) * torch.tensor(part.seconds, dtype=torch.float32) * per_second


def _inside(part: Part, start: float, per_second: float) -> tuple[Tensor, float]:
    """The tokens between the markers, and where what follows starts: behind the last of them, which of a video with
    sound is the last run of either."""
    if isinstance(part, Sound):
        return _in_step(part.tokens, start)
    grid = torch.meshgrid(
        _times(part, per_second), torch.arange(part.height).float(), torch.arange(part.width).float(), indexing="ij"
    )
    seen = torch.stack(grid).flatten(1) + torch.tensor(start, dtype=torch.float32)
    if not isinstance(part, Video) or part.sound is None:
        return seen, float(seen.max() + 1)
    heard, _ = _in_step(part.sound, start)
    runs = interleaved(part, per_second)
    pieces = [(heard if sound else seen)[:, first:end] for sound, first, end in runs]
    last = len(runs) - 1
    while last > 0 and runs[last - 1][0] == runs[-1][0]:  # pictures behind the end of the sound are one run
        last -= 1
    return torch.cat(pieces, dim=1), float(torch.cat(pieces[last:], dim=1).max() + 1)
