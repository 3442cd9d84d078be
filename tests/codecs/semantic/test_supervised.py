"""Semantic tokens by recognition: nothing but the quantizer is new, batches, windows, pooling, saving, gradients."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from antiphon.codecs.base import Tokenizer
from antiphon.codecs.semantic.features import load_features
from antiphon.codecs.semantic.supervised import SupervisedConfig, SupervisedTokenizer
from antiphon.encoders.whisper.features import WhisperFeatures
from antiphon.errors import ModelError
from tests.encoders.test_features import sound, whisper_folder

TINY = dict(width=16, layers=3, heads=2, inner=24, positions=40, layer=2, dim=8, codebook_size=32, levels=(4, 3, 5))


def tiny(**more: object) -> SupervisedTokenizer:
    torch.manual_seed(0)
    made = SupervisedTokenizer(SupervisedConfig(**{**TINY, **more})).eval()
    for name, parameter in made.named_parameters():
        if name.startswith("encoder.layers") and parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0, 0.3)
    torch.nn.init.normal_(made.bottleneck.inward.weight, 0, 0.5)
    if made.config.quantizer == "vq":  # codes where the latents are, so that many are used
        with torch.no_grad():
            inner = made.bottleneck.inward(made.latents(sound(32 * 320 * made.config.pool, 5)[None, None]))
            made.bottleneck.quantizer.codes.copy_(inner[0])
    return made


def rows(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise behind each row's end, which must not be heard."""
    most = max(lengths)
    audio = [torch.nn.functional.pad(sound(n, n), (0, most - n), value=7.0) for n in lengths]
    return torch.stack(audio), torch.tensor(lengths)


@torch.no_grad()
def test_without_its_quantizer_it_is_whisper(tmp_path: Path) -> None:
    whisper_folder(tmp_path)
    tokenizer = SupervisedTokenizer.from_whisper(tmp_path, layer=2, pool=1)
    audio, lengths = rows(16000, 7000)
    upper, frames = tokenizer.upper(*tokenizer.lower(audio, lengths))
    plain, count = WhisperFeatures.from_pretrained(tmp_path)(audio, lengths)
    assert torch.equal(frames, count)
    for row, n in enumerate(count.tolist()):
        assert torch.allclose(upper[row, :n], plain[row, :n], atol=1e-5)
    continuous = tokenizer.continuous(audio, lengths)
    assert torch.equal(continuous[0], plain) and torch.equal(continuous[1], count)


