"""Read CTranslate2's Whisper: `model.bin` -> a state dict and config with `transformers`' keys.

The format (CTranslate2 `model_spec.py`, binary version 6): version uint32; spec name (uint16 length, NUL included);
revision uint32; tensor count uint32; per tensor name, rank uint8, dims uint32 each, type uint8, byte count uint32,
bytes; then aliases. Stacked projections are split here: self-attention's `linear_0` is q, k, v; cross-attention's
`linear_1` is k, v. Whisper's k has no bias, so its slot is dropped.
"""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from antiphon.errors import HubError

_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


class _Reader:
    """A cursor over bytes that names the offset when they run out."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = memoryview(data), 0

    def take(self, size: int) -> memoryview:
        piece = self.data[self.at : self.at + size]
        if len(piece) < size:
            raise HubError(
                f"model.bin ends at byte {len(self.data)} where {size} more were expected (byte {self.at}): "
                "half a download; delete it and fetch it again"
            )
        self.at += size
        return piece

    def number(self, code: str) -> int:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def text(self) -> str:
        return bytes(self.take(self.number("H"))).rstrip(b"\0").decode()


def read_tensors(data: bytes) -> dict[str, np.ndarray]:
    """Parse a whole `model.bin`.

    Args:
        data: the file's bytes.

    Returns:
        Every tensor under its CTranslate2 name (views of `data`); aliases are resolved.

    Raises:
        HubError: another binary version, an unknown type, or truncated data.
    """
    reader = _Reader(data)
    version = reader.number("I")
    if version != 6:
        raise HubError(
            f"model.bin has binary version {version}, this reader knows 6: use another conversion of the model"
        )
    spec = reader.text()
    if spec != "WhisperSpec":
        raise HubError(f"model.bin holds a {spec}, expected a WhisperSpec: this is not a Whisper model")
    reader.number("I")  # the spec's revision
    tensors: dict[str, np.ndarray] = {}
    for _ in range(reader.number("I")):
        name = reader.text()
        shape = [reader.number("I") for _ in range(reader.number("B"))]
        kind = reader.number("B")
        if kind not in _TYPES:
            raise HubError(f"tensor {name} in model.bin has unknown type {kind}")
        tensors[name] = np.frombuffer(reader.take(reader.number("I")), _TYPES[kind]).reshape(shape)
    for _ in range(reader.number("I")):
        alias, name = reader.text(), reader.text()
        tensors[alias] = tensors[name]
    return tensors


def _layer(tensors: dict[str, np.ndarray], source: str, target: str, cross: bool) -> dict[str, np.ndarray]:
    """One encoder or decoder layer under `transformers`' names."""
    out: dict[str, np.ndarray] = {}

    def put(name: str, weight: np.ndarray, bias: np.ndarray | None) -> None:
        out[f"{target}.{name}.weight"] = weight
        if bias is not None:
            out[f"{target}.{name}.bias"] = bias

    def linear(name: str) -> tuple[np.ndarray, np.ndarray]:
        return tensors[f"{source}/{name}/weight"], tensors[f"{source}/{name}/bias"]

    def norm(name: str) -> tuple[np.ndarray, np.ndarray]:
        return tensors[f"{source}/{name}/gamma"], tensors[f"{source}/{name}/beta"]

    weight, bias = linear("self_attention/linear_0")
    for name, w, b in zip("qkv", np.split(weight, 3), np.split(bias, 3)):
        put(f"self_attn.{name}_proj", w, None if name == "k" else b)
    put("self_attn.out_proj", *linear("self_attention/linear_1"))
    put("self_attn_layer_norm", *norm("self_attention/layer_norm"))
    if cross:
        put("encoder_attn.q_proj", *linear("attention/linear_0"))
        weight, bias = linear("attention/linear_1")
        for name, w, b in zip("kv", np.split(weight, 2), np.split(bias, 2)):
            put(f"encoder_attn.{name}_proj", w, None if name == "k" else b)
        put("encoder_attn.out_proj", *linear("attention/linear_2"))
        put("encoder_attn_layer_norm", *norm("attention/layer_norm"))
    put("fc1", *linear("ffn/linear_0"))
    put("fc2", *linear("ffn/linear_1"))
    put("final_layer_norm", *norm("ffn/layer_norm"))
    return out


