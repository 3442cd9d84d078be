"""Turn a GGUF file of a Llama-family language model into a plain folder: config.json, model.safetensors,
tokenizer.json.

The folder is what `transformers` calls a model, so `LlamaForCausalLM.from_pretrained(folder)` and
`AutoTokenizer.from_pretrained(folder)` both read it, and so does :class:`antiphon.models.llm.thinker.Thinker`.

Weights are dequantized to float32: the block formats are sums of float16 products, so float32 holds them exactly and
what is generated later is what the file says, not what a second rounding made of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from antiphon.errors import HubError

# GGUF tensor name -> transformers key; `{}` is the layer's number.
_OUTSIDE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_IN_LAYER = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}
# How each pre-tokenizer that GGUF names splits text before the byte-level BPE.
_SPLITS_DIGITS = {"smollm": True, "gpt-2": False, "default": False}
_CONTROL = 3  # GGUF's token type of special tokens


def key_of(name: str) -> str:
    """The `transformers` key of a GGUF tensor: ``blk.3.attn_q.weight`` ->
    ``model.layers.3.self_attn.q_proj.weight``.
    """
    if name in _OUTSIDE:
        return _OUTSIDE[name]
    _, layer, rest = (name.split(".", 2) + ["", ""])[:3]
    if not name.startswith("blk.") or rest not in _IN_LAYER:
        raise HubError(
            f"the GGUF file has a tensor {name!r} that a Llama model doesn't have: is it another architecture?"
        )
    return f"model.layers.{layer}.{_IN_LAYER[rest]}"


def unpermute(weight: Tensor, heads: int) -> Tensor:
    """Undo GGUF's interleaving of rotary pairs in a query or key projection.

    GGUF keeps the pair (i, i + d/2) of each head side by side; `transformers` keeps the two halves apart.

    Args:
        weight: `[heads * d, width]`.
        heads: number of heads in this projection (key-value heads for the key).

    Returns:
        `[heads * d, width]`, rows in the order that `rotate_half` expects.
    """
    rows, width = weight.shape
    return weight.view(heads, rows // heads // 2, 2, width).transpose(1, 2).reshape(rows, width).contiguous()


def convert(path: Path, folder: Path) -> Path:
    """Convert one GGUF file.

    Args:
        path: the .gguf file (architecture ``llama``, tokenizer ``gpt2``).
        folder: made if missing; gets config.json, generation_config.json, model.safetensors, tokenizer.json,
            tokenizer_config.json (with the chat template) and special_tokens_map.json.

    Returns:
        `folder`.

    Raises:
        HubError: unreadable, or another architecture or tokenizer.
    """
    from gguf import GGUFReader
    from gguf.quants import dequantize

    try:
        reader = GGUFReader(path)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise HubError(f"{path} is not a readable GGUF file ({error}): fetch it again") from error
    fields = dict(reader.fields)

    def value(name: str, default: Any = None) -> Any:
        return fields[name].contents() if name in fields else default

    if value("general.architecture") != "llama" or value("tokenizer.ggml.model") != "gpt2":
        raise HubError(
            f"{path} holds a {value('general.architecture')!r} model, {value('tokenizer.ggml.model')!r} tokenizer; "
            "only 'llama' models with a 'gpt2' tokenizer can be converted"
        )
    tensors: dict[str, Tensor] = {}
    for tensor in reader.tensors:
        weight = torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))
        if tensor.name.endswith("attn_q.weight"):
            weight = unpermute(weight, value("llama.attention.head_count"))
        elif tensor.name.endswith("attn_k.weight"):
            weight = unpermute(weight, value("llama.attention.head_count_kv"))
        tensors[key_of(tensor.name)] = weight.contiguous()

    folder.mkdir(parents=True, exist_ok=True)
    config = _config(value, tied="lm_head.weight" not in tensors)
    _write(folder / "config.json", config)
    _write(
        folder / "generation_config.json",
        {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")},
    )
    _write_tokenizer(value, folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _config(value: Any, tied: bool) -> dict[str, Any]:
    heads, width = value("llama.attention.head_count"), value("llama.embedding_length")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "hidden_size": width,
        "intermediate_size": value("llama.feed_forward_length"),
        "num_hidden_layers": value("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": value("llama.attention.head_count_kv", heads),
        "head_dim": width // heads,
        "max_position_embeddings": value("llama.context_length"),
        "rms_norm_eps": float(f"{value('llama.attention.layer_norm_rms_epsilon'):.4g}"),
        "rope_theta": float(value("llama.rope.freq_base", 10000.0)),
        "vocab_size": len(value("tokenizer.ggml.tokens")),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": tied,
        "bos_token_id": value("tokenizer.ggml.bos_token_id"),
        "eos_token_id": value("tokenizer.ggml.eos_token_id"),
        "pad_token_id": value("tokenizer.ggml.padding_token_id"),
    }


def _write_tokenizer(value: Any, folder: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    split = value("tokenizer.ggml.pre", "default")
    if split not in _SPLITS_DIGITS:
        raise HubError(f"the GGUF file's pre-tokenizer is {split!r}; only {sorted(_SPLITS_DIGITS)} are known")
    tokens = value("tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ", 1)) for merge in value("tokenizer.ggml.merges")]
    special = [token for token, kind in zip(tokens, value("tokenizer.ggml.token_type")) if kind == _CONTROL]
    tokenizer = Tokenizer(models.BPE(vocab={token: n for n, token in enumerate(tokens)}, merges=merges))
    prefix = bool(value("tokenizer.ggml.add_space_prefix", False))
    pieces: list[Any] = [pre_tokenizers.ByteLevel(add_prefix_space=prefix)]
    if _SPLITS_DIGITS[split]:
        pieces.insert(0, pre_tokenizers.Digits(individual_digits=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(pieces)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.save(str(folder / "tokenizer.json"))

    names = {f"{name}_token": tokens[value(f"tokenizer.ggml.{key}_token_id")]
             for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
             if value(f"tokenizer.ggml.{key}_token_id") is not None}  # fmt: skip
    template = value("tokenizer.chat_template", "")
    _write(folder / "special_tokens_map.json", names | {"additional_special_tokens": special[1:3]})
    _write(
        folder / "tokenizer_config.json",
        names
        | {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "additional_special_tokens": special[1:3],
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": value("llama.context_length"),
            "chat_template": template,
        },
    )


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
