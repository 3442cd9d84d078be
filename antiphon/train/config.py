"""What a training stage is, as data: a recipe in YAML, any field of which can be overridden as key=value."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from antiphon.errors import ConfigError
from antiphon.hub.shipped import shipped
from antiphon.models.lora import LoraConfig

T = TypeVar("T")
FROM_THE_PACKAGE = ("antiphon/", "weights/")  # what recipes name that comes with the package
DATA_PLACE = re.compile(r"^data=(?!\s*\{)")  # a place, not a mapping of fields
Measures = Mapping[str, Callable[[Any], dict[str, float]]]
"""Measures of models by name: what stands above training, such as the evaluations, gives them to it."""


@dataclass
class OptimConfig:
    """AdamW and its schedule."""

    lr: float = 1e-3
    """Peak learning rate."""
    warmup: int = 100
    """Steps of linear warm-up."""
    schedule: str = "cosine"
    """"cosine" (down to a tenth of the peak at the last step) or "constant"."""
    weight_decay: float = 0.01
    """Of matrices; vectors are not decayed."""
    clip: float = 1.0
    """Maximum gradient norm."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Of Adam."""
    parts: dict[str, float] = field(default_factory=dict)
    """Factor on the learning rate of the parameters whose names match a glob; the first that matches counts."""


@dataclass
class GuardConfig:
    """What isn't learnt from. Its batch is kept in the run's folder `left-out`."""

    spike: float = 0.0
    """A step whose loss is so many times the median deviation above the median of those before it; 0 looks at nothing
    but whether loss and gradient are numbers."""
    window: int = 100
    """Losses that are remembered."""
    then: str = "skip"
    """"skip" the step, or "stop" the run."""


