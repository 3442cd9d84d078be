"""A SEANet that looks ahead, in chunks: what the whole gives, whatever the chunk, the padding and the length."""

import pytest
import torch

from antiphon.nn.overlap import convolutions, needed
from antiphon.nn.seanet import SeanetConfig, SeanetDecoder, SeanetEncoder, SkipLstm
from antiphon.nn.seanet_long import _parts, decode_pieces, encode_pieces, whole_lstm

SHAPES = [
    {"padding": "reflect", "bidirectional": True},
    {"padding": "constant", "ratios": (5, 2), "residual_layers": 2},
    {"padding": "reflect", "ratios": (5, 4), "lstm": 0},
]


def config(**more) -> SeanetConfig:
    return SeanetConfig(**{"dimension": 6, "filters": 2, "ratios": (3, 2), "lstm": 2, "causal": False, **more})


@pytest.fixture(params=SHAPES, ids=str)
def networks(request):
    torch.manual_seed(0)
    sizes = config(**request.param)
    return SeanetEncoder(sizes).eval(), SeanetDecoder(sizes).eval(), sizes.hop


@pytest.mark.parametrize("chunk", [1, 7, 30])
def test_chunks_give_what_the_whole_gives(networks, chunk):
    encoder, decoder, hop = networks
    for extra in range(hop):
        audio = torch.randn(2, 1, 61 * hop + extra)
        with torch.no_grad():
            latents = encoder(audio)
            sound = decoder(latents)
        pieces = list(encode_pieces(encoder, audio, chunk))
        assert max(piece.shape[1] for piece in pieces) <= chunk
        torch.testing.assert_close(torch.cat(pieces, 1), latents, atol=1e-5, rtol=1e-5)
        pieces = list(decode_pieces(decoder, latents, chunk))
        assert max(piece.shape[2] for piece in pieces) <= chunk * hop
        torch.testing.assert_close(torch.cat(pieces, 2), sound, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("both", [False, True])
def test_an_lstm_in_chunks(both):
    torch.manual_seed(0)
    layer = SkipLstm(5, 2, both)
    x = torch.randn(3, 23, 5)
    with torch.no_grad():
        torch.testing.assert_close(whole_lstm(layer, x, 4), layer(x), atol=1e-6, rtol=1e-5)


def test_no_output_depends_on_more_than_is_said(networks):
    encoder, decoder, hop = networks
    for part, x, place in (
        (_parts(encoder)[0], torch.randn(1, 60 * hop, 1), 30),
        (_parts(decoder)[2], torch.randn(1, 60, decoder.config.filters * 4 if decoder.config.lstm else 6), 30 * hop),
    ):
        first, last = needed(convolutions(part), place, place)
        other = torch.randn_like(x)
        other[:, first : last + 1] = x[:, first : last + 1]
        with torch.no_grad():
            torch.testing.assert_close(part(other)[:, place], part(x)[:, place], atol=1e-5, rtol=1e-5)
            x[:, (first + last) // 2] += 1.0
            assert not torch.allclose(part(other)[:, place], part(x)[:, place])
