"""A language model of a few thousand weights on a mixture of made sequences, packed: a task that counts its tokens."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from antiphon.data.formats.example import Example
from antiphon.data.mixture import Mix, Mixture
from antiphon.data.packing import pack, stack
from antiphon.errors import DataError
from antiphon.models.llm.llama import Llama, LlamaConfig
from antiphon.train.config import OptimConfig, StageConfig


@dataclass
class TinyModel:
    layers: int = 2
    dropout: float = 0.0


@dataclass
class TinyData:
    mix: Mix = field(default_factory=Mix)
    size: int = 24
    stop_at: int | None = None
    """The number of the batch at which it tells its own process to stop,"""
    break_at: int | None = None
    """can't be made,"""
    poison_at: int | None = None
    """or has a loss that is no number."""


class Counting:
    """Sequences that count up modulo 20, of unequal lengths and weights."""

    def __init__(self, count: int, step: int):
        self.count, self.step = count, step

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        rng = np.random.default_rng(index)
        length = int(rng.integers(3, 20))
        tokens = (index + self.step * np.arange(length)) % 20
        return Example(tokens, rng.choice([0.25, 1.0], length).astype(np.float32))


class Net(nn.Module):
    def __init__(self, config: TinyModel):
        super().__init__()
        self.llama = Llama(
            LlamaConfig(
                hidden_size=16, intermediate_size=24, num_hidden_layers=config.layers, num_attention_heads=2,
                num_key_value_heads=1, head_dim=8, vocab_size=20,
            )
        )  # fmt: skip
        self.dropout = nn.Dropout(config.dropout)


class TinyTask:
    Model, Data = TinyModel, TinyData

    def __init__(self, config: StageConfig):
        self.config, data = config, config.data
        self.model = Net(config.model)
        self.mixture = Mixture({"ones": Counting(50, 1), "threes": Counting(20, 3)}, data.mix, config.seed)

    def batch(self, step: int) -> dict[str, Any]:
        data, first = self.config.data, step * self.config.batch
        if step == data.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        if step == data.break_at:
            raise DataError("shard-00-00003.npy cannot be read (it ends early): make the set anew.")
        rows = pack([self.mixture[number] for number in range(first, first + self.config.batch)], data.size)
        tokens, weights, segments = stack(rows)
        if step == data.poison_at:
            weights = weights * float("nan")
        return {"tokens": tokens, "weights": weights, "segments": segments, "number": step}

    def tokens(self, batch: dict[str, Any]) -> int:
        return int((batch["segments"] > 0).sum())

    def weights(self, batch: dict[str, Any]) -> dict[str, float]:
        return {"loss": float(batch["weights"][:, 1:].sum())}

    def losses(self, batch: dict[str, Any], group: str) -> dict[str, Tensor]:
        tokens, weights, llama = batch["tokens"], batch["weights"][:, 1:], self.model.llama
        x = self.model.dropout(llama.embed(tokens[:, :-1]))
        logits = llama.logits(llama(x, segments=batch["segments"][:, :-1]))
        losses = F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
        return {"loss": (losses * weights).sum() / weights.sum()}

    def measure(self, step: int, measures: Any) -> dict[str, float]:
        return {"held-out": float(self.losses(self.batch(10_000), "model")["loss"])}

    def sample(self, step: int, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{step}.txt").write_text("a sample")

    def export(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.contiguous() for name, tensor in self.model.state_dict().items()}
        save_file(weights, folder / "model.safetensors")


def config(out: Path, **fields: Any) -> StageConfig:
    """Of a short run, every step of which is logged."""
    defaults: dict[str, Any] = {
        "steps": 12, "batch": 6, "accumulate": 4, "precision": "float32", "log_every": 1, "sample_every": 0,
        "optim": OptimConfig(lr=0.02, warmup=3), "threads": 1,
    }  # fmt: skip
    return StageConfig(task="tests.train.tiny_lm:TinyTask", out=str(out), **(defaults | fields))


def weights_of(out: Path) -> dict[str, Tensor]:
    """What a run exported."""
    from safetensors.torch import load_file

    return load_file(out / "model" / "model.safetensors")


def same(first: Path, second: Path) -> bool:
    """Whether two runs exported the same weights, bit for bit."""
    ours, theirs = weights_of(first), weights_of(second)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