@dataclass
class StageConfig:
    """One training stage: what a recipe holds.

    `model` and `data` are dataclasses of the task's own, its `Model` and `Data`.
    """

    task: str = MISSING
    """Import path of the task, "package.module:Class"."""
    model: Any = field(default_factory=dict)
    """What the task builds its model from."""
    trainable: list[str] = field(default_factory=lambda: ["*"])
    """Globs over parameter names; the others are frozen."""
    frozen: list[str] = field(default_factory=list)
    """Globs over parameter names that stay frozen, whatever `trainable` says."""
    lora: LoraConfig | None = None
    """Low-rank pairs that are trained in place of the weights; what is exported has them added, and `out`/lora has them
    alone. What `trainable` names besides "*" trains in full."""
    init: str | None = None
    """A folder whose model.safetensors the model starts from, or that of a run."""
    data: Any = field(default_factory=dict)
    """What the task builds its batches from."""
    objective: dict[str, float] = field(default_factory=dict)
    """Weight of each named loss; a loss not named here weighs 1."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimizer and schedule."""
    steps: int = MISSING
    """Optimizer steps in all."""
    batch: int = 16
    """Examples of a batch."""
    accumulate: int = 1
    """Batches that are summed into one step, over all processes; rounded up to a multiple of their number."""
    seed: int = 0
    """Of initialisation and data."""
    precision: str = "auto"
    """"bf16" or "float32" arithmetic, or "auto": bf16 where the machine is faster in it."""
    ema: float = 0.0
    """Decay of the running mean of the weights that is sampled, measured and exported; 0 for none."""
    guard: GuardConfig = field(default_factory=GuardConfig)
    """What isn't learnt from."""
    parallel: str = "ddp"
    """Over several processes: "ddp" has the whole model in each, "fsdp" spreads it over them."""
    recompute: bool = False
    """Layers are computed twice, which saves the memory of what lies between (activation checkpointing)."""
    compile: bool = False
    """Layers are compiled (`torch.compile`)."""
    profile: int = 0
    """Steps, after the first two, whose trace is written to `out`/trace.json; 0 for none."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to PyTorch."""
    workers: int = 0
    """Processes that prepare batches; 0 prepares them in the training process."""
    log_every: int = 20
    """Steps between two lines of the log."""
    sample_every: int = 1000
    """Steps between two samples to look at or listen to; 0 for none."""
    measure_every: int = 0
    """Steps between two calls of the task's `measure`, whose figures join the log; 0 for none."""
    save_minutes: float = 5.0
    """Minutes between checkpoints."""
    out: str = MISSING
    """Folder of the run."""

    def __post_init__(self) -> None:
        if self.precision not in ("auto", "bf16", "float32"):
            raise ConfigError(f"precision is {self.precision!r}; choose auto, bf16 or float32")
        if self.parallel not in ("ddp", "fsdp"):
            raise ConfigError(f"parallel is {self.parallel!r}; choose ddp or fsdp")
        if self.guard.then not in ("skip", "stop"):
            raise ConfigError(f"guard.then is {self.guard.then!r}; choose skip or stop")
        if not 0.0 <= self.ema < 1.0:
            raise ConfigError(f"ema is {self.ema}; give a decay below 1, such as 0.999, or 0 for none")
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
        ConfigError: no such file, no such task, a field that doesn't exist, a value of the wrong type, or one that is
            still missing (???).
    """
    path = Path(path)
    fields = _read(path, [DATA_PLACE.sub("data.speech=", each) for each in overrides or []])
    try:
        config = typed(StageConfig, fields)
        for name in ("model", "data", "init"):
            setattr(config, name, found(getattr(config, name)))
        return with_sections(config)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def load_typed(kind: type[T], path: Path | str, overrides: list[str] | None = None) -> T:
    """Reads a YAML file as a dataclass, any field of which can be overridden as `load_recipe`'s can.

    Raises:
        ConfigError: no such file, a field that doesn't exist, or a value of the wrong type.
    """
    path = find_recipe(Path(path))
    fields = found(_read(path, overrides or []))
    try:
        return typed(kind, fields)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _read(path: Path | str, settings: list[str]) -> dict:
    """A recipe's fields, as they stand in it and in the settings."""
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such recipe; the ones that ship are in recipes/")
    try:
        given = OmegaConf.load(path)
        if not isinstance(given, DictConfig):
            raise ConfigError(f"{path}: a recipe is a mapping of fields, not a list")
        merged = OmegaConf.merge(given, OmegaConf.from_dotlist(settings))
        return typing.cast(dict, OmegaConf.to_container(merged, resolve=True))
    except (OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(f"{path}: {str(error).splitlines()[0]}") from error


def find_recipe(name: Path) -> Path:
    """A recipe's file: the path itself, or one that ships with the package (with or without its ending)."""
    below = Path(*name.parts[1:]) if name.parts[:1] == ("recipes",) else name
    ours = shipped("recipes") / below.with_suffix(".yaml")
    return ours if not name.is_file() and ours.is_file() else name


def task_class(path: str) -> Any:
    """The class that a recipe names "package.module:Class".

    Raises:
        ConfigError: it can't be imported.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"task {path!r} can't be imported ({error}); write it as package.module:Class") from error


def with_sections(config: StageConfig) -> StageConfig:
    """The same config, with `model` and `data` as the task's own dataclasses."""
    task = task_class(config.task)
    config.model, config.data = typed(task.Model, config.model, "model"), typed(task.Data, config.data, "data")
    return config


def found(value: Any) -> Any:
    """A recipe's value, or the values in it, with the names of shipped files as they stand in this installation."""
    if isinstance(value, dict):
        return {name: found(each) for name, each in value.items()}
    if isinstance(value, list):
        return [found(each) for each in value]
    if not isinstance(value, str) or not value.startswith(FROM_THE_PACKAGE) or Path(value).exists():
        return value
    return str(place) if (place := shipped(value)).exists() else value


def typed(kind: type[T], given: Any, where: str = "") -> T:
    """A dataclass from a recipe's fields.

    Values are converted as OmegaConf converts them ("2" to 2 where a number is wanted); one value where a list is
    wanted is a list of one.

    Args:
        kind: the dataclass; its fields may be dataclasses themselves.
        given: field -> value; or such a dataclass, which is returned as it is.
        where: the fields' place in the recipe, for messages.

    Raises:
        ConfigError: a field that there isn't, with the nearest that there is; a value of the wrong type; none where one
            is needed.
    """
    if isinstance(given, kind):
        return given
    if not isinstance(given, Mapping):
        raise ConfigError(f"{where or 'the recipe'} is a mapping of fields, not {given!r}")
    fields, types_of = dataclasses.fields(typing.cast(Any, kind)), typing.get_type_hints(kind)
    hints = {each.name: types_of[each.name] for each in fields if each.init}
    prefix = f"{where}." if where else ""
    values = {}
    for name, value in given.items():
        if name not in hints:
            near = difflib.get_close_matches(str(name), hints, 1, 0.5)
            known = f"did you mean {prefix}{near[0]}? " if near else ""
            raise ConfigError(f"there is no {prefix}{name}: {known}Fields: {', '.join(sorted(hints))}")
        values[name] = value
    absent = object()
    made = {}
    for each in fields:
        value = values.get(each.name, absent)
        if (
            value is absent
            and each.default is not MISSING
            and (each.default is not dataclasses.MISSING or each.default_factory is not dataclasses.MISSING)
        ):
            continue
        if value is absent or value == MISSING:
            raise ConfigError(f"no value for {prefix}{each.name}; give it as {prefix}{each.name}=VALUE")
        made[each.name] = _fit(hints[each.name], value, f"{prefix}{each.name}")
    return kind(**made)


def _fit(hint: Any, value: Any, where: str) -> Any:
    """A value as a field's type wants it."""
    options = [each for each in typing.get_args(hint) if each is not type(None)]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if value is None and len(options) < len(typing.get_args(hint)):
            return None
        if len(options) == 1:
            return _fit(options[0], value, where)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return typed(hint, value, where)
    origin = typing.get_origin(hint) or hint
    if origin in (list, tuple) and not isinstance(value, (list, tuple)):
        value = [value]
    wrapped = dataclasses.make_dataclass("Field", [("value", list[Any] if origin is tuple else hint)])
    try:
        tree = OmegaConf.structured(wrapped(list(value) if origin is tuple else value))
        fitted = typing.cast(dict, OmegaConf.to_container(tree))["value"]
    except OmegaConfBaseException as error:
        raise ConfigError(f"{where} is {value!r}: {str(error).splitlines()[0]}") from error
    if origin is tuple:
        return tuple(_fit(options[0], each, where) if options else each for each in fitted)
    return fitted


def learning_rate(optim: OptimConfig, step: int, steps: int) -> float:
    """Learning rate of a step: linear warm-up, then half a cosine down to a tenth, or constant."""
    if step < optim.warmup:
        return optim.lr * (step + 1) / optim.warmup
    if optim.schedule == "constant":
        return optim.lr
    done = min(1.0, (step - optim.warmup) / max(1, steps - optim.warmup))
    return optim.lr * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done)))
