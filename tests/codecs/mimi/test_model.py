"""Mimi, beside the contract: the same as each published implementation with the same random weights, and learning."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from antiphon.codecs.mimi.model import Mimi, MimiConfig
from antiphon.errors import HubError

TINY = MimiConfig(
    dim=16, filters=2, ratios=(3, 2, 2), heads=2, inner=24, layers=2, window=7, codebooks=4, codebook_size=32,
    codebook_dim=8, layer_scale=0.3, chunk=5,
)  # fmt: skip
FRAME = 24


def make_codec(**fields) -> Mimi:
    codec = Mimi(replace(TINY, **fields)).eval()
    spread(codec, torch.randn(1, 1, 300 * FRAME))
    return codec


@pytest.fixture(scope="module")
def codec() -> Mimi:
    torch.manual_seed(0)
    return make_codec()


@torch.no_grad()
def spread(codec: Mimi, audio: torch.Tensor) -> None:
    """Codes where the latents are: else any audio would give the same few."""
    latents = codec.latents(audio)[0]
    for part in (codec.quantizer.semantic, codec.quantizer.acoustic):
        residual = part.inward(latents)
        for book in part.codebooks:
            book.codes.copy_(residual[torch.randint(len(residual), (book.size,))])
            book.total.copy_(book.codes)
            residual = residual - book.codes[torch.cdist(residual, book.codes).argmin(1)]


@torch.no_grad()
def fill(codebooks, std: float) -> None:
    for total, usage in codebooks:
        usage.uniform_(0.5, 2.0)
        total.copy_(torch.randn_like(total) * std * usage[:, None])


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    from transformers import MimiConfig as TheirConfig
    from transformers import MimiModel

    torch.manual_seed(0)
    config = TheirConfig(
        num_filters=4, hidden_size=32, num_attention_heads=4, num_key_value_heads=4, intermediate_size=48,
        num_hidden_layers=2, upsample_groups=32, num_quantizers=5, vector_quantization_hidden_dimension=16,
        codebook_dim=16, codebook_size=32, sliding_window=10, upsampling_ratios=[4, 3, 2],
    )  # fmt: skip
    model = MimiModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".scale"):
                parameter.uniform_(0.1, 0.5)
            elif "norm" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    books = [m for m in model.modules() if hasattr(m, "embed_sum")]
    latents = model.encoder(torch.randn(1, 1, 4800)).latents
    width = model.quantizer.acoustic_residual_vector_quantizer.input_proj(latents).std().item()
    fill([(book.embed_sum, book.cluster_usage) for book in books], width)
    folder = tmp_path_factory.mktemp("published")
    model.save_pretrained(folder)
    return model, folder


@pytest.mark.parametrize("batch, length", [(1, 1), (2, 47), (1, 48), (2, 49), (3, 480), (1, 2401)])
def test_same_as_transformers(published, batch, length):
    theirs, folder = published
    ours = Mimi.from_pretrained(folder)
    torch.manual_seed(length)
    audio = torch.randn(batch, 1, length)
    with torch.no_grad():
        expected = theirs.encode(audio).audio_codes
        codes = ours.encode(audio)
        assert torch.equal(codes, expected)
        if length > 480:
            assert len(codes.unique()) > 20
        for count in range(1, 6):
            fewer = theirs.encode(audio, num_quantizers=count).audio_codes
            assert torch.equal(ours.encode(audio, count), fewer)
            sound = theirs.decode(fewer).audio_values
            torch.testing.assert_close(ours.decode(fewer), sound, atol=1e-4, rtol=1e-4)


def test_in_chunks_or_whole_the_latents_are_the_same(codec):
    audio = torch.randn(2, 1, 33 * FRAME + 5)
    with torch.no_grad():
        latents = codec.latents(audio)
        assert torch.equal(codec.quantizer.encode(latents), codec.encode(audio))
        sound = codec.synthesize(codec.quantizer.decode(codec.encode(audio)))
    torch.testing.assert_close(codec.decode(codec.encode(audio)), sound, atol=1e-5, rtol=1e-4)


def test_fewer_codebooks_can_be_loaded(codec, tmp_path):
    codec.save_pretrained(tmp_path)
    audio = torch.randn(2, 1, 500)
    fewer = Mimi.from_pretrained(tmp_path, codebooks=2)
    assert fewer.codebooks == 2 and torch.equal(fewer.encode(audio), codec.encode(audio, 2))


def test_gradients_reach_everything_that_learns(codec):
    torch.manual_seed(0)
    fresh = Mimi(TINY).train()
    audio = torch.randn(2, 1, 12 * FRAME)
    result = fresh.quantized(fresh.latents(audio))
    loss = (fresh.synthesize(result.latents) - audio).square().mean() + result.commitment
    loss.backward()
    for name, parameter in fresh.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_searching_follows_codes_that_change(codec):
    audio = torch.randn(1, 1, 10 * FRAME)
    before = codec.encode(audio)
    book = codec.quantizer.semantic.codebooks[0]
    with torch.no_grad():
        book.codes.copy_(book.codes.flip(0))
        assert torch.equal(codec.encode(audio)[:, 0], TINY.codebook_size - 1 - before[:, 0])
        book.codes.copy_(book.codes.flip(0))


def test_one_codebook_alone_is_trained(codec, tmp_path):
    codec.save_pretrained(tmp_path)
    one = Mimi.from_pretrained(tmp_path, codebooks=1).train()
    audio = torch.randn(2, 1, 12 * FRAME)
    result = one.quantized(one.latents(audio), used=torch.tensor([1, 1]))
    assert result.codes.shape == (2, 1, 12) and torch.equal(result.latents, result.first)
    (one.synthesize(result.latents).square().mean() + result.commitment).backward()
    assert one.quantizer.semantic.inward.weight.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="can't be semantic"):
        replace(TINY, codebooks=1, semantic=2)


@pytest.mark.parametrize(
    "change, added, complaint",
    [
        ({"layers": 1}, None, r"unknown: \w+_transformer.layers.1"),
        ({}, "encoder.layers.99.weight", "unknown: encoder.layers.99.weight"),
        ({}, "quantizer.semantic.codebooks.0.code", "unknown: quantizer.semantic.codebooks.0.code"),
    ],
)
def test_weights_that_are_not_known_are_refused(codec, tmp_path, change, added, complaint):
    codec.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    weights = load_file(tmp_path / "model.safetensors")
    save_file({**weights, **({added: torch.zeros(3)} if added else {})}, tmp_path / "model.safetensors")
    with pytest.raises(HubError, match=complaint):
        Mimi.from_pretrained(tmp_path)


def test_published_layers_that_the_config_lacks_are_refused(published, tmp_path):
    published[0].save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    with pytest.raises(HubError, match="unknown: .*_transformer.layers.1"):
        Mimi.from_pretrained(tmp_path)


def test_what_makes_no_sense_is_refused(codec, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "mimi", "pad_mode": "reflect"}')
    with pytest.raises(HubError, match="pad_mode"):
        Mimi.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(HubError, match="holds no Mimi"):
        Mimi.from_pretrained(tmp_path)
