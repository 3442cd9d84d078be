"""DAC: parity with `transformers` on the same random weights, chunks equal the whole, files, gradients."""

import json

import pytest
import torch
from torch.nn.utils.parametrizations import weight_norm
from transformers import DacConfig as PeerConfig
from transformers import DacModel as Peer

from antiphon.codecs.base import Codec
from antiphon.codecs.dac import Dac, DacConfig
from antiphon.errors import HubError
from antiphon.nn.overlap import convolutions, needed

SIZES = {
    "16khz": dict(sampling_rate=16000, downsampling_ratios=[2, 4, 5, 8], n_codebooks=12),
    "24khz": dict(sampling_rate=24000, downsampling_ratios=[2, 4, 5, 8], n_codebooks=5),
    "44khz": dict(sampling_rate=44100, downsampling_ratios=[2, 4, 8, 8], n_codebooks=9),
}
TINY = DacConfig(sample_rate=800, ratios=(2, 5), encoder_width=4, decoder_width=16, codebooks=3, codebook_size=16)


def peer(name: str = "16khz") -> Peer:
    torch.manual_seed(0)
    model = Peer(PeerConfig(encoder_hidden_size=4, decoder_hidden_size=64, codebook_size=64, **SIZES[name])).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("alpha"):  # ones and small weights would leave most of the network untested
                parameter.uniform_(0.3, 2.0)
            elif key.endswith("bias"):
                parameter.normal_(std=0.05)
            elif parameter.ndim == 3:
                gain = 0.2 if ".res_unit" in key else 0.9
                parameter.mul_(gain / (parameter.std() * parameter[0].numel() ** 0.5))
            else:
                parameter.normal_()
    return model


