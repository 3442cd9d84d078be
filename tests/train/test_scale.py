"""What makes long runs possible: kills, bad batches, full disks, averages, low-rank pairs, compiled and recomputed
layers, traces."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from antiphon.errors import ConfigError, DataError, TrainingError
from antiphon.models.lora import LoraConfig
from antiphon.train import train
from antiphon.train.checkpoint import FILE, Checkpoint
from antiphon.train.config import GuardConfig, OptimConfig, StageConfig, typed
from antiphon.train.engine import Trainer
from antiphon.train.guard import Guard
from antiphon.train.log import read
from antiphon.train.task import freeze
from tests.train.tiny_lm import TinyTask, config, same, weights_of


def test_accumulated_is_the_large_batch(tmp_path):
    """Tokens count, not batches: four batches of six examples are one of twenty-four."""
    train(config(tmp_path / "four"))
    train(config(tmp_path / "one", batch=24, accumulate=1))
    four, one = read(tmp_path / "four"), read(tmp_path / "one")
    assert [line["loss"] for line in four] == pytest.approx([line["loss"] for line in one], abs=1e-5)
    assert [line["norm/model"] for line in four] == pytest.approx([line["norm/model"] for line in one], abs=1e-5)
    assert four[-1]["tokens"] == one[-1]["tokens"] > 0


def test_workers_change_nothing(tmp_path):
    train(config(tmp_path / "none", steps=4))
    train(config(tmp_path / "two", steps=4, workers=2))
    assert same(tmp_path / "none", tmp_path / "two")


def test_what_is_spent_is_logged_and_goes_on(tmp_path):
    train(config(tmp_path / "whole", measure_every=6))
    train(config(tmp_path / "parts", measure_every=6, data={"stop_at": 20}))
    train(config(tmp_path / "parts", measure_every=6))
    whole, parts = read(tmp_path / "whole"), read(tmp_path / "parts")
    keep = ("step", "loss", "tokens", "measure/held-out")
    assert [{k: line.get(k) for k in keep} for line in whole] == [{k: line.get(k) for k in keep} for line in parts]
    assert len(whole) == 14 and parts[-1]["flops"] > parts[0]["flops"] > 0
    last = [line for line in whole if "mfu" in line][-1]
    assert last["tokens a second"] > 0 and last["mfu"] > 0


@pytest.mark.slow
def test_killed_at_any_moment_a_run_ends_with_the_same_weights(tmp_path):
    """kill -9, twenty times: every start goes on from whatever checkpoint the one before had written."""
    fields = {"steps": 200, "accumulate": 1, "batch": 4, "log_every": 20, "save_minutes": 0.0, "ema": 0.9}
    fields |= {"model": {"dropout": 0.2}, "guard": GuardConfig(spike=20.0, window=30)}
    train(config(tmp_path / "whole", **fields))
    start, out = multiprocessing.get_context("fork").Process, tmp_path / "killed"  # what it needs is in memory
    for kill in range(20):
        process = start(target=doomed, args=(config(out, **fields), random.Random(kill).uniform(0.0, 0.05)))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert torch.load(out / FILE, weights_only=True)["step"] < 200
    train(config(out, **fields))
    assert same(tmp_path / "whole", out)
    assert [line["step"] for line in read(out)] == list(range(20, 201, 20))


def doomed(stage: StageConfig, seconds: float) -> None:
    """A run that is killed so many seconds after it has written a checkpoint."""
    path, pid = Path(stage.out) / FILE, os.getpid()
    before = path.stat().st_mtime_ns if path.exists() else 0

    def watch() -> None:
        while not path.exists() or path.stat().st_mtime_ns == before:
            time.sleep(0.001)
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    train(stage)


@pytest.mark.parametrize("then", ["skip", "stop"])
def test_a_batch_without_a_number_is_kept_and_not_learnt_from(tmp_path, then, capsys):
    fields = {"data": {"poison_at": 22}, "guard": GuardConfig(then=then)}
    if then == "stop":
        with pytest.raises(TrainingError, match=r"step 5 of model left out: the loss is nan.*guard\.then=skip goes on"):
            train(config(tmp_path, **fields))
        assert torch.load(tmp_path / FILE, weights_only=True)["step"] == 5
    else:
        train(config(tmp_path, **fields))
        assert "step 5 of model left out: the loss is nan" in capsys.readouterr().err
    kept = torch.load(tmp_path / "left-out" / "000005-model-0.pt", weights_only=True)
    assert [batch["number"] for batch in kept["batches"]] == [20, 21, 22, 23] and "nan" in kept["wrong"]
    assert all(torch.isfinite(tensor).all() for tensor in weights_of(tmp_path).values())


def test_what_is_only_told_may_be_no_number(tmp_path, monkeypatch):
    losses = TinyTask.losses
    monkeypatch.setattr(
        TinyTask, "losses", lambda self, *given: losses(self, *given) | {"told": torch.tensor(float("nan"))}
    )
    train(config(tmp_path, steps=2))
    assert not (tmp_path / "left-out").exists() and len(read(tmp_path)) == 2


def test_a_jump_of_the_loss_is_told():
    guard = Guard(GuardConfig(spike=8.0, window=50))
    for step in range(40):
        assert guard.wrong("model", 2.0 + 0.1 * (step % 5), 1.0) == ""
    assert "deviations above" in guard.wrong("model", 9.0, 1.0)
    assert guard.wrong("model", 2.3, 1.0) == "" and guard.wrong("adversary", 9.0, 1.0) == ""
    assert guard.wrong("model", 2.0, float("inf")) == "the gradient's norm is inf"
    again = Guard(GuardConfig(spike=8.0, window=50))
    again.load_state_dict(json.loads(json.dumps(guard.state_dict())))
    assert again.wrong("model", 9.0, 1.0) == guard.wrong("model", 9.0, 1.0) != ""


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_that_cannot_be_made_costs_no_step(tmp_path, workers):
    with pytest.raises(DataError, match=r"^shard-00-00003.npy cannot be read \(it ends early\): make the set anew.$"):
        train(config(tmp_path / "run", data={"break_at": 30}, workers=workers))
    assert torch.load(tmp_path / "run" / FILE, weights_only=True)["step"] == 7
    train(config(tmp_path / "run"))
    train(config(tmp_path / "whole"))
    assert same(tmp_path / "run", tmp_path / "whole")


def test_an_empty_source_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.train.tiny_lm.Counting.__len__", lambda self: 0 if self.step == 3 else self.count)
    with pytest.raises(DataError, match="the source 'threes' of the mixture is empty"):
        train(config(tmp_path))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch):
    save = Checkpoint.save

    def full(self: Checkpoint, step: int) -> None:
        if step == 7:
            (self.out / "checkpoint.part").symlink_to("/dev/full")
        save(self, step)

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "save", full)
        with pytest.raises(TrainingError, match="No space left on device.*checkpoint of step 6 is whole"):
            train(config(tmp_path / "run", save_minutes=0.0))
    assert torch.load(tmp_path / "run" / FILE, weights_only=True)["step"] == 6
    train(config(tmp_path / "run"))
    train(config(tmp_path / "whole"))
    assert same(tmp_path / "run", tmp_path / "whole")


def test_the_mean_of_the_weights_is_exported_and_training_goes_on_from_the_last(tmp_path):
    train(config(tmp_path / "plain"))
    train(config(tmp_path / "mean", ema=0.9))
    train(config(tmp_path / "parts", ema=0.9, data={"stop_at": 20}))
    train(config(tmp_path / "parts", ema=0.9))
    assert not same(tmp_path / "plain", tmp_path / "mean") and same(tmp_path / "mean", tmp_path / "parts")
    plain, mean = (torch.load(tmp_path / name / FILE, weights_only=True) for name in ("plain", "mean"))
    assert all(torch.equal(plain["model"][name], mean["model"][name]) for name in plain["model"])
    expected, trainer = None, Trainer(config(tmp_path / "by-hand"), torch.device("cpu"))
    name = "llama.layers.0.q_proj.weight"
    parameter = dict(trainer.task.model.named_parameters())[name]
    expected = parameter.detach().clone()
    for step in range(12):
        trainer.step(step, [trainer.task.batch(4 * step + place) for place in range(4)])
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * parameter.detach()
    assert torch.allclose(weights_of(tmp_path / "mean")[name], expected, atol=1e-6)


def test_low_rank_pairs_train_alone_and_are_added_to_what_is_exported(tmp_path):
    lora = LoraConfig(rank=2, linears=("q_proj", "down_proj"), last=1)
    trainer = Trainer(config(tmp_path / "run", lora=lora), torch.device("cpu"))
    start = {name: tensor.clone() for name, tensor in trainer.shown.model.state_dict().items()}
    assert {name.split(".")[-1] for name, p in trainer.task.model.named_parameters() if p.requires_grad} == {
        "lora_A",
        "lora_B",
    }
    trainer.run()
    trained = weights_of(tmp_path / "run")
    changed = {name for name in start if not torch.equal(start[name], trained[name])}
    assert changed == {f"llama.layers.0.{name}.weight" for name in ("q_proj", "down_proj")}
    assert (tmp_path / "run" / "lora" / "adapter_model.safetensors").is_file()
    net = TinyTask(typed_config(tmp_path)).model
    net.load_state_dict(trained)
    batch = trainer.task.batch(0)
    found = trainer.task.losses(batch, "model")["loss"]
    trainer.task.model = net
    assert torch.allclose(found, trainer.task.losses(batch, "model")["loss"], atol=1e-6)
    train(config(tmp_path / "parts", lora=lora, data={"stop_at": 20}))
    train(config(tmp_path / "parts", lora=lora))
    assert same(tmp_path / "run", tmp_path / "parts")


def typed_config(out: Path):
    from antiphon.train.config import with_sections

    return with_sections(config(out))


def test_a_stage_starts_from_the_run_before_it_and_freezes_what_it_says(tmp_path):
    train(config(tmp_path / "first", steps=2))
    optim = OptimConfig(lr=0.02, warmup=0, parts={"*.layers.1.*": 0.1})
    init = str(tmp_path / "first")
    train(config(tmp_path / "second", steps=2, init=init, frozen=["*embed*", "*.layers.0.*"], optim=optim))
    before, after = weights_of(tmp_path / "first"), weights_of(tmp_path / "second")
    frozen = {name for name in before if torch.equal(before[name], after[name])}
    assert frozen == {name for name in before if "embed" in name or ".layers.0." in name}
    with pytest.raises(ConfigError, match="frozen: 'nothing' matches no parameter"):
        freeze(nn.Linear(1, 1), ["*"], ["nothing"])


def test_layers_computed_twice_learn_the_same(tmp_path):
    train(config(tmp_path / "once", model={"dropout": 0.2}))
    train(config(tmp_path / "twice", model={"dropout": 0.2}, recompute=True))
    assert same(tmp_path / "once", tmp_path / "twice")


@pytest.mark.slow
def test_compiled_layers_learn_the_same(tmp_path):
    train(config(tmp_path / "plain", steps=3))
    train(config(tmp_path / "compiled", steps=3, compile=True))
    ours, theirs = weights_of(tmp_path / "plain"), weights_of(tmp_path / "compiled")
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-4) for name in ours)


def test_a_trace_of_some_steps_is_written(tmp_path):
    train(config(tmp_path, steps=5, profile=2))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert any("scaled_dot_product" in str(event.get("name")) for event in events)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"parallel": "tensor"}, "parallel is 'tensor'; choose ddp or fsdp"),
        ({"ema": 1.0}, "ema is 1.0; give a decay below 1"),
        ({"guard": GuardConfig(then="weep")}, "guard.then is 'weep'; choose skip or stop"),
    ],
)
def test_settings_that_make_no_sense_are_told(tmp_path, fields, message):
    with pytest.raises(ConfigError, match=message):
        config(tmp_path, **fields)


def test_a_recipe_can_say_lora():
    lora = typed(type(config(Path("x"), lora=LoraConfig()).lora), {"rank": 4, "linears": ["q_proj"]}, "lora")
    assert lora == LoraConfig(rank=4, linears=("q_proj",))
