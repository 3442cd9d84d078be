"""The one training engine: single process or `torchrun`, any task, resumed exactly where it stopped.

A batch is a function of the step and of what the task keeps, and the random generator is seeded by the step, so that a
run that was killed and started again takes the very steps that it would have taken: weights, optimizers, the step's
number and the task's own state are all that a checkpoint needs.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import os
import signal
import sys
import time
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
import torch.distributed as dist
from omegaconf import OmegaConf
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from antiphon.errors import ConfigError
from antiphon.nn.transformer import renamed
from antiphon.nn.weights import misfit
from antiphon.train.config import Measures, StageConfig, learning_rate, task_class, with_sections


class Task(Protocol):
    """What a stage trains. A task's class is constructed with the StageConfig, whose `model` and `data` are instances
    of its dataclasses `Model` and `Data`.

    Attributes:
        model: holds every parameter that may train.
        optimizer_groups: name -> globs over the parameters that an optimizer of its own updates; more than one where
            models play against each other (GAN).
    """

    Model: ClassVar[type]
    Data: ClassVar[type]
    model: nn.Module
    optimizer_groups: dict[str, list[str]]

    def batch(self, step: int) -> Any:
        """The batch of a step, a function of `step`, the config and the task's state alone."""

    def losses(self, batch: Any, group: str) -> dict[str, Tensor]:
        """Named losses of an optimizer group; the engine weighs them by `config.objective` and adds them up."""

    def sample(self, step: int, folder: Path) -> None:
        """Writes into `folder` what a person can look at or listen to."""

    def export(self, folder: Path) -> None:
        """Writes the model folder: config.json and model.safetensors."""


@runtime_checkable
class Stateful(Protocol):
    """A task that keeps more from step to step than the model's weights."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and text that a checkpoint holds."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on with what `state_dict` gave."""


@runtime_checkable
class ReadsFolders(Protocol):
    """A model that is saved in a format of its own."""

    def read_weights(self, folder: Path | str) -> dict[str, Tensor]:
        """What a folder holds, under the names of the model's parameters."""


@runtime_checkable
class Measured(Protocol):
    """A task that can tell how good its model is so far."""

    def measure(self, step: int, measures: Measures) -> dict[str, float]:
        """Figures; asked every `measure_every` steps. `measures` are those that a recipe can name."""


@runtime_checkable
class Alternating(Protocol):
    """A task whose optimizer groups don't all take every step."""

    def skips_update(self, step: int, group: str) -> bool:
        """Whether a group takes no step then."""


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

    def forward(self, batch: Any, group: str) -> tuple[Tensor, dict[str, Tensor]]:
        losses = self._task[0].losses(batch, group)
        weighed = [self.objective.get(name, 1.0) * loss for name, loss in losses.items() if loss.requires_grad]
        return sum(weighed[1:], weighed[0]), {name: loss.detach() for name, loss in losses.items()}


def build_task(config: StageConfig) -> Task:
    """Constructs the task that the recipe names."""
    config = with_sections(config)
    return task_class(config.task)(config)


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
    """Starts a model from folder/model.safetensors, or from what the model itself reads of the folder; says how many
    tensors either of the two lacks."""
    path = Path(folder) / "model.safetensors"
    if isinstance(model, ReadsFolders):
        weights = model.read_weights(folder)
    elif not path.is_file():
        raise ConfigError(f"init: {path} does not exist; train that stage first or give another folder")
    else:
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
    """AdamW over a group's trainable parameters; vectors are not decayed.

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
        betas=config.optim.betas,
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

    def __init__(self, path: Path, task: Task, optimizers: dict[str, torch.optim.Optimizer]):
        self.path, self.task, self.optimizers = path, task, optimizers

    def save(self, step: int) -> None:
        state = {
            "step": step,
            "model": self.task.model.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "task": self.task.state_dict() if isinstance(self.task, Stateful) else {},
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
        if told := misfit(self.task.model, state["model"]):
            raise ConfigError(f"{self.path} is of another recipe: {told}; give another out, or remove it")
        self.task.model.load_state_dict(state["model"])
        for name, optimizer in self.optimizers.items():
            factors = [group["factor"] for group in optimizer.param_groups]
            optimizer.load_state_dict(state["optimizers"][name])
            for group, factor in zip(optimizer.param_groups, factors, strict=True):  # the recipe's, as the rate itself
                group["factor"] = factor
        if isinstance(self.task, Stateful):
            self.task.load_state_dict(state.get("task", {}))
        return state["step"]


def train(config: StageConfig, measures: Measures = MappingProxyType({})) -> Path:
    """Runs a stage to its end, from its last checkpoint if there is one.

    A SIGTERM or Ctrl-C writes a checkpoint first. Under `torchrun` each process takes its share of the batches.

    Args:
        config: the stage.
        measures: that its recipe can name.

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
    folder = Trainer(config, device, rank, world, measures).run()
    if joined:
        dist.destroy_process_group()  # a process that ends with its threads still running may abort
    return folder


