"""Hearing learnt through a language model from the sound on: what learns, what stays, and what is exported is used."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from antiphon.data.scene.make import SceneSets, Sources
from antiphon.encoders.whisper.encoder import EncoderConfig, WhisperBlockEncoder
from antiphon.errors import ConfigError
from antiphon.models.asr.recognizer import Recognizer
from antiphon.models.lora import Lora, LoraConfig
from antiphon.models.scene.features import extract
from antiphon.models.scene.hearing import SceneHearing, scene_encoder
from antiphon.models.scene.listener import SceneListener
from antiphon.models.scene.network import NetworkConfig, SceneNetwork
from antiphon.models.scene.reading import SceneReading
from antiphon.train.config import StageConfig
from antiphon.train.scene.hearing import HearingData, HearingModel, HearingTask
from tests.models.asr.test_recognizer import sound, tiny
from tests.models.llm.test_thinker import TEMPLATE, make_llm
from tests.models.scene.test_hearing import LABELS, NETWORK
from tests.train.scene.test_task import tone
from tests.train.tiny import run_recipe


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llm")
    make_llm(path, TEMPLATE)
    return path


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("scene")
    network = SceneNetwork(NetworkConfig(labels=LABELS, **{**NETWORK, "bands": 80}))
    SceneListener(network).save(path)
    SceneReading(lambda ids: ids, None, 48, asks=True).save(path)
    return path


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tones that are dogs and cows, in folds; speech with a feeling, by a speaker who trains and one who doesn't."""
    folder, lines = tmp_path_factory.mktemp("labelled") / "mine", []
    folder.mkdir()
    for number in range(8):
        dog, fold = number % 2 == 0, 4 if number > 5 else 1
        soundfile.write(folder / f"{number}.wav", tone(900 if dog else 200, 1.0 + 0.1 * number, number), 16000)
        lines.append(
            {"path": f"{number}.wav", "events": ["dog" if dog else "cow"], "freesound_id": number, "fold": fold}
        )
    for number in range(4):
        who = "emodb_11" if number == 3 else "emodb_03"
        soundfile.write(folder / f"s{number}.wav", sound(1.5, number).numpy(), 16000)
        feeling = "sad" if number % 2 else "happy"
        lines.append({"path": f"s{number}.wav", "speaker": who, "emotion": feeling, "text": "what is the capital"})
    text = "".join(json.dumps({**line, "licence": "CC0"}) + "\n" for line in lines)
    (folder / "manifest.jsonl").write_text(text)
    return folder


