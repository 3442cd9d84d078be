"""Mimi beside Kyutai's own programs, `moshi` and `rustymimi`, with the same random weights."""

import json

import pytest
import torch
from safetensors.torch import save_file

from antiphon.codecs.mimi.model import Mimi
from tests.codecs.mimi.test_model import fill


def kyutai(path, full: bool = False):
    """A Mimi of Kyutai's code, and its weights as that code publishes them."""
    loaders = pytest.importorskip("moshi.models.loaders")
    torch.manual_seed(0)
    config = json.loads(json.dumps(loaders._mimi_config))
    if not full:
        config["seanet"].update(dimension=64, n_filters=4)
        config["quantizer"].update(dimension=16, bins=64, input_dimension=64, output_dimension=64)
        config["transformer"].update(d_model=64, num_layers=2, dim_feedforward=96, input_dimension=64,
                                     output_dimensions=[64])  # fmt: skip
    model = loaders.get_mimi(None, device="cpu", num_codebooks=8, mimi_config=config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".scale"):
                parameter.uniform_(0.1, 0.5)
        latents = model.encode_to_latent(torch.randn(1, 1, 19200), quantize=False)
        width = model.quantizer.rvq_rest.input_proj(latents).std().item()
    books = [module for name, module in model.named_modules() if name.endswith("_codebook")]
    fill([(book.embedding_sum, book.cluster_usage) for book in books], width)
    for book in books:
        book._initialized.fill_(1)
        book._embedding = None
    weights = {
        key.replace("in_projs.0.weight", "in_proj_weight").replace("out_projs.0.weight", "out_proj.weight"): value
        for key, value in model.state_dict().items()
    }
    save_file({key: value.contiguous() for key, value in weights.items()}, path)
    return model


@pytest.mark.parametrize("full", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_same_as_kyutai(tmp_path, full):
    theirs = kyutai(tmp_path / "tokenizer-x.safetensors", full)
    ours = Mimi.from_pretrained(tmp_path)
    assert ours.config.pad_audio and ours.codebooks == 32 and ours.frame_rate == 12.5
    with torch.no_grad():
        for batch, length in ((1, 1), (2, 1921), (1, 30 * 1920)):
            audio = torch.randn(batch, 1, length)
            for count in (2, 8, 32) if full or length != 1921 else range(1, 33):
                theirs.set_num_codebooks(count)
                codes = theirs.encode(audio)
                assert torch.equal(ours.encode(audio, count), codes)
                torch.testing.assert_close(ours.decode(codes), theirs.decode(codes), atol=1e-4, rtol=1e-4)
        assert len(codes.unique()) > 20
        theirs.set_num_codebooks(8)
        state = ours.init_state(1)
        with theirs.streaming(1):
            for frame in audio.split(1920, dim=-1):
                codes = theirs.encode(frame)
                assert torch.equal(ours.encode_step(frame, state, codebooks=8), codes)
                torch.testing.assert_close(ours.decode_step(codes, state), theirs.decode(codes), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_same_as_rustymimi(tmp_path):
    numpy, rustymimi = pytest.importorskip("numpy"), pytest.importorskip("rustymimi")
    kyutai(tmp_path / "tokenizer-x.safetensors", full=True)
    for count, lengths in ((8, (20 * 1920, 1, 1919, 2 * 1920 + 77)), (1, (959,)), (32, (1921,))):
        theirs = rustymimi.Tokenizer(str(tmp_path / "tokenizer-x.safetensors"), num_codebooks=count)
        ours = Mimi.from_pretrained(tmp_path, codebooks=count)
        ours.config.pad_audio = False  # unlike `moshi`, it doesn't fill a last frame up
        for length in lengths:
            audio = torch.randn(1, 1, length)
            codes = torch.from_numpy(numpy.asarray(theirs.encode(audio.numpy()))).long()
            assert torch.equal(ours.encode(audio), codes)
            sound = torch.from_numpy(numpy.asarray(theirs.decode(codes.numpy().astype(numpy.uint32))))
            torch.testing.assert_close(ours.decode(codes), sound, atol=1e-4, rtol=1e-4)
        theirs.reset()
        state = ours.init_state(1)
        for frame in torch.randn(1, 1, 3 * 1920).split(1920, dim=-1):
            codes = torch.from_numpy(numpy.asarray(theirs.encode_step(frame.numpy()))).long()
            assert torch.equal(ours.encode_step(frame, state), codes)
            sound = torch.from_numpy(numpy.asarray(theirs.decode_step(codes.numpy().astype(numpy.uint32))))
            torch.testing.assert_close(ours.decode_step(codes, state), sound, atol=1e-4, rtol=1e-4)
