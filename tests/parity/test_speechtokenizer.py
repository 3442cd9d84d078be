"""SpeechTokenizer: parity with its authors' package on the same random weights, files, gradients."""

import importlib
import importlib.util
import json
import sys

import pytest
import torch

from antiphon.codecs.base import Codec, StreamingCodec
from antiphon.codecs.speechtokenizer import SpeechTokenizer, SpeechTokenizerConfig
from antiphon.errors import HubError

PUBLISHED = {
    "resblock": "1", "num_gpus": 3, "batch_size": 60, "learning_rate": 0.0001, "segment_size": 48000,
    "num_mels": 80, "sampling_rate": 16000, "sample_rate": 800, "strides": [5, 4, 2], "n_filters": 4, "dimension": 32,
    "semantic_dimension": 12, "bidirectional": True, "dilation_base": 2, "residual_kernel_size": 3,
    "n_residual_layers": 1, "lstm_layers": 2, "activation": "ELU", "codebook_size": 16, "n_q": 8,
}  # fmt: skip
TINY = SpeechTokenizerConfig(
    sample_rate=800, latent=8, semantic=5, filters=4, ratios=(4, 2), codebooks=3, codebook_size=16
)
HOP = 40


def package():
    """The package's model, without the trainer that its top imports with all that it needs."""
    pytest.importorskip("einops")
    if "speechtokenizer" not in sys.modules:
        spec = importlib.util.find_spec("speechtokenizer")
        if spec is None:
            pytest.skip("speechtokenizer isn't installed (pip install --no-deps speechtokenizer einops)")
        sys.modules["speechtokenizer"] = importlib.util.module_from_spec(spec)
    return importlib.import_module("speechtokenizer.model").SpeechTokenizer


@pytest.fixture(scope="module", params=[{}, {"n_residual_layers": 2, "dimension": 12, "bidirectional": False}])
def both(request, tmp_path_factory):
    folder, fields = tmp_path_factory.mktemp("speechtokenizer"), {**PUBLISHED, **request.param}
    torch.manual_seed(0)
    theirs = package()(fields).eval()
    with torch.no_grad():
        for key, parameter in theirs.named_parameters():
            if key.endswith("weight_g"):  # else latents hardly differ from frame to frame
                parameter.mul_(2.0)
        left = theirs.encoder(torch.randn(8, 1, 2400)).mT.flatten(0, 1)
        for layer in theirs.quantizer.vq.layers:  # zeros at first: any input would have one code
            book = layer._codebook
            chosen = left[torch.randperm(len(left))[:16]]
            book.embed.copy_(chosen + 0.01 * left.std() * torch.randn_like(chosen))
            book.cluster_size.uniform_(1, 9)
            book.embed_avg.copy_(book.embed * book.cluster_size[:, None])
            book.inited.fill_(1.0)
            left = left - book.embed[book.quantize(left)]
    (folder / "config.json").write_text(json.dumps(fields))
    torch.save(theirs.state_dict(), folder / "SpeechTokenizer.pt")
    return theirs, SpeechTokenizer.from_pretrained(folder), folder


@pytest.mark.parametrize("samples", [1, 7, HOP, HOP + 1, 60 * HOP + 27, 99 * HOP - 3])
def test_same_codes_and_audio_as_the_package(both, samples):
    theirs, ours, _ = both
    assert isinstance(ours, Codec) and not isinstance(ours, StreamingCodec) and ours.frame_rate == 20
    audio = torch.randn(2, 1, samples)
    with torch.no_grad():
        for count in range(1, 9):
            expected = theirs.encode(audio, n_q=count)
            codes = ours.encode(audio, count)
            assert torch.equal(codes, expected.transpose(0, 1)) and codes.shape[1] == count
            torch.testing.assert_close(ours.decode(codes), theirs.decode(expected), atol=1e-4, rtol=0)
        rest = theirs.decode(expected[1:], st=1)
        torch.testing.assert_close(ours.decode(codes[:, 1:], first=1), rest, atol=1e-4, rtol=0)
    assert samples < 60 * HOP or len(codes.unique()) == 16


