"""Weights into a module, and one line about those that don't fit it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class NoInitWeights(TorchFunctionMode):
    """Modules that are made inside `with NoInitWeights():` draw no random weights: for those that are filled next.

    Drawing takes longer than reading the weights from disk; and on the "meta" device, where there is nothing to draw,
    the first normal distribution loads PyTorch's compiler, for two seconds.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def fill(module: nn.Module, weights: dict[str, Tensor], assign: bool = False) -> None:
    """Fills a module, all of it.

    Args:
        module: whose weights they are.
        weights: by the module's names.
        assign: whether they become the module's own, as on the "meta" device, instead of being copied.

    Raises:
        ValueError: a weight is missing, unknown or of another shape; says how many are, and the first one.
    """
    if told := misfit(module, weights):
        raise ValueError(told)
    module.load_state_dict(weights, assign=assign)


def misfit(module: nn.Module, weights: dict[str, Tensor], strict: bool = True) -> str:
    """What doesn't fit, in one line; "" where all does.

    Args:
        module, weights: as in `fill`.
        strict: also tell of weights that only one of the two has.
    """
    own = {name: list(value.shape) for name, value in module.state_dict().items()}
    given = {name: list(value.shape) for name, value in weights.items()}
    other = [name for name in own if name in given and own[name] != given[name]]
    told = []
    if other:
        first = other[0]
        told.append(
            f"{len(other)} of {len(own)} tensors have another shape, first {first}: {given[first]}, not {own[first]}"
        )
    if strict and (missing := [name for name in own if name not in given]):
        told.append(f"{len(missing)} are missing, first {missing[0]}")
    if strict and (unknown := [name for name in given if name not in own]):
        told.append(f"{len(unknown)} are unknown, first {unknown[0]}")
    return "; ".join(told)
