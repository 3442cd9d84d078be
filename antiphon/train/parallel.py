"""What is done to a model's blocks, the layers that repeat, before it trains: compiled, computed twice to save memory,
spread over processes; and the whole model made of its shards again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    """The layers that repeat: the outermost members of `nn.ModuleList`s that are made of other modules."""
    for child in model.children():
        members = list(child.children())
        if isinstance(child, nn.ModuleList) and members and all(_is_layer(each) for each in members):
            yield from members
        else:
            yield from blocks(child)


def _is_layer(module: nn.Module) -> bool:
    return not isinstance(module, (nn.ModuleList, nn.ModuleDict)) and any(True for _ in module.children())


def recompute(model: nn.Module) -> None:
    """Lets each block keep nothing but what goes in: it is computed again when its gradients are (Chen et al. 2016)."""
    for block in blocks(model):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)  # type: ignore[method-assign]


def compile_blocks(model: nn.Module) -> None:
    """Compiles each block by itself, which compiles equal layers once."""
    for block in blocks(model):
        block.compile()


def shard(whole: nn.Module) -> None:
    """Spreads a module's parameters, gradients and optimizer states over all processes (FSDP2): each block is gathered
    when its turn comes, the rest for the length of a step."""
    from torch.distributed.fsdp import fully_shard

    mesh = dist.init_device_mesh("cuda" if torch.cuda.is_available() else "cpu", (dist.get_world_size(),))
    for block in blocks(whole):
        fully_shard(block, mesh=mesh)
    fully_shard(whole, mesh=mesh)


def gathered(tensor: Tensor) -> Tensor:
    """A tensor that may be spread over processes, whole; all must ask for it."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def spread_like(whole: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, that each process has, spread as another one is."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor):
        return whole
    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def plain_weights(model: nn.Module, names: Iterable[str], keep: bool) -> dict[str, Tensor]:
    """Parameters and buffers as they are used: whole, with attached pairs added. All processes must ask.

    Args:
        model: whose.
        names: of them, in the plain model.
        keep: whether this process wants them.
    """
    found = {}
    for name in names:
        parent, _, leaf = name.rpartition(".")
        tensor = gathered(getattr(model.get_submodule(parent), leaf).detach())
        if keep:
            found[name] = tensor.cpu()
    return found
