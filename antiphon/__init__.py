"""Antiphon: an Audio-LLM that hears, thinks, speaks and takes turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from antiphon import codecs

if TYPE_CHECKING:
    from antiphon.model import Model

__all__ = ["__version__", "codecs", "load"]
__version__ = "0.1.0"


def load(name: str = "mini", **parts: Any) -> Model:
    """Loads a model by preset name.

    Any part can be replaced by a folder or a hub id: `load("mini", talker="my/folder")`.
    """
    from antiphon.model import Model  # heavy imports wait until a model is wanted

    return Model.from_pretrained(name, **parts)
