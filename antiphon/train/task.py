"""What a stage trains: the task, what else one may have, and what of its model learns, from where."""

from __future__ import annotations

import fnmatch
import sys
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from antiphon.errors import ConfigError
from antiphon.nn.transformer import renamed
from antiphon.nn.weights import misfit
from antiphon.train.config import Measures, StageConfig, task_class, with_sections


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
        """The batch of this number, a function of the number, the config and the task's state alone. A step takes
        `config.accumulate` of them, its first is number `step * config.accumulate`."""

    def losses(self, batch: Any, group: str) -> dict[str, Tensor]:
        """Named losses of an optimizer group; the engine weighs them by `config.objective` and adds them up."""

    def sample(self, step: int, folder: Path) -> None:
        """Writes into `folder` what a person can look at or listen to."""

    def export(self, folder: Path) -> None:
        """Writes the model folder: config.json and model.safetensors."""


@runtime_checkable
class Counted(Protocol):
    """A task whose losses are means over tokens, of which a batch may have more than another: batches that are summed
    into a step then count by their tokens, and the step is that of one large batch."""

    def tokens(self, batch: Any) -> int:
        """Positions that the model reads, without padding."""

    def weights(self, batch: Any) -> dict[str, float]:
        """What each named loss is the mean over: the sum of its tokens' weights. A loss that isn't named counts a batch
        as one."""


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


def build_task(config: StageConfig) -> Task:
    """Constructs the task that the recipe names."""
    config = with_sections(config)
    return task_class(config.task)(config)


def optimizer_groups(task: Task) -> dict[str, list[str]]:
    """The globs of each optimizer; one over everything where the task names none."""
    return getattr(task, "optimizer_groups", {"model": ["*"]})


def freeze(model: nn.Module, trainable: list[str], frozen: list[str] = []) -> list[str]:  # noqa: B006 (not changed)
    """Lets only the parameters train whose names match a glob of `trainable` and none of `frozen`; returns their names.

    Raises:
        ConfigError: a glob that matches nothing.
    """
    names = [name for name, _ in model.named_parameters()]
    for setting, globs in (("trainable", trainable), ("frozen", frozen)):
        for glob in globs:
            if not fnmatch.filter(names, glob):
                raise ConfigError(f"{setting}: {glob!r} matches no parameter; some names are {', '.join(names[:4])}")
    for name, parameter in model.named_parameters():
        learns = any(fnmatch.fnmatch(name, glob) for glob in trainable)
        parameter.requires_grad_(learns and not any(fnmatch.fnmatch(name, glob) for glob in frozen))
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
