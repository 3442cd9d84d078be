"""What a run will cost, and what a larger one would reach."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from typer.testing import CliRunner

from antiphon.cli import app
from antiphon.errors import ConfigError, TrainingError
from antiphon.train import flops, train
from antiphon.train.plan import UTILISATION, make_plan
from antiphon.train.scaling import Law, Reached, fit, lines, reached, spread
from tests.train.tiny_lm import TinyTask, config


def test_arithmetic_is_counted_by_hand():
    x, weight = torch.randn(3, 5, 4), torch.randn(7, 4, requires_grad=True)
    assert flops.count(lambda: F.linear(x, weight)) == 2 * 15 * 4 * 7
    assert flops.count(lambda: F.linear(x, weight).sum().backward()) == 2 * (2 * 15 * 4 * 7)
    q = torch.randn(2, 3, 8, 16)
    product = 2 * 2 * 3 * 8 * 8 * 16
    assert flops.count(lambda: F.scaled_dot_product_attention(q, q, q, is_causal=True)) == 2 * product
    q.requires_grad_()
    # Backward: scores again, and the gradients of values, probabilities, queries and keys.
    assert flops.count(lambda: F.scaled_dot_product_attention(q, q, q).sum().backward()) == (2 + 5) * product


@pytest.mark.parametrize(
    ("name", "half"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("Tesla T4", 65e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("Something else", None),
    ],
)
def test_gpus_are_known_by_their_names(name, half):
    assert flops.table_peak(name, torch.bfloat16) == half


def test_a_plan_counts_what_a_step_takes(tmp_path):
    plan = make_plan(config(tmp_path, frozen=["*embed*"]))
    model = TinyTask(config_of(tmp_path)).model
    assert plan.parameters == sum(p.numel() for p in model.parameters())
    assert plan.trained == plan.parameters - 20 * 16
    assert plan.weights == 4 * plan.parameters and plan.optimizer == 2 * plan.gradients == 8 * plan.trained
    matrices = sum(p.numel() for p in model.llama.layers.parameters() if p.ndim > 1) + 20 * 16
    assert 4 * matrices * plan.tokens < plan.flops < 12 * matrices * plan.tokens  # and attention, and padding
    assert plan.measured and plan.seconds > 0 and plan.hours == plan.seconds * 12 / 3600
    assert make_plan(config(tmp_path, frozen=["*embed*"], recompute=True)).activations < plan.activations


def config_of(out: Path):
    from antiphon.train.config import with_sections

    return with_sections(config(out))


def test_a_plan_for_gpus_follows_from_the_table(tmp_path):
    one, eight = make_plan(config(tmp_path), "h100"), make_plan(config(tmp_path, parallel="fsdp"), "8xh100")
    assert one.seconds == pytest.approx(one.flops / (67e12 * UTILISATION))
    assert eight.seconds == pytest.approx(one.seconds / 8) and eight.weights == one.weights // 8
    assert "8 x h100 (reckoned at 40% of the peak" in eight.lines()[-1]
    with pytest.raises(ConfigError, match="there is no such GPU in the table; give one of a100"):
        make_plan(config(tmp_path), "abacus")


LAW = Law(1.5, 400.0, 0.17)
RUNS = [Reached(f"run{number}", compute, LAW.loss(compute)) for number, compute in enumerate((1e15, 4e15, 2e16, 1e17))]


def test_a_law_is_found_again():
    found = fit(RUNS)
    assert found.exponent == pytest.approx(LAW.exponent, rel=0.02) and found.floor == pytest.approx(1.5, rel=0.05)
    assert found.loss(1e19) == pytest.approx(LAW.loss(1e19), rel=0.01)
    noisy = [Reached(r.run, r.flops, r.loss * (1 + 0.01 * (-1) ** n)) for n, r in enumerate(RUNS)]
    low, high = spread(noisy, 1e18)
    assert low < LAW.loss(1e18) < high and spread(RUNS[:3], 1e18) is None
    assert lines(RUNS)[-1].startswith("    1e+19 FLOP")


def test_runs_that_tell_too_little_are_refused(tmp_path):
    with pytest.raises(TrainingError, match="at least three of different compute"):
        fit(RUNS[:2])
    with pytest.raises(TrainingError, match=r"has no log\.jsonl: give the folders of runs"):
        reached(tmp_path)
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2.0, "flops": 0.0}\n')
    with pytest.raises(TrainingError, match="its task doesn't count tokens"):
        reached(tmp_path)
    with pytest.raises(TrainingError, match="its log has no 'wer'; there are loss"):
        reached(tmp_path, "wer")


def test_the_command_plans_and_fits(tmp_path, monkeypatch):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(f"task: tests.train.tiny_lm:TinyTask\nsteps: 3\nbatch: 4\nout: {tmp_path}/out\nthreads: 1\n")
    runner = CliRunner()
    done = runner.invoke(app, ["train", str(recipe), "--plan", "--on", "a100", "--json", str(tmp_path / "plan.json")])
    assert done.exit_code == 0 and "hours" in done.stdout, done.output
    assert json.loads((tmp_path / "plan.json").read_text())["machine"] == "a100"
    assert not (tmp_path / "out" / "checkpoint.pt").exists()
    for steps in (4, 8, 16):
        train(config(tmp_path / str(steps), steps=steps, log_every=2, measure_every=4))
    runs = [str(tmp_path / str(steps)) for steps in (4, 8, 16)]
    done = runner.invoke(app, ["train", *runs, "--fit", "--at", "1e12", "--json", str(tmp_path / "fit.json")])
    assert done.exit_code == 0 and "loss = " in done.stdout, done.output
    assert len(json.loads((tmp_path / "fit.json").read_text())["runs"]) == 3
