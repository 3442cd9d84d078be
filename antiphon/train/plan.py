"""What a stage will cost, before it starts: `antiphon train --plan RECIPE`.

One batch is made and learnt from, nothing is updated: its arithmetic, and what is kept for the backward pass, are
counted. The time is that batch's on this machine, or follows from a table of GPUs.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import Tensor

from antiphon.errors import ConfigError
from antiphon.models.lora import Lora
from antiphon.train import flops, parallel
from antiphon.train.config import StageConfig
from antiphon.train.engine import pick_precision, to_device
from antiphon.train.task import Counted, build_task, freeze, optimizer_groups

UTILISATION = 0.4  # of a GPU's peak, what well-kept training code reaches


@dataclass(frozen=True)
class Plan:
    """What a stage costs.

    Attributes:
        machine: that the time is of.
        devices: how many of them share a step.
        parameters, trained: numbers of weights.
        tokens: of a step; 0 of a task that doesn't count them.
        flops: of a step.
        weights, gradients, optimizer, activations: bytes on a device; activations are those of one batch.
        room: bytes that a device has.
        seconds: of a step.
        measured: whether `seconds` was; else it is `UTILISATION` of the table's peak.
        peak: FLOP/s that all devices reach at best.
        steps: of the stage.
    """

    machine: str
    devices: int
    parameters: int
    trained: int
    tokens: int
    flops: float
    weights: int
    gradients: int
    optimizer: int
    activations: int
    room: int
    seconds: float
    measured: bool
    peak: float
    steps: int

    @property
    def memory(self) -> int:
        """Bytes on a device, of all that has been counted."""
        return self.weights + self.gradients + self.optimizer + self.activations

    @property
    def hours(self) -> float:
        """Of the whole stage."""
        return self.seconds * self.steps / 3600

    def lines(self) -> list[str]:
        """For people."""
        tokens = f"{self.tokens:,} tokens, " if self.tokens else ""
        parts = ("weights", "gradients", "optimizer", "activations")
        memory = " + ".join(f"{getattr(self, part) / 1e9:.2f} {part}" for part in parts)
        how = "measured" if self.measured else f"reckoned at {UTILISATION:.0%} of the peak"
        many = f"{self.devices} x " if self.devices > 1 else ""
        fits = "" if self.memory < self.room else ": too much; try recompute=true, a smaller batch, or parallel=fsdp"
        return [
            f"parameters  {self.parameters / 1e6:,.1f} M, {self.trained / 1e6:,.1f} M of them train",
            f"a step      {tokens}{self.flops / 1e12:,.3g} TFLOP; {self.steps:,} steps: {self.flops * self.steps:.3g}",
            f"memory      {memory} = {self.memory / 1e9:.2f} GB of {self.room / 1e9:.0f} GB{fits}",
            f"time        {self.seconds:.3g} s a step on {many}{self.machine} ({how}; "
            f"{self.flops / self.seconds / self.peak:.0%} of {self.peak / 1e12:,.3g} TFLOP/s): {self.hours:.3g} hours",
        ]


def make_plan(config: StageConfig, on: str | None = None) -> Plan:
    """Plans a stage.

    Args:
        config: the stage. Sets that its task makes of recordings are made, and are there for the run.
        on: a GPU of the table, several as "8xh100"; None for this machine.

    Raises:
        ConfigError: a GPU that isn't in the table.
    """
    devices, name = _named(on)
    here = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if config.threads:
        torch.set_num_threads(config.threads)
    task = build_task(config)
    if config.lora:
        Lora(task.model, config.lora).attach(task.model)
        freeze(task.model, [*(glob for glob in config.trainable if glob != "*"), "*.lora_[AB]"], config.frozen)
    else:
        freeze(task.model, config.trainable, config.frozen)
    task.model.to(here).train()
    if config.recompute:
        parallel.recompute(task.model)
    dtype = torch.bfloat16 if name and config.precision == "auto" else pick_precision(config, here)
    batch = to_device(task.batch(0), here)
    kept: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in task.model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    def learn() -> None:
        for group in optimizer_groups(task):
            with torch.autocast(here.type, dtype=dtype, enabled=dtype != torch.float32):
                losses = task.losses(batch, group)
            torch.stack([loss.float() for loss in losses.values() if loss.requires_grad]).sum().backward()

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        computed = flops.count(learn)
    trained = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
    shares = devices if config.parallel == "fsdp" else 1
    if name is None:
        seconds = _timed(lambda: _once(task, batch, learn), here) * config.accumulate
        peak = flops.peak(here, dtype)
        machine = torch.cuda.get_device_name(here) if here.type == "cuda" else "this machine"
        room = (
            torch.cuda.get_device_properties(here).total_memory
            if here.type == "cuda"
            else psutil.virtual_memory().total
        )
    else:
        machine, room = name, int(flops.MEMORY[name] * 1e9)
        peak = flops.PEAKS[name][0 if dtype == torch.bfloat16 else 1] * devices
        seconds = computed * config.accumulate / (peak * UTILISATION)
    weights = sum(parameter.nbytes for parameter in task.model.parameters())
    gradients = sum(parameter.nbytes for parameter in trained)
    return Plan(
        machine=machine,
        devices=devices,
        parameters=sum(parameter.numel() for parameter in task.model.parameters()),
        trained=sum(parameter.numel() for parameter in trained),
        tokens=task.tokens(batch) * config.accumulate if isinstance(task, Counted) else 0,
        flops=computed * config.accumulate,
        weights=weights // shares,
        gradients=gradients // shares,
        optimizer=(3 if config.ema else 2) * gradients // shares,
        activations=sum(kept.values()),
        room=room,
        seconds=seconds,
        measured=name is None,
        peak=peak,
        steps=config.steps,
    )


def _named(on: str | None) -> tuple[int, str | None]:
    """How many of which GPU."""
    if on is None:
        return 1, None
    found = re.fullmatch(r"(?:(\d+)x)?(\w+)", on.lower())
    if not found or found[2] not in flops.PEAKS or found[1] == "0":
        raise ConfigError(
            f"--on {on}: there is no such GPU in the table; give one of {', '.join(flops.PEAKS)}, or 8xh100"
        )
    return int(found[1] or 1), found[2]


def _once(task: Any, batch: Any, learn: Any) -> None:
    task.model.zero_grad(set_to_none=True)
    learn()


def _timed(work: Any, device: torch.device) -> float:
    """Seconds that work takes."""
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began
