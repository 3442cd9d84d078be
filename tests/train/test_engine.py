"""The engine: schedules, frozen parameters, exact resume after a kill, recipes that say what is wrong."""

import importlib
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import nn

from antiphon.errors import ConfigError
from antiphon.train import StageConfig, load_recipe, train
from antiphon.train.config import OptimConfig, learning_rate
from antiphon.train.engine import build_task, freeze, make_optimizer


@dataclass
class ToyModel:
    """No choice."""


@dataclass
class ToyData:
    """What a recipe may say of it."""

    stop_at: int | None = None
    """The step at which it kills its own process."""
    n: int = 1
    seconds: tuple[float, ...] = (1.0,)
    folders: list[str] = field(default_factory=list)


class ToyTask:
    """Fits a line with dropout, so that the random state matters; optionally kills its own process. It counts what it
    has seen, as a task may."""

    Model, Data = ToyModel, ToyData

    def __init__(self, config: StageConfig):
        self.config, self.seen = config, 0
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))

    def batch(self, step: int):
        if step == self.config.data.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(16, 4, generator=generator)
        return {"x": x, "y": x.sum(-1, keepdim=True)}

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]

    def losses(self, batch, group):
        self.seen += len(batch["x"])
        return {"square": (self.model(batch["x"]) - batch["y"]).square().mean()}

    def sample(self, step, folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{step}.txt").write_text("sample")

    def measure(self, step, measures):
        return {"slope": float(step)}

    def export(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.model.state_dict() | {"seen": torch.tensor(self.seen)}, folder / "model.pt")


def config(out, **fields) -> StageConfig:
    defaults = dict(steps=30, precision="float32", log_every=10, sample_every=15, optim=OptimConfig(lr=0.05, warmup=5))
    return StageConfig(task="tests.train.test_engine:ToyTask", out=str(out), **(defaults | fields))


def test_loss_falls_and_files_are_written(tmp_path):
    folder = train(config(tmp_path, trainable=["*"], steps=200))
    task = build_task(config(tmp_path))
    before = float(task.losses(task.batch(999), "model")["square"])
    task.model.load_state_dict(torch.load(folder / "model.pt"), strict=False)
    task.model.eval()
    assert float(task.losses(task.batch(999), "model")["square"]) < 0.5 * before
    assert (tmp_path / "samples" / "15.txt").exists() and (tmp_path / "checkpoint.pt").exists()
    assert any((tmp_path / "curves").iterdir())


@pytest.mark.parametrize("stop_at", [7, 18])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, stop_at):
    whole = torch.load(train(config(tmp_path / "whole")) / "model.pt")
    train(config(tmp_path / "parts", data={"stop_at": stop_at}))
    assert torch.load(tmp_path / "parts" / "checkpoint.pt", weights_only=True)["step"] == stop_at + 1
    parts = torch.load(train(config(tmp_path / "parts")) / "model.pt")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_finished_run_whose_export_is_gone_exports_it_anew(tmp_path):
    folder = train(config(tmp_path))
    before = torch.load(folder / "model.pt")
    shutil.rmtree(folder)
    again = torch.load(train(config(tmp_path)) / "model.pt")
    assert all(torch.equal(before[name], again[name]) for name in before)


def test_a_run_told_to_stop_while_it_samples_goes_on_from_there(tmp_path, monkeypatch):
    whole = torch.load(train(config(tmp_path / "whole")) / "model.pt")
    with monkeypatch.context() as patched:
        patched.setattr(ToyTask, "sample", lambda self, step, folder: os.kill(os.getpid(), signal.SIGTERM))
        train(config(tmp_path / "parts"))
    assert torch.load(tmp_path / "parts" / "checkpoint.pt", weights_only=True)["step"] == 15
    parts = torch.load(train(config(tmp_path / "parts")) / "model.pt")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_accumulated_batches_are_averaged(tmp_path, monkeypatch, capsys):
    """The gradient's norm is that of the mean of the three batches' losses."""
    monkeypatch.setattr(nn.Dropout, "forward", lambda self, x: x)
    torch.manual_seed(0)
    task = build_task(config(tmp_path))
    (sum(task.losses(task.batch(step), "model")["square"] for step in range(3)) / 3).backward()
    norm = torch.stack([parameter.grad.norm() for parameter in task.model.parameters()]).norm()
    train(config(tmp_path, accumulate=3, steps=1, log_every=1))
    assert f"norm/model {norm:.4g} " in capsys.readouterr().err


