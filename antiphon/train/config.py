"""What a training stage is, as data: a recipe in YAML, any field of which can be overridden as key=value."""

from __future__ import annotations

import dataclasses
import math
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from antiphon.errors import ConfigError

SHIPPED = ("antiphon/", "weights/")  # what recipes name that comes with the package


@dataclass
class OptimConfig:
    """AdamW and its schedule.

    Attributes:
        lr: peak learning rate.
        warmup: steps of linear warm-up.
        schedule: "cosine" (down to a tenth of the peak at the last step) or "constant".
        weight_decay: of matrices; vectors are not decayed.
        clip: largest gradient norm.
        betas: of Adam.
        parts: factor on the learning rate of the parameters whose names match a glob; the first that matches counts.
    """

    lr: float = 1e-3
    warmup: int = 100
    schedule: str = "cosine"
    weight_decay: float = 0.01
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.98)
    parts: dict[str, float] = field(default_factory=dict)


@dataclass
class StageConfig:
    """One training stage.

    Attributes:
        task: import path of the task, "package.module:Class".
        model: what the task builds its model from.
        trainable: globs over parameter names; the others are frozen.
        init: a folder whose model.safetensors the model starts from, or null.
        data: what the task builds its batches from.
        objective: weight of each named loss; a loss not named here weighs 1.
        optim: optimizer and schedule.
        steps: optimizer steps in all.
        batch: examples a step, a process.
        accumulate: batches whose gradients are summed into one step.
        seed: of initialisation and data.
        precision: "bf16" or "float32" arithmetic, or "auto": bf16 where the machine has it.
        threads: CPU threads; 0 leaves the choice to PyTorch.
        workers: processes that prepare batches; 0 prepares them in the training process.
        log_every, sample_every: steps.
        measure_every: steps between two calls of the task's `measure`, whose figures join the log; 0 for none.
        save_minutes: minutes between checkpoints.
        out: folder of the run.
    """

    task: str = MISSING
    model: dict[str, Any] = field(default_factory=dict)
    trainable: list[str] = field(default_factory=lambda: ["*"])
    init: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    objective: dict[str, float] = field(default_factory=dict)
    optim: OptimConfig = field(default_factory=OptimConfig)
    steps: int = MISSING
    batch: int = 16
    accumulate: int = 1
    seed: int = 0
    precision: str = "auto"
    threads: int = 0
    workers: int = 0
    log_every: int = 20
    sample_every: int = 1000
    measure_every: int = 0
    save_minutes: float = 5.0
    out: str = MISSING

    def __post_init__(self) -> None:
        if self.precision not in ("auto", "bf16", "float32"):
            raise ConfigError(f"precision is {self.precision!r}; choose auto, bf16 or float32")
        if self.optim.schedule not in ("cosine", "constant"):
            raise ConfigError(f"optim.schedule is {self.optim.schedule!r}; choose cosine or constant")


def load_recipe(path: Path | str, overrides: list[str] | None = None) -> StageConfig:
    """Reads a recipe.

    What it names below weights/ or antiphon/ and isn't there is looked for in the package: recipes that ship name what
    ships with them.

    Args:
        path: of the YAML.
        overrides: "key=value", dots for nested keys. "data=PLACE" is short for "data.speech=PLACE".

    Raises:
        ConfigError: no such file, a field that doesn't exist, a value of the wrong type, or one that is still missing
            (???).
    """
    path = Path(path)
    short, mapping = "data=", "data={"
    overrides = [
        f"data.speech={each.removeprefix(short)}" if each.startswith(short) and not each.startswith(mapping) else each
        for each in overrides or []
    ]
    if not path.is_file():
        raise ConfigError(f"{path}: no such recipe; the ones that ship are in recipes/")
    try:
        tree = OmegaConf.merge(
            OmegaConf.structured(StageConfig), OmegaConf.load(path), OmegaConf.from_dotlist(overrides)
        )
        assert isinstance(tree, DictConfig)
        if missing := OmegaConf.missing_keys(tree):
            raise ConfigError(
                f"{path}: no value for {', '.join(sorted(missing))}; give it as {sorted(missing)[0]}=VALUE"
            )
        config = OmegaConf.to_object(tree)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {str(error).splitlines()[0]}") from error
    assert isinstance(config, StageConfig)
    config.model, config.data, config.init = (shipped(each) for each in (config.model, config.data, config.init))
    return config


def shipped(value: Any) -> Any:
    """A recipe's value, or the values in it, with the names of shipped files as they stand in this installation."""
    if isinstance(value, dict):
        return {name: shipped(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shipped(each) for each in value]
    if not isinstance(value, str) or not value.startswith(SHIPPED) or Path(value).exists():
        return value
    package = Path(__file__).resolve().parent.parent
    places = (package / value, package.parent / value)  # in a wheel; at the top of a checkout
    return next((str(place) for place in places if place.exists()), value)


def typed(kind: type, fields: dict[str, Any], where: str) -> Any:
    """A dataclass from a recipe's fields, lists turned into tuples where it wants those.

    Raises:
        ConfigError: a field that there isn't.
    """
    known = {each.name for each in dataclasses.fields(kind)}
    if unknown := sorted(set(fields) - known):
        raise ConfigError(f"{where} has no {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    hints = typing.get_type_hints(kind)

    def fit(name: str, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) and "list" not in str(hints[name]) else value

    return kind(**{name: fit(name, value) for name, value in fields.items()})


def learning_rate(optim: OptimConfig, step: int, steps: int) -> float:
    """Learning rate of a step: linear warm-up, then half a cosine down to a tenth, or constant."""
    if step < optim.warmup:
        return optim.lr * (step + 1) / optim.warmup
    if optim.schedule == "constant":
        return optim.lr
    done = min(1.0, (step - optim.warmup) / max(1, steps - optim.warmup))
    return optim.lr * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done)))
