"""How much arithmetic a step is, and how much a machine can do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

PEAKS = {  # bf16 without sparsity, FLOP/s; float32 without tensor cores: the makers' data sheets
    "a100": (312e12, 19.5e12),
    "h100": (989e12, 67e12),
    "h200": (989e12, 67e12),
    "b200": (2250e12, 75e12),
    "l4": (121e12, 30.3e12),
    "l40s": (362e12, 91.6e12),
    "a10": (125e12, 31.2e12),
    "v100": (125e12, 15.7e12),
    "t4": (65e12, 8.1e12),
    "4090": (165e12, 82.6e12),
    "3090": (71e12, 35.6e12),
}
MEMORY = {  # GB
    "a100": 80, "h100": 80, "h200": 141, "b200": 180, "l4": 24, "l40s": 48, "a10": 24, "v100": 32, "t4": 16, "4090": 24,
    "3090": 24,
}  # fmt: skip


def _forward(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _backward(grad: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


def count(work: Callable[[], Any]) -> float:
    """The floating-point operations of the products that `work` computes, forward and backward."""
    aten = torch.ops.aten
    cpu = {  # attention on a CPU, which the counter doesn't know
        aten._scaled_dot_product_flash_attention_for_cpu: _forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
    }
    with FlopCounterMode(display=False, custom_mapping=cpu) as counter:
        work()
    return float(counter.get_total_flops())


def table_peak(name: str, dtype: torch.dtype) -> float | None:
    """FLOP/s of a GPU by (part of) its name; None for one that isn't in the table."""
    words = name.lower().replace("-", " ").split()
    for known, (half, full) in PEAKS.items():
        if known in words or any(word.startswith(known) and not word[len(known) :].isalnum() for word in words):
            return half if dtype == torch.bfloat16 else full
    return None


def measured_peak(device: torch.device, dtype: torch.dtype, size: int = 1024) -> float:
    """FLOP/s of a large product on this device, the best of several."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(5):
        began = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best


def peak(device: torch.device, dtype: torch.dtype) -> float:
    """What a device can do at best, FLOP/s: from the table, or measured."""
    known = table_peak(torch.cuda.get_device_name(device), dtype) if device.type == "cuda" else None
    return known or measured_peak(device, dtype)
