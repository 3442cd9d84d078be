"""CTranslate2's Whisper: what is written in its format is read back with the same results."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from antiphon.errors import HubError
from antiphon.hub.convert_ctranslate2 import convert_whisper, read_tensors


def pack(tensors: dict[str, np.ndarray], aliases: dict[str, str], version: int = 6, spec: str = "WhisperSpec") -> bytes:
    """CTranslate2's binary format, as its documentation says."""

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    kinds = {np.dtype(np.float32): 0, np.dtype(np.int8): 1, np.dtype(np.int16): 2, np.dtype(np.float16): 4}
    out = struct.pack("<I", version) + text(spec) + struct.pack("<II", 3, len(tensors))
    for name, value in tensors.items():
        shape = struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
        out += text(name) + shape + struct.pack("<BI", kinds[value.dtype], value.nbytes) + value.tobytes()
    return out + struct.pack("<I", len(aliases)) + b"".join(text(a) + text(b) for a, b in aliases.items())


def published(state: dict[str, torch.Tensor], heads: int) -> dict[str, np.ndarray]:
    """A transformers Whisper under CTranslate2's names, projections stacked."""
    out: dict[str, np.ndarray] = {}

    def numpy(name: str) -> np.ndarray:
        return state[name].float().numpy()

    def linear(target: str, *names: str) -> None:
        out[f"{target}/weight"] = np.concatenate([numpy(f"{name}.weight") for name in names])
        width = len(numpy(f"{names[0]}.weight"))
        out[f"{target}/bias"] = np.concatenate(
            [numpy(f"{name}.bias") if f"{name}.bias" in state else np.zeros(width, np.float32) for name in names]
        )

    def norm(target: str, name: str) -> None:
        out[f"{target}/gamma"], out[f"{target}/beta"] = numpy(f"{name}.weight"), numpy(f"{name}.bias")

    for side in ("encoder", "decoder"):
        for layer in range(2):
            mine, theirs = f"model.{side}.layers.{layer}", f"{side}/layer_{layer}"
            linear(f"{theirs}/self_attention/linear_0", *(f"{mine}.self_attn.{p}_proj" for p in "qkv"))
            linear(f"{theirs}/self_attention/linear_1", f"{mine}.self_attn.out_proj")
            norm(f"{theirs}/self_attention/layer_norm", f"{mine}.self_attn_layer_norm")
            if side == "decoder":
                linear(f"{theirs}/attention/linear_0", f"{mine}.encoder_attn.q_proj")
                linear(f"{theirs}/attention/linear_1", *(f"{mine}.encoder_attn.{p}_proj" for p in "kv"))
                linear(f"{theirs}/attention/linear_2", f"{mine}.encoder_attn.out_proj")
                norm(f"{theirs}/attention/layer_norm", f"{mine}.encoder_attn_layer_norm")
            linear(f"{theirs}/ffn/linear_0", f"{mine}.fc1")
            linear(f"{theirs}/ffn/linear_1", f"{mine}.fc2")
            norm(f"{theirs}/ffn/layer_norm", f"{mine}.final_layer_norm")
        norm(f"{side}/layer_norm", f"model.{side}.layer_norm")
        out[f"{side}/position_encodings/encodings"] = numpy(f"model.{side}.embed_positions.weight")
        out[f"{side}/num_heads"] = np.array(heads, np.int16)
    for conv in ("conv1", "conv2"):
        for part in ("weight", "bias"):
            out[f"encoder/{conv}/{part}"] = numpy(f"model.encoder.{conv}.{part}")
    out["decoder/embeddings/weight"] = numpy("model.decoder.embed_tokens.weight")
    return out


def test_what_transformers_made_comes_back(tmp_path: Path) -> None:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=51865, num_mel_bins=8, d_model=8, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=12, decoder_ffn_dim=12, max_source_positions=10,
        max_target_positions=9,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3)
    data = pack(published(model.state_dict(), 2), {"decoder/projection/weight": "decoder/embeddings/weight"})
    (tmp_path / "model.bin").write_bytes(data)
    (tmp_path / "config.json").write_text(json.dumps({"suppress_ids": [1, 2], "suppress_ids_begin": [220]}))
    (tmp_path / "tokenizer.json").write_text("{}")
    convert_whisper(tmp_path / "model.bin", tmp_path, tmp_path / "out")
    again = WhisperForConditionalGeneration.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    mel, tokens = torch.randn(1, 8, 20), torch.tensor([[50258, 5, 7]])
    with torch.no_grad():
        expected = model(mel, decoder_input_ids=tokens).logits
        assert torch.allclose(again(mel, decoder_input_ids=tokens).logits, expected, atol=1e-4)
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["suppress_tokens"] == [1, 2]


def test_broken_files_are_named() -> None:
    data = pack({"a": np.ones((2, 3), np.float32)}, {"b": "a"})
    assert read_tensors(data)["b"].shape == (2, 3)
    with pytest.raises(HubError, match="half a download"):
        read_tensors(data[: len(data) // 2])
    with pytest.raises(HubError, match="binary version 5"):
        read_tensors(pack({}, {}, version=5))
    with pytest.raises(HubError, match="TransformerSpec"):
        read_tensors(pack({}, {}, spec="TransformerSpec"))
