"""Mimi (Defossez et al. 2024): the model, and the published checkpoints."""

from __future__ import annotations

from antiphon.codecs.families import Family

FAMILIES = (Family("mimi", f"{__name__}.model:Mimi", ("mimi",), names={"mimi": "kyutai/mimi"}),)
