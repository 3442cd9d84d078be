"""Training: one engine; a stage is a typed config; a task brings the model, the batches and the losses."""

from antiphon.train.config import StageConfig, load_recipe
from antiphon.train.engine import train

__all__ = ["StageConfig", "load_recipe", "train"]
