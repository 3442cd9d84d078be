"""The stages of Qwen2.5-Omni: what should learn does and nothing else, batches are learnt by heart, recipes run."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from tokenizers import AddedToken

from antiphon.errors import ConfigError, DataError
from antiphon.models.omni import weights
from antiphon.train import load_recipe
from antiphon.train.config import with_sections
from antiphon.train.omni.start import Conversations
from antiphon.train.omni.thinker import reply_loss
from antiphon.train.task import build_task, freeze
from tests.encoders.vision.films import film
from tests.models.omni.tiny import SPEAKER, ours, values
from tests.models.speech_lm.tiny import tokenizer
from tests.train.tiny import RECIPES, run_recipe

STAGES = ("adapters", "towers", "everything", "talker", "talker-dpo", "resync", "flow", "vocoder")
JUDGES = {"period": {"periods": [2, 3], "channels": [4, 4]}, "stft": {"windows": [64, 128], "channels": 4}}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A little model's folder and a little of everything that stages learn from."""
    folder = tmp_path_factory.mktemp("omni")
    weights.save(ours(scale=0.1), folder / "model")
    words = tokenizer()
    words.add_special_tokens([AddedToken(name, special=True) for name in ("<|im_start|>", "<|im_end|>")])
    for token in words.get_vocab().values():
        assert token < values()["thinker_config"]["text_config"]["vocab_size"]
    words.save(str(folder / "model" / "tokenizer.json"))
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (60, 90, 3)).astype(np.uint8)).save(folder / "cat.png")
    soundfile.write(folder / "hello.wav", rng.normal(0, 0.1, 6000), 3000)
    film(folder / "film.mp4", [0, 30, 60], sound=True)

    def lines(*contents: list) -> list[dict]:
        return [
            {"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": f"the cat {number}"}]}
            for number, content in enumerate(contents)
        ]

    image, audio = {"type": "image", "image": "cat.png"}, {"type": "audio", "audio": "hello.wav"}
    video, text = {"type": "video", "video": "film.mp4"}, {"type": "text", "text": "what is it"}
    spoken = [
        {**line, "codes": rng.integers(0, 70, 20 + 5 * number).tolist(), "speaker": speaker, "rejected": [1, 2, 3] * 7}
        for number, (line, speaker) in enumerate(zip(lines([image, text], [audio, text]), ("anna", SPEAKER + 1)))
    ]
    recordings = [{"audio": "hello.wav", "codes": rng.integers(0, 70, 100).tolist(), "speaker": "anna"}]
    files = {
        "pictures": lines([image, text], [text, image]), "sounds": lines([audio], [audio, text]),
        "videos": lines([video, text]), "text": lines("which one", "and this"), "replies": spoken,
        "recordings": recordings,
    }  # fmt: skip
    for name, content in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in content))
    return folder


def settings(stage: str, place) -> dict:
    given = {"model__folder": str(place / "model"), "batch": 2}
    if stage in ("talker", "talker-dpo", "resync"):
        return given | {"data__speech": str(place / "replies.jsonl")}
    if stage in ("flow", "vocoder"):
        crop = {"data__codes": 30, "data__reference": 40} if stage == "flow" else {"data__codes": 24}
        judges = {f"model__{name}": each for name, each in JUDGES.items()} if stage == "vocoder" else {}
        return given | crop | judges | {"data__speech": str(place / "recordings.jsonl")}
    names = ("sounds", "pictures", "videos", "text") if stage == "everything" else ("sounds", "pictures")
    return given | {
        "data__sources": {name: str(place / f"{name}.jsonl") for name in names}, "data__held_out": 0, "batch": 8
    }  # fmt: skip


def task_of(stage: str, place, **changes):
    given = {"precision": "float32", "out": str(place / "run"), **settings(stage, place), **changes}
    overrides = [f"{key.replace('__', '.')}={json.dumps(value)}" for key, value in given.items()]
    config = with_sections(load_recipe(RECIPES / f"omni/{stage}.yaml", overrides))
    task = build_task(config)
    return task, freeze(task.model, config.trainable, config.frozen), config


