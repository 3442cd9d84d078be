"""How much memory is free, and which models fit into it."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from pathlib import Path

from antiphon.errors import ModelError
from antiphon.hub.presets import BASE, PRESETS, SMALL, Preset

BASE_NEEDS_FREE = 4_000_000_000  # bytes; with less, the machine would begin to swap once other programs want some
PACKED = ("I8", "U8")  # kinds of tensors that stay as they are; others become float32
PACKED_BYTES = 1.1  # a weight, with its share of a scale
CGROUP = Path("/sys/fs/cgroup")


def free_memory() -> int:
    """Bytes that programs could still take: of the machine, or of this container where that has a limit of its own."""
    import psutil

    free = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError, KeyError):  # no container, or one without a limit ("max")
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
        cached = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        free = min(free, limit - used + int(cached["inactive_file"]))
    return max(0, free)


def affordable(free: int) -> Preset:
    """The preset that is taken where none is named and so many bytes of memory are free."""
    return BASE if free >= BASE_NEEDS_FREE else SMALL


def default_preset() -> str:
    """The preset that is taken where none is named: `base`, or where memory is short `small`, which it then says."""
    free = free_memory()
    if affordable(free) is BASE:
        return BASE.name
    print(
        f"{free / 1e9:.1f} GB of memory are free; {BASE.name} wants {BASE_NEEDS_FREE / 1e9:.0f}. Taking {SMALL.name}, "
        f"which knows less (name {BASE.name} to have it all the same).",
        file=sys.stderr,
        flush=True,
    )
    return SMALL.name


def check_memory(model: Path, need: int) -> None:
    """Makes sure that a language model's weights fit into the memory that is free.

    Args:
        model: its folder or file, to be named.
        need: bytes that its weights take.

    Raises:
        ModelError: they don't.
    """
    free = free_memory()
    if need > free:
        raise ModelError(
            f"{model} takes {need / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free. That allows "
            f"{fitting(free)}; of GGUF files, those of up to {free / PACKED_BYTES / 1e9:.1f} billion weights."
        )


def weight_bytes(folder: Path, itemsize: int | None = None) -> int:
    """Bytes that the weights in a folder take in memory: packed ones as they are in the file, others in float32; all of
    them so many bytes each where `itemsize` is given, which unpacks them.

    0 where there are no safetensors to tell by."""
    from safetensors import SafetensorError, safe_open

    total, bits = 0, 8
    with contextlib.suppress(OSError, ValueError, AttributeError):
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        bits = config.get("quantization_config", {}).get("bits", 8)
    for path in folder.glob("*.safetensors"):
        with contextlib.suppress(OSError, SafetensorError), safe_open(path, "np") as file:  # told by who reads it
            for name in file.keys():
                about = file.get_slice(name)
                count, packed = math.prod(about.get_shape()), about.get_dtype() in PACKED
                if itemsize is not None:
                    total += count * itemsize * (8 // bits if packed else 1)
                else:
                    total += count * (1 if packed else 4)
    return total


def fitting(free: int) -> str:
    """The presets that so many bytes of free memory allow, in words."""
    found = [f"{preset.name} ({preset.memory / 1e9:.1f} GB)" for preset in PRESETS if preset.memory <= free]
    return ", ".join(found) or "none of the presets"