@pytest.mark.parametrize("more", [{}, {"quantizer": "fsq"}, {"pool": 5}, {"restore": False}, {"block": 8}])
@torch.no_grad()
def test_rows_and_windows_give_what_each_gives_alone(more: dict) -> None:
    tokenizer = tiny(**more)
    assert isinstance(tokenizer, Tokenizer)
    assert tokenizer.codebook_size == (60 if more.get("quantizer") else 32)
    pool = tokenizer.config.pool
    assert tokenizer.frame_rate == 50 / pool
    audio, lengths = rows(31000, 300, 12800, 12801, 9000)  # a window is 12,800 samples
    codes, frames = tokenizer.tokenize(audio, lengths)
    assert codes.shape == (5, 1, -(-31000 // (320 * pool))) and len(codes[0].unique()) > 4
    for row, (length, count) in enumerate(zip(lengths.tolist(), frames.tolist())):
        alone = tokenizer.encode(audio[row, :length][None, None])
        assert alone.shape[2] == count == -(-length // (320 * pool))
        assert torch.equal(codes[row, :, :count], alone[0]) and not codes[row, :, count:].any()
    features = tokenizer.features(codes[:1])
    per_code = pool if tokenizer.config.restore else 1
    assert features.shape == (1, codes.shape[2] * per_code, 16)
    window = 40 // pool
    assert torch.allclose(tokenizer.features(codes[:1, :, :window]), features[:, : window * per_code], atol=1e-5)


@torch.no_grad()
def test_the_forward_pass_is_encode_then_features() -> None:
    for more in ({}, {"quantizer": "fsq"}, {"restore": False}):
        tokenizer = tiny(**more)
        audio, lengths = rows(10240, 5120)
        features, frames, codes, _ = tokenizer(audio, lengths)
        given, count = tokenizer.tokenize(audio, lengths)
        assert torch.equal(codes, given[:, 0]) and count.tolist() == [8, 4]
        for row in range(2):
            again = tokenizer.features(given[row : row + 1, :, : count[row]])
            assert torch.allclose(features[row, : frames[row]], again[0], atol=1e-5)


@torch.no_grad()
def test_pooling_averages_what_is_there() -> None:
    fine, coarse = tiny(pool=1), tiny(pool=4)
    coarse.load_state_dict(fine.state_dict())
    audio, lengths = rows(320 * 10)
    x, pooled = fine.lower(audio, lengths)[0][0], coarse.lower(audio, lengths)[0][0]
    assert torch.allclose(pooled, torch.stack([x[:4].mean(0), x[4:8].mean(0), x[8:].mean(0)]), atol=1e-6)


@torch.no_grad()
def test_blocks_do_not_see_the_future() -> None:
    tokenizer = tiny(block=8, pool=4)
    audio = sound(320 * 24)
    later = audio.clone()
    later[320 * 18 :] *= 0.5  # the convolutions look one frame ahead; the loudest value stays
    a, b = tokenizer.latents(audio[None, None])[0], tokenizer.latents(later[None, None])[0]
    assert torch.allclose(a[:4], b[:4], atol=1e-5) and not torch.allclose(a[4:], b[4:], atol=1e-3)


@pytest.mark.parametrize("quantizer", ["vq", "fsq"])
def test_gradients_reach_everything_and_the_codebook_learns_from_sound_alone(quantizer: str) -> None:
    tokenizer = tiny(quantizer=quantizer).train()
    audio, lengths = rows(10240, 5120)
    features, frames, _codes, commitment = tokenizer(audio, lengths)
    (features[0].square().mean() + features[1, : frames[1]].square().mean() + commitment).backward()
    for name, parameter in tokenizer.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name
    if quantizer == "vq":
        book = tokenizer.bottleneck.quantizer
        assert book.ready and float(book.usage.sum()) == pytest.approx(12, rel=0.05)
        assert commitment.requires_grad
    else:
        assert not commitment.requires_grad


@pytest.mark.parametrize("quantizer", ["vq", "fsq"])
def test_saved_and_loaded_it_gives_the_same_codes(quantizer: str, tmp_path: Path) -> None:
    tokenizer = tiny(quantizer=quantizer).half().float()
    tokenizer.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["family"] == "supervised"
    again, audio = SupervisedTokenizer.from_pretrained(tmp_path), sound(9000)[None, None]
    assert again.config == tokenizer.config and torch.equal(again.encode(audio), tokenizer.encode(audio))
    again.train()(audio[:, 0], torch.tensor([9000]))  # a codebook that is there is not set anew
    if quantizer == "vq":
        assert torch.allclose(again.bottleneck.quantizer.codes, tokenizer.bottleneck.quantizer.codes, atol=0.2)


@torch.no_grad()
def test_its_features_can_be_a_teacher(tmp_path: Path) -> None:
    tokenizer = tiny(pool=2)
    tokenizer.save_pretrained(tmp_path)
    teacher, (audio, lengths) = load_features(tmp_path), rows(16000, 7000)
    assert (teacher.sample_rate, teacher.frame_rate, teacher.width) == (16000, 25.0, 16)
    values, count = teacher(audio, lengths)
    assert count.tolist() == [25, 11] and not values[1, 11:].any()
    kept = SupervisedTokenizer.from_pretrained(tmp_path)
    for row, n in enumerate(lengths.tolist()):
        alone = kept.latents(audio[row : row + 1, None, :n])
        torch.testing.assert_close(values[row : row + 1, : alone.shape[1]], alone, atol=1e-5, rtol=1e-5)
    with pytest.raises(ModelError, match="layer is 3"):
        load_features(tmp_path, 3)


def test_errors_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="choose vq or fsq"):
        SupervisedConfig(quantizer="lfq")
    with pytest.raises(ModelError, match="1 to 6"):
        SupervisedConfig(layer=7)
    with pytest.raises(ModelError, match="must divide"):
        SupervisedConfig(pool=7)
    with pytest.raises(ModelError, match="no supervised tokenizer"):
        SupervisedTokenizer.from_pretrained(tmp_path)
    whisper_folder(tmp_path)
    with pytest.raises(ModelError, match="no such size"):
        SupervisedTokenizer.from_whisper(tmp_path, layer=2, codes=5)
    with pytest.raises(ValueError, match=r"\[batch, 1, samples\]"):
        tiny().encode(torch.zeros(1, 500))
    assert tiny().encode(torch.zeros(2, 1, 0)).shape == (2, 1, 0)
