"""Low-rank adapters of a Moshi model (LoRA, Hu et al. 2021), in the format of Kyutai's `moshi-finetune`.

A pair adds `scaling * B @ A` to a weight. Where a weight of ours holds one matrix a codebook, so do A and B.

    lora = MoshiLora(model, rank=128)           # or MoshiLora.from_pretrained(folder, model)
    lora.attach(model)                          # trains: only the pairs' parameters need gradients
    lora.save(folder)                           # lora.safetensors and config.json, which the `moshi` package loads
    lora.merge(model)                           # the pairs are added to the weights, and gone
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from antiphon.errors import HubError
from antiphon.hub.weights import read_config
from antiphon.models.moshi.model import Moshi, MoshiConfig
from antiphon.models.moshi.published import to_kyutai
from antiphon.models.moshi.weights import published, split
from antiphon.nn.weights import NoInitWeights

FILE = "lora.safetensors"
Pairs = dict[str, tuple[Tensor, Tensor]]


def _linear(key: str) -> bool:
    """Whether a weight of ours is that of linear layers: all but embeddings and norms."""
    return "embedding" not in key and "norm" not in key


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


class MoshiLora(nn.Module):
    """Pairs of a model's linear layers.

    Args:
        model: only its sizes and where it lies matter.
        rank, scaling: see `Pair`; moshi-finetune's defaults.
        names: which weights (globs of a `Moshi`'s parameter names); all linear layers by default.

    Raises:
        HubError: a glob that names no linear layer.
    """

    def __init__(self, model: Moshi, rank: int = 128, scaling: float = 2.0, names: Sequence[str] = ("*",)):
        super().__init__()
        self.config, self.rank, self.scaling = model.config, rank, scaling
        weights = {key: value for key, value in model.named_parameters() if _linear(key)}
        for name in names:
            if not any(fnmatchcase(key, name) for key in weights):
                raise HubError(f"{name!r} names no linear layer of a Moshi model; there are e.g. {list(weights)[:3]}.")
        chosen = [key for key in weights if any(fnmatchcase(key, name) for name in names)]
        self.pairs = nn.ModuleDict({key.replace(".", "/"): Pair(weights[key], rank, scaling) for key in chosen})

    def _places(self, model: Moshi) -> list[tuple[nn.Module, str, Pair]]:
        keys = ((key.replace("/", ".").rpartition("."), pair) for key, pair in self.pairs.items())
        return [(model.get_submodule(path), name, pair) for (path, _, name), pair in keys]

    def attach(self, model: Moshi) -> None:
        """Makes the model use the pairs, and freezes all of its own weights."""
        model.requires_grad_(False)
        for module, name, pair in self._places(model):
            parametrize.register_parametrization(module, name, pair)
            pair.requires_grad_(True)

    def detach(self, model: Moshi) -> None:
        """Undoes `attach`; the weights are as they were."""
        for module, name, _ in self._places(model):
            parametrize.remove_parametrizations(module, name, leave_parametrized=False)

    @torch.no_grad()
    def merge(self, model: Moshi) -> None:
        """Adds the pairs to the weights of a model that they aren't attached to."""
        for module, name, pair in self._places(model):
            weight = getattr(module, name)
            weight.add_((pair.scaling * (pair.lora_B.float() @ pair.lora_A.float())).to(weight.dtype))

    def save(self, folder: Path | str, dtype: torch.dtype = torch.bfloat16, base: str | None = None) -> None:
        """Writes lora.safetensors and a config.json, as moshi-finetune does.

        Args:
            folder: is made.
            dtype: of the weights.
            base: where the `moshi` package finds the base model's weights ("hf://..."); None for its default.

        Raises:
            ConfigError: the model has sizes that Kyutai's format can't express.
        """
        folder = Path(folder)
        fields = to_kyutai(self.config) | {"model_type": "moshi", "lora": True, "lora_rank": self.rank}
        fields |= {"lora_scaling": self.scaling, "lora_name": FILE} | ({"moshi_name": base} if base else {})
        out = {}
        for key, pair in self.pairs.items():
            names = published(key.replace("/", "."), self.config, 1)
            for part in ("lora_A", "lora_B"):
                value = getattr(pair, part).detach().to(dtype).cpu()
                for name, each in zip(names, value if value.dim() == 3 else [value], strict=True):
                    out[f"{name.removesuffix('weight')}{part}.weight"] = each.contiguous()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(fields, indent=2) + "\n")
        save_file(dict(sorted(out.items())), folder / FILE)

    @classmethod
    def from_pretrained(cls, path: Path | str, model: Moshi, scaling: float | None = None) -> MoshiLora:
        """Reads a checkpoint of moshi-finetune: a folder, or its lora.safetensors.

        Args:
            path: what to read.
            model: the base model.
            scaling: None takes what config.json beside the weights says (2 if there is none).

        Raises:
            HubError: it can't be read, or was made for another model.
        """
        path = Path(path)
        folder, file = (path, path / FILE) if path.is_dir() else (path.parent, path)
        fields = read_config(folder) if (folder / "config.json").is_file() else {}
        found = read_lora(file, model.config)
        scaling = fields.get("lora_scaling", 2.0) if scaling is None else scaling
        lora = cls(model, next(iter(found.values()))[0].shape[-2], scaling, tuple(found))
        for key, parts in found.items():
            pair = lora.pairs[key.replace(".", "/")]
            for parameter, value in zip((pair.lora_A, pair.lora_B), parts):
                if parameter.shape != value.shape:
                    raise HubError(f"{file}: {key} was made for another model ({list(value.shape)} is its shape).")
                parameter.data.copy_(value)
        return lora


def read_lora(file: Path, config: MoshiConfig) -> Pairs:
    """The pairs of a checkpoint under our names, float32; where a codebook has none, they are zeros.

    Raises:
        HubError: it can't be read, or holds what we have no place for.
    """
    try:
        weights = split({key: value.float() for key, value in load_file(file).items()})
    except (SafetensorError, OSError) as error:
        raise HubError(f"{file} cannot be read ({error}).") from error
    with torch.device("meta"), NoInitWeights():
        keys = [key for key in Moshi(config).state_dict() if _linear(key)]
    known, out = set(), {}
    for key in keys:
        stems = [name.removesuffix("weight") for name in published(key, config, 1)]
        names = [[f"{stem}lora_{part}.weight" for stem in stems] for part in "AB"]
        known.update(*names)
        parts = [[weights.get(name) for name in row] for row in names]
        if all(each is None for each in parts[0]):
            continue
        if any((a is None) != (b is None) for a, b in zip(*parts)):
            raise HubError(f"{file}: {stems[0]}lora_A or lora_B is missing.")
        for row in parts:
            blank = torch.zeros_like(next(each for each in row if each is not None))
            row[:] = [blank if each is None else each for each in row]
        stacked = [torch.stack(row) if key.startswith("depth") else row[0] for row in parts]
        out[key] = (stacked[0], stacked[1])
    unknown = sorted(re.sub(r"\d+", "*", name) for name in set(weights) - known)
    if unknown or not out:
        raise HubError(
            f"{file} was made for another model (unknown: {', '.join(unknown[:3]) or 'none'}; found: {len(out)})."
        )
    return out


def add(weights: dict[str, Tensor], pairs: Pairs, scaling: float) -> None:
    """Adds pairs to the weights of a state dict, in place."""
    for key, (a, b) in pairs.items():
        weights[key] = (weights[key].float() + scaling * (b @ a)).to(weights[key].dtype)
