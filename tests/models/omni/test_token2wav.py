"""Codes to sound: spectrogram and sound as `transformers` makes them, and the same block by block."""

from __future__ import annotations

import pytest
import torch

from antiphon.models.omni.config import OmniConfig
from antiphon.models.omni.token2wav import Flow, Token2Wav, Voice
from antiphon.nn.state import fork
from tests.models.omni.tiny import theirs, values


@pytest.fixture(scope="module")
def pair():
    model = theirs().token2wav
    config = OmniConfig.from_dict(values())
    ours = Token2Wav(config.dit, config.vocoder).eval()
    ours.dit.load_state_dict(model.code2wav_dit_model.state_dict())
    ours.vocoder.load_state_dict(model.code2wav_bigvgan_model.state_dict())
    return ours, model


@pytest.fixture(scope="module")
def voice():
    torch.manual_seed(1)
    return Voice(torch.randn(1, 8), torch.randn(1, 30, 20), 0)


def codes(count: int) -> torch.Tensor:
    return torch.randint(70, (1, count), generator=torch.Generator().manual_seed(count))


@torch.no_grad()
def test_vocoder_gives_what_transformers_gives_whole_and_in_pieces(pair):
    ours, model = pair[0].vocoder, pair[1].code2wav_bigvgan_model
    mel = torch.randn(1, 20, 61) - 3
    whole = ours(mel)
    assert whole.shape == (1, 61 * 30)
    assert (whole[0] - model(mel)).abs().max() < 1e-5
    assert whole.std() > 1e-3 and whole.abs().max() < 1
    for size in (1, 7, 24):
        state, parts = ours.init_state(), []
        for first in range(0, 61, size):
            parts.append(ours.step(mel[..., first : first + size], state))
        before = sum(part.shape[1] for part in parts)
        parts.append(ours.step(mel[..., :0], state, last=True))
        assert 0 < before < 61 * 30
        assert (torch.cat(parts, dim=1) - whole).abs().max() < 1e-6


@torch.no_grad()
def test_it_is_known_when_sound_begins(pair):
    vocoder = pair[0].vocoder
    assert vocoder.step(torch.zeros(1, 20, vocoder.lead - 4), vocoder.init_state()).shape[1] == 0
    assert vocoder.step(torch.zeros(1, 20, vocoder.lead + 1), vocoder.init_state()).shape[1] > 0


@torch.no_grad()
@pytest.mark.parametrize("count", [4, 30, 33])
@pytest.mark.parametrize("guidance", [0.5, 0.0])
def test_spectrogram_is_what_transformers_gives(pair, voice, count, guidance, monkeypatch):
    ours, model = pair
    noise = torch.randn(1, 2 * count, 20)
    monkeypatch.setattr(torch, "randn", lambda *args, **kwargs: noise)
    wanted = model.code2wav_dit_model.sample(voice.vector, voice.reference, codes(count), guidance_scale=guidance)
    monkeypatch.undo()
    ours = Token2Wav(ours.dit.config, ours.vocoder.config, Flow(guidance=guidance)).eval()
    ours.load_state_dict(pair[0].state_dict())
    state = ours.init_state(voice)
    state.codes, state.noise = codes(count), noise
    blocks = -(-count // ours.codes_per_block)
    found = ours._solve(state, blocks, blocks)
    assert found.shape == wanted.shape == (1, 20, 2 * count)
    assert (found - wanted).abs().max() < 1e-4
    assert (found - noise.transpose(1, 2)).abs().mean() > 0.1


@torch.no_grad()
@pytest.mark.parametrize(("ahead", "off"), [(None, 1e-6), (3, 1e-5), (2, 1e-4)])
def test_sound_block_by_block_is_that_of_the_whole(pair, voice, ahead, off):
    ours, _ = pair
    whole = ours(codes(61), voice)
    assert whole.shape == (1, 61 * 2 * 30)
    state, parts = ours.init_state(voice), []
    for first in range(0, 61, 3):
        parts.append(ours.step(codes(61)[:, first : first + 3], state, last=first + 3 >= 61, ahead=ahead, most=2))
    assert (torch.cat(parts, dim=1) - whole).abs().max() < off
    begun = next(number for number, part in enumerate(parts) if part.shape[1])
    assert begun == (20 if ahead is None else begun) and (ahead is None or begun <= 10)


@torch.no_grad()
def test_a_stream_goes_two_ways_from_a_copy(pair, voice):
    ours, _ = pair
    state = ours.init_state(voice)
    ours.step(codes(20), state)
    copy = fork(state)
    one = ours.step(codes(12), state, last=True)
    assert torch.equal(one, ours.step(codes(12), copy, last=True))


@torch.no_grad()
def test_the_noise_is_that_of_the_seed(pair, voice):
    ours, _ = pair
    first, again, other = (ours(codes(9), voice, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 1e-3
    assert ours.step(codes(9)[:, :0], ours.init_state(voice), last=True).shape == (1, 0)
