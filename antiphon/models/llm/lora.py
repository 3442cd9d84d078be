"""Low-rank adapters (LoRA, Hu et al. 2021): small trained corrections to frozen linear layers.

The adapters live in their own module and are handed to the model call by call. So the same language model serves
adapted (voice) and untouched (text) conversations at once, nothing is switched behind anyone's back, and saving the
module saves nothing but the adapters.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from antiphon.errors import ModelError
from antiphon.nn.weights import NoInitWeights, fill

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class LoraConfig:
    """Which linear layers are adapted, and how.

    Attributes:
        rank: inner width of each pair.
        alpha: the correction is scaled by alpha / rank.
        first, last: layers `first` to `last` (exclusive) are adapted.
        linears: names of the adapted linear layers.
        system: system prompt that the adapters were trained with; None for none at all.
    """

    rank: int = 16
    alpha: float = 32.0
    first: int = 15
    last: int = 30
    linears: tuple[str, ...] = LINEARS
    system: str | None = None

    def __post_init__(self) -> None:
        if self.rank < 1 or not 0 <= self.first < self.last:
            raise ModelError(
                f"rank {self.rank}, layers {self.first} to {self.last}: rank >= 1 and first < last are needed"
            )
        if unknown := set(self.linears) - set(LINEARS):
            raise ModelError(f"no linear layers named {sorted(unknown)}; choose from {list(LINEARS)}")


class Pair(nn.Module):
    """x -> up(down(x)) x scale; `up` starts at zero, so an untrained pair changes nothing."""

    def __init__(self, inputs: int, outputs: int, rank: int, alpha: float):
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, inputs))
        self.up = nn.Parameter(torch.zeros(outputs, rank))
        self.scale = alpha / rank
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """`[..., inputs]` -> `[..., outputs]`, in the dtype of `x`."""
        return F.linear(F.linear(x, self.down.to(x.dtype)) * self.scale, self.up.to(x.dtype))

    def delta(self) -> Tensor:
        """What this pair adds to the weight, `[outputs, inputs]`."""
        return self.up @ self.down * self.scale


def apply(linear: nn.Linear, x: Tensor, pairs: nn.ModuleDict | None, name: str) -> Tensor:
    """`linear(x)` plus the correction of the pair called `name`, if there is one."""
    y = linear(x)
    if pairs is not None and name in pairs:
        y = y + pairs[name](x)
    return y


class Lora(nn.Module):
    """All pairs of one set of adapters, by layer number and linear's name."""

    def __init__(self, config: LoraConfig, shapes: dict[str, tuple[int, int]]):
        """Args: shapes: (inputs, outputs) of each linear; the same for all layers. See :func:`shapes_of`."""
        super().__init__()
        self.config = config
        self.layers = nn.ModuleDict(
            {
                str(number): nn.ModuleDict(
                    {name: Pair(*shapes[name], rank=config.rank, alpha=config.alpha) for name in config.linears}
                )
                for number in range(config.first, config.last)
            }
        )

    def layer(self, number: int) -> nn.ModuleDict | None:
        """This layer's pairs, or None when the layer isn't adapted."""
        key = str(number)
        return self.layers[key] if key in self.layers else None

    def save(self, folder: Path | str) -> None:
        """Write config.json and model.safetensors (float16)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(asdict(self.config), indent=2) + "\n", encoding="utf-8")
        weights = {key: value.detach().half().contiguous() for key, value in self.state_dict().items()}
        save_file(weights, folder / "model.safetensors")

    @classmethod
    def from_pretrained(cls, folder: Path | str, shapes: dict[str, tuple[int, int]]) -> Lora:
        """Load what :meth:`save` wrote, as float32.

        Raises:
            ModelError: files missing or unreadable, or made for another model.
        """
        folder = Path(folder)
        try:
            values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            config = LoraConfig(**values | {"linears": tuple(values["linears"])})
            weights = {key: value.float() for key, value in load_file(folder / "model.safetensors").items()}
        except ModelError:
            raise
        except Exception as error:  # safetensors raises its own class
            raise ModelError(f"cannot read the adapters in {folder}: {error}") from error
        with NoInitWeights():
            lora = cls(config, shapes)
        try:
            fill(lora, weights)
        except ValueError as error:
            raise ModelError(f"the adapters in {folder} were made for another model: {error}") from error
        return lora.eval()


def shapes_of(layer: nn.Module) -> dict[str, tuple[int, int]]:
    """(inputs, outputs) of each adaptable linear of one decoder layer."""
    return {name: (getattr(layer, name).in_features, getattr(layer, name).out_features) for name in LINEARS}
