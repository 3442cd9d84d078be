"""Long signals through networks that look ahead: in chunks with overlap, exactly as in one piece.

What a chunk's edge gets wrong reaches no further than the convolutions do, so each chunk is given as much of its
surroundings as its outputs depend on and no output that depends on more is kept. At the signal's own ends a chunk ends
too, so that padding there is the same.

A SEANet's LSTM goes chunk by chunk as well. Where it reads from both ends its first result depends on the last frame,
so the chunks are gone through several times, to and fro, and what is kept of each is the LSTM's state. (In
SpeechTokenizer that is 3 KB a second of audio, where all that the LSTM reads and gives would be 1 MB, and the
convolutions at once need twenty.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from types import EllipsisType

import torch
from torch import Tensor, nn

from antiphon.nn.seanet import SeanetConv, SeanetDecoder, SeanetEncoder, SkipLstm

Convolution = nn.Conv1d | nn.ConvTranspose1d | SeanetConv


class Pieces:
    """A signal whose pieces come one after the other: as much of a tensor as what goes chunk by chunk needs.

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


def downsample_in_chunks(
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
        yield downsampled_chunk(run, layers, x, hop, start, min(start + chunk, total))


def downsampled_chunk(
    run: Callable[[Tensor], Tensor], layers: Sequence[Convolution], x: Tensor | Pieces, hop: int, start: int, stop: int
) -> Tensor:
    """Outputs `start` to `stop`, that one excluded, of what `downsample_in_chunks` gives."""
    first, last = needed(layers, start, stop - 1)
    begin, end = max(first // hop, 0), min(last // hop + 1, -(-x.shape[-1] // hop))
    return run(x[..., begin * hop : end * hop])[..., start - begin : stop - begin]


def upsample_in_chunks(
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


@torch.no_grad()
def encode_pieces(encoder: SeanetEncoder, audio: Tensor, chunk: int, keep: int = 0) -> Iterator[Tensor]:
    """What the encoder gives, piece by piece.

    Args:
        encoder: one that looks ahead, without norms over time.
        audio: [batch, channels, samples].
        chunk: frames at a time.
        keep: see `lstm_pieces`.

    Yields:
        latents [batch, up to chunk, dimension].
    """
    before, lstm, after = _parts(encoder)
    hop, run, layers = encoder.config.hop, _time_last(before), convolutions(before)
    total = -(-audio.shape[-1] // hop)

    def features(number: int) -> Tensor:
        return downsampled_chunk(run, layers, audio, hop, number * chunk, min((number + 1) * chunk, total)).mT

    count = -(-total // chunk)
    pieces = map(features, range(count)) if lstm is None else lstm_pieces(lstm, features, count, keep // chunk)
    x = Pieces((piece.mT for piece in pieces), total)
    for piece in downsample_in_chunks(_time_last(after), convolutions(after), x, 1, chunk):
        yield piece.mT


@torch.no_grad()
def decode_pieces(decoder: SeanetDecoder, latents: Iterable[Tensor], frames: int, chunk: int) -> Iterator[Tensor]:
    """What the decoder gives, piece by piece.

    Args:
        decoder: one that looks ahead, without norms over time.
        latents: [batch, n, dimension] each, in order.
        frames: of all of them together.
        chunk: frames at a time.

    Yields:
        audio [batch, channels, up to chunk * hop].
    """
    before, lstm, after = _parts(decoder)
    x = Pieces((piece.mT for piece in latents), frames)
    pieces = downsample_in_chunks(_time_last(before), convolutions(before), x, 1, chunk)
    if lstm is not None:
        coming = (piece.mT for piece in pieces)
        pieces = (piece.mT for piece in lstm_pieces(lstm, lambda number: next(coming), -(-frames // chunk)))
    yield from upsample_in_chunks(
        _time_last(after), convolutions(after), Pieces(pieces, frames), decoder.config.hop, chunk
    )


@torch.no_grad()
def lstm_pieces(layer: SkipLstm, features: Callable[[int], Tensor], count: int, keep: int = 0) -> Iterator[Tensor]:
    """`layer` of a long signal, chunk by chunk.

    One that reads from both ends goes through the chunks once more than it has layers, the last time from the start.
    Each time, a direction of a layer that is known, from states that were kept, is made anew; the next to be known are
    those that go the way in which the chunks are gone through. With two layers: the first one's way forward; its way
    back, and the second one's; the second one's way forward, and the result. What is made of a chunk is used again as
    long as it is held.

    Args:
        layer: the LSTM.
        features: number of a chunk -> what it reads there, [batch, time, width]; asked in order, once for each, where
            it reads forward only.
        count: of chunks.
        keep: chunks of which all is held that was made of them, the last ones passed. Where it is all of them, nothing
            is made twice.

    Yields:
        [batch, time, width, or twice that where it reads from both ends].
    """
    cells = _cells(layer.lstm)
    depth, ways = len(cells), len(cells[0])
    # With which state each layer and way goes into each chunk, [count + 1, layers, ways, 2, batch, width]. One block:
    # small ones, kept between large ones that come and go, leave holes in the heap.
    states: Tensor | None = None
    known: set[tuple[int, int]] = set()  # layer, way: gone through to the end
    held: dict[int, dict[tuple[int, int], Tensor]] = {}  # chunk: its features (-1, 0), and what (layer, way) made
    for turn in range(depth + 1) if ways == 2 else [depth]:
        way, gone = (depth - turn) % 2, set()
        for number in reversed(range(count)) if way else range(count):
            made = held[number] = held.pop(number, {})  # to the end of the row: the last to be forgotten
            if len(held) > max(keep, 1):
                del held[next(iter(held))]
            if (-1, 0) not in made:
                made[-1, 0] = features(number)
            y: Tensor | None = made[-1, 0]
            if states is None:
                states = y.new_zeros(count + 1, depth, ways, 2, len(y), layer.lstm.hidden_size)
            for place in range(depth):
                outputs = []
                for own in range(ways):
                    if own != way and (place, own) not in known:
                        continue
                    if (place, own) not in made:
                        x, (hidden, cell) = y.flip(1) if own else y, states[number, place, own]
                        out, state = cells[place][own](x, (hidden[None], cell[None]))
                        if own == way:
                            states[number - 1 if own else number + 1, place, own] = torch.cat(state)
                            gone.add((place, own))
                        made[place, own] = out.flip(1) if own else out
                    outputs.append(made[place, own])
                if len(outputs) < ways:
                    break
                y = outputs[0] if ways == 1 else torch.cat(outputs, dim=-1)
            if turn == depth:
                yield y + (made[-1, 0] if ways == 1 else made[-1, 0].repeat(1, 1, 2))
        known |= gone


def _cells(lstm: nn.LSTM) -> list[list[nn.LSTM]]:
    """Each layer's ways, forward and perhaps back, as an LSTM that reads forward, with the same weights."""
    weight, cells = lstm.weight_ih_l0, []
    for place in range(lstm.num_layers):
        cells.append([])
        for name in ("", "_reverse") if lstm.bidirectional else ("",):
            width = getattr(lstm, f"weight_ih_l{place}{name}").shape[1]
            one = nn.LSTM(width, lstm.hidden_size, batch_first=True, device="meta", dtype=weight.dtype)
            for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                setattr(one, f"{part}_l0", getattr(lstm, f"{part}_l{place}{name}"))
            cells[-1].append(one)
    return cells


def _parts(network: SeanetEncoder | SeanetDecoder) -> tuple[nn.Sequential, SkipLstm | None, nn.Sequential]:
    """The layers before the LSTM, the LSTM, and those after it."""
    layers = list(network.layers.values())
    place = next((i for i, layer in enumerate(layers) if isinstance(layer, SkipLstm)), None)
    if place is None:  # what changes the rate stands where it changes the rate
        rest = (nn.Sequential(*layers), nn.Sequential())
        return (rest[0], None, rest[1]) if isinstance(network, SeanetEncoder) else (rest[1], None, rest[0])
    return nn.Sequential(*layers[:place]), layers[place], nn.Sequential(*layers[place + 1 :])


def _time_last(layers: nn.Sequential) -> Callable[[Tensor], Tensor]:
    return lambda x: layers(x.mT).mT
