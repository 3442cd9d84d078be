"""Tokens by recognition as a stage: what the decoder sees, the fit, a tiny set learnt by heart, export and going on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from antiphon.codecs.semantic.supervised import SupervisedConfig, SupervisedTokenizer
from antiphon.data.speech.utterances import SpeechWriter, Utterance
from antiphon.encoders.whisper.decoder import DecoderConfig, WhisperDecoder
from antiphon.errors import ConfigError
from antiphon.train.codec.supervised import IGNORED, decoder_logits, fit_bottleneck
from antiphon.train.config import OptimConfig, StageConfig, load_recipe
from antiphon.train.engine import build_task, freeze, train
from tests.train.tiny import run_recipe

RECIPE = Path(__file__).resolve().parents[3] / "recipes" / "codecs" / "whisper-vq.yaml"
TEXTS = ["no", "yes", "hm", "stop"]


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Whisper with the multilingual vocabulary's special tokens, and a byte-level tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=51865, num_mel_bins=80, d_model=16, encoder_layers=3, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, max_source_positions=200,
        max_target_positions=32,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    folder = tmp_path_factory.mktemp("whisper")
    save_file({k: v.contiguous() for k, v in model.state_dict().items() if k != "proj_out.weight"},
              folder / "model.safetensors")  # fmt: skip
    (folder / "config.json").write_text(json.dumps(model.config.to_dict()))
    made = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(pre_tokenizers.ByteLevel.alphabet())}, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Each text is a tone of its own."""
    with SpeechWriter(tmp_path / "speech", 24000) as writer:
        for n in range(16):
            time = np.arange(12000 + 700 * n) / 24000
            tone = np.sin(2 * np.pi * 300 * 2.2 ** (n % 4) * time)
            writer.add(Utterance(str(n), TEXTS[n % 4], "v"), 0.1 * tone)
    return tmp_path / "speech"


def stage(whisper: Path, speech: Path, tmp_path: Path, model: dict | None = None, **more: object) -> StageConfig:
    sizes = {"layer": 2, "pool": 2, "dim": 8, "codebook_size": 16, "levels": [4, 4], **(model or {})}
    fields = dict(
        task="antiphon.train.codec.supervised:SupervisedTask",
        model={"whisper": str(whisper), **sizes},
        data={"speech": [str(speech)], "held": 4, "fit": 100, "silence": 0.1},
        objective={"commitment": 0.25},
        optim=OptimConfig(lr=1e-2, warmup=1), steps=2, batch=4, precision="float32", out=str(tmp_path / "run"),
        sample_every=2, log_every=1,
    )  # fmt: skip
    return StageConfig(**{**fields, **more})


def test_logits_of_rows_are_those_of_each_alone() -> None:
    torch.manual_seed(0)
    decoder = WhisperDecoder(
        DecoderConfig(width=16, layers=2, heads=2, inner=24, vocabulary=60, positions=20, start=(1, 2), end=3)
    )
    features, frames = torch.randn(2, 9, 16), torch.tensor([9, 5])
    tokens = torch.randint(0, 60, (2, 7))
    logits = decoder_logits(decoder, tokens, features, frames)
    for row in range(2):
        alone = decoder(tokens[row : row + 1], decoder.listen(features[row : row + 1, : frames[row]]))[0]
        assert torch.allclose(logits[row], alone[0], atol=1e-5)


@pytest.mark.parametrize("quantizer", ["vq", "fsq"])
def test_the_fit_keeps_what_it_can(quantizer: str) -> None:
    torch.manual_seed(0)
    shape = dict(width=16, layers=2, heads=2, inner=24, positions=40, layer=1)
    sizes = dict(quantizer=quantizer, dim=6, codebook_size=64, levels=(7, 7, 7))
    tokenizer = SupervisedTokenizer(SupervisedConfig(**shape, **sizes)).eval()
    # three directions, one of them a hundred times the others
    latents = torch.randn(4000, 3) @ torch.randn(3, 16) * torch.tensor([100.0] + [1.0] * 15) + 5.0
    left = fit_bottleneck(tokenizer, latents)
    again = tokenizer.bottleneck.decode(tokenizer.bottleneck.encode(latents[None]))[0].detach()
    assert left == pytest.approx(float(((again - latents) / latents.std(0)).square().mean())) and left < 0.25


def test_a_batch_is_a_function_of_the_step(whisper: Path, speech: Path, tmp_path: Path) -> None:
    task, again = (build_task(stage(whisper, speech, tmp_path)) for _ in range(2))
    for step in (0, 3, 1):
        a, b = task.batch(step), again.batch(step)
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert len(task.known) == 12 and [index for _, index in task.held] == [12, 13, 14, 15]
    end = task.model.decoder.config.end
    batch = task.collate([task.known[1]])  # "yes"
    tokens, targets = batch["tokens"][0].tolist(), batch["targets"][0].tolist()
    assert tokens[:4] == list(task.model.decoder.config.start) and targets[:3] == [IGNORED] * 3
    assert task.words.decode(targets[3:-1]) == " yes" and targets[-1] == end and tokens[4:] == targets[3:-1]
    assert batch["letters"].tolist() == [[25, 5, 19]] and batch["spelt"].tolist() == [3]
    assert batch["lengths"].tolist() == [round((12000 + 700) * 2 / 3) + 1600]


