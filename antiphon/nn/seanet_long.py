"""A SEANet that looks ahead over long signals: exactly what the whole gives, with memory for a chunk at a time.

Its convolutions go chunk by chunk with overlap (`antiphon.nn.overlap`), and its LSTM chunk by chunk. That may read from
both ends: its first result then depends on the last frame, so the chunks are gone through several times, to and fro,
and what is kept of each is the LSTM's state. (In SpeechTokenizer that is 3 KB a second of audio, where all that the
LSTM reads and gives would be 1 MB, and the convolutions at once need twenty.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from antiphon.nn.overlap import Pieces, convolutions, growing, shrinking, shrunk
from antiphon.nn.seanet import SeanetDecoder, SeanetEncoder
from antiphon.nn.seanet_layers import SkipLstm


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
        return shrunk(run, layers, audio, hop, number * chunk, min((number + 1) * chunk, total)).mT

    count = -(-total // chunk)
    pieces = map(features, range(count)) if lstm is None else lstm_pieces(lstm, features, count, keep // chunk)
    x = Pieces((piece.mT for piece in pieces), total)
    for piece in shrinking(_time_last(after), convolutions(after), x, 1, chunk):
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
    pieces = shrinking(_time_last(before), convolutions(before), x, 1, chunk)
    if lstm is not None:
        coming = (piece.mT for piece in pieces)
        pieces = (piece.mT for piece in lstm_pieces(lstm, lambda number: next(coming), -(-frames // chunk)))
    yield from growing(_time_last(after), convolutions(after), Pieces(pieces, frames), decoder.config.hop, chunk)


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
