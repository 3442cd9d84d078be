"""The one training engine: any task, one process or many (`torchrun`), resumed exactly where it stopped.

A batch is a function of its number and of what the task keeps, and the random generator is seeded by that number. So a
run that was killed and started again takes the very steps that it would have taken, and several processes, which share
the batches of a step, take those of one.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import torch.distributed as dist
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from antiphon.errors import AntiphonError, ConfigError, TrainingError
from antiphon.models.lora import Lora
from antiphon.nn.cpu import multiplies_bfloat16
from antiphon.train import flops, parallel
from antiphon.train.averages import Averages
from antiphon.train.checkpoint import Checkpoint
from antiphon.train.config import Measures, StageConfig, learning_rate
from antiphon.train.guard import Guard
from antiphon.train.log import Log, Spent
from antiphon.train.task import (
    Alternating,
    Counted,
    Measured,
    Stateful,
    Task,
    build_task,
    freeze,
    load_weights,
    make_optimizer,
    optimizer_groups,
)  # fmt: skip

LEFT_OUT = "left-out"  # the batches that weren't learnt from
TOTAL = ""  # among losses by name: what is learnt from, all of them by their weights


class _Batches(Dataset):
    """The task's batches that a process takes, so that worker processes can prepare them ahead."""

    def __init__(self, task: Task, first: int, last: int, rank: int, world: int):
        self.task, self.numbers = task, range(first + rank, last, world)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.task.batch(self.numbers[index])
        except AntiphonError as error:  # a worker's own would come with its traceback in the message
            return error


class _Losses(nn.Module):
    """The task's losses as a module, so that DDP and FSDP see one forward pass."""

    def __init__(self, task: Task, objective: dict[str, float]):
        super().__init__()
        self.model, self._task, self.objective = task.model, [task], objective

    def forward(self, batch: Any, group: str, shares: dict[str, float], share: float) -> Any:
        """The sum to be learnt from and the losses themselves; `shares` tells what part of the step's mean a named loss
        is, `share` that of the others."""
        losses = self._task[0].losses(batch, group)
        weighed = [
            self.objective.get(name, 1.0) * shares.get(name, share) * loss
            for name, loss in losses.items()
            if loss.requires_grad
        ]
        return sum(weighed[1:], weighed[0]), {name: loss.detach() for name, loss in losses.items()}


def pick_precision(config: StageConfig, device: torch.device) -> torch.dtype:
    """The dtype of autocast; "auto" takes bf16 on GPUs and on CPUs that have products of it, elsewhere it is slower."""
    if config.precision != "auto":
        return torch.bfloat16 if config.precision == "bf16" else torch.float32
    faster = device.type == "cuda" or multiplies_bfloat16()
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


