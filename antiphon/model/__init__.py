"""A model as one object that hears, thinks and speaks, whatever its kind: `load` finds out which it is.

model = antiphon.load()                           # or "mini-duplex", a folder that `save` wrote, a hub id
reply = model.reply("question.wav")               # .heard, .text, .audio, .timings
reply.audio.save("answer.wav")
with model.session() as session:                  # live: 80 ms frames in, events out
    for frame in microphone:
        for event in session.step(frame): ...
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from antiphon import hub
from antiphon.errors import ConfigError, ModelError
from antiphon.model.base import Model
from antiphon.model.duplex import DuplexModel
from antiphon.model.half_duplex import FAMILY as THINKER_TALKER
from antiphon.model.half_duplex import HalfDuplexModel
from antiphon.nn.placement import placement

if TYPE_CHECKING:
    from antiphon.model.omni import OmniModel

__all__ = ["DuplexModel", "HalfDuplexModel", "Model", "load"]
MOSHI, OMNI = "moshi", "omni"  # other families of models that can be talked to


def load(
    name: str | Path | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    **parts: str | Path | None,
) -> HalfDuplexModel | OmniModel | DuplexModel:
    """Loads a model.

    Args:
        name: a preset ("base", "small" and "mini" take turns, "omni" sees, too, "mini-duplex" listens and speaks at
            once), or the folder or hub id of a model of either kind; None is "base", or "small" where memory is short.
            A folder that has a preset's name is given as "./mini".
        device: where the large part computes: "cuda" puts a thinker's language model, or all of a duplex model and its
            codec, on the GPU. The other parts keep up on the CPU.
        dtype: of that part's weights, "bfloat16", "float16" or "float32"; None as they are, on a GPU bfloat16.
        parts: replace a part by a folder or a hub id, and the thinker by a GGUF file as well: `load("base",
            thinker="Qwen/Qwen2.5-7B-Instruct")`; `scene=None` hears words alone.

    Raises:
        ConfigError: a device that isn't there or a dtype that isn't known, or a model that is for the CPU alone.
        HubError: no such preset or folder, or a part that can't be had.
        ModelError: a folder that holds something else, or a thinker that is too large for the memory.
    """
    place, kind = placement(device, dtype)
    name = str(name) if name is not None else hub.default_preset()
    folder = None
    if name not in {preset.name for preset in hub.PRESETS} and (Path(name).is_dir() or "/" in name):
        folder = hub.folder(Path(name) if Path(name).is_dir() else name)
    family = hub.preset(name).family if folder is None else _family(folder)
    if family == THINKER_TALKER:
        return HalfDuplexModel.from_pretrained(folder or name, device=place, dtype=kind, **parts)
    if family == OMNI:
        from antiphon.model.omni import OmniModel

        if place.type != "cpu" or kind is not None:
            raise ConfigError(
                f"{name} sees: models that do talk on the CPU, with weights as they are; leave out device and dtype"
            )
        return OmniModel.from_pretrained(folder or hub.folder(hub.preset(name).parts["omni"]), **parts)
    if family == MOSHI:
        return DuplexModel.from_pretrained(folder or name, device=place, dtype=kind, **parts)
    raise ModelError(f"{name} holds a {family!r}, which is no model to talk to; antiphon.codecs.load reads codecs.")


def _family(folder: Path) -> str:
    """What config.json says; published ones have a type of their own there, or, Kyutai's, nothing."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        family, kind = config.get("family"), str(config.get("model_type"))
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{folder / 'config.json'} can't be read ({error}): it is no model's folder.") from error
    if family is None and "omni" in kind:
        from antiphon.models.omni.config import FAMILY
        from antiphon.models.omni.qwen3.config import FAMILY as QWEN3

        family = OMNI if kind.startswith((FAMILY, QWEN3)) else kind
    return family or MOSHI
