"""Semantic tokens by clustering: nearest centres, batches, saving; runs joined and parted again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from antiphon.codecs.base import Tokenizer, fingerprint
from antiphon.codecs.semantic.kmeans import SemanticTokenizer, deduplicate, repeat
from antiphon.encoders import load_features
from antiphon.errors import ModelError
from tests.encoders.test_features import self_supervised, sound, whisper_folder


@pytest.fixture(params=["hubert", "whisper"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    if request.param == "whisper":
        whisper_folder(folder)
    else:
        self_supervised("hubert", False).save_pretrained(folder)
    return folder


@pytest.fixture
def tokenizer(model: Path) -> SemanticTokenizer:
    features = load_features(model, 2)
    values = features(sound(16000, 1)[None])[0][0]
    return SemanticTokenizer(features, values[::5].detach().clone(), str(model), 2)


def test_codes_are_the_nearest_centres(tokenizer: SemanticTokenizer) -> None:
    assert isinstance(tokenizer, Tokenizer) and tokenizer.frame_rate == 50.0 and tokenizer.sample_rate == 16000
    audio = sound(16000, 1)
    codes = tokenizer.encode(audio[None, None])
    values = tokenizer.features(audio[None])[0][0].detach()
    centres = tokenizer.centroids
    slow = [min(range(len(centres)), key=lambda c: float((v - centres[c]).square().sum())) for v in values]
    assert codes.shape == (1, 1, len(values)) and codes[0, 0].tolist() == slow
    assert codes[0, 0, ::5].tolist() == list(range(tokenizer.codebook_size))
    assert torch.equal(tokenizer.encode(audio[None, None], codebooks=1), codes)


@pytest.mark.parametrize("penalty", [0.0, 5.0])
def test_rows_give_what_each_gives_alone(tokenizer: SemanticTokenizer, penalty: float) -> None:
    tokenizer.duration_penalty = penalty
    lengths = torch.tensor([9000, 16000, 500])
    audio = torch.stack([torch.nn.functional.pad(sound(n, n), (0, 16000 - n)) for n in lengths.tolist()])
    codes, frames = tokenizer.tokenize(audio, lengths)
    for row, (length, count) in enumerate(zip(lengths.tolist(), frames.tolist())):
        assert torch.equal(codes[row, :, :count], tokenizer.encode(audio[row, :length][None, None])[0])
        assert not codes[row, :, count:].any()


def test_saved_and_loaded_it_gives_the_same_codes(tokenizer: SemanticTokenizer, model: Path, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["family"] == "semantic"
    audio = sound(8000, 3)[None, None]
    again = SemanticTokenizer.from_pretrained(tmp_path / "saved")
    assert torch.equal(again.encode(audio), tokenizer.encode(audio)) and again.layer == 2
    model.rename(tmp_path / "elsewhere")
    again = SemanticTokenizer.from_pretrained(tmp_path / "saved", tmp_path / "elsewhere")
    assert torch.equal(again.encode(audio), tokenizer.encode(audio))


def test_a_penalty_on_changes_makes_runs_longer_and_other_codes(tokenizer: SemanticTokenizer, tmp_path: Path) -> None:
    audio = sound(16000, 3)[None, None]
    plain, before = tokenizer.encode(audio)[0, 0], fingerprint(tokenizer)
    tokenizer.duration_penalty = 1e9
    assert len(deduplicate(tokenizer.encode(audio)[0, 0])[0]) == 1 < len(deduplicate(plain)[0])
    assert fingerprint(tokenizer) != before
    tokenizer.save_pretrained(tmp_path / "saved")
    again = SemanticTokenizer.from_pretrained(tmp_path / "saved")
    assert again.duration_penalty == 1e9 and fingerprint(again) == fingerprint(tokenizer)
    with pytest.raises(ModelError, match="0 or more"):
        SemanticTokenizer(tokenizer.features, tokenizer.centroids, "x", None, duration_penalty=-1.0)


def test_errors_say_what_is_wrong(tokenizer: SemanticTokenizer, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="don't fit features of width"):
        SemanticTokenizer(tokenizer.features, torch.zeros(5, 3), "x", None)
    with pytest.raises(ModelError, match="no cluster centres"):
        SemanticTokenizer.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"\[batch, 1, samples\]"):
        tokenizer.encode(torch.zeros(1, 2, 500))
    with pytest.raises(ValueError, match="have one"):
        tokenizer.encode(torch.zeros(1, 1, 500), codebooks=2)


@pytest.mark.parametrize("shape", [(0,), (1,), (57,), (3, 57), (2, 0)])
def test_runs_are_joined_and_parted_again(shape: tuple[int, ...]) -> None:
    codes = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(0))
    short, counts = deduplicate(codes)
    assert short.shape == (*shape[:-1], len(counts)) and int(counts.sum()) == shape[-1]
    assert torch.equal(repeat(short, counts), codes)
    frames = short.T.tolist() if codes.ndim == 2 else short.tolist()
    assert all(a != b for a, b in zip(frames, frames[1:]))


def test_runs_of_a_known_case() -> None:
    short, counts = deduplicate(torch.tensor([5, 5, 5, 2, 5, 5]))
    assert short.tolist() == [5, 2, 5] and counts.tolist() == [3, 1, 2]
    short, counts = deduplicate(torch.tensor([[1, 1, 1], [2, 2, 3]]))
    assert short.tolist() == [[1, 1], [2, 3]] and counts.tolist() == [2, 1]