def total(task, batch, group="model"):
    weigh = task.config.objective.get
    found = task.losses(batch, group).items()
    return sum(weigh(name, 1.0) * value for name, value in found if value.requires_grad)  # others are for the log


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_teaches_what_its_recipe_names_and_nothing_else(stage, place):
    task, trained, _ = task_of(stage, place)
    assert trained
    batch, groups = task.batch(0), getattr(task, "optimizer_groups", {"model": ["*"]})
    for group in groups:
        total(task, batch, group).backward()
    for name, parameter in task.model.named_parameters():
        if name in trained:
            assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name
            assert bool(parameter.grad.abs().sum() > 0), name
        else:
            assert parameter.grad is None, name


@pytest.mark.parametrize(("through", "reached"), [(False, False), (True, True)])
def test_the_talkers_mistakes_reach_the_thinker_where_that_is_asked_for(place, through, reached):
    task, _, _ = task_of("talker", place, data__through_thinker=through, trainable=["*"])
    total(task, task.batch(0)).backward()
    for name in ("thinker.language_model.layers.0.q_proj.weight", "thinker.visual.merger.mlp.0.weight"):
        grad = task.model.get_parameter(name).grad
        assert (grad is not None and bool(grad.abs().sum() > 0)) == reached
    assert bool(task.model.talker.proj.weight.grad.abs().sum() > 0)


@pytest.mark.parametrize(
    ("stage", "steps", "left"),
    [("everything", 60, 0.1), ("talker", 80, 0.1), ("talker-dpo", 30, 0.5), ("flow", 80, 0.6)],
)
def test_a_batch_is_learnt_by_heart(stage, steps, left, place):
    task, _, _ = task_of(stage, place)
    learns = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
    optimizer, batch = torch.optim.Adam(learns, 5e-3), task.batch(0)
    first = float(total(task, batch))
    for _ in range(steps):
        optimizer.zero_grad()
        loss = total(task, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learns, 1.0)
        optimizer.step()
    assert float(loss) < left * first


def test_replies_are_learnt_as_they_are_said(place):
    """The loss of the talker is that of the codes when it says them step by step."""
    from antiphon.models.omni.talker import Talker

    task, _, _ = task_of("talker", place, batch=1)
    with torch.no_grad():
        (each,) = batch = task.batch(0)
        together = float(task.losses(batch)["codes"])
        model, talker = task.model.eval(), task.model.talker
        assert isinstance(talker, Talker)
        state = model.init_state()
        model.read(state, each.parts)
        asked, places = (value.clone() for value in state.unread)
        start, told = state.last, []
        for token in each.reply[:-1].tolist():
            x = model.thinker.language_model.embed(torch.tensor([token]))
            hidden = model.thinker(x[None], torch.full((3, 1, 1), state.last), state.thinker)[0, -1]
            state.last += 1
            told.append(hidden + x[0])
        ids = torch.tensor([each.speaker, 288, 289])
        speaker, end, pad = model.thinker.language_model.embed(ids)
        cache, after = talker.lm.init_cache(), torch.arange(start, start + 2).expand(3, -1)
        x = talker.begin(asked, speaker, told[0])
        hidden = talker(x[None], torch.cat([places, after], 1)[:, None], cache)[:, -1]
        following, lost = [*told[1:], end], []
        for number, code in enumerate([*each.codes.tolist(), 74]):
            lost.append(-talker.logits(hidden)[0].log_softmax(-1)[code])
            next_one = following[number] if number < len(following) else pad
            x = talker.next(torch.tensor([code]), next_one[None])
            hidden = talker(x[None], torch.full((3, 1, 1), start + 2 + number), cache)[:, -1]
    assert together == pytest.approx(float(torch.stack(lost).mean()), rel=1e-4)


