"""Long signals through convolutions that look ahead: in chunks with overlap, exactly as in one piece.

What a chunk's edge gets wrong reaches no further than the convolutions do, so each chunk is given as much of its
surroundings as its outputs depend on and no output that depends on more is kept. At the signal's own ends a chunk ends
too, so that padding there is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from types import EllipsisType

import torch
from torch import Tensor, nn

from antiphon.nn.seanet_layers import SeanetConv

Convolution = nn.Conv1d | nn.ConvTranspose1d | SeanetConv


class Pieces:
    """A signal whose pieces come one after the other: as much of a tensor as `shrinking` and `growing` need.

    Only what they may still ask for is held.

    Args:
        pieces: [batch, channels, n] each, in order.
        length: of all of them together.
    """

    def __init__(self, pieces: Iterable[Tensor], length: int):
        self.shape = (length,)
        self._coming, self._held, self._start = iter(pieces), None, 0

    def __getitem__(self, place: tuple[EllipsisType, slice]) -> Tensor:
        """`[..., begin:end]`; neither may be less than it was before."""
        begin, end = place[1].start, place[1].stop
        parts = [] if self._held is None else [self._held[..., begin - self._start :]]
        reached = begin + sum(part.shape[-1] for part in parts)
        while reached < end:
            parts.append(next(self._coming))
            reached += parts[-1].shape[-1]
        self._held, self._start = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1), begin
        return self._held[..., : end - begin]


def convolutions(module: nn.Module) -> list[Convolution]:
    """The convolutions of a network, in the order in which they were registered, which must be that of their use."""
    return [each for each in module.modules() if isinstance(each, Convolution)]


def needed(layers: Sequence[Convolution], first: int, last: int) -> tuple[int, int]:
    """The inputs on which outputs `first` to `last` of a row of convolutions depend.

    Args:
        layers: from input to output, with integer padding; SEANet's of those that look ahead.
        first, last: outputs, both included.

    Returns:
        First and last input, both included; they may lie outside the signal.
    """
    for layer in reversed(layers):
        if isinstance(layer, SeanetConv):
            first, last = _seanet(layer, first, last)
            continue
        stride, padding = layer.stride[0], layer.padding[0]
        reach = (layer.kernel_size[0] - 1) * layer.dilation[0]
        if isinstance(layer, nn.ConvTranspose1d):  # output = input * stride - padding + 0 to reach
            first, last = -((reach - padding - first) // stride), (last + padding) // stride
        else:
            first, last = first * stride - padding, last * stride - padding + reach
    return first, last


def _seanet(layer: SeanetConv, first: int, last: int) -> tuple[int, int]:
    """`needed` of one convolution that pads on both sides, see `SeanetConv.forward`."""
    if layer.upsample > 1:
        surplus = layer.keep * layer.upsample
        cut = surplus - surplus // 2
        return (first + cut) // layer.upsample - layer.keep, (last + cut) // layer.upsample
    left, stride = layer.keep - layer.keep // 2, layer.stride
    # Where the signal ends within a stride, what is mirrored there may come from a little further off.
    spare = stride if layer.padding == "reflect" else 0
    return first * stride - left - spare, last * stride - left + (layer.kernel - 1) * layer.dilation + spare


def shrinking(
    run: Callable[[Tensor], Tensor], layers: Sequence[Convolution], x: Tensor | Pieces, hop: int, chunk: int
) -> Iterator[Tensor]:
    """A network that gives one output for `hop` inputs, over a long input.

    Args:
        run: the network, [batch, channels, n * hop] -> [batch, width, n].
        layers: its convolutions, see `convolutions`.
        x: [batch, channels, samples]; where they aren't whole hops, `run` must give one output for the rest.
        hop: inputs an output.
        chunk: outputs at a time.

    Yields:
        [batch, width, up to chunk], which put together are what `run(x)` gives.
    """
    total = -(-x.shape[-1] // hop)
    for start in range(0, total, chunk):
        yield shrunk(run, layers, x, hop, start, min(start + chunk, total))


def shrunk(
    run: Callable[[Tensor], Tensor], layers: Sequence[Convolution], x: Tensor | Pieces, hop: int, start: int, stop: int
) -> Tensor:
    """Outputs `start` to `stop`, that one excluded, of what `shrinking` gives."""
    first, last = needed(layers, start, stop - 1)
    begin, end = max(first // hop, 0), min(last // hop + 1, -(-x.shape[-1] // hop))
    return run(x[..., begin * hop : end * hop])[..., start - begin : stop - begin]


def growing(
    run: Callable[[Tensor], Tensor], layers: Sequence[Convolution], x: Tensor | Pieces, hop: int, chunk: int
) -> Iterator[Tensor]:
    """A network that gives `hop` outputs for one input, over a long input.

    Args:
        run: the network, [batch, width, n] -> [batch, channels, about n * hop].
        layers: its convolutions, see `convolutions`.
        x: [batch, width, frames].
        hop: outputs an input.
        chunk: inputs at a time.

    Yields:
        [batch, channels, up to chunk * hop], which put together are what `run(x)` gives.
    """
    total = x.shape[-1]
    for start in range(0, total, chunk):
        stop = min(start + chunk, total)
        first, last = needed(layers, start * hop, stop * hop - 1)
        begin, end = max(first, 0), min(last + 1, total)
        y = run(x[..., begin:end])
        yield y[..., (start - begin) * hop :] if stop == total else y[..., (start - begin) * hop : (stop - begin) * hop]
