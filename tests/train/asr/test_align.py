"""The alignment stage: batches that depend on the step alone, a tiny set learnt by heart, features made and read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from antiphon.data.speech.features import EncodedUtterance, FeatureSet, encode
from antiphon.data.store import ArrayWriter
from antiphon.encoders.whisper.encoder import EncoderConfig, WhisperBlockEncoder
from antiphon.errors import ConfigError, DataError
from antiphon.models.asr.adapter import Adapter
from antiphon.train.asr.align import piece_ids, word_errors
from antiphon.train.config import OptimConfig, StageConfig
from antiphon.train.engine import build_task
from tests.train.tiny import run_recipe

TEXTS = [
    "hello there",
    "how are you",
    "what time is it",
    "who are you",
    "is it late",
    "hello you",
    "what is late",
    "there it is",
]


@pytest.fixture
def llm(tmp_path: Path) -> Path:
    """A language model's folder: a byte-level tokenizer without merges and random embeddings."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    made = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(pre_tokenizers.ByteLevel.alphabet())}, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    folder = tmp_path / "llm"
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    save_file({"model.embed_tokens.weight": torch.randn(256, 12)}, folder / "model.safetensors")
    return folder


def add(folder: Path, *rows: tuple[str, str, torch.Tensor]) -> None:
    with ArrayWriter(folder, "features", {}) as writer:
        for identity, text, features in rows:
            writer.add({"id": identity, "text": text, "voice": "voice", "source": "test"}, features.half().numpy())


def write(folder: Path, texts: list[str], frames: int = 60) -> Path:
    """A shard of random features, two shared directions a letter so that they can be learnt."""
    generator = torch.Generator().manual_seed(len(texts))
    rows = [(str(i), text, torch.randn(frames + 2 * i, 10, generator=generator)) for i, text in enumerate(texts)]
    add(folder, *rows)
    return folder


def stage(llm: Path, train: Path, **data: object) -> StageConfig:
    return StageConfig(
        task="antiphon.train.asr.align:AlignTask",
        model=dict(
            llm=str(llm), merges=0, features=10, width=24, blocks=1, kernel=3, inner=32, embedding=12, dropout=0.0
        ),
        data={"train": [str(train)], "held": [str(train)], **data},
        optim=OptimConfig(lr=1e-2),
        steps=1,
        batch=4,
        out="unused",
    )


def test_a_batch_is_a_function_of_the_step(llm: Path, tmp_path: Path) -> None:
    train = write(tmp_path / "train", TEXTS)
    task, again = build_task(stage(llm, train)), build_task(stage(llm, train))
    for step in (0, 3, 3, 1):
        a, b = task.batch(step), again.batch(step)
        assert torch.equal(a["features"], b["features"]) and a["targets"] == b["targets"]
    assert not torch.equal(task.batch(0)["lengths"], task.batch(1)["lengths"])
    assert a["features"].shape[:2] == (4, int(a["lengths"].max()))


def test_a_growing_set_and_what_cannot_be_said_in_time(llm: Path, tmp_path: Path) -> None:
    train = write(tmp_path / "train", TEXTS)
    task = build_task(stage(llm, train, refresh=2, pieces=None))
    assert len(task.known) == 8
    add(train, ("long", "hello there how are you", torch.zeros(20, 10)))  # 23 letters, 10 frames
    add(train, ("ok", "how late", torch.zeros(50, 10)))
    task.batch(1)
    assert len(task.known) == 8
    task.batch(2)
    assert len(task.known) == 9 and "ok" in {utterance.id for _, utterance, _ in task.known}
    assert len(build_task(stage(llm, train, limit=3)).known) == 3


