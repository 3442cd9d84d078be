"""Low-rank adapters (LoRA, Hu et al. 2021): small trained corrections to frozen linear layers, of any model.

A pair adds `scaling * B @ A` to a weight. The pairs live in a module of their own, so saving it saves nothing else. A
model can be handed them call by call (`Llama.forward(lora=...)`), which serves adapted and untouched conversations at
once; or they are attached to it, or merged into it.

    lora = Lora(model, LoraConfig(rank=16, linears=("q_proj", "v_proj")))
    lora.attach(model)                                   # trains: only the pairs' parameters need gradients
    lora.save(folder)                                    # in the format of `peft`
    lora = Lora.from_pretrained(folder, model)
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from antiphon.errors import ModelError
from antiphon.nn.weights import NoInitWeights, fill

CONFIG, WEIGHTS, PREFIX = "adapter_config.json", "adapter_model.safetensors", "base_model.model."
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")


@dataclass(frozen=True)
class LoraConfig:
    """Which linear layers are adapted, and how.

    Attributes:
        rank: inner width of each pair.
        alpha: the correction is scaled by alpha / rank.
        linears: the adapted layers: the end of their names ("q_proj"), or globs ("temporal.layers.1.*").
        first, last: of numbered layers, `first` to `last` (exclusive; None: to the end) are adapted.
        system: system prompt that a language model's adapters were trained with; None for none at all.
    """

    rank: int = 16
    alpha: float = 32.0
    linears: tuple[str, ...] = ("*",)
    first: int = 0
    last: int | None = None
    system: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "linears", tuple(self.linears))
        if self.rank < 1 or self.first < 0 or (self.last is not None and self.last <= self.first):
            raise ModelError(
                f"rank {self.rank}, layers {self.first} to {self.last}: rank >= 1 and first < last are needed"
            )

    def chosen(self, names: list[str]) -> list[str]:
        """Those of a model's linear layers that are adapted.

        Raises:
            ModelError: one of `linears` is the name of none.
        """
        for pattern in self.linears:
            if not any(_matches(name, pattern) for name in names):
                raise ModelError(f"{pattern!r} names no linear layer of this model; there are e.g. {names[:3]}")
        end = math.inf if self.last is None else self.last
        found = [name for name in names if any(_matches(name, pattern) for pattern in self.linears)]
        return [name for name in found if not (at := _LAYER.search(name)) or self.first <= int(at[1]) < end]


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")


class Pair(nn.Module):
    """What is added to a weight [..., out, in]. `lora_B` starts at zero, so an untrained pair changes nothing.

    Args:
        weight: only its shape, device and dtype matter.
        rank, scaling: inner width, and what the product is multiplied by.
    """

    def __init__(self, weight: Tensor, rank: int, scaling: float):
        super().__init__()
        *sets, outputs, inputs = weight.shape
        self.scaling = scaling
        bound = math.sqrt(1 / inputs)
        self.lora_A = nn.Parameter(weight.new_empty(*sets, rank, inputs).uniform_(-bound, bound))
        self.lora_B = nn.Parameter(weight.new_zeros(*sets, outputs, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with the pair's product added."""
        return weight + self.scaling * (self.lora_B @ self.lora_A)

    def correction(self, x: Tensor) -> Tensor:
        """What is added to the layer's output for x [..., in], in the dtype of x: [..., out]."""
        return F.linear(F.linear(x, self.lora_A.to(x.dtype)) * self.scaling, self.lora_B.to(x.dtype))


@runtime_checkable
class NamesLinears(Protocol):
    """A model that says itself which linear layers it has, as some are computed in other ways."""

    def linear_shapes(self) -> dict[str, tuple[int, int]]:
        """Their shapes, (out, in), by their names."""
        ...


def linears_of(model: nn.Module) -> dict[str, Tensor]:
    """The weights of a model's linear layers, by the layers' names; a bare parameter of three dimensions is a linear
    layer a codebook."""
    if isinstance(model, NamesLinears):
        like = next(model.parameters())  # the shape is all that counts
        return {name: like.new_zeros(1).expand(shape) for name, shape in model.linear_shapes().items()}
    modules = dict(model.named_modules())
    found = {}
    for name, parameter in model.named_parameters():
        parent, _, leaf = name.rpartition(".")
        if leaf == "weight" and isinstance(modules[parent], nn.Linear):
            found[parent] = parameter
        elif parameter.dim() == 3:
            found[name] = parameter
    return found