def test_parts_have_learning_rates_of_their_own(tmp_path):
    """One step of AdamW moves a parameter by about its learning rate, and the first glob that matches counts."""
    optim = OptimConfig(lr=0.01, warmup=0, schedule="constant", weight_decay=0.0, parts={"0.*": 0.5, "*.weight": 0.0})
    torch.manual_seed(0)
    start = build_task(config(tmp_path)).model.state_dict()
    end = torch.load(train(config(tmp_path, optim=optim, steps=1)) / "model.pt")
    moved = {name: float((end[name] - start[name]).abs().max()) for name in start}
    assert moved["0.weight"] == pytest.approx(0.005, rel=0.01) and moved["0.bias"] == pytest.approx(0.005, rel=0.01)
    assert moved["2.weight"] == 0.0 and moved["2.bias"] == pytest.approx(0.01, rel=0.01)


def test_parts_group_by_factor_and_decay():
    parts = OptimConfig(parts={"0.*": 0.5}, weight_decay=0.1)
    optimizer = make_optimizer(build_task(config("")).model, ["*"], config("", optim=parts))
    found = [(g["factor"], g["weight_decay"], len(g["params"])) for g in optimizer.param_groups]
    assert sorted(found) == [(0.5, 0.0, 1), (0.5, 0.1, 1), (1.0, 0.0, 1), (1.0, 0.1, 1)]
    with pytest.raises(ConfigError, match="depth"):
        make_optimizer(build_task(config("")).model, ["*"], config("", optim=OptimConfig(parts={"depth*": 0.5})))


@pytest.mark.parametrize("stop_at", [7])
def test_resume_is_exact_with_parts_and_takes_the_recipes_factors(tmp_path, stop_at):
    optim = OptimConfig(lr=0.05, warmup=5, parts={"0.*": 0.5})
    whole = torch.load(train(config(tmp_path / "whole", optim=optim)) / "model.pt")
    train(config(tmp_path / "parts", optim=optim, data={"stop_at": stop_at}))
    parts = torch.load(train(config(tmp_path / "parts", optim=optim)) / "model.pt")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    train(config(tmp_path / "other", optim=optim, data={"stop_at": stop_at}))
    before = torch.load(tmp_path / "other" / "model" / "model.pt")
    frozen = OptimConfig(lr=0.05, warmup=5, weight_decay=0.0, parts={"0.*": 0.0})
    after = torch.load(train(config(tmp_path / "other", optim=frozen)) / "model.pt")
    assert torch.equal(before["0.bias"], after["0.bias"]) and not torch.equal(before["2.bias"], after["2.bias"])


def test_a_loss_that_some_batches_lack_is_averaged_over_the_others(tmp_path, capsys, monkeypatch):
    losses = ToyTask.losses

    def some(self, batch, group):
        found = losses(self, batch, group)
        self.count = getattr(self, "count", 0) + 1
        return found if self.count % 2 else found | {"rare": torch.tensor(4.0)}

    monkeypatch.setattr(ToyTask, "losses", some)
    train(config(tmp_path, steps=10))
    assert "rare 4 " in capsys.readouterr().err


def test_what_a_measure_finds_is_logged(tmp_path, capsys):
    train(config(tmp_path, steps=10, measure_every=5))
    lines = [line for line in capsys.readouterr().err.splitlines() if "measured" in line]
    assert lines == ["measured at step 5: slope 5", "measured at step 10: slope 10"]


def test_only_what_is_named_trains(tmp_path):
    torch.manual_seed(0)
    start = build_task(config(tmp_path)).model.state_dict()
    end = torch.load(train(config(tmp_path, trainable=["2.*"])) / "model.pt")
    assert torch.equal(start["0.weight"], end["0.weight"])
    assert not torch.equal(start["2.weight"], end["2.weight"])


