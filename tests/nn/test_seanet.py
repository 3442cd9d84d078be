"""SEANet against `transformers`' encoders and decoders, and in pieces against whole."""

import pytest
import torch
from transformers import EncodecConfig, EncodecModel

from antiphon.nn.conv import pad
from antiphon.nn.seanet import SeanetConfig, SeanetConv, SeanetDecoder, SeanetEncoder, folded, pack, unpack
from antiphon.nn.state import fork, join, select

THEIRS = {
    "causal": dict(num_filters=4, hidden_size=8),
    "stereo": dict(num_filters=4, hidden_size=8, audio_channels=2, norm_type="time_group_norm", use_causal_conv=False),
    "dilated": dict(num_filters=4, hidden_size=6, upsampling_ratios=[5, 3], num_residual_layers=3,
                    use_conv_shortcut=False),
}  # fmt: skip
OURS = {
    "causal": SeanetConfig(filters=4, dimension=8),
    "stereo": SeanetConfig(filters=4, dimension=8, channels=2, causal=False, norm="time_group_norm"),
    "dilated": SeanetConfig(filters=4, dimension=6, ratios=(5, 3), residual_layers=3, shortcut=False),
}


def pair(kind):
    torch.manual_seed(0)
    theirs = EncodecModel(EncodecConfig(**THEIRS[kind])).eval()
    for name, parameter in theirs.named_parameters():
        if name.endswith(("original0", "norm.weight")):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        elif name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    weights = folded(theirs.state_dict())
    encoder, decoder = SeanetEncoder(OURS[kind]), SeanetDecoder(OURS[kind])
    for name, part in (("encoder", encoder), ("decoder", decoder)):

        def published(key, name=name):
            stem, _, leaf = key.rpartition(".")
            return f"{name}.{key}" if ".lstm." in key or ".norm." in key else f"{name}.{stem}.conv.{leaf}"

        convs = {f"{path}.weight": each for path, each in part.named_modules() if isinstance(each, SeanetConv)}
        given = {key: weights[published(key)] for key in part.state_dict()}
        part.load_state_dict({key: pack(value, convs[key]) if key in convs else value for key, value in given.items()})
    return theirs, encoder.eval(), decoder.eval()


@pytest.mark.parametrize("kind", THEIRS)
def test_same_as_transformers_at_any_length(kind):
    theirs, encoder, decoder = pair(kind)
    hop, channels = OURS[kind].hop, OURS[kind].channels
    with torch.no_grad():
        for length in (1, 2, 7, hop - 1, hop, hop + 1, 5 * hop + 3, 12 * hop):
            audio = torch.randn(2, channels, length)
            expected = theirs.encoder(audio)
            torch.testing.assert_close(encoder(audio).mT, expected, atol=1e-5, rtol=1e-5)
            sound = theirs.decoder(expected)
            torch.testing.assert_close(decoder(expected.mT), sound, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def live():
    torch.manual_seed(1)
    config = SeanetConfig(filters=4, dimension=8, ratios=(4, 3), lstm=1)
    return SeanetEncoder(config).eval(), SeanetDecoder(config).eval()


@pytest.mark.parametrize("trial", range(20))
def test_pieces_equal_whole(live, trial):
    generator = torch.Generator().manual_seed(trial)
    for part, scale in zip(live, (12, 1)):
        length = int(torch.randint(1, 15 * scale, (), generator=generator))
        x = torch.randn(2, 1, length, generator=generator) if scale > 1 else torch.randn(2, length, 8)
        axis = 2 if scale > 1 else 1
        state, at, found = part.init_state(2), 0, []
        with torch.no_grad():
            while at < length:
                size = min(length - at, int(torch.randint(0, 4 * scale, (), generator=generator)))
                piece = x.narrow(axis, at, size)
                at += size
                found.append(part.step(piece, state, last=at == length and trial % 2 == 0))
            if trial % 2:
                found.append(part.step(x.narrow(axis, 0, 0), state, last=True))
            whole = part(x)
        torch.testing.assert_close(torch.cat(found, 3 - axis), whole, atol=1e-5, rtol=1e-4)


def test_rows_in_their_lead_in_and_past_it_share_a_batch(live):
    encoder = live[0]
    audio = torch.randn(3, 1, 20 * 12)
    starts, found, state, rows = [0, 3, 11], [[], [], []], None, []
    with torch.no_grad():
        whole = encoder(audio)
        for now in range(31):
            for row, start in enumerate(starts):
                if start == now:
                    fresh = encoder.init_state(1)
                    state, rows = fresh if state is None else join([state, fresh]), [*rows, row]
            piece = torch.cat([audio[row : row + 1, :, (now - starts[row]) * 12 :][..., :12] for row in rows])
            snapshot = fork(state)
            result = encoder.step(piece, state)
            again = encoder.step(piece, snapshot)
            for row, own, other in zip(rows, result, again):
                own, other = own.reshape(-1, 8), other.reshape(-1, 8)
                assert torch.equal(own, other)
                found[row].append(own)
            stay = [place for place, row in enumerate(rows) if now - starts[row] < 19]
            state, rows = select(state, stay), [rows[place] for place in stay]
    for row in range(3):
        torch.testing.assert_close(torch.cat(found[row]), whole[row], atol=1e-5, rtol=1e-4)


def test_a_bidirectional_lstm_doubles_the_width_and_gradients_reach_everything():
    config = SeanetConfig(filters=2, dimension=4, ratios=(3, 2), causal=False, bidirectional=True, lstm=1)
    encoder, decoder = SeanetEncoder(config), SeanetDecoder(config)
    latents = encoder(torch.randn(1, 1, 60))
    assert latents.shape == (1, 10, 4)
    decoder(latents).square().mean().backward()
    for part in (encoder, decoder):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
    with pytest.raises(ValueError, match="causal"):
        encoder.init_state(1)


def test_padding_and_packing():
    x = torch.arange(1.0, 5.0)[None, :, None]
    assert pad(x, 2, 1, "reflect").flatten().tolist() == [3, 2, 1, 2, 3, 4, 3]
    assert pad(x, 2, 1, "replicate").flatten().tolist() == [1, 1, 1, 2, 3, 4, 4]
    assert pad(x[:, :1], 2, 0, "reflect").flatten().tolist() == [0, 0, 1]  # zeros behind it are mirrored
    for conv in SeanetEncoder(OURS["dilated"]).layers["3"], SeanetDecoder(OURS["dilated"]).layers["3"]:
        if hasattr(conv, "weight"):
            assert torch.equal(pack(unpack(conv.weight, conv), conv), conv.weight)


def test_what_sees_the_future_is_not_called_causal():
    with pytest.raises(ValueError, match="causal=False"):
        SeanetConfig(norm="time_group_norm")
    with pytest.raises(ValueError, match="padding"):
        SeanetConfig(padding="zeros")
    with pytest.raises(ValueError, match="not with 'replicate'"):
        SeanetConfig(padding="replicate")


def test_rows_that_have_all_left_give_nothing(live):
    for part, x in zip(live, (torch.zeros(0, 1, 30), torch.zeros(0, 5, 8))):
        state = part.init_state(2)
        with torch.no_grad():
            assert part.step(x, select(state, [])).numel() == 0
