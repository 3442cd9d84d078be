"""What is learnt of reading scenes through a language model, and of when a turn asks about what is to be heard."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from antiphon.errors import ConfigError
from antiphon.models.llm.thinker import Thinker
from antiphon.models.scene.listener import SceneListener
from antiphon.models.scene.network import NetworkConfig, SceneNetwork
from antiphon.models.scene.reading import SceneReading
from antiphon.train.config import StageConfig
from antiphon.train.scene.asks import AsksModel, AsksTask, AsksTexts
from antiphon.train.scene.reading import ReadingData, ReadingModel, ReadingTask
from tests.models.llm.test_thinker import TEMPLATE, make_llm
from tests.models.scene.test_hearing import LABELS, NETWORK
from tests.train.scene.test_task import folder  # noqa: F401


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llm")
    make_llm(path, TEMPLATE)
    return path


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("scene")
    SceneListener(SceneNetwork(NetworkConfig(labels=LABELS, **NETWORK))).save(path)
    return path


def test_a_batch_is_learnt_by_heart_by_the_residual_alone(llm: Path, scene: Path, folder: Path, tmp_path: Path) -> None:  # noqa: F811
    data = ReadingData(sets=[str(folder)], groups=["event", "feeling"])
    task = ReadingTask(StageConfig(model=ReadingModel(str(llm), str(scene)), data=data, batch=2, seed=1))
    batch = task.batch(0)
    assert [row[1:] for row in batch] == [row[1:] for row in task.batch(0)]
    first = task.losses(batch, "reading")["answer"]
    first.backward()
    assert all(parameter.grad is None for parameter in task.thinker.model.parameters())
    assert float(task.model.residual.weight.grad.abs().max()) > 0
    optimizer = torch.optim.Adam(task.model.parameters(), 0.05)
    for _ in range(25):
        optimizer.zero_grad()
        loss = task.losses(batch, "reading")["answer"]
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.9 * float(first.detach())
    task.export(tmp_path)
    again = SceneReading.from_pretrained(tmp_path, task.thinker.model.embed, task.thinker.tokenizer, task.model.width)
    torch.testing.assert_close(again.residual.weight, task.model.residual.weight, rtol=1e-2, atol=1e-3)
    with pytest.raises(ConfigError, match="no example whose sex are known"):
        ReadingTask(StageConfig(model=task.config.model, data=ReadingData(sets=[str(folder)], groups=["sex"])))


def test_what_asks_is_told_by_the_state_behind_the_words(
    llm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [(f"{'hear' if number % 2 else 'tell'} me {number}", bool(number % 2)) for number in range(24)]
    monkeypatch.setattr("antiphon.train.scene.asks.wordings", lambda *_: texts)
    task = AsksTask(StageConfig(model=AsksModel(str(llm)), data=AsksTexts(caution=0.5), batch=16))
    optimizer = torch.optim.Adam(task.model.parameters(), 0.05)
    for step in range(60):
        optimizer.zero_grad()
        loss = task.losses(task.batch(step), "asks")["asks"]
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.3
    task.export(tmp_path)
    thinker = Thinker.from_pretrained(llm)
    reading = SceneReading.from_pretrained(tmp_path, thinker.model.embed, thinker.tokenizer, thinker.model.width)
    assert reading.residual is None
    states, asks = task.train
    with torch.no_grad():
        found = reading.asks(states)[:, 0]
        torch.testing.assert_close(found, task._scores(states) - 0.5, rtol=1e-2, atol=0.1)  # kept in float16
    assert float(((found > 0) == (asks > 0)).float().mean()) > 0.8
