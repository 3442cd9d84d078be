"""Folders of Qwen2.5-Omni as they are published: config.json, safetensors under the published names, spk_dict.pt; those
of Qwen3-Omni are told by their config.json and opened by `qwen3.weights`.

model = load(folder)              # whole, a thinker alone or a talker alone
save(model, folder)               # which `transformers` loads
"""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from antiphon.errors import HubError, ModelError
from antiphon.hub.memory import weight_bytes
from antiphon.hub.weights import read_config, read_weights
from antiphon.models.llm.llama import Llama, own_key, published_key
from antiphon.models.lora import Lora
from antiphon.models.omni.config import FAMILY, OmniConfig
from antiphon.models.omni.model import Omni
from antiphon.models.omni.packing import TRANSFORMERS, described, is_packed
from antiphon.models.omni.parts import ADAPTERS, part_weights
from antiphon.models.omni.qwen3 import weights as qwen3
from antiphon.models.omni.qwen3.model import Qwen3Omni
from antiphon.models.omni.token2wav import Voice
from antiphon.nn.weights import NoInitWeights, fill

# Published names and ours. The two transformers in it have `transformers`' names, which `llama.own_key` knows.
NAMES = (
    ("thinker.audio_tower.", "thinker.audio_tower."),
    ("thinker.visual.", "thinker.visual."),
    ("thinker.lm_head.", "thinker.language_model.lm_head."),
    ("thinker.model.", "thinker.language_model."),
    ("talker.thinker_to_talker_proj.", "talker.proj."),
    ("talker.codec_head.", "talker.lm.lm_head."),
    ("talker.model.", "talker.lm."),
    ("token2wav.code2wav_dit_model.", "token2wav.dit."),
    ("token2wav.code2wav_bigvgan_model.", "token2wav.vocoder."),
)
VOICES = "spk_dict.pt"
PLACES = {"language_model": "thinker.language_model", "talker_model": "talker.lm"}  # of `packing.TRANSFORMERS`
# Older files hold tensors that follow from the sizes.
_FOLLOWS = re.compile(r".*(\.filter|inv_freq|positional_embedding)$")
_ALONE = {f"{FAMILY}_thinker": "thinker.", f"{FAMILY}_talker": "talker."}


def ours(key: str) -> str:
    """Our name of a published weight; an unknown one is kept, so that loading complains of it."""
    for published, own in NAMES:
        if key.startswith(published):
            rest = key.removeprefix(published)
            return own + (own_key(f"model.{rest}") if published.endswith(".model.") else rest)
    return key


def published(key: str) -> str:
    """The published name of a weight of `Omni`: the inverse of `ours`."""
    for theirs, own in NAMES:
        if key.startswith(own):
            rest = key.removeprefix(own)
            if theirs.endswith(".model."):
                return theirs + published_key(rest).removeprefix("model.")
            return theirs + rest
    return key


def load(folder: Path | str, dtype: torch.dtype | None = None, language_model: Path | str | None = None) -> Omni:
    """Opens a folder in evaluation mode.

    Args:
        folder: as published, as `save` writes it, or packed (`antiphon.models.omni.packing`).
        dtype: of the thinker's and the talker's weights; what makes the sound is float32 in any case. None: float32, or
            what they have in a packed folder.
        language_model: a folder whose language model takes the place of the thinker's: what `save_language_model`
            wrote, packed (`antiphon.hub.pack`) or fine-tuned.

    Raises:
        ModelError: another model, a quantized one, or one with settings that aren't computed here; or a language model
            for one that takes none.
        HubError: weights that can't be read or don't fit.
    """
    folder = Path(folder)
    if str(read_config(folder).get("model_type")).startswith(qwen3.FAMILY):
        if language_model is not None:
            raise ModelError(f"{folder} is a Qwen3-Omni, which takes no other language model: leave it out")
        return qwen3.load(folder, dtype)
    config, values, kept = read(folder)
    with torch.device("meta"), NoInitWeights():
        model = Omni(config, values)
    apart = {name: folder / name for name in TRANSFORMERS if (folder / name).is_dir()}
    if language_model is not None and model.thinker is not None:
        apart["language_model"] = Path(language_model)
    for name in apart:  # until the rest is there
        model.set_submodule(PLACES[name], nn.Identity())
    elsewhere = tuple(f"{PLACES[name]}." for name in apart)
    kept = {key: value for key, value in kept.items() if not key.startswith(elsewhere)}
    if dtype is not None or not is_packed(folder):
        kept = {key: value.to(dtype or torch.float32) for key, value in kept.items()}
    kept = {key: value.float() if key.startswith("token2wav.") else value for key, value in kept.items()}
    try:
        fill(model, kept, assign=True)
    except ValueError as error:
        raise HubError(f"{folder}: the weights do not fit its config.json ({error}).") from error
    for name, place in apart.items():
        model.set_submodule(PLACES[name], Llama.from_pretrained(place))
    if model.thinker is not None and "language_model" not in apart and (folder / ADAPTERS).is_dir():
        Lora.from_pretrained(folder / ADAPTERS, model.thinker.language_model).merge(model.thinker.language_model)
    model.reset()
    model.voices = read_voices(folder / VOICES)
    return model.eval().requires_grad_(False)


