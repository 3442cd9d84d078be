"""What a pretrained encoder makes of speech: features of a chosen layer, for tokenizers, adapters and distillation.

features = load_features("whisper-base", layer=4)        # a part's name, a folder or a hub id
values, frames = features(audio, lengths)                # [batch, frames, width] at features.frame_rate, [batch]
"""

from __future__ import annotations

import json
from pathlib import Path

from antiphon.encoders.base import SpeechFeatures
from antiphon.errors import ModelError

__all__ = ["SpeechFeatures", "load_features"]


def load_features(model: Path | str, layer: int | None = None) -> SpeechFeatures:
    """The features of a layer of a pretrained encoder.

    Args:
        model: a folder in `transformers`' format, a part's name ("whisper-base") or a hub id ("facebook/hubert-base-
            ls960", "microsoft/wavlm-base-plus", "openai/whisper-small").
        layer: transformer layer whose output is taken, from 1; 0 for its input; None for the encoder's output.

    Raises:
        ModelError: no such encoder there, or no such layer.
        HubError: the model can't be had.
    """
    from antiphon.encoders.ssl import SELF_SUPERVISED, SelfSupervisedFeatures
    from antiphon.encoders.whisper.features import WhisperFeatures
    from antiphon.hub import folder as find

    folder = find(model)
    try:
        kind = json.loads((folder / "config.json").read_text())["model_type"]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder / 'config.json'} says no model_type ({error!r}): give a model's folder") from None
    if kind == "whisper":
        return WhisperFeatures.from_pretrained(folder, layer)
    if kind in SELF_SUPERVISED:
        return SelfSupervisedFeatures.from_pretrained(folder, layer)
    raise ModelError(f"{folder} holds a {kind}; features come from {', '.join(SELF_SUPERVISED)} or whisper")