@pytest.mark.parametrize("name", SIZES)
def test_same_codes_and_audio_as_transformers(name, tmp_path):
    theirs = peer(name)
    theirs.save_pretrained(tmp_path)
    ours = Dac.from_pretrained(tmp_path)
    hop, batch = ours.config.samples_per_frame, 2
    assert isinstance(ours, Codec) and ours.sample_rate == SIZES[name]["sampling_rate"]
    for samples in (1, hop + 1, 20 * hop, 20 * hop + 77):
        audio = torch.randn(batch, 1, samples)
        whole = torch.nn.functional.pad(audio, (0, -samples % hop))  # as the published feature extractor does
        with torch.no_grad():
            expected = theirs.encode(whole).audio_codes
            codes = ours.encode(audio)
            assert codes.shape == (batch, ours.codebooks, -(-samples // hop)) and torch.equal(codes, expected)
            heard = theirs.decode(audio_codes=expected).audio_values[:, None]
        torch.testing.assert_close(ours.decode(codes), heard, atol=1e-4, rtol=0)
    assert len(codes.unique()) > 40 and heard.std() > 0.05


@pytest.mark.parametrize("name", SIZES)
def test_every_number_of_codebooks(name, tmp_path):
    theirs = peer(name)
    theirs.save_pretrained(tmp_path)
    ours = Dac.from_pretrained(tmp_path)
    audio = torch.randn(3, 1, 10 * ours.config.samples_per_frame)
    for count in range(1, SIZES[name]["n_codebooks"] + 1):
        with torch.no_grad():
            expected = theirs.encode(audio, n_quantizers=count)
            heard = theirs.decode(expected.quantized_representation).audio_values[:, None]
        codes = ours.encode(audio, count)
        assert torch.equal(codes, expected.audio_codes) and codes.shape[1] == count
        torch.testing.assert_close(ours.decode(codes), heard, atol=1e-4, rtol=0)


def test_weight_norm_is_folded(tmp_path):
    theirs = peer()
    theirs.save_pretrained(tmp_path)
    plain = Dac.from_pretrained(tmp_path)
    theirs.apply_weight_norm()
    theirs.save_pretrained(tmp_path)
    assert any("original0" in key or "weight_g" in key for key in theirs.state_dict())
    normed, audio = Dac.from_pretrained(tmp_path), torch.randn(1, 1, 4000)
    assert torch.equal(plain.encode(audio), normed.encode(audio))


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("chunk", [1, 7, 30])
def test_chunks_give_what_the_whole_gives(name, chunk, tmp_path):
    peer(name).save_pretrained(tmp_path)
    codec = Dac.from_pretrained(tmp_path).double()
    audio = torch.randn(2, 1, 31 * codec.config.samples_per_frame - 5).double()
    codec.config.chunk = 1000
    codes = codec.encode(audio)
    heard = codec.decode(codes)
    codec.config.chunk = chunk
    assert torch.equal(codec.encode(audio), codes)
    torch.testing.assert_close(codec.decode(codes), heard, atol=1e-9, rtol=0)
    assert max(piece.shape[-1] for piece in codec.decode_pieces(codes)) <= chunk * codec.config.samples_per_frame


def test_a_chunk_is_given_what_it_depends_on_and_no_more():
    codec, hop = Dac(TINY), TINY.samples_per_frame
    first, last = needed(convolutions(codec.encoder), 20, 20)
    audio = torch.randn(1, 1, 60 * hop, requires_grad=True)
    codec.encoder(audio)[..., 20].sum().backward()
    used = audio.grad[0, 0].nonzero()
    assert (int(used.min()), int(used.max())) == (first, last)
    first, last = needed(convolutions(codec.decoder), 20 * hop, 21 * hop - 1)
    latents = torch.randn(1, TINY.latent, 60, requires_grad=True)
    codec.decoder(latents)[..., 20 * hop : 21 * hop].sum().backward()
    used = latents.grad[0, 0].nonzero()
    assert (int(used.min()), int(used.max())) == (first, last)


def test_weight_norm_is_multiplied_out_when_saved(tmp_path):
    codec = Dac(TINY).eval()
    audio = torch.randn(1, 1, 500)
    codes = codec.encode(audio)
    for module in codec.modules():  # as a trainer may put it
        if isinstance(module, (torch.nn.Conv1d, torch.nn.ConvTranspose1d)):
            weight_norm(module)
    codec.save_pretrained(tmp_path)
    again = Dac.from_pretrained(tmp_path)
    assert torch.equal(again.encode(audio), codes) and again.config == TINY


def test_what_does_not_fit_is_refused(tmp_path):
    Dac(TINY).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "codebooks": 4}))
    with pytest.raises(HubError, match="do not fit"):
        Dac.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "codebook_dim": 4}))
    with pytest.raises(HubError, match="do not fit"):
        Dac.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"family": "other"}))
    with pytest.raises(HubError, match="holds no DAC"):
        Dac.from_pretrained(tmp_path)


def test_every_parameter_learns():
    torch.manual_seed(0)
    codec, audio = Dac(TINY), torch.randn(4, 1, 400)
    result = codec.quantized(codec.latents(audio))
    assert torch.equal(result.codes, codec.encode(audio))
    heard = codec.synthesize(result.latents)
    assert heard.shape == audio.shape
    decoded = codec.decode(result.codes)
    torch.testing.assert_close(heard[..., : decoded.shape[-1]], decoded, atol=1e-5, rtol=0)
    error = (heard - audio).square().mean()
    (error + result.codebook + 0.25 * result.commitment).backward()
    for name, parameter in codec.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, name


def test_dropout_uses_that_many_levels_and_the_encoder_gets_the_gradient_of_what_follows():
    codec = Dac(TINY).eval()
    latents = torch.randn(2, 6, TINY.latent, requires_grad=True)
    result = codec.quantized(latents, used=torch.tensor([1, 3]))
    torch.testing.assert_close(result.latents[0], codec.quantizer.decode(result.codes[:1, :1])[0])
    torch.testing.assert_close(result.latents[1], codec.quantizer.decode(result.codes[1:])[0])
    torch.testing.assert_close(result.first, codec.quantizer.decode(result.codes[:, :1]))
    result.latents.sum().backward()
    assert (latents.grad.abs() > 0).all()