def test_weights_of_something_else_are_no_start(tmp_path):
    save_file({"codec.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match="fits nothing here: it has codec.weight"):
        train(config(tmp_path / "run", init=str(tmp_path)))


def test_a_glob_that_matches_nothing_is_an_error():
    with pytest.raises(ConfigError, match="matches no parameter"):
        freeze(nn.Linear(1, 1), ["adapter.*"])


def test_learning_rate_by_hand():
    optim = OptimConfig(lr=1.0, warmup=10, schedule="cosine")
    assert learning_rate(optim, 0, 110) == pytest.approx(0.1)
    assert learning_rate(optim, 10, 110) == pytest.approx(1.0)
    assert learning_rate(optim, 60, 110) == pytest.approx(0.55)
    assert learning_rate(optim, 110, 110) == pytest.approx(0.1)
    assert learning_rate(OptimConfig(lr=1.0, warmup=0, schedule="constant"), 99, 100) == 1.0


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("out: x\n", [], "no value for steps"),
        ("out: x\nsteps: ???\n", [], "no value for steps; give it as steps=VALUE"),
        ("out: x\nsteps: 1\nstpes: 2\n", [], "there is no stpes: did you mean steps"),
        ("out: x\nsteps: many\n", [], "steps is 'many'"),
        ("out: x\nsteps: 1\n", ["precision=int3"], "choose auto"),
        ("out: x\nsteps: 1\n", ["optim.rl=1"], "there is no optim.rl: did you mean optim.lr"),
        ("out: x\nsteps: 1\n", ["data.stop_ta=1"], "there is no data.stop_ta: did you mean data.stop_at"),
        ("out: x\nsteps: 1\n", ["data.n=some"], "data.n is 'some'"),
        ("out: x\nsteps: 1\n", ["data.seconds=[a,b]"], "data.seconds is 'a'"),
        ("out: x\nsteps: 1\ndata: 3\n", [], "data is a mapping of fields, not 3"),
        ("out: x\nsteps: 1\n", ["data=place"], "there is no data.speech"),  # of a task that hears none
        ("task: nowhere:B\nout: x\nsteps: 1\n", [], "task 'nowhere:B' can't be imported"),
        ("- a\n", [], "recipe.yaml"),
        ("a: [\n", [], "recipe.yaml"),
    ],
)
def test_bad_recipes_say_what_is_wrong(tmp_path, text, overrides, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(text if text[:4] in ("task", "- a\n", "a: [") else "task: tests.train.test_engine:ToyTask\n" + text)
    with pytest.raises(ConfigError, match=message):
        load_recipe(path, overrides)


def test_overrides_reach_nested_fields(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("task: tests.train.test_engine:ToyTask\nout: x\nsteps: 1\ndata: {n: 1, seconds: [2, 3]}\n")
    recipe = load_recipe(path, ["optim.lr=0.5", "data.n=2", "steps=7", "data.folders=here"])
    assert (recipe.optim.lr, recipe.data.n, recipe.steps) == (0.5, 2, 7)
    assert recipe.data.seconds == (2.0, 3.0) and recipe.data.folders == ["here"]  # one value is a list of one


STAGES = [path for path in sorted(Path("recipes").rglob("*.yaml")) if "task" in OmegaConf.load(path)]  # others are data


@pytest.mark.parametrize("path", STAGES, ids=str)
def test_shipped_recipes_load(path):
    asked = OmegaConf.missing_keys(OmegaConf.load(path))  # what only the user can know: ???
    recipe = load_recipe(path, [f"{key}=folder" for key in asked])
    module, _, name = recipe.task.partition(":")
    assert recipe.steps > 0 and hasattr(importlib.import_module(module), name)


@pytest.mark.slow
def test_two_processes_agree(tmp_path):
    """Under torchrun both processes end with the same weights, trained on different batches."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"task: tests.train.test_engine:ToyTask\nsteps: 5\nprecision: float32\nout: {tmp_path}/run\n")
    script = tmp_path / "go.py"
    script.write_text(f"""
import os, torch
from antiphon.train import engine, load_recipe
build, made = engine.build_task, {{}}
engine.build_task = lambda config: made.setdefault("task", build(config))
engine.train(load_recipe({str(recipe)!r}))
torch.save(made["task"].model.state_dict(), {str(tmp_path)!r} + "/rank" + os.environ["RANK"] + ".pt")
""")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29533", str(script)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()}, timeout=180
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 5
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_ships_is_found_from_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipes = Path(__file__).resolve().parents[2] / "recipes"
    assert Path(load_recipe(recipes / "mini" / "instruct.yaml").data.held_out).is_file()
    assert Path(load_recipe(recipes / "codecs" / "mini-decoder.yaml").model.start, "config.json").is_file()
    mine = tmp_path / "weights" / "mini" / "codec"
    mine.mkdir(parents=True)
    assert load_recipe(recipes / "codecs" / "mini-decoder.yaml").model.start == "weights/mini/codec"  # one's own first


def test_a_sample_that_fails_costs_no_step(tmp_path, monkeypatch):
    def fail(self, step, folder):
        raise RuntimeError("no sample")

    monkeypatch.setattr(ToyTask, "sample", fail)
    with pytest.raises(RuntimeError, match="no sample"):
        train(config(tmp_path / "run", sample_every=2))
    assert torch.load(tmp_path / "run" / "checkpoint.pt")["step"] == 2 and (tmp_path / "run" / "model").is_dir()