class Trainer:
    """One run of a stage in one process.

    Args:
        config: the stage.
        device: to train on.
        rank, world: this process's number and how many there are.
        measures: that the recipe can name.
    """

    def __init__(
        self,
        config: StageConfig,
        device: torch.device,
        rank: int = 0,
        world: int = 1,
        measures: Measures = MappingProxyType({}),
    ):
        if config.threads:
            torch.set_num_threads(config.threads)
        self.config, self.device, self.rank, self.world, self.measures = config, device, rank, world, measures
        self.out = Path(config.out)
        self.out.mkdir(parents=True, exist_ok=True)
        if rank == 0:
            OmegaConf.save(OmegaConf.create(dataclasses.asdict(config)), self.out / "recipe.yaml")
        torch.manual_seed(config.seed)
        self.task = build_task(config)
        if config.init:
            load_weights(self.task.model, config.init)
        names = freeze(self.task.model, config.trainable)
        self.task.model.to(device)
        groups = getattr(self.task, "optimizer_groups", {"model": ["*"]})
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            name: make_optimizer(self.task.model, globs, config) for name, globs in groups.items()
        }
        self.checkpoint = Checkpoint(self.out / "checkpoint.pt", self.task, self.optimizers)
        self.start = self.checkpoint.load()
        self.losses: nn.Module = _Losses(self.task, config.objective)
        if world > 1:
            self.losses = nn.parallel.DistributedDataParallel(
                self.losses, find_unused_parameters=True, broadcast_buffers=False
            )
        self.dtype = pick_precision(config, device)
        self.log = Log(config, self.out, self.start) if rank == 0 else None
        if rank == 0:
            million = sum(p.numel() for p in self.task.model.parameters() if p.requires_grad) / 1e6
            print(
                f"{config.task}: {million:.1f} M parameters train in {len(names)} tensors, {self.dtype}, "
                f"from step {self.start}",
                file=sys.stderr,
            )

    def run(self) -> Path:
        """Takes the steps that are left; returns the exported folder."""
        config, stop = self.config, []
        batches = iter(
            DataLoader(
                _Batches(
                    self.task, self.start * config.accumulate, config.steps * config.accumulate, self.rank, self.world
                ),
                batch_size=None,
                num_workers=config.workers,
                multiprocessing_context="fork" if config.workers else None,
            )
        )
        previous = {
            number: signal.signal(number, lambda n, _: stop.append(n)) for number in (signal.SIGTERM, signal.SIGINT)
        }
        saved = time.monotonic()
        try:
            for step in range(self.start, config.steps):
                values = self.step(step, [to_device(next(batches), self.device) for _ in range(config.accumulate)])
                if self.log:
                    self.log.add(step, values)
                if time.monotonic() - saved > 60 * config.save_minutes or step + 1 == config.steps:
                    self.save(step + 1)
                    saved = time.monotonic()
                try:
                    self.look(step + 1)
                except Exception:  # whatever it is about, the steps until here are not lost
                    self.save(step + 1)
                    raise
                if self._anyone(bool(stop)):
                    self.save(step + 1)
                    if self.log:
                        print(f"stopped after step {step + 1}; the same command goes on from there", file=sys.stderr)
                    break
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            if self.log:
                self.log.writer.close()
        return self.out / "model"

    def step(self, step: int, batches: list[Any]) -> dict[str, float]:
        """One update of each optimizer group; returns the losses, averaged over the batches, and gradient norms."""
        torch.manual_seed((self.config.seed * 1_000_003 + step) * 4096 + self.rank)
        self.task.model.train()
        values: dict[str, float] = {}
        for name, optimizer in self.optimizers.items():
            if isinstance(self.task, Alternating) and self.task.skips_update(step, name):
                continue
            found: dict[str, list[float]] = {}  # a batch may lack what a loss is about, then it doesn't name it
            optimizer.zero_grad(set_to_none=True)
            for batch in batches:
                with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
                    total, parts = self.losses(batch, name)
                (total / len(batches)).backward()
                for part, value in parts.items():
                    found.setdefault(part, []).append(float(value))
            values |= {part: sum(each) / len(each) for part, each in found.items()}
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(self.config.optim, step, self.config.steps) * group["factor"]
            owned = [p for group in optimizer.param_groups for p in group["params"]]
            norm = nn.utils.clip_grad_norm_(owned, self.config.optim.clip)
            values[f"norm/{name}"] = float(norm)
            if torch.isfinite(norm):
                optimizer.step()
            else:
                print(f"{name}: gradient is not finite, step skipped", file=sys.stderr)
        return values

    @torch.no_grad()
    def look(self, step: int) -> None:
        """Samples and measures what the model can do, after the steps that the recipe says."""
        if not self.log:
            return
        if self.config.sample_every and step % self.config.sample_every == 0:
            self.task.model.eval()
            self.task.sample(step, self.out / "samples")
        if self.config.measure_every and step % self.config.measure_every == 0:
            if not isinstance(self.task, Measured):
                raise ConfigError(f"measure_every: {self.config.task} has no measure; leave it at 0")
            self.task.model.eval()
            self.log.measured(step, self.task.measure(step, self.measures))

    def save(self, step: int) -> None:
        """Writes a checkpoint and the model folder, in the first process."""
        if self.rank == 0:
            self.checkpoint.save(step)
            self.task.export(self.out / "model")

    def _anyone(self, stops: bool) -> bool:
        """Whether any process was told to stop: all stop after the same step, or those that go on wait for ever."""
        if not dist.is_initialized():
            return stops
        told = torch.tensor(float(stops), device=self.device)
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return bool(told)


class Log:
    """Running means of the losses: a line on stderr and TensorBoard curves every `log_every` steps."""

    def __init__(self, config: StageConfig, out: Path, start: int):
        from torch.utils.tensorboard import SummaryWriter

        self.config, self.count = config, 0
        self.sums: dict[str, tuple[float, int]] = {}  # name -> (total, how many)
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