@pytest.mark.parametrize("stage", STAGES)
def test_recipes_run_and_write_what_loads(stage, place, tmp_path):
    folder = run_recipe(f"omni/{stage}", tmp_path / "run", **settings(stage, place))
    before, after = weights.load(place / "model"), weights.load(folder)
    assert after.voices.keys() == {"anna"}
    changed = {name for name, value in before.state_dict().items() if not torch.equal(value, after.state_dict()[name])}
    part = {"flow": "token2wav.dit.", "vocoder": "token2wav.vocoder.", "talker": "talker.", "resync": "talker.",
            "talker-dpo": "talker."}  # fmt: skip
    assert changed, "nothing was learnt"
    assert all(name.startswith(part.get(stage, "thinker.")) for name in changed)


def test_a_stage_goes_on_from_the_one_before(place, tmp_path):
    run_recipe("omni/adapters", tmp_path / "first", **settings("adapters", place))
    folder = run_recipe("omni/resync", tmp_path / "next", init=str(tmp_path / "first"), **settings("resync", place))
    first, after = weights.load(tmp_path / "first" / "model"), weights.load(folder)
    assert torch.equal(first.thinker.visual.merger.mlp[0].weight, after.thinker.visual.merger.mlp[0].weight)
    assert not torch.equal(first.talker.proj.weight, after.talker.proj.weight)


def test_what_cannot_be_learnt_from_is_told(place, tmp_path):
    (tmp_path / "none.jsonl").write_text("")
    with pytest.raises(DataError, match="no conversations"):
        Conversations(tmp_path / "none.jsonl")
    (tmp_path / "none.jsonl").write_text("hello")
    with pytest.raises(DataError, match="a line of JSON each"):
        Conversations(tmp_path / "none.jsonl")
    (tmp_path / "none.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": "hm"}]}))
    task, _, _ = task_of("talker", place, data__speech=str(tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match="must be the assistant's"):
        task.batch(0)
    with pytest.raises(ConfigError, match="sizes to start from scratch"):
        task_of("adapters", place, model__folder=None)


def test_adapters_are_learnt_call_by_call_and_lie_beside_the_model(place, tmp_path):
    names = {name: str(place / f"{name}.jsonl") for name in ("pictures", "videos", "sounds")}
    names["both"] = names["pictures"]
    settings = {
        "model__folder": str(place / "model"), "model__tokenizer": None, "data__sources": names, "data__held_out": 0,
    }  # fmt: skip
    folder = run_recipe("omni-small/thinker", tmp_path / "run", **settings)
    before, after, alone = weights.load(place / "model"), weights.load(folder), weights.read(folder)[2]
    changed = {name for name, value in before.state_dict().items() if not torch.equal(value, after.state_dict()[name])}
    assert any(name.startswith("thinker.language_model.layers.0.down_proj") for name in changed)
    assert not any("gate_proj" in name or "embed_tokens" in name for name in changed)
    plain = before.thinker.language_model.layers[0].down_proj.weight
    assert torch.equal(alone["thinker.language_model.layers.0.down_proj.weight"], plain)  # but for the adapters
    assert "thinker.visual.merger.mlp.2.weight" in changed and "thinker.visual.merger.mlp.0.weight" not in changed
    following = {**settings, "init": str(tmp_path / "run"), "steps": 1, "optim__lr": 0.0}
    again = weights.load(run_recipe("omni-small/thinker", tmp_path / "next", **following))
    for name, value in after.state_dict().items():
        assert torch.allclose(value, again.state_dict()[name], atol=1e-6), name


def test_rows_read_in_groups_lose_as_much_as_read_together(place):
    task, _, _ = task_of("everything", place, data__own_sound=True)
    batch = task.batch(0)
    whole = reply_loss(task.model.thinker, batch)
    assert len({len(task.model.thinker.read(each.parts).x) for each in batch}) > 1
    assert torch.allclose(whole, reply_loss(task.model.thinker, batch, together=3), atol=1e-5)
