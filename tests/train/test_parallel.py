"""Two processes are as one: losses step by step, and a run that goes on with another number of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from antiphon.train import train
from antiphon.train.checkpoint import FILE, FOLDER, sharded
from antiphon.train.log import read
from antiphon.train.parallel import blocks
from tests.train.tiny_lm import config, weights_of

MODEL = {"dropout": 0.3}
HALF = 5 * 4 + 1  # a batch of the sixth step
# Runs by two processes: what they are of. "stops" ends half-way, "goes-on" is one that one process began.
PAIR = {
    "ddp": {},
    "fsdp": {"parallel": "fsdp"},
    "fsdp-averaged": {"parallel": "fsdp", "ema": 0.5, "recompute": True},
    "ddp-stops": {"data": {"stop_at": HALF}},
    "fsdp-stops": {"parallel": "fsdp", "data": {"stop_at": HALF}},
    "ddp-goes-on": {},
    "fsdp-goes-on": {"parallel": "fsdp"},
    "rounded": {"accumulate": 3},
}
SCRIPT = """
import os
from pathlib import Path
import torch.distributed as dist
from antiphon.train import train
from tests.train.test_parallel import MODEL, PAIR
from tests.train.tiny_lm import config

dist.init_process_group("gloo")
for name, fields in PAIR.items():
    train(config(Path(os.environ["RUNS"]) / name, model=dict(MODEL), **fields))
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """All runs of this file: those of one process, those of two (in one go), and what goes on from those."""
    folder = tmp_path_factory.mktemp("runs")

    def alone(name: str, **fields: object) -> None:
        train(config(folder / name, model=dict(MODEL), **fields))

    alone("one")
    alone("one-averaged", ema=0.5)
    alone("ddp-goes-on", data={"stop_at": HALF})
    alone("fsdp-goes-on", data={"stop_at": HALF})
    (folder / "go.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", folder / "go.py"]
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "RUNS": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "2 processes share a step: accumulate=4" in done.stderr
    assert (folder / "ddp-stops" / FILE).exists() and sharded(folder / "fsdp-stops") is not None
    for name in ("ddp-stops", "fsdp-stops"):
        alone(name)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddp", "fsdp", "ddp-stops", "fsdp-stops", "ddp-goes-on", "fsdp-goes-on", "rounded"])
def test_losses_step_by_step_are_those_of_one_process(runs, name):
    ours, one = read(runs / name), read(runs / "one")
    assert [line["step"] for line in ours] == list(range(1, 13)) == [line["step"] for line in one]
    for mine, other in zip(ours, one):
        assert mine["loss"] == pytest.approx(other["loss"], abs=1e-5)
        assert mine["norm/model"] == pytest.approx(other["norm/model"], abs=1e-5)
        assert mine["tokens"] == other["tokens"]
    assert one[-1]["loss"] < 0.9 * one[0]["loss"]
    mine, other = weights_of(runs / name), weights_of(runs / "one")
    assert all(torch.allclose(mine[key], other[key], atol=1e-4) for key in other)


@pytest.mark.slow
def test_averages_are_spread_and_exported_too(runs):
    ours, one, last = (weights_of(runs / name) for name in ("fsdp-averaged", "one-averaged", "one"))
    assert all(torch.allclose(ours[key], one[key], atol=1e-4) for key in one)
    assert any(not torch.allclose(one[key], last[key], atol=1e-3) for key in one)


@pytest.mark.slow
def test_a_run_has_one_kind_of_checkpoint(runs):
    assert (runs / "fsdp-stops" / FILE).exists() and not (runs / "fsdp-stops" / FOLDER).exists()
    assert not (runs / "fsdp-goes-on" / FILE).exists() and sharded(runs / "fsdp-goes-on").name == "12"


def test_blocks_are_the_layers_that_repeat():
    inner = nn.ModuleList(nn.Sequential(nn.Linear(2, 2)) for _ in range(2))
    model = nn.ModuleDict({"a": nn.ModuleDict({"layers": inner, "norms": nn.ModuleList([nn.LayerNorm(2)])})})
    assert list(blocks(model)) == list(inner)
