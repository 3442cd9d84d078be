"""The one training engine: single process or `torchrun`, any task, resumed exactly where it stopped.

A batch is a function of the step alone, and the random generator is seeded by the step, so that a run that was killed
and started again takes the very steps that it would have taken: weights, optimizers and the step's number are all that
a checkpoint needs.
"""

from __future__ import annotations

import fnmatch
import importlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from omegaconf import OmegaConf
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from antiphon.errors import ConfigError
from antiphon.nn.transformer import renamed
from antiphon.nn.weights import misfit
from antiphon.train.config import StageConfig, learning_rate


class Task(Protocol):
    """What a stage trains. A task's class is constructed with the StageConfig.

    Attributes:
        model: holds every parameter that may train.
        players: name -> globs over the parameters it owns; more than one where models play against each other (GAN).
    """

    model: nn.Module
    players: dict[str, list[str]]

    def batch(self, step: int) -> Any:
        """The batch of a step, a function of `step` and the config alone."""

    def losses(self, batch: Any, player: str) -> dict[str, Tensor]:
        """Named losses of a player; the engine weighs them by `config.objective` and adds them up."""

    def sample(self, step: int, folder: Path) -> None:
        """Writes into `folder` what a person can look at or listen to."""

    def export(self, folder: Path) -> None:
        """Writes the model folder: config.json and model.safetensors."""

    # Optional: measure(step) -> dict[str, float], what the model can do so far; asked every `measure_every` steps.
    # Optional: rests(step, player) -> bool, whether a player takes no step then.


class _Batches(Dataset):
    """The task's batches as a dataset indexed by step, so that worker processes can prepare them ahead."""

    def __init__(self, task: Task, first: int, last: int, rank: int, world: int):
        self.task, self.first, self.last, self.rank, self.world = task, first, last, rank, world

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, index: int) -> Any:
        return self.task.batch((self.first + index) * self.world + self.rank)


class _Losses(nn.Module):
    """The task's losses as a module, so that DistributedDataParallel sees one forward pass."""

    def __init__(self, task: Task, objective: dict[str, float]):
        super().__init__()
        self.model, self._task, self.objective = task.model, [task], objective

    def forward(self, batch: Any, player: str) -> tuple[Tensor, dict[str, Tensor]]:
        losses = self._task[0].losses(batch, player)
        total = sum(self.objective.get(name, 1.0) * loss for name, loss in losses.items() if loss.requires_grad)
        return total, {name: loss.detach() for name, loss in losses.items()}


def build_task(config: StageConfig) -> Task:
    """Imports the task that the recipe names, and constructs it."""
    module, _, name = config.task.partition(":")
    try:
        task_class = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"task {config.task!r} can't be imported ({error}); write it as package.module:Class"
        ) from error
    return task_class(config)


