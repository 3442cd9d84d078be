"""Qwen3-Omni's audio tower: what `transformers` gives, whole or as it comes."""

from __future__ import annotations

import pytest
import torch

from antiphon.encoders.whisper.aut import AudioTransformer, AudioTransformerConfig
from antiphon.errors import ModelError

SIZES = {
    "d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "num_mel_bins": 20,
    "output_dim": 24, "downsample_hidden_size": 6, "n_window_infer": 200,
}  # fmt: skip


@pytest.fixture(scope="module")
def pair():
    from transformers.models.qwen3_omni_moe.configuration_qwen3_omni_moe import Qwen3OmniMoeAudioEncoderConfig
    from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import Qwen3OmniMoeAudioEncoder

    torch.manual_seed(0)
    theirs = Qwen3OmniMoeAudioEncoder(Qwen3OmniMoeAudioEncoderConfig(**SIZES)).eval()
    ours = AudioTransformer(AudioTransformerConfig(**SIZES)).eval()
    for parameter in theirs.parameters():
        parameter.data.normal_(0, 0.3)
    ours.load_state_dict({key.replace("conv2d", "conv"): value for key, value in theirs.state_dict().items()})
    return ours, theirs


@torch.no_grad()
def test_rows_of_any_length_are_what_transformers_gives(pair):
    ours, theirs = pair
    frames = torch.tensor([450, 200, 7, 203, 1])
    mel = torch.randn(5, 20, 450)
    found, counts = ours(mel, frames)
    packed = torch.cat([mel[row, :, :count] for row, count in enumerate(frames.tolist())], dim=1)
    wanted = theirs(packed, feature_lens=frames).last_hidden_state
    own = torch.cat([row[:count] for row, count in zip(found, counts.tolist())])
    assert counts.tolist() == [ours.config.tokens(count) for count in frames.tolist()] == [59, 26, 1, 27, 1]
    assert (own - wanted).abs().max() < 1e-4 and wanted.abs().max() > 0.1
    assert not found[2, 1:].any()


@torch.no_grad()
def test_a_row_is_the_same_whatever_comes_with_it(pair):
    """`transformers` fills a short sound up to the longest that it comes with, here it is a second in any case."""
    ours, _ = pair
    mel = torch.randn(2, 20, 330)
    together = ours(mel, torch.tensor([330, 37]))[0]
    torch.testing.assert_close(together[1, :5], ours(mel[1:, :, :37])[0][0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("size", [1, 64, 333])
def test_pieces_of_any_size_give_what_the_whole_gives(pair, size):
    ours, _ = pair
    mel = torch.randn(2, 20, 431)
    state, parts = ours.init_state(2), []
    for first in range(0, 431, size):
        parts.append(ours.step(mel[..., first : first + size], state, last=first + size >= 431))
    assert (torch.cat(parts, dim=1) - ours(mel)[0]).abs().max() < 1e-5


def test_nothing_is_refused(pair):
    with pytest.raises(ModelError, match="no mel frames"):
        pair[0](torch.zeros(1, 20, 0))
