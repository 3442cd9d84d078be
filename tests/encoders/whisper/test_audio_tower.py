"""The audio tower: what `transformers` gives, whole or as it comes."""

from __future__ import annotations

import pytest
import torch

from antiphon.encoders.whisper.tower import AudioTower, AudioTowerConfig, audio_tokens
from antiphon.errors import ModelError

SIZES = {
    "d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 64, "num_mel_bins": 16,
    "output_dim": 24,
}  # fmt: skip


@pytest.fixture(scope="module")
def pair():
    from transformers import Qwen2_5OmniAudioEncoderConfig
    from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniAudioEncoder

    torch.manual_seed(0)
    theirs = Qwen2_5OmniAudioEncoder(Qwen2_5OmniAudioEncoderConfig(**SIZES)).eval()
    ours = AudioTower(AudioTowerConfig(**SIZES)).eval()
    for parameter in theirs.parameters():
        parameter.data.normal_(0, 0.2)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@torch.no_grad()
def test_rows_of_any_length_are_what_transformers_gives(pair):
    ours, theirs = pair
    frames = torch.tensor([450, 200, 7, 203])
    mel = torch.randn(4, 16, 450)
    found, counts = ours(mel, frames)
    packed = torch.cat([mel[row, :, :count] for row, count in enumerate(frames.tolist())], dim=1)
    wanted = theirs(packed, feature_lens=frames).last_hidden_state
    found = torch.cat([row[:count] for row, count in zip(found, counts.tolist())])
    assert counts.tolist() == [audio_tokens(count) for count in frames.tolist()] == [112, 50, 2, 51]
    assert (found - wanted).abs().max() < 1e-4
    assert wanted.abs().max() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("size", [1, 64, 333])
def test_pieces_of_any_size_give_what_the_whole_gives(pair, size):
    ours, _ = pair
    mel = torch.randn(2, 16, 431)
    state, parts = ours.init_state(2), []
    for first in range(0, 431, size):
        parts.append(ours.step(mel[..., first : first + size], state, last=first + size >= 431))
    assert (torch.cat(parts, dim=1) - ours(mel)[0]).abs().max() < 1e-5


def test_a_sound_that_makes_no_token_is_refused(pair):
    with pytest.raises(ModelError, match="too short"):
        pair[0](torch.zeros(1, 16, 2))


def test_all_that_is_read_learns(pair):
    tower = AudioTower(AudioTowerConfig(**SIZES))
    tower(torch.randn(1, 16, 300))[0].square().mean().backward()
    for name, parameter in tower.named_parameters():
        learns = name not in ("audio_bos_eos_token.weight",)
        assert (parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)) == learns, name