class Lora(nn.Module):
    """Pairs of a model's linear layers, under the layers' own names.

    Args:
        model: only its sizes and where it lies matter; and its `published_name`, if it has one: the name that a linear
            layer has in `transformers`, under which files have it.
        config: which linear layers, and how.

    Raises:
        ModelError: a name in it that no linear layer has.
    """

    def __init__(self, model: nn.Module, config: LoraConfig):
        super().__init__()
        self.config = config
        self.published: Callable[[str], str] = getattr(model, "published_name", str)
        weights = linears_of(model)
        self._names = config.chosen(list(weights))
        for name in self._names:
            *path, leaf = name.split(".")
            place: nn.Module = self
            for part in path:
                if part not in place._modules:
                    place.add_module(part, nn.Module())
                place = place.get_submodule(part)
            place.add_module(leaf, Pair(weights[name], config.rank, config.alpha / config.rank))

    def named_pairs(self) -> Iterator[tuple[str, Pair]]:
        """Each adapted linear layer's name, and its pair."""
        return ((name, self.get_submodule(name)) for name in self._names)

    @property
    def first_layer(self) -> int:
        """The first of the numbered layers that is adapted; those before it are as they were."""
        return min((int(at[1]) for name in self._names if (at := _LAYER.search(name))), default=0)

    def inside(self, module: str) -> dict[str, Pair]:
        """The pairs of a module's own linear layers by their last names; none for a module that isn't adapted."""
        place: nn.Module = self
        for part in module.split("."):
            if part not in place._modules:
                return {}
            place = place._modules[part]
        return place._modules

    def _places(self, model: nn.Module) -> Iterator[tuple[nn.Module, str, Pair]]:
        for name, pair in self.named_pairs():
            parent, _, leaf = name.rpartition(".")
            owner = getattr(model.get_submodule(parent), leaf)
            yield (owner, "weight", pair) if isinstance(owner, nn.Linear) else (model.get_submodule(parent), leaf, pair)

    def attach(self, model: nn.Module) -> None:
        """Makes the model use the pairs, and freezes all of its own weights."""
        model.requires_grad_(False)
        for module, name, pair in list(self._places(model)):
            parametrize.register_parametrization(module, name, pair)
            pair.requires_grad_(True)

    def detach(self, model: nn.Module) -> None:
        """Undoes `attach`; the weights are as they were."""
        for module, name, _ in list(self._places(model)):
            parametrize.remove_parametrizations(module, name, leave_parametrized=False)

    @torch.no_grad()
    def merge(self, model: nn.Module) -> None:
        """Adds the pairs to the weights of a model that they aren't attached to."""
        for module, name, pair in self._places(model):
            weight = getattr(module, name)
            weight.add_((pair.scaling * (pair.lora_B.float() @ pair.lora_A.float())).to(weight.dtype))

    def _key(self, name: str) -> str:
        """In files, of a pair's parameter."""
        linear, _, part = name.rpartition(".")
        return f"{PREFIX}{self.published(linear)}.{part}.weight"

    def save(self, folder: Path | str) -> None:
        """Writes adapter_config.json and adapter_model.safetensors (float16), as `peft` does; and config.json."""
        folder, weights = Path(folder), {}
        for name, pair in self.named_pairs():
            if pair.lora_A.dim() != 2:
                raise ModelError(f"{name} is a linear layer a codebook, which the format of peft can't express")
            for part in ("lora_A", "lora_B"):
                weights[self._key(f"{name}.{part}")] = getattr(pair, part).detach().cpu().half().contiguous()
        numbers = sorted({int(at[1]) for name in self._names if (at := _LAYER.search(name))})
        fields = {
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": None, "inference_mode": True,
            "r": self.config.rank, "lora_alpha": self.config.alpha, "lora_dropout": 0.0, "bias": "none",
            "target_modules": sorted({name.rpartition(".")[2] for name in self._names}),
            "layers_to_transform": numbers or None, "layers_pattern": "layers" if numbers else None,
        }  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
        about = {"family": "lora", "system": self.config.system}
        (folder / "config.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})

    def read_weights(self, folder: Path | str) -> dict[str, Tensor]:
        """What a folder holds, under the names of this module's parameters; others under their own."""
        own = {self._key(name): name for name in self.state_dict()}
        return {own.get(key, key): value for key, value in _read(Path(folder))[1].items()}

    @classmethod
    def from_pretrained(cls, folder: Path | str, model: nn.Module) -> Lora:
        """Reads what `save` or `peft` wrote, or what `save` wrote before version 0.2, as float32.

        Args:
            folder: of the adapters.
            model: that they are for.

        Raises:
            ModelError: files missing or unreadable, adapters of another kind, or made for another model.
        """
        config, weights = _read(Path(folder))
        rank, alpha = config["r"], config["lora_alpha"]
        published = getattr(model, "published_name", str)
        found = [name for name in linears_of(model) if f"{PREFIX}{published(name)}.lora_A.weight" in weights]
        try:
            if not found:
                raise ValueError(f"none of its layers has any; they are for {min(weights, default='nothing')}")
            with NoInitWeights():
                lora = cls(model, LoraConfig(rank, alpha, tuple(found), system=config.get("system")))
            fill(lora, lora.read_weights(folder))
        except ValueError as error:
            raise ModelError(f"the adapters in {folder} were made for another model: {error}") from error
        return lora.eval()


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The settings and weights of a folder, by the names that peft gives them."""
    try:
        return _read_peft(folder) if (folder / CONFIG).is_file() else _read_earlier(folder)
    except ModelError:
        raise
    except Exception as error:  # safetensors raises its own class
        raise ModelError(f"cannot read the adapters in {folder}: {error}") from error


def _read_peft(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    for name in ("use_dora", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "modules_to_save"):
        if config.get(name):
            raise ModelError(f"{folder / CONFIG}: {name} is not supported")
    if config.get("bias", "none") != "none" or config.get("peft_type", "LORA") != "LORA":
        raise ModelError(f"{folder / CONFIG}: only plain LoRA without biases is supported")
    if config.get("use_rslora"):  # scaled by alpha / sqrt(rank)
        config["lora_alpha"] *= config["r"] ** 0.5
    about = folder / "config.json"
    config["system"] = json.loads(about.read_text(encoding="utf-8")).get("system") if about.is_file() else None
    return config, {key: value.float() for key, value in load_file(folder / WEIGHTS).items()}


def _read_earlier(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A language model's adapters as saved before version 0.2: `layers.3.q_proj.down` and `up`, under Llama's names."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    weights = {}
    for key, value in load_file(folder / "model.safetensors").items():
        layer, linear, part = key.removeprefix("layers.").split(".")
        block = "self_attn" if linear in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"
        part = {"down": "lora_A", "up": "lora_B"}[part]
        weights[f"{PREFIX}model.layers.{layer}.{block}.{linear}.{part}.weight"] = value.float()
    return {"r": config["rank"], "lora_alpha": config["alpha"], "system": config.get("system")}, weights
