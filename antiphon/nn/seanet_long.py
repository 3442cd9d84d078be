"""A SEANet that looks ahead over long signals: exactly what the whole gives, with memory for a chunk at a time.

Its convolutions go chunk by chunk with overlap (`antiphon.nn.overlap`). Its LSTM, which may read from both ends, has to
see every frame before the first result is certain: what it reads and gives is kept for the whole signal, at the frame
rate, and nothing else is. (In SpeechTokenizer that is 1 MB a second of audio, where the convolutions at once would
need twenty.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from antiphon.nn.overlap import convolutions, growing, shrinking
from antiphon.nn.seanet import SeanetDecoder, SeanetEncoder
from antiphon.nn.seanet_layers import SkipLstm


@torch.no_grad()
def encode_pieces(encoder: SeanetEncoder, audio: Tensor, chunk: int) -> Iterator[Tensor]:
    """What the encoder gives, piece by piece.

    Args:
        encoder: one that looks ahead, without norms over time.
        audio: [batch, channels, samples].
        chunk: frames at a time.

    Yields:
        latents [batch, up to chunk, dimension].
    """
    before, lstm, after = _parts(encoder)
    pieces = shrinking(_time_last(before), convolutions(before), audio, encoder.config.hop, chunk)
    x = _filled(pieces, -(-audio.shape[-1] // encoder.config.hop))
    if lstm is not None:
        x = whole_lstm(lstm, x, chunk)
    for piece in shrinking(_time_last(after), convolutions(after), x.mT, 1, chunk):
        yield piece.mT


@torch.no_grad()
def decode_pieces(decoder: SeanetDecoder, latents: Tensor, chunk: int) -> Iterator[Tensor]:
    """What the decoder gives, piece by piece: latents [batch, frames, dimension] -> audio [batch, channels, up to chunk
    * hop] each."""
    before, lstm, after = _parts(decoder)
    x = _filled(shrinking(_time_last(before), convolutions(before), latents.mT, 1, chunk), latents.shape[1])
    if lstm is not None:
        x = whole_lstm(lstm, x, chunk)
    yield from growing(_time_last(after), convolutions(after), x.mT, decoder.config.hop, chunk)


def whole_lstm(layer: SkipLstm, x: Tensor, chunk: int) -> Tensor:
    """`layer(x)` [batch, time, width] without more memory than input and outputs: each layer and direction goes through
    in chunks, from its own end."""
    lstm, given, width = layer.lstm, x, layer.lstm.hidden_size
    names = ("", "_reverse") if lstm.bidirectional else ("",)
    for number in range(lstm.num_layers):
        y = given.new_empty(*given.shape[:2], width * len(names))
        for place, name in enumerate(names):
            one = nn.LSTM(given.shape[2], width, batch_first=True, device=x.device, dtype=x.dtype)
            for weight in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                setattr(one, f"{weight}_l0", getattr(lstm, f"{weight}_l{number}{name}"))
            state, starts = None, range(0, x.shape[1], chunk)
            for start in reversed(starts) if name else starts:
                part = given[:, start : start + chunk]
                out, state = one(part.flip(1) if name else part, state)
                y[:, start : start + chunk, place * width : (place + 1) * width] = out.flip(1) if name else out
        given = y
    for half in given.split(width, dim=-1):
        half += x
    return given


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


def _filled(pieces: Iterator[Tensor], length: int) -> Tensor:
    """Pieces [batch, width, n] put together as [batch, length, width]."""
    whole, at = None, 0
    for piece in pieces:
        if whole is None:
            whole = piece.new_empty(len(piece), length, piece.shape[1])
        whole[:, at : at + piece.shape[2]] = piece.mT
        at += piece.shape[2]
    assert whole is not None
    return whole
