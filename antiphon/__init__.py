"""Antiphon: an Audio-LLM that hears, thinks, speaks and takes turns."""

from __future__ import annotations

import os

# Threads that wait for each other by spinning take the core from the one that they wait for when anything else runs:
# five times slower with one of two cores busy. Read when PyTorch is loaded, so it has to stand before all imports.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from typing import TYPE_CHECKING, Any

from antiphon import codecs

if TYPE_CHECKING:
    from antiphon.model import load

__all__ = ["__version__", "codecs", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`load`, whose imports wait until a model is wanted."""
    if name == "load":
        from antiphon.model import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