def test_it_learns_and_exports_what_it_learnt(llm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = write(tmp_path / "train", TEXTS[:4])
    task = build_task(stage(llm, train))
    assert {name.split(".")[0] for name, _ in task.model.named_parameters()} == {
        "norm", "splice", "blocks", "norm_out", "out", "offset", "blank", "bias", "scale",
    }  # fmt: skip
    optimizer, before = torch.optim.AdamW(task.model.parameters(), lr=1e-2), task.model.embeddings.clone()
    for step in range(120):
        loss = task.losses(task.batch(step))["ctc"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.equal(task.model.embeddings, before)
    assert sorted(task.hear(train, FeatureSet(train).utterances)) == sorted(TEXTS[:4])
    task.sample(120, tmp_path / "samples")
    written = (tmp_path / "samples" / "train-000120.txt").read_text()
    assert written.startswith("step 120: WER 0.000 of 4 utterances") and "how are you\n  how are you" in written
    assert "WER 0.000" in capsys.readouterr().err
    task.export(tmp_path / "model")
    adapter, ids = Adapter.from_pretrained(tmp_path / "model")
    assert ids == task.spelling.ids and adapter.config == task.model.config
    config = stage(llm, train)
    config.init = str(tmp_path / "model")
    assert build_task(config).spelling.ids == ids


def test_pieces_are_the_ones_that_occur(llm: Path) -> None:
    tokenizer = (llm / "tokenizer.json").read_text()
    tree = json.loads(tokenizer)["model"]["vocab"]
    assert piece_ids(["aab", "ba"], tokenizer, 0) == [tree["a"], tree["b"]]
    assert word_errors(["What is it?", "Yes."], ["what is that", "Yes"]) == pytest.approx(0.25)


def test_encoding_in_batches_equals_one_by_one() -> None:
    torch.manual_seed(0)
    encoder = WhisperBlockEncoder(
        EncoderConfig(width=16, layers=1, heads=2, inner=24, positions=200, block=10, right=2)
    ).eval()
    generator = np.random.default_rng(0)
    signals = [generator.standard_normal(n).astype(np.float32) * 0.1 for n in (9000, 5000, 16000)]
    together = encode(encoder, signals)
    # Rows of a batch get silence after them; given that silence alone, each is the same.
    padded = [np.pad(signal, (0, 16000 - len(signal))) for signal in signals]
    for signal, row, alone in zip(signals, together, [encode(encoder, [signal])[0] for signal in padded]):
        assert row.dtype == torch.float16 and row.shape == (
            -(-(len(signal) + 320) // 320) if len(signal) < 16000 else 50,
            16,
        )
        assert torch.allclose(row.float(), alone[: len(row)].float(), atol=2e-3)


def test_a_cut_manifest_line_does_not_count(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", TEXTS)
    with (folder / "manifest.jsonl").open("a") as file:
        file.write('{"id": "half')
    features = FeatureSet(folder)
    assert [utterance.text for utterance in features.utterances] == TEXTS
    assert features(features.utterances[3]).shape == (66, 10)
    assert isinstance(features.utterances[0], EncodedUtterance)


def test_errors_say_what_is_missing(llm: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="antiphon data features"):
        FeatureSet(tmp_path)
    config = stage(llm, tmp_path)
    config.data = {}
    with pytest.raises(ConfigError, match="data.train"):
        build_task(config)


def test_a_resumed_run_knows_what_it_knew(llm: Path, tmp_path: Path) -> None:
    """What was added since its last look is not drawn from before the next one."""
    train = write(tmp_path / "train", TEXTS)
    task = build_task(stage(llm, train, refresh=2))
    add(train, ("ok", "how late", torch.zeros(50, 10)))
    again = build_task(stage(llm, train, refresh=2))
    assert len(again.known) == len(task.known) + 1
    again.load_state_dict(task.state_dict())
    a, b = task.batch(1), again.batch(1)
    assert torch.equal(a["features"], b["features"]) and len(again.known) == len(task.known)
    again.batch(2)
    assert len(again.known) == len(task.known) + 1


def test_the_shipped_recipe_runs(llm: Path, tmp_path: Path) -> None:
    train, sizes = str(write(tmp_path / "train", TEXTS)), stage(llm, tmp_path).model
    folder = run_recipe(
        "mini/align", tmp_path / "run", data__train=[train], data__held=[train], batch=4,
        **{f"model__{key}": value for key, value in sizes.items()},
    )  # fmt: skip
    assert (folder / "model.safetensors").is_file()
