"""Everything that a run needs to go on, written so that a kill at any moment leaves the last one whole.

A run in which each process has the whole model writes one file, checkpoint.pt. One whose model is spread over processes
(FSDP) writes a folder of `torch.distributed.checkpoint`, checkpoints/STEP, each process its own part. Either is read by
any number of processes, of either kind.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from antiphon.errors import ConfigError
from antiphon.nn.transformer import renamed
from antiphon.nn.weights import misfit
from antiphon.train.averages import Averages
from antiphon.train.parallel import spread_like

FILE, FOLDER, REST = "checkpoint.pt", "checkpoints", "rest.pt"


class Keeps(Protocol):
    """Anything that is neither weights nor an optimizer but must outlast a stop."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def sharded(out: Path) -> Path | None:
    """The last complete folder of `torch.distributed.checkpoint` of a run; its metadata is written last."""
    found = [path for path in (out / FOLDER).glob("[0-9]*") if (path / ".metadata").is_file()]
    return max(found, key=lambda path: int(path.name), default=None)


def has_checkpoint(out: Path | str) -> bool:
    """Whether a run has something to go on from."""
    return (Path(out) / FILE).exists() or sharded(Path(out)) is not None


class Checkpoint:
    """The checkpoint of a run.

    Args:
        out: the run's folder.
        model: what trains; spread over the processes or not.
        optimizers: by group.
        keeps: what else there is, by name.
        averages: of the weights, if they are kept.
        rank: of this process; of a model that isn't spread the first one writes.
    """

    def __init__(
        self,
        out: Path,
        model: nn.Module,
        optimizers: Mapping[str, torch.optim.Optimizer],
        keeps: Mapping[str, Keeps],
        averages: Averages | None = None,
        rank: int = 0,
        spread: bool = False,
    ):
        self.out, self.model, self.optimizers, self.keeps = out, model, optimizers, keeps
        self.averages, self.rank, self.spread = averages, rank, spread

    def save(self, step: int) -> None:
        """Writes it in place of the one before; all processes must call it.

        Raises:
            OSError: the disk is full, or the like; the one before is still there.
        """
        rest = {"step": step} | {name: each.state_dict() for name, each in self.keeps.items()}
        if not self.spread:
            if self.rank == 0:
                state = rest | {
                    "model": self.model.state_dict(),
                    "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
                    "ema": self.averages.means if self.averages else {},
                }
                _write(state, self.out / FILE)
                shutil.rmtree(self.out / FOLDER, ignore_errors=True)
            return
        import torch.distributed.checkpoint as dcp

        folder = self.out / FOLDER / str(step)
        if self.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)  # what a kill left
            folder.mkdir(parents=True)
            _write(rest, folder / REST)
        dist.barrier()
        dcp.save(self._tensors(), checkpoint_id=str(folder))
        if self.rank == 0:
            for older in (self.out / FOLDER).iterdir():
                if older != folder:
                    shutil.rmtree(older, ignore_errors=True)
            (self.out / FILE).unlink(missing_ok=True)

    def load(self) -> int:
        """Goes on from the last one, if there is any.

        Returns:
            The step to go on with; 0 when there is no checkpoint.

        Raises:
            ConfigError: it is of another recipe.
        """
        path, folder = self.out / FILE, sharded(self.out)
        if path.exists() and (folder is None or path.stat().st_mtime > (folder / ".metadata").stat().st_mtime):
            rest = torch.load(path, map_location="cpu", weights_only=True)
            self._load_whole(rest, path)
        elif folder is not None:
            rest = torch.load(folder / REST, map_location="cpu", weights_only=True)
            self._load_spread(folder)
        else:
            return 0
        for name, each in self.keeps.items():
            if name in rest:
                each.load_state_dict(rest[name])
        return rest["step"]

    def _load_whole(self, state: dict[str, Any], path: Path) -> None:
        weights = renamed(state["model"])
        if told := misfit(self.model, weights):
            raise ConfigError(f"{path} is of another recipe: {told}; give another out, or remove it")
        own = self.model.state_dict()
        self.model.load_state_dict({name: _as(tensor, own.get(name)) for name, tensor in weights.items()})
        for name, optimizer in self.optimizers.items():
            saved = state["optimizers"][name]
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            numbers = [number for group in saved["param_groups"] for number in group["params"]]
            if len(numbers) != len(parameters):
                raise ConfigError(
                    f"{path} is of another recipe: other parameters train; give another out, or remove it"
                )
            for number, parameter in zip(numbers, parameters):
                if number in saved["state"]:
                    own_state = {key: _as(value, parameter) for key, value in saved["state"][number].items()}
                    saved["state"][number] = own_state
            factors = [group["factor"] for group in optimizer.param_groups]
            optimizer.load_state_dict(saved)
            for group, factor in zip(optimizer.param_groups, factors, strict=True):  # the recipe's, as the rate itself
                group["factor"] = factor
        if self.averages:
            means = self.averages.means
            means.update({name: _as(value, means[name]) for name, value in state.get("ema", {}).items()})

    def _load_spread(self, folder: Path) -> None:
        import torch.distributed.checkpoint as dcp

        with torch.no_grad():
            for optimizer in self.optimizers.values():
                for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                    zeros = {key: torch.zeros_like(parameter) for key in ("exp_avg", "exp_avg_sq")}
                    optimizer.state[parameter] = {"step": torch.zeros((), device=parameter.device), **zeros}
        state, there = self._tensors(), dcp.FileSystemReader(str(folder)).read_metadata().state_dict_metadata
        wanted = _flat(state)
        if lacking := sorted(key for key in wanted if key.startswith("model.") and key not in there):
            raise ConfigError(f"{folder} is of another recipe: it has no {lacking[0]}; give another out, or remove it")
        for optimizer, groups in ((o, f"optimizers.{name}.") for name, o in self.optimizers.items()):
            for name, parameter in self._named(optimizer):
                if f"{groups}{name}.step" not in there:
                    del optimizer.state[parameter]  # one that had no gradient yet
        state = self._tensors()
        dcp.load(state, checkpoint_id=str(folder), no_dist=not dist.is_initialized())
        self.model.load_state_dict(state["model"])

    def _tensors(self) -> dict[str, Any]:
        """Weights, optimizer states and averages by the parameters' names."""
        optimizers = {
            group: {name: optimizer.state[p] for name, p in self._named(optimizer) if p in optimizer.state}
            for group, optimizer in self.optimizers.items()
        }
        return {
            "model": self.model.state_dict(),
            "optimizers": optimizers,
            "ema": self.averages.means if self.averages else {},
        }

    def _named(self, optimizer: torch.optim.Optimizer) -> list[tuple[str, nn.Parameter]]:
        """The parameters of an optimizer with their names."""
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        return [(names[id(p)], p) for group in optimizer.param_groups for p in group["params"]]


def _as(value: Any, like: Tensor | None) -> Any:
    """A tensor of a file as another one of the same shape is spread."""
    if like is None or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    return spread_like(value, like)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The keys of nested dicts, joined by dots."""
    found = []
    for key, value in tree.items():
        found += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [f"{prefix}{key}"]
    return found


def _write(state: dict[str, Any], path: Path) -> None:
    """Writes a file in place of the one before, or leaves that one whole."""
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    os.replace(part, path)
