"""Time-aligned positions of text, images, video and sound (TMRoPE; Qwen2.5-Omni, Xu et al. 2025, section 2.2).

A token stands at three coordinates: time, height and width. Text and sound move one step in all three at once, and a
step of sound lasts 40 ms; a video's frames stand where their time is, in steps of sound; the tokens of one image share
its time. A part begins behind the last position of what came before it.

    places, after = positions([Text(12), Video(frames=4, height=6, width=8), Text(5)])     # [3, tokens]
    more, after = positions([Sound(50)], after)      # only what came earlier counts, so parts may come one by one

Image, video and sound stand between two markers that are tokens of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SECTIONS = (16, 24, 24)  # pairs of a head's channels that are turned by time, height and width
PER_SECOND = 25
CHUNK_SECONDS = 2


@dataclass(frozen=True)
class Text:
    """So many tokens of text."""

    tokens: int


@dataclass(frozen=True)
class Sound:
    """So many tokens of sound between their markers."""

    tokens: int


@dataclass(frozen=True)
class Image:
    """Rows and columns of an image's tokens, between their markers."""

    height: int
    width: int


@dataclass(frozen=True)
class Video:
    """Frames of rows and columns of tokens, between their markers.

    Attributes:
        frames, height, width: of tokens.
        seconds: from a frame of tokens to the next (it is made of two pictures).
        sound: tokens of the video's own sound, which takes turns with the pictures every two seconds; None for none.
    """

    frames: int
    height: int
    width: int
    seconds: float = 1.0
    sound: int | None = None


Part = Text | Sound | Image | Video


def positions(
    parts: Iterable[Part], start: int = 0, per_second: int = PER_SECOND, chunk_seconds: float = CHUNK_SECONDS
) -> tuple[Tensor, int]:
    """Where the tokens of parts stand.

    Args:
        parts: in their order; text between two of them is a part of its own.
        start: 0, or what the call for the parts before them gave.
        per_second: positions of a second.
        chunk_seconds: of a video with sound.

    Returns:
        [3, tokens] (time, height, width); and where the next part starts.
    """
    pieces = [torch.zeros(3, 0, dtype=torch.long)]
    for part in parts:
        if isinstance(part, Text):
            new, start = _in_step(part.tokens, start)
            pieces.append(new)
            continue
        if isinstance(part, Video) and part.sound is not None:
            new, start = _with_sound(part, start, per_second, chunk_seconds)
            pieces += new
            continue
        before, start = _in_step(1, start)
        if isinstance(part, Sound):
            inside, start = _in_step(part.tokens, start)
        else:
            inside = _seen(part, per_second) + start
            start = int(inside.max()) + 1
        after, start = _in_step(1, start)
        pieces += [before, inside, after]
    return torch.cat(pieces, dim=1), start


def tokens_in(part: Part) -> int:
    """How many tokens a part has, its markers included."""
    if isinstance(part, Text):
        return part.tokens
    if isinstance(part, Sound):
        return part.tokens + 2
    seen = part.height * part.width
    if isinstance(part, Image):
        return seen + 2
    return part.frames * seen + (2 if part.sound is None else part.sound + 4)


def _in_step(tokens: int, start: int) -> tuple[Tensor, int]:
    """Tokens that move one step in all coordinates, and where the next ones start."""
    return torch.arange(start, start + tokens).expand(3, -1), start + tokens


def _seen(part: Image | Video, per_second: int) -> Tensor:
    """The tokens of an image or of a video's pictures, from 0."""
    frames, seconds = (1, 0.0) if isinstance(part, Image) else (part.frames, part.seconds)
    times = (torch.arange(frames) * torch.tensor(seconds, dtype=torch.float32) * per_second).long()
    grid = torch.meshgrid(times, torch.arange(part.height), torch.arange(part.width), indexing="ij")
    return torch.stack(grid).flatten(1)


def _with_sound(part: Video, start: int, per_second: int, chunk_seconds: float) -> tuple[list[Tensor], int]:
    """Pictures and sound share their time; the two markers on each side share a position."""
    marker, start = _in_step(1, start)
    pictures, (sound, _) = _seen(part, per_second) + start, _in_step(part.sound or 0, start)
    pieces = [marker, marker]
    for source, first, last in interleaved(part, per_second, chunk_seconds):
        pieces.append((sound if source else pictures)[:, first:last])
    marker, start = _in_step(1, int(pieces[-1].max()) + 1)
    return [*pieces, marker, marker], start


def interleaved(
    part: Video, per_second: int = PER_SECOND, chunk_seconds: float = CHUNK_SECONDS
) -> list[tuple[bool, int, int]]:
    """The order of a video's tokens and those of its sound: whether a run of them is sound, its first token and its
    end, counted in pictures and in sound apart."""
    size = int(per_second * chunk_seconds)
    pictures = chunks(_seen(part, per_second)[0].tolist(), size)
    sound = chunks(range(part.sound or 0), size)
    runs = []
    for picture, heard in itertools.zip_longest(pictures, sound):
        runs += [] if picture is None else [(False, *picture)]
        runs += [] if heard is None else [(True, *heard)]
    return [run for run in runs if run[1] < run[2]]


def chunks(times: Sequence[int], size: int) -> list[tuple[int, int]]:
    """Cuts tokens, by their times, wherever one reaches the next multiple of `size`: first and end of each chunk. A
    token is behind one cut at most, so where frames are further apart than a chunk, the cuts lag behind."""
    found, first, bound = [], 0, size
    for place, time in enumerate(times):
        if time >= bound:
            found.append((first, place))
            first, bound = place, bound + size
    return [*found, (first, len(times))]


def angles(places: Tensor, frequencies: Tensor, sections: Sequence[int] = SECTIONS) -> Tensor:
    """By what each pair of channels is turned.

    Args:
        places: [3, ...].
        frequencies: of the pairs, [pairs].
        sections: how many pairs follow time, height and width; together all of them.

    Returns:
        [..., pairs] float32.
    """
    turned = places[..., None].float() * frequencies.to(places.device)
    return torch.cat([part[axis] for axis, part in enumerate(turned.split(list(sections), dim=-1))], dim=-1)