def train(config: StageConfig, measures: Measures = MappingProxyType({})) -> Path:
    """Runs a stage to its end, from its last checkpoint if there is one.

    A SIGTERM or Ctrl-C writes a checkpoint first. Under `torchrun` each process takes its share of a step's batches.

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
    if device.type == "cuda":
        torch.cuda.set_device(device)
    joined = world > 1 and not dist.is_initialized()
    if joined:
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
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

    Raises:
        ConfigError: the recipe asks for what can't be done.
    """

    def __init__(
        self,
        config: StageConfig,
        device: torch.device,
        rank: int = 0,
        world: int = 1,
        measures: Measures = MappingProxyType({}),
    ):
        if config.accumulate % world:
            config = dataclasses.replace(config, accumulate=-(-config.accumulate // world) * world)
            if rank == 0:
                print(f"{world} processes share a step: accumulate={config.accumulate}", file=sys.stderr)
        if config.threads:
            torch.set_num_threads(config.threads)
        self.config, self.device, self.rank, self.world, self.measures = config, device, rank, world, measures
        self.out = Path(config.out)
        with self._room():
            self.out.mkdir(parents=True, exist_ok=True)
            if rank == 0:
                OmegaConf.save(OmegaConf.create(dataclasses.asdict(config)), self.out / "recipe.yaml")
        torch.manual_seed(config.seed)
        self.task = build_task(config)
        self.names = [name for name, each in self.task.model.state_dict().items() if isinstance(each, Tensor)]
        if config.init:
            run = Path(config.init) / "model"
            load_weights(self.task.model, run if run.is_dir() else config.init)
        self.spread = world > 1 and config.parallel == "fsdp"
        # Where weights lie in another way than the task wrote it, what is shown and exported is a plain copy.
        self.shown = copy.deepcopy(self.task) if (self.spread and rank == 0) or config.lora else self.task
        trained, self.lora = self._adapted()
        trained = freeze(self.task.model, trained, config.frozen)
        self.task.model.to(device)
        self.losses: nn.Module = _Losses(self.task, config.objective)
        self._lay_out()
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            name: make_optimizer(self.task.model, globs, config) for name, globs in optimizer_groups(self.task).items()
        }
        self.averages = Averages(self.task.model, config.ema) if config.ema else None
        self.guard, self.spent, self.flops_a_token = Guard(config.guard), Spent(), 0.0
        keeps: dict[str, Any] = {"guard": self.guard, "spent": self.spent}
        if isinstance(self.task, Stateful):
            keeps["task"] = self.task
        self.checkpoint = Checkpoint(
            self.out, self.task.model, self.optimizers, keeps, self.averages, rank, self.spread
        )
        self.start = self.saved = self.checkpoint.load()
        if self.start and self.spent.batches not in (0, self.start * config.accumulate) and rank == 0:
            was = self.spent.batches / self.start
            print(f"its steps were of {was:g} batches until here, not accumulate={config.accumulate}", file=sys.stderr)
        if world > 1 and not self.spread:
            self.losses = nn.parallel.DistributedDataParallel(
                self.losses, find_unused_parameters=True, broadcast_buffers=False
            )
        self.dtype = pick_precision(config, device)
        self.log: Log | None = None
        if rank == 0:
            peak = flops.peak(device, self.dtype) * world if isinstance(self.task, Counted) else 0.0
            with self._room():
                self.log = Log(config, self.out, self.start, self.spent, peak)
            million = sum(p.numel() for p in self.task.model.parameters() if p.requires_grad) / 1e6
            print(
                f"{config.task}: {million:.1f} M parameters train in {len(trained)} tensors, {self.dtype}, "
                f"from step {self.start}",
                file=sys.stderr,
            )

    def _adapted(self) -> tuple[list[str], Lora | None]:
        """Attaches low-rank pairs where the recipe has some; the globs of what trains then."""
        config = self.config
        if config.lora is None:
            return config.trainable, None
        lora = Lora(self.task.model, config.lora)
        lora.attach(self.task.model)
        return [*(glob for glob in config.trainable if glob != "*"), "*.lora_[AB]"], lora

    def _lay_out(self) -> None:
        """Prepares the model's blocks as the recipe says."""
        if self.config.recompute:
            parallel.recompute(self.task.model)
        if self.config.compile:
            parallel.compile_blocks(self.task.model)
        if self.spread:
            parallel.shard(self.losses)

    def run(self) -> Path:
        """Takes the steps that are left; returns the exported folder.

        Raises:
            TrainingError: the disk is full, or the guard stops the run.
        """
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
        # A launcher may run this in a thread of its own, where signals can't be had.
        ours = threading.current_thread() is threading.main_thread()
        previous = {
            number: signal.signal(number, lambda n, _: stop.append(n))
            for number in ((signal.SIGTERM, signal.SIGINT) if ours else ())
        }
        saved = time.monotonic()
        lost = self.start >= config.steps and not (self.out / "model").exists()
        try:
            if self._anyone(lost and self.rank == 0):  # a finished run is exported anew where its model is gone
                self.save(self.start)
            with self._room(), self._profiler() as profiler:
                for step in range(self.start, config.steps):
                    began, taken = time.monotonic(), self._take(step, batches)
                    if step == self.start:
                        self._count(taken[0])
                        began = time.monotonic()
                    values = self.step(step, taken)
                    self.spent.seconds += time.monotonic() - began
                    self.spent.batches += config.accumulate
                    if profiler:
                        profiler.step()
                    if self.log:
                        self.log.add(step, values)
                    late = time.monotonic() - saved > 60 * config.save_minutes
                    if self._anyone(late and self.rank == 0) or step + 1 == config.steps:
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
                            print(
                                f"stopped after step {step + 1}; the same command goes on from there", file=sys.stderr
                            )
                        break
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            if self.log:
                self.log.close()
        return self.out / "model"

    def _take(self, step: int, batches: Iterator[Any]) -> list[Any]:
        """This process's batches of a step; where one can't be made, the steps until here are saved first."""
        taken = [next(batches) for _ in range(self.config.accumulate // self.world)]
        broken = [each for each in taken if isinstance(each, AntiphonError)]
        if self._anyone(bool(broken)):
            if step > self.start:
                self.save(step)
            raise broken[0] if broken else TrainingError("another process could not make its batch: see its message")
        return [to_device(each, self.device) for each in taken]

    def step(self, step: int, batches: list[Any]) -> dict[str, float]:
        """One update of each optimizer group.

        Returns:
            The losses, averaged over all batches of all processes, and gradient norms.

        Raises:
            TrainingError: the guard says so.
        """
        self.task.model.train()
        shares, others = self._shares(batches)
        values: dict[str, float] = {}
        for number, (name, optimizer) in enumerate(self.optimizers.items()):
            if isinstance(self.task, Alternating) and self.task.skips_update(step, name):
                continue
            optimizer.zero_grad(set_to_none=True)
            found: dict[str, list[float]] = {}  # a batch may lack what a loss is about, then it doesn't name it
            for place, batch in enumerate(batches):
                self._seed(step * self.config.accumulate + self.rank + place * self.world, number)
                parts = self._learn(batch, name, shares[place], others, place + 1 == len(batches))
                for part, value in parts.items():
                    share = shares[place].get(part, others)
                    total = found.setdefault(part, [0.0, 0.0])
                    total[0] += float(value) * (1.0 if part == TOTAL else share)
                    total[1] += share
            losses = {part: total / share if share else 0.0 for part, (total, share) in self._summed(found).items()}
            loss = losses.pop(TOTAL)
            values |= losses
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(self.config.optim, step, self.config.steps) * group["factor"]
            owned = [p for group in optimizer.param_groups for p in group["params"]]
            norm = float(parallel.gathered(nn.utils.clip_grad_norm_(owned, self.config.optim.clip)))
            values[f"norm/{name}"] = norm
            if wrong := self.guard.wrong(name, loss, norm):
                self._leave_out(step, name, wrong, batches)
            else:
                optimizer.step()
        if self.averages:
            self.averages.update(self.task.model, step)
        return values

    def _learn(self, batch: Any, group: str, shares: dict[str, float], others: float, last: bool) -> dict[str, Tensor]:
        """Adds a batch's gradients; returns its losses, and its part of the step's. Processes add up theirs after the
        `last` one."""
        mean = {part: share * self.world for part, share in shares.items()}  # DDP and FSDP divide by their number
        with self._alone(not last):
            with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
                total, parts = self.losses(batch, group, mean, others * self.world)
            total.backward()
        return {**parts, TOTAL: total.detach() / self.world}

    def _count(self, batch: Any) -> None:
        """Counts the arithmetic that a token takes, on a batch that isn't learnt from: counting may round otherwise."""
        if not isinstance(self.task, Counted):
            return
        self._seed(0, 0)
        self.task.model.train()
        with torch.compiler.set_stance("force_eager"):
            computed = flops.count(lambda: [self._learn(batch, name, {}, 1.0, True) for name in self.optimizers])
        self.flops_a_token = computed / max(1, self.task.tokens(batch))
        self.task.model.zero_grad(set_to_none=True)

    def _shares(self, batches: list[Any]) -> tuple[list[dict[str, float]], float]:
        """What part of the step's mean each loss of each batch is, as the task counts; and that of other losses."""
        others = 1.0 / self.config.accumulate
        if not isinstance(self.task, Counted):
            return [{} for _ in batches], others
        weights = [self.task.weights(batch) for batch in batches]
        mine: dict[str, list[float]] = {"": [float(sum(self.task.tokens(batch) for batch in batches))]}
        for each in weights:
            for name, weight in each.items():
                mine[name] = [mine.get(name, [0.0])[0] + float(weight)]
        totals = self._summed(mine)
        self.spent.tokens += (tokens := int(totals[""][0]))
        self.spent.flops += self.flops_a_token * tokens
        return [
            {name: float(weight) / totals[name][0] if totals[name][0] else 0.0 for name, weight in each.items()}
            for each in weights
        ], others

    def _summed(self, values: dict[str, list[float]]) -> dict[str, list[float]]:
        """Numbers by name, added up over all processes."""
        if self.world == 1:
            return values
        every: list[Any] = [None] * self.world
        dist.all_gather_object(every, values)
        total: dict[str, list[float]] = {}
        for each in every:
            for name, numbers in each.items():
                total[name] = [a + b for a, b in zip(total.get(name, [0.0] * len(numbers)), numbers)]
        return total

    def _seed(self, number: int, group: int) -> None:
        """Seeds what is random in a batch, on whatever process it is learnt from."""
        torch.manual_seed((self.config.seed * 1_000_003 + number) * 64 + group)

    @contextlib.contextmanager
    def _alone(self, alone: bool) -> Iterator[None]:
        """While `alone`, gradients stay in this process."""
        if isinstance(self.losses, nn.parallel.DistributedDataParallel):
            with self.losses.no_sync() if alone else contextlib.nullcontext():
                yield
            return
        if self.spread:
            self.losses.set_requires_gradient_sync(not alone)  # type: ignore[operator]
        yield

    def _leave_out(self, step: int, group: str, wrong: str, batches: list[Any]) -> None:
        """Keeps the batches of a step that isn't learnt from, and says so.

        Raises:
            TrainingError: the recipe wants to stop.
        """
        folder = self.out / LEFT_OUT
        folder.mkdir(exist_ok=True)
        path = folder / f"{step:06d}-{group}-{self.rank}.pt"
        torch.save({"step": step, "group": group, "wrong": wrong, "batches": batches}, path)
        told = f"step {step} of {group} left out: {wrong}; its batches are in {path}"
        if self.config.guard.then == "stop":
            self.save(step)
            raise TrainingError(f"{told}. The run stops there, as guard.then says; guard.then=skip goes on")
        if self.rank == 0:
            print(told, file=sys.stderr)

    @contextlib.contextmanager
    def _showing(self) -> Iterator[Task]:
        """The task as it is shown: with its plain weights, or their running means. All processes must come here."""
        if self.averages:
            self.averages.swap(self.task.model)
        if self.spread or self.lora:
            weights = parallel.plain_weights(self.task.model, self.names, self.rank == 0)
            if self.rank == 0:
                self.shown.model.load_state_dict(weights, strict=False)
                self.shown.model.to(self.device)
                if isinstance(self.task, Stateful) and isinstance(self.shown, Stateful):
                    self.shown.load_state_dict(self.task.state_dict())
        try:
            yield self.shown
        finally:
            if self.averages:
                self.averages.swap(self.task.model)

    @torch.no_grad()
    def look(self, step: int) -> None:
        """Samples and measures what the model can do, after the steps that the recipe says."""
        config = self.config
        samples = bool(config.sample_every) and step % config.sample_every == 0
        measures = bool(config.measure_every) and step % config.measure_every == 0
        if not samples and not measures:
            return
        with self._showing() as task:
            if not self.log:
                return
            task.model.eval()
            if samples:
                task.sample(step, self.out / "samples")
            if measures:
                if not isinstance(task, Measured):
                    raise ConfigError(f"measure_every: {config.task} has no measure; leave it at 0")
                task.model.eval()
                self.log.measured(step, task.measure(step, self.measures))

    def save(self, step: int) -> None:
        """Writes a checkpoint and the model folder; all processes must call it."""
        self.checkpoint.save(step)
        self.saved = step
        with torch.no_grad(), self._showing() as task:
            if self.rank == 0:
                task.export(self.out / "model")
                if self.lora:
                    self.lora.save(self.out / "lora")

    def _anyone(self, stops: bool) -> bool:
        """Whether any process was told to stop: all stop after the same step, or those that go on wait for ever."""
        if self.world == 1:
            return stops
        told = torch.tensor(float(stops), device=self.device)
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return bool(told)

    @contextlib.contextmanager
    def _room(self) -> Iterator[None]:
        """Turns a full disk into an error that says what is left.

        Raises:
            TrainingError: instead of it.
        """
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            saved = getattr(self, "saved", 0)
            left = f"the checkpoint of step {saved} is whole, and" if saved else "nothing was saved yet;"
            raise TrainingError(
                f"{self.out} cannot be written ({error.strerror}): {left} the same command goes on once there is room"
            ) from error

    @contextlib.contextmanager
    def _profiler(self) -> Iterator[Any]:
        """A profiler that is told of every step and writes the trace of some; None where the recipe wants none."""
        if not self.config.profile or self.rank:
            yield None
            return
        from torch.profiler import profile, schedule

        def write(profiler: Any) -> None:
            profiler.export_chrome_trace(str(self.out / "trace.json"))

        with profile(
            schedule=schedule(wait=1, warmup=1, active=self.config.profile, repeat=1), on_trace_ready=write
        ) as profiler:
            yield profiler
