"""The mini codec, beside the contract: long signals, what a frame needs, weights that don't fit, its spectrogram."""

import json
from dataclasses import replace

import pytest
import torch

from antiphon.codecs.mini.model import LogMel, MiniCodec, MiniCodecConfig
from antiphon.errors import HubError

TINY = MiniCodecConfig(
    sample_rate=2400, hop=32, mels=10, mel_window=128, encoder_width=8, encoder_depth=1, decoder_widths=(8, 8, 8),
    decoder_depths=(1, 1, 1), contour_width=4, latent=6, semantic_inner=4, inner=6, codebooks=3, codebook_size=16,
)  # fmt: skip


def make_codec() -> MiniCodec:
    codec = MiniCodec(TINY).eval()
    torch.nn.init.normal_(codec.encoder[-1].conv.weight)  # zero at first: the residual network would go untested
    torch.nn.init.constant_(codec.wave.filters.bias, 0.0)
    torch.nn.init.normal_(codec.wave.pitch.weight, std=0.1)
    torch.nn.init.constant_(codec.wave.pitch.bias, 0.1)
    return codec


@pytest.fixture
def codec() -> MiniCodec:
    torch.manual_seed(0)
    return make_codec()


def test_shapes_and_rates(codec):
    codes = codec.encode(torch.randn(2, 1, 500))
    assert codes.shape == (2, 3, 3) and codec.frame_rate == 12.5
    assert codec.decode(codes).shape == (2, 1, 3 * 192)
    assert codec.decode(codes[:, :1]).shape == (2, 1, 3 * 192)


def test_one_codebook_alone():
    one, audio = MiniCodec(replace(TINY, codebooks=1)).train(), torch.randn(2, 1, 500)
    result = one.quantized(one.latents(audio), used=torch.tensor([1, 1]))
    assert result.codes.shape == (2, 1, 3) and torch.equal(result.latents, result.first)
    assert one.decode(one.eval().encode(audio)).shape == (2, 1, 3 * 192)


@pytest.mark.parametrize("frames", [20, 23.3, 30])
def test_long_signals_go_through_in_pieces(codec, monkeypatch, frames):
    audio = torch.randn(2, 1, int(frames * 192))
    codes, sound = codec.encode(audio, 2), codec.decode(codec.encode(audio))
    monkeypatch.setattr("antiphon.codecs.mini.model.PIECE", 10)
    assert torch.equal(codec.encode(audio, 2), codes)
    pieces = list(codec.decode_pieces(codec.encode(audio)))
    assert len(pieces) == -(-codes.shape[-1] // 10)
    torch.testing.assert_close(torch.cat(pieces, -1), sound, atol=1e-5, rtol=0)
    torch.testing.assert_close(codec.decode(codec.encode(audio)), sound, atol=1e-5, rtol=0)


def test_decoding_a_frame_needs_no_later_one(codec):
    codes = torch.randint(0, 16, (1, 3, 6))
    changed = codes.clone()
    changed[..., 3:] = 0
    certain = 3 * 192 - codec.delay
    torch.testing.assert_close(codec.decode(codes)[..., :certain], codec.decode(changed)[..., :certain])


def test_weights_that_do_not_fit_are_refused(codec, tmp_path):
    codec.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["encoder_depth"] = 2
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(HubError, match="do not fit"):
        MiniCodec.from_pretrained(tmp_path)


def test_log_mel_is_causal():
    mel = LogMel(2400, 128, 32, 10, 1e-5)
    audio = torch.randn(1, 320)
    later = audio.clone()
    later[:, 160:] = 0
    torch.testing.assert_close(mel(audio)[..., :5], mel(later)[..., :5])