def test_the_first_codebook_in_the_teachers_space(both):
    theirs, ours, _ = both
    audio = torch.randn(2, 1, 500)
    with torch.no_grad():
        _, _, expected = theirs(audio)
        first = ours.quantized(ours.latents(audio)).first
        torch.testing.assert_close(ours.project_to_teacher(first), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("chunk, keep", [(1, 0), (13, 0), (13, 26), (40, 1000)])
def test_chunks_give_what_the_whole_gives(both, chunk, keep, monkeypatch):
    _, ours, _ = both
    audio = torch.randn(2, 1, 60 * HOP + 27)
    codes = ours.encode(audio)
    sound = ours.decode(codes)
    monkeypatch.setattr(ours.config, "chunk", chunk)
    monkeypatch.setattr(ours.config, "keep", keep)
    assert torch.equal(ours.encode(audio, 3), codes[:, :3])
    torch.testing.assert_close(ours.decode(codes), sound, atol=1e-5, rtol=0)
    assert len(list(ours.decode_pieces(codes[:, 1:], first=1))) == -(-61 // chunk)


def test_fewer_codebooks_can_be_loaded(both):
    _, ours, folder = both
    audio = torch.randn(1, 1, 500)
    fewer = SpeechTokenizer.from_pretrained(folder, codebooks=2)
    assert fewer.codebooks == 2 and torch.equal(fewer.encode(audio), ours.encode(audio, 2))
    with pytest.raises(ValueError, match="3 codebooks"):
        fewer.encode(audio, 3)
    with pytest.raises(ValueError, match="1 to 1 codebooks"):
        fewer.decode(fewer.encode(audio), first=1)


def test_what_does_not_fit_is_refused(both, tmp_path):
    _, _, folder = both
    (tmp_path / "SpeechTokenizer.pt").write_bytes((folder / "SpeechTokenizer.pt").read_bytes())
    config = json.loads((folder / "config.json").read_text())
    for change, complaint in (
        ({"n_residual_layers": 3}, "do not fit"), ({"lstm_layers": 1}, "do not fit"), ({"n_filters": 8}, "do not fit"),
        ({"activation": "Snake"}, "ELU"), ({"family": "other"}, "holds no SpeechTokenizer"),
    ):  # fmt: skip
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(HubError, match=complaint):
            SpeechTokenizer.from_pretrained(tmp_path)


def test_saved_and_loaded_it_gives_the_same_codes(tmp_path):
    torch.manual_seed(0)
    codec = SpeechTokenizer(TINY).eval()
    codec.save_pretrained(tmp_path)
    again, audio = SpeechTokenizer.from_pretrained(tmp_path), torch.randn(1, 1, 500)
    assert torch.equal(again.encode(audio), codec.encode(audio)) and again.config == TINY
    assert json.loads((tmp_path / "config.json").read_text())["family"] == "speechtokenizer"
    with pytest.raises(ValueError, match=r"\[batch, 1, samples\]"):
        codec.encode(torch.zeros(1, 2, 100))
    assert codec.decode(codec.encode(torch.zeros(2, 1, 0))).shape == (2, 1, 0)


def test_every_parameter_learns_and_codebooks_fill():
    torch.manual_seed(0)
    codec, audio = SpeechTokenizer(TINY).train(), torch.randn(4, 1, 400)
    result = codec.quantized(codec.latents(audio), used=torch.tensor([1, 2, 3, 3]))
    heard = codec.synthesize(result.latents)
    assert heard.shape == audio.shape
    (
        (heard - audio).square().mean() + result.commitment + codec.project_to_teacher(result.first).square().mean()
    ).backward()
    for name, parameter in codec.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, name
    assert all(bool(book.ready) for book in codec.quantizer.codebooks)
    with torch.no_grad():
        codes = codec.eval().quantized(codec.latents(audio)).codes
    assert torch.equal(codec.encode(audio), codes)
