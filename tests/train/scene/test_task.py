"""Training of the scene network: what isn't known isn't trained, batches are balanced, a batch is learnt by heart."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from antiphon.data.scene.encoded import EncodedSet, encode
from antiphon.data.scene.example import Example, Span
from antiphon.encoders.whisper.encoder import EncoderConfig, WhisperBlockEncoder
from antiphon.errors import ConfigError
from antiphon.models.scene.network import SceneNetwork
from antiphon.train.config import OptimConfig, StageConfig
from antiphon.train.engine import build_task, train
from antiphon.train.scene.batches import Item, collate, of_the_whole, tempo_of
from antiphon.train.scene.task import SceneData, SceneModel, SceneTask, known_loss, mix_pairs, spread


def tone(hertz: float, seconds: float, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    time = np.arange(int(16000 * seconds)) / 16000
    return (0.3 * np.sin(2 * np.pi * hertz * time) + 0.01 * draw.standard_normal(len(time))).astype(np.float32)


def example(number: int) -> Example:
    """High tones are a dog, low ones a cow; of every third it is known that someone sad is speaking."""
    dog, seconds = number % 2 == 0, 1.0 + 0.25 * (number % 5)
    spans = [
        Span("event", "dog" if dog else "cow", 0.0, seconds),
        Span("kind", "sound", 0.0, seconds),
        Span("tempo", f"{90 + number}", 0.0, seconds),
    ]
    known = {"event", "kind", "tempo"}
    if number % 3 == 0:
        spans.append(Span("feeling", "sad" if dog else "happy", 0.0, seconds))
        known.add("feeling")
    return Example(tone(900 if dog else 200, seconds, number), tuple(spans), frozenset(known))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    encoder = WhisperBlockEncoder(
        EncoderConfig(width=16, layers=2, heads=2, inner=24, bands=8, positions=60, block=20, right=4)
    )
    for parameter in encoder.parameters():
        parameter.data.normal_(0, 0.2)
    place = tmp_path_factory.mktemp("scenes") / "set"
    items = [(f"{n}", lambda n=n: example(n), "dev" if n >= 24 else "train") for n in range(30)]
    assert encode(place, items[:10], encoder.eval()) == 10
    assert encode(place, items, encoder) == 20  # those that are there are passed over
    return place


def config(folder: Path, out: Path, **more: object) -> StageConfig:
    model = SceneModel(mixes=2, mixed=8, width=16, heads=2, inner=24, depth=1, window=4, dropout=0.0)
    data = SceneData(sets=[str(folder)], least=2, mix=0.0, mask=0.0)
    return StageConfig(
        task="antiphon.train.scene.task:SceneTask", model=model, data=data, out=str(out), batch=8, precision="float32",
        log_every=1000, optim=OptimConfig(schedule="constant"), **{"steps": 3, "sample_every": 0, **more},
    )  # fmt: skip


def test_an_encoded_example_is_what_the_encoder_gave(folder: Path) -> None:
    read = EncodedSet(folder)
    assert [each.id for each in read.examples] == [f"{n}" for n in range(30)]
    each = read.examples[4]
    features = read(each)
    assert features.frames == each.length == 25 and features.layers.shape == (1, 3, 25, 16)
    assert features.mel.shape == (1, 8, 200) and -15 < float(features.level.mean()) < -12
    assert each.spans[0] == Span("event", "dog", 0.0, 2.0) and "feeling" not in each.known
    assert torch.equal(read(each, 3, 9).layers, features.layers[:, :, 3:9])


def test_labels_are_those_of_the_data(folder: Path, tmp_path: Path) -> None:
    task = build_task(config(folder, tmp_path))
    assert isinstance(task, SceneTask)
    labels = task.model.config.labels
    assert labels == {"kind": ("sound",), "feeling": ("happy", "sad"), "event": ("dog", "cow")}
    assert task.model.tempo is not None
    even = (task._item(*task.train[0]).features.layers[0] - task.model.mean) / task.model.deviation
    assert float(even.mean().abs()) < 0.5 and 0.5 < float(even.std()) < 1.5


def test_batches_depend_on_the_step_alone_and_hold_every_group(folder: Path, tmp_path: Path) -> None:
    task = build_task(config(folder, tmp_path))
    one, again, other = task.batch(1), task.batch(1), task.batch(2)
    assert torch.equal(one["layers"], again["layers"])
    assert one["layers"].shape != other["layers"].shape or not torch.equal(one["layers"], other["layers"])
    losses = task.losses(one, "model")
    assert set(losses) == {"whole/kind", "whole/feeling", "whole/event", "times/kind", "times/event"}
    assert set(task.losses(task.batch(4), "model")) == {"tempo"}  # every fourth


def test_a_sets_labels_can_be_left_out_and_its_dev_trained_on(folder: Path, tmp_path: Path) -> None:
    given = config(folder, tmp_path)
    given.data.without, given.data.train_on_dev = ["set/feeling"], ["set"]
    task = build_task(given)
    assert set(task.model.config.labels) == {"kind", "event"} and len(task.train) == 30


def test_music_is_played_faster_and_slower(folder: Path, tmp_path: Path) -> None:
    given = config(folder, tmp_path)
    given.data.tempo_stretch, given.batch = 0.5, 40
    task = build_task(given)
    batch = task.batch(0)
    assert batch["mel"].shape == (len(batch["tempo"]), 8, 8 * int(batch["frames"].max()))
    assert batch["tempo"].min() < 80 and batch["tempo"].max() > 130  # there were 90 to 119
    given.data.tempo_stretch = 0.0
    plain = build_task(given).batch(0)
    assert set(plain["tempo"].tolist()) <= {float(tempo) for tempo in range(90, 120)}


def test_what_is_not_known_has_no_gradient(folder: Path) -> None:
    read = EncodedSet(folder)
    labels = {"feeling": ("happy", "sad"), "event": ("dog", "cow")}
    each = read.examples[1]
    batch = collate([Item(read(each), each.spans, each.known)], labels)
    assert not batch["whole"]["feeling"][1].any() and batch["whole"]["event"][1].all()
    assert batch["whole"]["event"][0].tolist() == [[0.0, 1.0]] and batch["tempo"].tolist() == [91.0]
    logits = torch.zeros(3, 2, requires_grad=True)
    mask = torch.tensor([[True, True], [False, False], [True, False]])
    known_loss(logits, torch.ones(3, 2), mask, exclusive=False).backward()
    assert logits.grad.tolist() == [[-0.25, -0.25], [0.0, 0.0], [-0.25, 0.0]]


def test_the_whole_is_what_is_heard_longest_or_long_enough() -> None:
    spans = [Span("sex", "male", 0, 1), Span("sex", "female", 1, 4), Span("event", "dog", 1, 1.05)]
    values, mask = of_the_whole(spans, {"sex", "event"}, "sex", 4.0, ("female", "male"))
    assert values.tolist() == [1, 0] and mask.all()
    values, mask = of_the_whole(spans, {"sex", "event"}, "event", 4.0, ("dog",))
    assert values.tolist() == [0] and mask.all()
    assert not of_the_whole([], {"sex"}, "sex", 4.0, ("female", "male"))[1].any()
    assert tempo_of([Span("tempo", "97.5", 0, 4)], 3.0) == 97.5 and tempo_of([Span("tempo", "97.5", 0, 2)], 3.0) == 0


def test_pairs_are_mixed_with_their_labels() -> None:
    batch = {
        "layers": torch.arange(3.0).view(3, 1, 1, 1),
        "mel": torch.arange(3.0).view(3, 1, 1),
        "frames": torch.tensor([4, 2, 3]),
        "tempo": torch.tensor([90.0, 0.0, 100.0]),
        "times": {"event": (torch.eye(3)[:, None], torch.ones(3, 1, 3, dtype=torch.bool))},
        "whole": {
            "sex": (torch.tensor([[1.0, 0], [0, 1], [0, 1]]), torch.tensor([[True] * 2, [False] * 2, [True] * 2]))
        },
    }
    mix_pairs(batch, 0.75)
    assert batch["layers"].flatten().tolist() == [0.25, 0.75, 2.0] and batch["frames"].tolist() == [2, 2, 3]
    assert batch["mel"].flatten().tolist() == [0.25, 0.75, 2.0]
    assert batch["times"]["event"][0][0].tolist() == [[0.75, 0.25, 0.0]] and not batch["tempo"].any()
    assert batch["whole"]["sex"][1].all(1).tolist() == [False, False, True]


def test_a_batch_is_learnt_by_heart(folder: Path, tmp_path: Path) -> None:
    task = build_task(config(folder, tmp_path))
    batch, optimizer = task.batch(1), torch.optim.Adam(task.model.parameters(), 1e-2)
    task.model.train()
    for _ in range(80):
        loss = sum(task.losses(batch, "model").values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.2  # at a last frame that is half a dog it can't be nothing
    figures = task.figures(task.train[:12])
    assert figures["event-accuracy"] > 0.9 and figures["feeling-accuracy"] > 0.7
    assert {"event-balanced", "kind-by-frame", "event-by-frame", "tempo-accuracy"} <= set(figures)


def test_a_run_gives_a_folder_and_goes_on_where_it_stopped(folder: Path, tmp_path: Path) -> None:
    straight = train(config(folder, tmp_path / "a", steps=4, measure_every=2))
    train(config(folder, tmp_path / "b", steps=2))
    resumed = train(config(folder, tmp_path / "b", steps=4, sample_every=4))
    one, other = (SceneNetwork.from_pretrained(each).state_dict() for each in (straight, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert "event dog" in (tmp_path / "b" / "samples" / "dev-000004.txt").read_text()


def test_what_is_added_is_trained_on_after_the_next_look(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "set"
    shutil.copytree(folder, place)
    lines = (place / "manifest.jsonl").read_text().splitlines(keepends=True)
    (place / "manifest.jsonl").write_text("".join(lines[:12]))
    given = config(place, tmp_path)
    given.data.refresh = 5
    task = build_task(given)
    assert isinstance(task, SceneTask)
    labels = task.model.config.labels
    task.batch(1)
    assert len(task.train) == 12
    (place / "manifest.jsonl").write_text("".join(lines))
    task.batch(4)
    assert len(task.train) == 12
    state = task.state_dict()
    task.batch(5)
    assert len(task.train) == 24 and len(task.dev) == 6 and task.model.config.labels == labels
    task.load_state_dict(state)
    assert len(task.train) == 12 and not task.dev


def test_no_examples_are_an_error(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    encoder = WhisperBlockEncoder(EncoderConfig(width=16, layers=2, heads=2, inner=24, bands=8, positions=60, block=20))
    encode(empty, [], encoder)
    with pytest.raises(ConfigError, match="no example to train on"):
        build_task(config(empty, tmp_path))
    assert spread(10, 3) == [0, 4, 9] and spread(0, 3) == []
