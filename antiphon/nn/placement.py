"""Where a model computes and in what type, by the names that users give them."""

from __future__ import annotations

import torch

from antiphon.errors import ConfigError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def check_device(device: str | torch.device) -> torch.device:
    """The device of that name, which PyTorch can use here.

    Raises:
        ConfigError: it cannot.
    """
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:  # PyTorch without CUDA asserts
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ConfigError(f"There is no device {str(device)!r} to use here ({reason}): give cpu.") from error
    return found


def placement(device: str | torch.device, dtype: str | torch.dtype | None) -> tuple[torch.device, torch.dtype | None]:
    """A device and a type of weights: as they are where none is given, but bfloat16 on another device than the CPU.

    Raises:
        ConfigError: no such device here, or no such type.
    """
    found = check_device(device)
    if dtype is None:
        return found, None if found.type == "cpu" else torch.bfloat16
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise ConfigError(f"Weights can be {', '.join(DTYPES)}, not {name!r}.")
    return found, DTYPES[name]
