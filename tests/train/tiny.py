"""A shipped recipe in a form that takes no time: everything as it is written but the sizes and the places."""

from __future__ import annotations

import json
from pathlib import Path

from antiphon.train import load_recipe, train

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def run_recipe(name: str, out: Path, **settings: object) -> Path:
    """Takes two steps of a recipe.

    Args:
        name: e.g. "mini/talker".
        out: folder of the run.
        settings: field -> value, two underscores for a dot: sizes and places.

    Returns:
        The folder of the model.
    """
    given = {"steps": 2, "sample_every": 0, "precision": "float32", "out": str(out)} | settings
    overrides = [f"{key.replace('__', '.')}={json.dumps(value)}" for key, value in given.items()]
    return train(load_recipe(RECIPES / f"{name}.yaml", overrides))
