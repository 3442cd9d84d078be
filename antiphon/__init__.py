"""Antiphon: an Audio-LLM that hears, thinks, speaks and takes turns."""

from __future__ import annotations

import os

# Threads that wait for each other by spinning take the core from the one that they wait for when anything else runs:
# five times slower with one of two cores busy. Read when PyTorch is loaded, so it has to stand before all imports.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from typing import TYPE_CHECKING, Any  # noqa: E402

from antiphon import codecs  # noqa: E402

if TYPE_CHECKING:
    from antiphon.duplex_model import DuplexModel
    from antiphon.model import Model

__all__ = ["__version__", "codecs", "load"]
__version__ = "0.1.0"


def load(name: str = "mini", *, device: str = "cpu", **parts: Any) -> Model | DuplexModel:
    """Loads a model.

    Args:
        name: a preset ("mini": turns; "mini-duplex": listens and speaks at once), or a duplex
            model's folder or hub id. A folder that has a preset's name is given as "./mini".
        device: "cpu", where models talk; others are for training alone.
        parts: replace a part by a folder or a hub id: `load("mini", talker="my/folder")`.

    Raises:
        ConfigError: a device that models don't talk on.
        HubError: no such preset or folder, or a part that can't be had.
    """
    from importlib import import_module
    from pathlib import Path

    from antiphon import hub  # heavy imports wait until a model is wanted
    from antiphon.errors import ConfigError

    if str(device) != "cpu":
        raise ConfigError(f"Models talk on the CPU, not on {device}: leave device out. Training takes a GPU by itself.")
    named = {preset.name for preset in hub.PRESETS}
    if name not in named and (Path(name).is_dir() or "/" in name):
        return load("mini-duplex", duplex=name, **parts)
    module, cls = hub.preset(name).model.split(":")
    return getattr(import_module(module), cls).from_pretrained(name, **parts)