@pytest.fixture(autouse=True)
def _whisper(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny recognizer whose blocks are whole frames of the scene's; a random decoder is unsure of what it writes."""
    parts = tiny()
    torch.manual_seed(1)
    encoder = WhisperBlockEncoder(EncoderConfig(width=16, layers=2, heads=2, inner=24, positions=60, block=20, right=4))
    made = Recognizer(encoder.eval(), parts.adapter, parts.spelling, parts.decoder, parts.whisper).eval()
    monkeypatch.setattr("antiphon.train.scene.hearing.Recognizer.from_pretrained", lambda _: made)
    monkeypatch.setattr("antiphon.train.scene.hearing.folder", Path)
    monkeypatch.setattr("antiphon.models.asr.recognizer.was_nothing", lambda *_: False)


def config(llm: Path, scene: Path, recordings: Path, lora: LoraConfig | None = None, **data: object) -> StageConfig:
    sets = SceneSets(Sources([str(recordings)]), whole=["mine"])
    model = HearingModel(str(llm), "whisper", str(scene), LoraConfig(2, 8.0, ("q_proj", "fc1")), lora)
    told = {"groups": ["event", "feeling"], "measured": 4, **data}
    return StageConfig(model=model, data=HearingData(sets, **told), batch=4, seed=3)


@pytest.fixture
def task(llm: Path, scene: Path, recordings: Path) -> HearingTask:
    return HearingTask(config(llm, scene, recordings, LoraConfig(2, 8.0, ("q_proj",)), texts=2))


def learnt(task: HearingTask, batch: dict, steps: int, rate: float = 0.02, answer: float = 1.0) -> list[float]:
    """The sum of a batch's losses before each of so many steps."""
    found, optimizer = [], torch.optim.Adam(task.model.parameters(), rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = sum((answer if name == "answer" else 1.0) * each for name, each in task.losses(batch, "hearing").items())
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    return found


def test_batches_depend_on_the_step_alone_and_kept_wordings_dont_train(task: HearingTask) -> None:
    one, again = task.batch(5), task.batch(5)
    assert [each.question for each in one["asked"]] == [each.question for each in again["asked"]]
    assert one["texts"] == again["texts"] and len(one["texts"]) == 2
    assert all(torch.equal(a.samples, b.samples) for a, b in zip(one["asked"], again["asked"]))
    asked = [each for step in range(12) for each in task.batch(step)["asked"]]
    kept = {question for group in ("event", "feeling") for question in task._questions(group)["kept"]}
    assert kept and not kept & {each.question for each in asked}
    assert {each.question for each in task._kept()} <= kept
    assert all(each.told for each in asked if each.spoken is None)
    voices = [each for each in asked if each.spoken is not None]
    assert {each.told for each in voices} == {True, False} and all("feeling" in each.known for each in voices)
    assert not {text for text, _ in task.facts} & {text for text, _ in task.held_facts}


def test_gradients_reach_what_learns_and_nothing_else(task: HearingTask) -> None:
    batch = next(batch for batch in map(task.batch, range(20)) if any(not one.told for one in batch["asked"]))
    losses = task.losses(batch, "hearing")
    assert {"answer", "text", "whole/event", "times/kind"} <= set(losses) and float(losses["text"].detach()) < 1e-6
    losses["answer"].backward()
    for part in ("encoder", "llm"):
        pairs = [pair for _, pair in getattr(task.model, part).named_pairs()]
        assert all(float(pair.lora_B.grad.abs().max()) > 0 for pair in pairs), part
    assert float(task.model.reading.residual.weight.grad.abs().max()) > 0
    assert float(task.model.reading.words.up.weight.grad.abs().max()) > 0
    assert float(task.model.scene.project.grad.abs().max()) > 0  # through the words that are expected
    frozen = (task.base, task.recognizer, task.encoder)
    theirs = {id(parameter) for parameter in task.model.parameters()}
    assert all(p.grad is None for part in frozen for p in part.parameters() if id(p) not in theirs)
    assert task.model.reading.asks.weight.grad is None
    assert not task.model.train().scene.training and task.model.reading.training


def test_the_sound_reaches_the_encoders_pairs_by_the_heads_alone(task: HearingTask) -> None:
    losses = task.losses(task.batch(0), "hearing")
    sum(loss for name, loss in losses.items() if "/" in name).backward()
    assert all(float(pair.lora_B.grad.abs().max()) > 0 for _, pair in task.model.encoder.named_pairs())
    assert task.model.reading.residual.weight.grad is None
    assert all(pair.lora_B.grad is None for _, pair in task.model.llm.named_pairs())


def test_a_batch_is_learnt_by_heart_and_the_language_model_held(task: HearingTask) -> None:
    batch = task.batch(1)
    found = learnt(task, batch, 25)
    assert found[-1] < 0.8 * found[0]
    texts, far = batch["texts"], float(task.losses(batch, "hearing")["text"].detach())
    batch["texts"] = []
    learnt(task, batch, 25)  # unheld, it goes further
    with torch.no_grad():
        assert float(task._texts(texts)[0]) > 2 * far > 0.0
    figures = task.measure(0, {})
    wanted = {"answer", "label", "answer-words", "label-words", "heads", "text", "text-kl", "event-accuracy"}
    assert wanted <= set(figures) and all(np.isfinite(value) for value in figures.values())


def test_what_is_exported_is_heard_and_read_as_it_was_trained(
    task: HearingTask,
    llm: Path,
    scene: Path,
    recordings: Path,
    tmp_path: Path,
) -> None:
    plain = SceneReading.from_pretrained(scene, task.base.embed, task.thinker.tokenizer, 48)
    learnt(task, task.batch(1), 6)
    task.export(tmp_path)
    scenes = SceneHearing.from_pretrained(tmp_path, task.recognizer.encoder)
    assert scenes.encoder is not task.recognizer.encoder
    samples = sound(1.5)[None]
    with torch.no_grad():
        mine, theirs = extract(samples, task.encoder, learns=True), extract(samples, scenes.encoder)
        torch.testing.assert_close(theirs.layers, mine.layers, rtol=1e-2, atol=1e-2)  # kept in float16
        before = extract(samples, task.recognizer.encoder).layers
    assert float((before - theirs.layers).abs().max()) > 0.02  # the recognizer's own stays as it is
    reading = SceneReading.from_pretrained(tmp_path, task.base.embed, task.thinker.tokenizer, 48)
    assert reading.words is not None and reading.residual is not None
    torch.testing.assert_close(reading.asks.weight, plain.asks.weight)  # what it doesn't train is kept
    assert Lora.from_pretrained(tmp_path / "lora", task.base).config.rank == 2
    # The next stage goes on with all of it.
    given = config(llm, tmp_path, recordings, LoraConfig(7, 8.0, ("k_proj",)))
    again = HearingTask(given)
    assert again.model.encoder.config.rank == 2 and again.model.llm.config.rank == 2
    torch.testing.assert_close(
        again.model.reading.words.up.weight, task.model.reading.words.up.weight, atol=1e-3, rtol=0.01
    )


def test_a_folder_without_pairs_changes_nothing(scene: Path) -> None:
    encoder = WhisperBlockEncoder(EncoderConfig(width=16, layers=2, heads=2, inner=24, positions=60, block=20, right=4))
    assert scene_encoder(scene, encoder) is encoder
    quick = copy.copy(encoder)
    assert SceneHearing.from_pretrained(scene, encoder, quick).encoder is quick


def test_with_nothing_to_ask_about_it_says_so(llm: Path, scene: Path, recordings: Path) -> None:
    with pytest.raises(ConfigError, match="no example to train on whose sex are known"):
        HearingTask(config(llm, scene, recordings, groups=["sex"]))
    unheld = HearingTask(config(llm, scene, recordings, held_out="dev"))
    with pytest.raises(ConfigError, match="no example of the split 'dev'"):
        unheld.measure(0, {})


@pytest.mark.parametrize("name", ["scene/encoder", "scene/everything"])
def test_the_shipped_recipes_take_two_steps(
    name: str,
    llm: Path,
    scene: Path,
    recordings: Path,
    tmp_path: Path,
) -> None:
    place = {"recordings": [str(recordings)]}
    made = run_recipe(
        name, tmp_path, model__llm=str(llm), model__scene=str(scene), model__whisper="whisper",
        data__sets__sources=place, data__sets__whole=["mine"], data__groups=["event", "feeling"], batch=2,
        measure_every=0,
    )  # fmt: skip
    assert (made / "encoder").is_dir() and (made / "reading-48.safetensors").is_file()
    assert (made / "lora").is_dir() == (name == "scene/everything")
    assert SceneListener.from_pretrained(made).network.config.labels
