"""Networks that look ahead, in chunks: what the whole gives, whatever the chunk, the padding and the length."""

import weakref

import pytest
import torch

from antiphon.nn.overlap import Pieces, _parts, convolutions, decode_pieces, encode_pieces, lstm_pieces, needed
from antiphon.nn.seanet import SeanetConfig, SeanetDecoder, SeanetEncoder, SkipLstm

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


@pytest.mark.parametrize("chunk, keep", [(1, 0), (7, 0), (7, 28), (30, 90)])
def test_chunks_give_what_the_whole_gives(networks, chunk, keep):
    encoder, decoder, hop = networks
    for extra in sorted({0, 1, hop // 2, hop - 1}):
        audio = torch.randn(2, 1, 61 * hop + extra)
        with torch.no_grad():
            latents = encoder(audio)
            sound = decoder(latents)
        pieces = list(encode_pieces(encoder, audio, chunk, keep))
        assert max(piece.shape[1] for piece in pieces) <= chunk
        torch.testing.assert_close(torch.cat(pieces, 1), latents, atol=1e-5, rtol=1e-5)
        pieces = list(decode_pieces(decoder, latents.split(5, dim=1), latents.shape[1], chunk))
        assert max(piece.shape[2] for piece in pieces) <= chunk * hop
        torch.testing.assert_close(torch.cat(pieces, 2), sound, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_an_lstm_in_chunks_at_random(both, layers):
    torch.manual_seed(layers)
    layer = SkipLstm(5, layers, both)
    for _ in range(17):
        length = int(torch.randint(2, 60, ()))
        x = torch.randn(2, length, 5)
        cuts = sorted({0, length, *torch.randint(1, length, (int(torch.randint(1, 9, ())),)).tolist()})
        parts, keep = [x[:, a:b] for a, b in zip(cuts, cuts[1:])], int(torch.randint(0, 10, ()))
        pieces = list(lstm_pieces(layer, parts.__getitem__, len(parts), keep))
        assert [piece.shape[1] for piece in pieces] == [part.shape[1] for part in parts]
        with torch.no_grad():
            torch.testing.assert_close(torch.cat(pieces, 1), layer(x), atol=1e-6, rtol=1e-5)


def test_chunks_are_made_anew_only_where_they_are_not_held():
    layer, asked = SkipLstm(5, 2, True), []

    def features(number):
        asked.append(number)
        return torch.ones(1, 4, 5)

    list(lstm_pieces(layer, features, 5, keep=5))
    assert asked == [0, 1, 2, 3, 4]
    asked.clear()
    list(lstm_pieces(layer, features, 5, keep=2))
    assert asked == [0, 1, 2, 3, 4, 2, 1, 0, 2, 3, 4]
    asked.clear()
    list(lstm_pieces(SkipLstm(5, 2), features, 5))
    assert asked == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("keep", [0, 3])
def test_no_more_than_what_is_to_be_kept_is_alive(keep):
    given, most = [], 0

    def features(number):
        nonlocal most
        most = max(most, sum(one() is not None for one in given))
        x = torch.ones(1, 4, 5)
        given.append(weakref.ref(x))
        return x

    for _ in lstm_pieces(SkipLstm(5, 2, True), features, 30, keep):
        pass
    assert len(given) == 3 * 30 - 2 * max(keep, 1) and most <= max(keep, 1)


def test_pieces_are_as_much_of_a_tensor_as_is_asked_for():
    x = torch.randn(2, 3, 40)
    pieces = Pieces(iter(x.split(7, dim=-1)), 40)
    assert pieces.shape[-1] == 40
    for begin, end in ((0, 3), (0, 12), (5, 12), (11, 11), (11, 30), (28, 40), (39, 40)):
        assert torch.equal(pieces[..., begin:end], x[..., begin:end])


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