def freeze(model: nn.Module, trainable: list[str]) -> list[str]:
    """Lets only the parameters train whose names match a glob; returns their names.

    Raises:
        ConfigError: a glob that matches nothing.
    """
    names = [name for name, _ in model.named_parameters()]
    for glob in trainable:
        if not fnmatch.filter(names, glob):
            raise ConfigError(f"trainable: {glob!r} matches no parameter; some names are {', '.join(names[:4])}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(fnmatch.fnmatch(name, glob) for glob in trainable))
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def load_weights(model: nn.Module, folder: Path | str) -> None:
    """Starts a model from folder/model.safetensors; says how many tensors either of the two lacks."""
    path = Path(folder) / "model.safetensors"
    if not path.is_file():
        raise ConfigError(f"init: {path} does not exist; train that stage first or give another folder")
    weights = renamed({name: tensor.float() for name, tensor in load_file(path).items()})
    if told := misfit(model, weights, strict=False):
        raise ConfigError(f"init: {path} is of other sizes than the recipe's model: {told}")
    missing, unknown = model.load_state_dict(weights, strict=False)
    if len(unknown) == len(weights):
        ours, theirs = next(iter(model.state_dict()), "nothing"), next(iter(weights), "nothing")
        raise ConfigError(f"init: {path} fits nothing here: it has {theirs} and the like, the task's model {ours}")
    print(
        f"init from {folder}: {len(weights) - len(unknown)} tensors, {len(missing)} not there, {len(unknown)} unknown",
        file=sys.stderr,
    )


def make_optimizer(model: nn.Module, globs: list[str], config: StageConfig) -> torch.optim.AdamW:
    """AdamW over a player's trainable parameters; vectors are not decayed.

    Each group keeps its `factor` on the learning rate, from `config.optim.parts`.

    Raises:
        ConfigError: a part whose glob matches no parameter of the model.
    """
    parts = config.optim.parts
    for glob in parts:
        if not fnmatch.filter((name for name, _ in model.named_parameters()), glob):
            raise ConfigError(f"optim.parts: {glob!r} matches no parameter")
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {(1.0, True): [], (1.0, False): []}
    for name, p in model.named_parameters():
        if p.requires_grad and any(fnmatch.fnmatch(name, g) for g in globs):
            factor = next((float(f) for glob, f in parts.items() if fnmatch.fnmatch(name, glob)), 1.0)
            groups.setdefault((factor, p.ndim > 1), []).append(p)
    decay = config.optim.weight_decay
    return torch.optim.AdamW(
        [
            {"params": params, "weight_decay": decay if decays else 0.0, "factor": factor}
            for (factor, decays), params in groups.items()
        ],
        lr=config.optim.lr,
        betas=tuple(config.optim.betas),
        fused=True,
    )


def pick_precision(config: StageConfig, device: torch.device) -> torch.dtype:
    """The dtype of autocast; "auto" takes bf16 on GPUs and on CPUs with tile instructions, elsewhere it is slower."""
    if config.precision != "auto":
        return torch.bfloat16 if config.precision == "bf16" else torch.float32
    faster = device.type == "cuda" or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if faster else torch.float32


def to_device(batch: Any, device: torch.device) -> Any:
    """Moves every tensor of nested tuples, lists and dicts."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, (list, tuple)):
        return type(batch)(to_device(value, device) for value in batch)
    return batch


class Checkpoint:
    """Everything that a run needs to go on, in one file written atomically."""

    def __init__(self, path: Path, model: nn.Module, optimizers: dict[str, torch.optim.Optimizer]):
        self.path, self.model, self.optimizers = path, model, optimizers

    def save(self, step: int) -> None:
        state = {
            "step": step,
            "model": self.model.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
        }
        part = self.path.with_suffix(".part")
        torch.save(state, part)
        os.replace(part, self.path)

    def load(self) -> int:
        """Returns the step to go on with; 0 when there is no checkpoint."""
        if not self.path.exists():
            return 0
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        state["model"] = renamed(state["model"])
        if told := misfit(self.model, state["model"]):
            raise ConfigError(f"{self.path} is of another recipe: {told}; give another out, or remove it")
        self.model.load_state_dict(state["model"])
        for name, optimizer in self.optimizers.items():
            factors = [group["factor"] for group in optimizer.param_groups]
            optimizer.load_state_dict(state["optimizers"][name])
            for group, factor in zip(optimizer.param_groups, factors, strict=True):  # the recipe's, as the rate itself
                group["factor"] = factor
        return state["step"]


def train(config: StageConfig) -> Path:
    """Runs a stage to its end, from its last checkpoint if there is one.

    A SIGTERM or Ctrl-C writes a checkpoint first. Under `torchrun` each process takes its share of the batches.

    Returns:
        The exported model folder, `out`/model.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = (
        torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if torch.cuda.is_available() else torch.device("cpu")
    )
    joined = world > 1 and not dist.is_initialized()
    if joined:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if config.threads:
        torch.set_num_threads(config.threads)
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    if rank == 0:
        OmegaConf.save(OmegaConf.structured(config), out / "recipe.yaml")

    torch.manual_seed(config.seed)
    task = build_task(config)
    if config.init:
        load_weights(task.model, config.init)
    names = freeze(task.model, config.trainable)
    task.model.to(device)
    players = getattr(task, "players", {"model": ["*"]})
    optimizers = {name: make_optimizer(task.model, globs, config) for name, globs in players.items()}
    rests = getattr(task, "rests", lambda step, player: False)
    checkpoint = Checkpoint(out / "checkpoint.pt", task.model, optimizers)
    start = checkpoint.load()
    losses: nn.Module = _Losses(task, config.objective)
    if world > 1:
        losses = nn.parallel.DistributedDataParallel(losses, find_unused_parameters=True, broadcast_buffers=False)
    dtype = pick_precision(config, device)
    if rank == 0:
        million = sum(p.numel() for p in task.model.parameters() if p.requires_grad) / 1e6
        print(
            f"{config.task}: {million:.1f} M parameters train in {len(names)} tensors, {dtype}, from step {start}",
            file=sys.stderr,
        )

    loader = DataLoader(
        _Batches(task, start * config.accumulate, config.steps * config.accumulate, rank, world),
        batch_size=None,
        num_workers=config.workers,
        multiprocessing_context="fork" if config.workers else None,
    )
    log = Log(config, out, start) if rank == 0 else None
    stop: list[int] = []
    previous = {
        number: signal.signal(number, lambda n, _: stop.append(n)) for number in (signal.SIGTERM, signal.SIGINT)
    }
    batches, saved, step = iter(loader), time.monotonic(), start
    try:
        for step in range(start, config.steps):
            torch.manual_seed((config.seed * 1_000_003 + step) * 4096 + rank)
            for optimizer in optimizers.values():
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(config.optim, step, config.steps) * group["factor"]
            values = _step(
                losses,
                task,
                [to_device(next(batches), device) for _ in range(config.accumulate)],
                {name: each for name, each in optimizers.items() if not rests(step, name)},
                config,
                dtype,
            )
            if log:
                log.add(step, values)
            if rank == 0 and (time.monotonic() - saved > 60 * config.save_minutes or step + 1 == config.steps):
                checkpoint.save(step + 1)
                task.export(out / "model")
                saved = time.monotonic()
            if log:
                try:
                    _look(task, config, step + 1, log)
                except Exception:  # whatever it is about, the steps until here are not lost
                    checkpoint.save(step + 1)
                    task.export(out / "model")
                    raise
            if _anyone(bool(stop), device):
                if rank == 0:
                    checkpoint.save(step + 1)
                    task.export(out / "model")
                    print(f"stopped after step {step + 1}; the same command goes on from there", file=sys.stderr)
                break
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if log:
            log.writer.close()
    if joined:
        dist.destroy_process_group()  # a process that ends with its threads still running may abort
    return out / "model"


@torch.no_grad()
def _look(task: Task, config: StageConfig, step: int, log: Log) -> None:
    """Samples and measures what the model can do, after the steps that the recipe says."""
    if config.sample_every and step % config.sample_every == 0:
        task.model.eval()
        task.sample(step, Path(config.out) / "samples")
    if config.measure_every and step % config.measure_every == 0:
        task.model.eval()
        log.measured(step, task.measure(step))


def _anyone(stops: bool, device: torch.device) -> bool:
    """Whether any process was told to stop: all stop after the same step, or those that go on wait for ever."""
    if not dist.is_initialized():
        return stops
    told = torch.tensor(float(stops), device=device)
    dist.all_reduce(told, dist.ReduceOp.MAX)
    return bool(told)


def _step(
    losses: nn.Module,
    task: Task,
    batches: list[Any],
    optimizers: dict[str, torch.optim.Optimizer],
    config: StageConfig,
    dtype: torch.dtype,
) -> dict[str, float]:
    """One step of each of these optimizers; returns the losses, averaged over the batches, and the gradient norms."""
    task.model.train()
    device = next(task.model.parameters()).device.type
    values: dict[str, float] = {}
    for player, optimizer in optimizers.items():
        found: dict[str, list[float]] = {}  # a batch may lack what a loss is about, then it doesn't name it
        optimizer.zero_grad(set_to_none=True)
        for batch in batches:
            with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
                total, parts = losses(batch, player)
            (total / len(batches)).backward()
            for name, value in parts.items():
                found.setdefault(name, []).append(float(value))
        values |= {name: sum(each) / len(each) for name, each in found.items()}
        owned = [p for group in optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(owned, config.optim.clip)
        values[f"norm/{player}"] = float(norm)
        if torch.isfinite(norm):
            optimizer.step()
        else:
            print(f"{player}: gradient is not finite, step skipped", file=sys.stderr)
    return values


class Log:
    """Running means of the losses: a line on stderr and TensorBoard curves every `log_every` steps."""

    def __init__(self, config: StageConfig, out: Path, start: int):
        from torch.utils.tensorboard import SummaryWriter

        self.config, self.sums, self.count = config, {}, 0  # sums: name -> (total, how many)
        self.writer = SummaryWriter(str(out / "curves"), purge_step=start or None)
        self.since, self.began, self.start = time.monotonic(), time.monotonic(), start

    def add(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            total, number = self.sums.get(name, (0.0, 0))
            self.sums[name] = (total + value, number + 1)
        self.count += 1
        if (step + 1) % self.config.log_every:
            return
        now = time.monotonic()
        pace = (now - self.since) / self.count
        left = (self.config.steps - step - 1) * (now - self.began) / (step + 1 - self.start) / 60
        means = {name: total / number for name, (total, number) in self.sums.items()}
        for name, value in means.items():
            self.writer.add_scalar(name, value, step + 1)
        text = "  ".join(f"{name} {value:.4g}" for name, value in means.items())
        print(
            f"step {step + 1}/{self.config.steps}  {text}  {pace:.2f} s/step  {left:.0f} min left",
            file=sys.stderr,
            flush=True,
        )
        self.sums, self.count, self.since = {}, 0, now

    def measured(self, step: int, figures: dict[str, float]) -> None:
        """Writes down what a measure found."""
        for name, value in figures.items():
            self.writer.add_scalar(f"measure/{name}", value, step)
        text = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        print(f"measured at step {step}: {text}", file=sys.stderr, flush=True)
