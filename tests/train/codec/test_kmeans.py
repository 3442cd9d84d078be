"""k-means as a stage: it finds the clusters, gives scikit-learn's own result, and goes on exactly after a kill."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from antiphon.codecs.semantic.kmeans import SemanticTokenizer
from antiphon.data.speech.utterances import SpeechWriter, Utterance
from antiphon.errors import ConfigError
from antiphon.evals.metrics.phones import phone_figures
from antiphon.train.config import OptimConfig, StageConfig, load_recipe
from antiphon.train.engine import build_task, train
from tests.encoders.test_features import whisper_folder
from tests.train.tiny import run_recipe

pytest.importorskip("sklearn")
RECIPE = Path(__file__).resolve().parents[3] / "recipes" / "codecs" / "hubert-kmeans.yaml"


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    with SpeechWriter(tmp_path / "speech", 24000) as writer:
        for n in range(6):
            tone = np.sin(np.arange(24000) * 2 * np.pi * draw.integers(100, 2000) / 24000)
            writer.add(Utterance(str(n), "text", "v"), 0.2 * tone + 0.05 * draw.normal(size=24000))
    return tmp_path / "speech"


def stage(speech: Path, tmp_path: Path, **more: object) -> StageConfig:
    folder = tmp_path / "whisper"
    if not folder.is_dir():
        folder.mkdir()
        whisper_folder(folder)
    fields = dict(
        task="antiphon.train.codec.kmeans:KMeansTask",
        model={"features": str(folder), "layer": 2, "codes": 12},
        data={"speech": [str(speech)], "seconds": 0.5},
        optim=OptimConfig(lr=0.0, warmup=0, schedule="constant", weight_decay=0.0),
        steps=6, batch=8, precision="float32", out=str(tmp_path / "run"), sample_every=6, log_every=2,
    )  # fmt: skip
    return StageConfig(**{**fields, **more})


def test_it_is_scikit_learns_result(speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sklearn.cluster import MiniBatchKMeans

    config = stage(speech, tmp_path)
    folder = train(config)
    task = build_task(config)
    kmeans = MiniBatchKMeans(12, init="k-means++", n_init=3, reassignment_ratio=0.0, random_state=0)
    for step in range(6):
        kmeans.partial_fit(task.frames(task.batch(step)).numpy())
    tokenizer = SemanticTokenizer.from_pretrained(folder)
    assert torch.allclose(tokenizer.centroids, torch.from_numpy(kmeans.cluster_centers_).float(), atol=1e-5)
    assert tokenizer.codebook_size == 12 and "perplexity" in capsys.readouterr().err


def test_it_refuses_more_than_one_process(speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    with pytest.raises(ConfigError, match="without torchrun"):
        build_task(stage(speech, tmp_path))


def test_a_run_that_was_stopped_goes_on(speech: Path, tmp_path: Path) -> None:
    whole = train(stage(speech, tmp_path, out=str(tmp_path / "whole")))
    train(stage(speech, tmp_path, steps=3))
    again = train(stage(speech, tmp_path))
    a, b = (SemanticTokenizer.from_pretrained(folder).centroids for folder in (whole, again))
    assert torch.allclose(a, b, atol=1e-5)


class Blobs(nn.Module):
    """Features that lie around as many points as there are tones."""

    sample_rate, frame_rate, width = 24000, 50.0, 3

    def forward(self, audio: torch.Tensor, lengths: torch.Tensor | None = None):
        frames = torch.full((len(audio),), 25)
        kind = torch.arange(25).repeat(len(audio), 1) % 4
        points = torch.tensor([[0.0, 0, 9], [0, 9, 0], [9, 0, 0], [9, 9, 9]])
        generator = torch.Generator().manual_seed(int(audio.abs().sum() * 1e3) % 2**31)
        return points[kind] + 0.1 * torch.randn(len(audio), 25, 3, generator=generator), frames


def test_it_finds_clusters(speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("antiphon.train.codec.kmeans.load_features", lambda model, layer: Blobs())
    task = build_task(stage(speech, tmp_path, model={"features": "blobs", "codes": 4}))
    task.model.train()
    told = [float(task.losses(task.batch(step))["distance"].detach()) for step in range(5)]
    assert told[-1] < 2e-3
    found = task.model.centroids.detach().round().int().tolist()
    assert sorted(found) == [[0, 0, 9], [0, 9, 0], [9, 0, 0], [9, 9, 9]]
    assert float(task.model.counts.sum()) == 5 * 8 * 25


def test_features_can_be_brought_to_unit_variance(
    speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lopsided(Blobs):
        def forward(self, audio: torch.Tensor, lengths: torch.Tensor | None = None):
            values, frames = super().forward(audio)
            return torch.cat([values[..., :2], 1e4 * torch.randn_like(values[..., :1])], -1), frames

    monkeypatch.setattr("antiphon.train.codec.kmeans.load_features", lambda model, layer: Lopsided())
    config = stage(speech, tmp_path, model={"features": "blobs", "codes": 16, "standardise": True})
    task = build_task(config)
    task.model.train()
    for step in range(3):
        task.losses(task.batch(step))
    task.export(tmp_path / "model")
    monkeypatch.setattr("antiphon.codecs.semantic.kmeans.load_features", lambda model, layer: Lopsided())
    tokenizer = SemanticTokenizer.from_pretrained(tmp_path / "model")
    codes = tokenizer.encode(torch.rand(1, 1, 12000))[0, 0]
    kind = torch.tensor([0, 1, 2, 3] * 6 + [0])  # in two dimensions kinds 0 to 3 are still apart
    assert all(len({int(k) for k in kind[codes == code]}) == 1 for code in codes.unique())
    assert torch.allclose(tokenizer.scale, task.model.scale) and tokenizer.scale[2] < 1e-3 < 1e-2 < tokenizer.scale[0]


class TwoVoices(Blobs):
    """Frames in which the voice makes a hundred times the difference that the phone makes."""

    def forward(self, audio: torch.Tensor, lengths: torch.Tensor | None = None):
        frames = torch.full((len(audio),), audio.shape[1] * 50 // self.sample_rate)
        time = torch.arange(int(frames[0])).repeat(len(audio), 1)
        generator = torch.Generator().manual_seed(int(audio.abs().sum() * 1e3) % 2**31)
        voice = torch.randn(len(audio), 1, generator=generator).expand_as(time)
        noise = torch.randn(3, *time.shape, generator=generator)
        phone = time // 5 % 3  # as `phones` has them, three in turn, five frames each
        return torch.stack([phone + 0.1 * noise[0], 100 * voice + noise[1], 100 * voice + noise[2]], -1), frames


@pytest.fixture
def phones(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    with SpeechWriter(tmp_path / "phones", 24000) as writer:
        for n in range(8):
            ends = [round(0.1 * (i + 1), 3) for i in range(30)]
            writer.add(Utterance(str(n), "t", "v", phonemes="abc" * 10, phoneme_ends=ends), draw.normal(size=72000))
    return tmp_path / "phones"


def test_directions_tell_phones_and_not_voices(
    phones: Path, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("antiphon.train.codec.kmeans", "antiphon.codecs.semantic.kmeans"):
        monkeypatch.setattr(f"{module}.load_features", lambda model, layer: TwoVoices())
    heard = torch.rand(1, 1, 24000 * 3)
    phone = torch.arange(150) // 5 % 3
    told = {}
    for directions in (0, 1):
        model = {"features": "two voices", "codes": 3, "directions": directions, "directed_by": 8}
        config = stage(phones, tmp_path, model=model, out=str(tmp_path / f"run-{directions}"))
        codes = SemanticTokenizer.from_pretrained(train(config)).encode(heard)[0, 0]
        told[directions] = phone_figures(codes, phone).pnmi
    assert told[1] > 0.95 and told[0] < 0.3
    with pytest.raises(ConfigError, match="below the 3 phones"):
        train(stage(phones, tmp_path, model=model | {"directions": 3}, out=str(tmp_path / "many")))
    with pytest.raises(ConfigError, match="no times of phonemes"):
        train(stage(speech, tmp_path, model=model, out=str(tmp_path / "timeless")))
    with pytest.raises(ConfigError, match="standardise"):
        build_task(stage(phones, tmp_path, model=model | {"standardise": True}))


def test_errors_and_the_recipe(speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe(RECIPE)
    assert recipe.model.layer == 9 and recipe.optim.lr == 0.0
    with pytest.raises(ConfigError, match="model.features"):
        build_task(stage(speech, tmp_path, model={}))
    with pytest.raises(ConfigError, match="too few for 500"):
        build_task(stage(speech, tmp_path, model={"features": str(tmp_path / "whisper")}))
    task = build_task(stage(speech, tmp_path))
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(ConfigError, match="pip install"):
        task.model.train()
        task.losses(task.batch(0))


def test_the_recipe_of_phones_runs(phones: Path, tmp_path: Path) -> None:
    tiny = stage(phones, tmp_path)
    folder = run_recipe(
        "codecs/phones-kmeans", tmp_path / "run", model__features=tiny.model["features"], model__layer=2,
        model__codes=12, model__directions=2, model__directed_by=8, data__speech=[str(phones)], data__seconds=0.5,
        batch=8,
    )  # fmt: skip
    tokenizer = SemanticTokenizer.from_pretrained(folder)
    assert tokenizer.centroids.shape == (12, 2) and tokenizer.duration_penalty == 6.0
    with pytest.raises(ConfigError, match="duration_penalty is -1"):
        build_task(stage(phones, tmp_path, model=tiny.model | {"duration_penalty": -1.0}))


def test_the_shipped_recipe_runs(speech: Path, tmp_path: Path) -> None:
    tiny = stage(speech, tmp_path)
    folder = run_recipe(
        "codecs/hubert-kmeans", tmp_path / "run", model__features=tiny.model["features"], model__layer=2,
        model__codes=12, data__speech=[str(speech)], data__seconds=0.5, batch=8,
    )  # fmt: skip
    assert SemanticTokenizer.from_pretrained(folder).codebook_size == 12