@pytest.mark.parametrize("learns", [["tokenizer.encoder.layers.2.*"], ["tokenizer.encoder.layers.1.*"]])
def test_what_is_kept_is_what_would_be_made_again(
    learns: list[str], whisper: Path, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = build_task(stage(whisper, speech, tmp_path))
    task.model.eval()
    freeze(task.model, learns)
    batch, again = task.batch(0), task.batch(2)
    fresh, frames = task._latents(batch)
    task.keep, calls, stem = True, [], task.model.tokenizer.stem
    monkeypatch.setattr(task.model.tokenizer, "stem", lambda *given: calls.append(len(given[0])) or stem(*given))
    for _ in range(2):
        kept, count = task._latents(batch)
        assert torch.equal(count, frames) and kept.requires_grad == ("1" in learns[0])
        for row, codes in enumerate((-(-frames // 2)).tolist()):
            torch.testing.assert_close(kept[row, :codes], fresh[row, :codes], atol=5e-3, rtol=5e-3)
    assert calls == [4] and set(task.kept) == set(batch["places"].tolist())
    task._latents(again)
    assert calls[1:] == [len(set(again["places"].tolist()) - set(batch["places"].tolist()))]
    freeze(task.model, ["tokenizer.encoder.conv1.*"])  # all of it learns: nothing can be kept
    assert task._latents(batch)[0].requires_grad and calls[-1] == 4


@pytest.mark.parametrize("model", [{"ctc": True}, {"quantizer": "fsq"}, {"restore": False}])
def test_gradients_reach_what_trains_and_nothing_else(model: dict, whisper: Path, speech: Path, tmp_path: Path) -> None:
    task = build_task(stage(whisper, speech, tmp_path, model))
    names = freeze(
        task.model,
        ["tokenizer.bottleneck.*", "tokenizer.encoder.layers.2.*", *(["letters.*"] if "ctc" in model else [])],
    )
    losses = task.losses(task.batch(0))
    commitment = {"commitment"} if "quantizer" not in model else set()
    assert set(losses) == {"recognition"} | commitment | (model.keys() & {"ctc"})
    assert float(losses["recognition"].detach()) == pytest.approx(np.log(51865), rel=0.1)
    sum(losses.values()).backward()
    for name, parameter in task.model.named_parameters():
        if name in names:
            assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name
        else:
            assert parameter.grad is None, name


def test_it_learns_a_tiny_set_by_heart_through_the_codes(whisper: Path, speech: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = build_task(stage(whisper, speech, tmp_path))
    # the layers before the codebook stay, and so do the codes
    freeze(task.model, ["tokenizer.bottleneck.*", "tokenizer.encoder.layers.2.*", "decoder.*"])
    optimizer = torch.optim.AdamW([p for p in task.model.parameters() if p.requires_grad], lr=1e-2)
    task.model.train()
    for step in range(160):
        losses = task.losses(task.batch(step))
        optimizer.zero_grad()
        (losses["recognition"] + 0.25 * losses["commitment"]).backward()
        optimizer.step()
    task.model.eval()
    heard = [task.hear(place) for place in task.known]
    assert [text for text, _ in heard] == [speech.utterances[index].text for speech, index in task.known]
    assert len({tuple(codes.tolist()) for _, codes in heard}) >= 4


def test_the_stage_runs_exports_and_goes_on(
    whisper: Path, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only = ["tokenizer.bottleneck.*"]
    folder = train(stage(whisper, speech, tmp_path, trainable=only))
    assert "WER" in capsys.readouterr().err and not (folder / "recognizer.safetensors").exists()
    assert "no\n" in (tmp_path / "run" / "samples" / "000002.txt").read_text()
    first = SupervisedTokenizer.from_pretrained(folder)
    config = stage(whisper, speech, tmp_path, init=str(folder), out=str(tmp_path / "second"))
    task = build_task(config)
    assert torch.equal(task.model.tokenizer.bottleneck.inward.weight, first.bottleneck.inward.weight)
    before = task.model.tokenizer.bottleneck.quantizer.codes.clone()
    task.model.train()
    task.losses(task.batch(0))
    assert (task.model.tokenizer.bottleneck.quantizer.codes - before).abs().max() < 0.5 * before.std()
    config.init = str(folder)
    second = train(config)
    assert (second / "recognizer.safetensors").exists()
    assert SupervisedTokenizer.from_pretrained(second).codebook_size == 16


def test_errors_and_the_recipe(whisper: Path, speech: Path, tmp_path: Path) -> None:
    recipe = load_recipe(RECIPE)
    assert recipe.model.layer == 4 and "tokenizer.bottleneck.*" in recipe.trainable
    with pytest.raises(ConfigError, match="no value for data.speech"):
        build_task(stage(whisper, speech, tmp_path, data={}))
    with pytest.raises(ConfigError, match="no utterance"):
        build_task(stage(whisper, speech, tmp_path, data={"speech": [str(speech)], "seconds": [8.0, 9.0]}))


def test_the_shipped_recipe_runs(whisper: Path, speech: Path, tmp_path: Path) -> None:
    folder = run_recipe(
        "codecs/whisper-vq", tmp_path / "run", model__whisper=str(whisper), model__layer=2, model__dim=8,
        model__codebook_size=16, data__speech=[str(speech)], data__seconds=[0.1, 4.0], data__held=4, data__fit=100,
        batch=4, trainable=["tokenizer.bottleneck.*"],
    )  # fmt: skip
    assert SupervisedTokenizer.from_pretrained(folder).codebook_size == 16
