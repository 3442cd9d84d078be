"""Features of speech from a pretrained encoder or from one of our own supervised tokenizers."""

from __future__ import annotations

import json
from pathlib import Path

from antiphon import encoders, hub
from antiphon.codecs.semantic.supervised import FAMILY, SupervisedFeatures
from antiphon.encoders.base import SpeechFeatures


def load_features(model: Path | str, layer: int | None = None) -> SpeechFeatures:
    """`antiphon.encoders.load_features`, and of a supervised tokenizer's folder what its quantizer is given.

    Raises:
        ModelError: no such encoder there, or no such layer.
        HubError: the model can't be had.
    """
    folder = hub.folder(model)
    try:
        supervised = json.loads((folder / "config.json").read_text()).get("family") == FAMILY
    except (OSError, ValueError, AttributeError):
        supervised = False  # which the other door tells in its own words
    return SupervisedFeatures.from_pretrained(folder, layer) if supervised else encoders.load_features(folder, layer)