def whisper_state_dict(tensors: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Rename and split CTranslate2's tensors for `transformers.WhisperForConditionalGeneration`.

    Args:
        tensors: what `read_tensors` gave.

    Returns:
        float16 or float32 tensors as stored; `proj_out` is tied to the embeddings and left out.

    Raises:
        HubError: a tensor that every Whisper has is missing.
    """
    out: dict[str, np.ndarray] = {}
    try:
        for side in ("encoder", "decoder"):
            for layer in range(count_layers(tensors, side)):
                out |= _layer(tensors, f"{side}/layer_{layer}", f"model.{side}.layers.{layer}", cross=side == "decoder")
            out[f"model.{side}.embed_positions.weight"] = tensors[f"{side}/position_encodings/encodings"]
            out[f"model.{side}.layer_norm.weight"] = tensors[f"{side}/layer_norm/gamma"]
            out[f"model.{side}.layer_norm.bias"] = tensors[f"{side}/layer_norm/beta"]
        for conv in ("conv1", "conv2"):
            for part in ("weight", "bias"):
                out[f"model.encoder.{conv}.{part}"] = tensors[f"encoder/{conv}/{part}"]
        out["model.decoder.embed_tokens.weight"] = tensors["decoder/embeddings/weight"]
    except KeyError as missing:
        raise HubError(f"model.bin has no tensor {missing}: this is not a whole Whisper model") from None
    return {name: torch.from_numpy(np.array(value)) for name, value in out.items()}


def count_layers(tensors: dict[str, np.ndarray], side: str) -> int:
    """How many layers the `encoder` or `decoder` has."""
    return len(
        {
            name.split("/")[1]
            for name in tensors
            if name.startswith(f"{side}/layer_") and "norm" not in name.split("/")[1]
        }
    )


def whisper_config(tensors: dict[str, np.ndarray]) -> dict[str, object]:
    """The `config.json` that `transformers` needs for these tensors.

    Args:
        tensors: what `read_tensors` gave.

    Returns:
        Fields of `transformers.WhisperConfig`, ready for json.
    """
    vocabulary, width = tensors["decoder/embeddings/weight"].shape
    multilingual = vocabulary >= 51865
    end = 50257 if multilingual else 50256
    config: dict[str, object] = {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "vocab_size": vocabulary,
        "d_model": width,
        "num_mel_bins": tensors["encoder/conv1/weight"].shape[1],
        "max_source_positions": tensors["encoder/position_encodings/encodings"].shape[0],
        "max_target_positions": tensors["decoder/position_encodings/encodings"].shape[0],
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": end + 1,
        "activation_function": "gelu",
        "scale_embedding": False,
        "tie_word_embeddings": True,
    }
    for side in ("encoder", "decoder"):
        config[f"{side}_layers"] = count_layers(tensors, side)
        config[f"{side}_attention_heads"] = int(tensors[f"{side}/num_heads"])
        config[f"{side}_ffn_dim"] = tensors[f"{side}/layer_0/ffn/linear_0/bias"].shape[0]
    return config


def whisper_generation_config(config: dict[str, object], published: dict[str, list[int]]) -> dict[str, object]:
    """The `generation_config.json` that goes with a `config.json` made here.

    Args:
        config: what `whisper_config` gave.
        published: CTranslate2's own `config.json` (its `suppress_ids`, `suppress_ids_begin` and `alignment_heads` are
            kept).

    Returns:
        Fields of `transformers.GenerationConfig`, ready for json.
    """
    kept = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
    rules = {
        "max_length": config["max_target_positions"],
        "suppress_tokens": published.get("suppress_ids", []),
        "begin_suppress_tokens": published.get("suppress_ids_begin", []),
    }
    if "alignment_heads" in published:
        rules["alignment_heads"] = published["alignment_heads"]
    return {name: config[name] for name in kept} | rules


def convert_whisper(model_bin: Path, published: Path, target: Path) -> None:
    """Write a folder that `transformers.WhisperForConditionalGeneration.from_pretrained` loads.

    Args:
        model_bin: the (concatenated) `model.bin`.
        published: the folder of CTranslate2's `config.json` and of `tokenizer.json`.
        target: where `config.json`, `generation_config.json`, `model.safetensors` and `tokenizer.json` go.

    Raises:
        HubError: the file is truncated or is something else.
    """
    tensors = read_tensors(Path(model_bin).read_bytes())
    config = whisper_config(tensors)
    generation = whisper_generation_config(config, json.loads((published / "config.json").read_text()))
    target.mkdir(parents=True, exist_ok=True)
    (target / "config.json").write_text(json.dumps(config, indent=2))
    (target / "generation_config.json").write_text(json.dumps(generation))
    shutil.copyfile(published / "tokenizer.json", target / "tokenizer.json")
    save_file(whisper_state_dict(tensors), target / "model.safetensors", metadata={"format": "pt"})