def read(folder: Path | str) -> tuple[OmniConfig, dict[str, Any], dict[str, Tensor]]:
    """Sizes, config.json and weights of a folder as they are, under our names.

    Raises:
        ModelError: another model, a quantized one, or one with settings that aren't computed here.
        HubError: weights that can't be read.
    """
    folder = Path(folder)
    values = read_config(folder)
    config = OmniConfig.from_dict(values, str(folder / "config.json"))
    prefix = _ALONE.get(values.get("model_type", ""), "")
    whole = {
        key if key.startswith(prefix) else prefix + key: value
        for key, value in read_weights(folder, float32=False).items()
    }
    kept = {ours(key): value for key, value in whole.items() if not _FOLLOWS.fullmatch(key)}
    kept = part_weights(values.get("parts", {}), config) | kept
    if config.talker is None:
        kept = {key: value for key, value in kept.items() if not key.startswith(("talker.", "token2wav."))}
    if config.thinker is not None and config.thinker.text.tie_word_embeddings:
        kept.pop("thinker.language_model.lm_head.weight", None)
    return config, values, kept


def memory(folder: Path | str, language_model: Path | str | None = None) -> int:
    """Bytes that the weights of a folder take when they are loaded."""
    folder = Path(folder)
    if is_packed(folder):
        return sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    if language_model is None:
        return weight_bytes(folder)
    kept = read(folder)[2]
    own = sum(value.numel() for key, value in kept.items() if not key.startswith("thinker.language_model."))
    return 4 * own + weight_bytes(Path(language_model))


def save(model: Omni, folder: Path | str) -> None:
    """Writes a folder that `load` reads, and `transformers` too where no part of it lies elsewhere: what is as it is in
    a part isn't written.

    Raises:
        ModelError: a transformer of it is packed.
    """
    if isinstance(model, Qwen3Omni):
        qwen3.save(model, folder)
        return
    for name in PLACES.values():
        part = dict(model.named_modules()).get(name)
        if isinstance(part, Llama) and part.config.packed:
            raise ModelError("a packed model isn't written: copy its folder, or save the one that it was packed from")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model.published, indent=2) + "\n", encoding="utf-8")
    prefix = _ALONE.get(model.published.get("model_type", ""), "")
    elsewhere = part_weights(model.published.get("parts", {}), model.config)
    weights = {
        published(key).removeprefix(prefix): value
        for key, value in model.state_dict().items()
        if key not in elsewhere or not torch.equal(value.detach().float().cpu(), elsewhere[key])
    }
    kept = {key: value.detach().contiguous().cpu() for key, value in weights.items()}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    if model.voices:
        torch.save({name: _told(voice) for name, voice in model.voices.items()}, folder / VOICES)


def save_language_model(model: Omni, folder: Path | str) -> None:
    """Writes the thinker's language model alone, as a folder of Qwen2, which can be packed, fine-tuned and put back
    (`load`). Places are those of text."""
    if model.thinker is None:
        raise ModelError("this model has no thinker, so no language model either")
    lm, folder = model.thinker.language_model, Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(described(lm.config), indent=2) + "\n", encoding="utf-8")
    kept = {published_key(key): value.detach().contiguous().cpu() for key, value in lm.state_dict().items()}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def _told(voice: Voice) -> dict[str, Any]:
    return {"bos_token": voice.token, "cond": voice.vector.cpu(), "ref_mel": voice.reference.cpu()}


def read_voices(path: Path) -> dict[str, Voice]:
    """The speakers of a spk_dict.pt, by name; none where there is no such file.

    Raises:
        HubError: it holds something else.
    """
    if not path.is_file():
        return {}
    try:
        told = torch.load(path, map_location="cpu", weights_only=True)
        return {
            name: Voice(_rows(each["cond"], 2), _rows(each["ref_mel"], 3), int(each["bos_token"]))
            for name, each in told.items()
        }
    except (OSError, RuntimeError, KeyError, TypeError, AttributeError, ValueError, pickle.UnpicklingError) as error:
        raise HubError(
            f"{path} holds no speakers ({error!r}): it should say cond, ref_mel and bos_token of each"
        ) from error


def _rows(value: Tensor, ndim: int) -> Tensor:
    value = value.float()
    if value.ndim == ndim - 1:
        value = value[None]
    if value.ndim != ndim:
        raise ModelError(f"a speaker's tensor has the shape {list(value.shape)}")
    return value
