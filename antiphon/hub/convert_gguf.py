"""Turn a GGUF file of a Llama or Qwen language model into a folder: config.json, safetensors, tokenizer.json.

Packed (`antiphon.hub.pack`), the folder holds weights in 8 bits that `antiphon.models.llm` reads; no more of the model
than a piece of one tensor is in float32 at a time. Or else it is what `transformers` calls a model, in float32: the
block formats are sums of float16 products, so float32 holds them exactly and what is generated later is what the file
says.
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
from antiphon.hub.pack import pack

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
    "attn_q.bias": "self_attn.q_proj.bias",
    "attn_k.bias": "self_attn.k_proj.bias",
    "attn_v.bias": "self_attn.v_proj.bias",
    "attn_q_norm.weight": "self_attn.q_norm.weight",
    "attn_k_norm.weight": "self_attn.k_norm.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}
ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
ROPE_FACTORS = "rope_freqs.weight"  # by which Llama 3's frequencies are divided
# How each pre-tokenizer that GGUF names splits text before the byte-level BPE: a pattern of words, or whether digits
# stand alone.
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SPLITS: dict[str, str | bool] = {
    "smollm": True, "gpt-2": False, "default": False, "qwen2": WORDS % r"\p{N}", "llama-bpe": WORDS % r"\p{N}{1,3}",
}  # fmt: skip
_CONTROL, _USER_DEFINED = 3, 4  # GGUF's types of tokens that aren't made by merging


def key_of(name: str) -> str:
    """The `transformers` key of a GGUF tensor: ``blk.3.attn_q.weight`` ->
    ``model.layers.3.self_attn.q_proj.weight``.
    """
    if name in _OUTSIDE:
        return _OUTSIDE[name]
    _, layer, rest = (name.split(".", 2) + ["", ""])[:3]
    if not name.startswith("blk.") or rest not in _IN_LAYER:
        raise HubError(
            f"the GGUF file has a tensor {name!r} that Llama and Qwen models don't have: is it another architecture?"
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


class GgufSource:
    """The tensors of a GGUF file, by the names of `transformers`; see `antiphon.hub.pack.Source`.

    Args:
        path: of the file.

    Attributes:
        architecture: as the file calls it.

    Raises:
        HubError: it can't be read, is cut short, or holds another architecture or unknown kinds of tensors.
    """

    def __init__(self, path: Path):
        from gguf import GGUFReader

        try:
            reader = GGUFReader(path)
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise HubError(f"{path} is not a readable GGUF file, or cut short ({error}): fetch it again") from error
        self._fields = dict(reader.fields)
        self.architecture = self.value("general.architecture")
        if self.architecture not in ARCHITECTURES or self.value("tokenizer.ggml.model") != "gpt2":
            raise HubError(
                f"{path} holds a {self.architecture!r} model, {self.value('tokenizer.ggml.model')!r} tokenizer; "
                f"only {', '.join(ARCHITECTURES)} models with a 'gpt2' tokenizer can be converted"
            )
        self._tensors = {key_of(tensor.name): tensor for tensor in reader.tensors if tensor.name != ROPE_FACTORS}
        self.shapes = {key: tuple(map(int, reversed(tensor.shape))) for key, tensor in self._tensors.items()}
        factors = next((tensor for tensor in reader.tensors if tensor.name == ROPE_FACTORS), None)
        self.rope_factors = None if factors is None else factors.data.astype(float).tolist()
        for key, tensor in self._tensors.items():
            self._floats(key, tensor.data[:1], tensor)  # says at once what can't be read

    def value(self, name: str, default: Any = None) -> Any:
        """A field of the file."""
        return self._fields[name].contents() if name in self._fields else default

    def sized(self, name: str, default: Any = None) -> Any:
        """A field that is named after the architecture."""
        return self.value(f"{self.architecture}.{name}", default)

    def rows(self, name: str, first: int, last: int) -> Tensor:
        """See `Source`."""
        tensor, heads = self._tensors[name], self._heads(name)
        if heads is None:
            return self._floats(name, tensor.data[first:last], tensor)
        return unpermute(self._floats(name, tensor.data, tensor), heads)[first:last]

    def _heads(self, name: str) -> int | None:
        """The heads whose rotary pairs the file interleaves; None where it doesn't."""
        if self.architecture != "llama" or not name.endswith(("q_proj.weight", "k_proj.weight")):
            return None
        heads = self.sized("attention.head_count")
        return self.sized("attention.head_count_kv", heads) if name.endswith("k_proj.weight") else heads

    @staticmethod
    def _floats(name: str, data: np.ndarray, tensor: Any) -> Tensor:
        from gguf.quants import dequantize

        try:
            return torch.from_numpy(np.array(dequantize(data, tensor.tensor_type), dtype=np.float32))
        except (NotImplementedError, ValueError, KeyError) as error:
            raise HubError(
                f"the GGUF file keeps {name} as {tensor.tensor_type.name}, which can't be read: take a file in "
                "Q4_K_M, Q5_K_M, Q6_K, Q8_0 or F16"
            ) from error


def convert(path: Path, folder: Path, packed: bool = True) -> Path:
    """Convert one GGUF file.

    Args:
        path: the .gguf file (architectures ``llama``, ``qwen2``, ``qwen3``; tokenizer ``gpt2``).
        folder: made if missing; gets config.json, generation_config.json, safetensors, tokenizer.json,
            tokenizer_config.json (with the chat template) and special_tokens_map.json.
        packed: in 8 bits; else float32.

    Returns:
        `folder`.

    Raises:
        HubError: unreadable, cut short, or another architecture, tokenizer or kind of tensors.
    """
    source = GgufSource(path)
    config = config_of(source)
    folder.mkdir(parents=True, exist_ok=True)
    if packed:
        pack(source, config, folder)
    else:
        if source.rope_factors is not None:
            raise HubError(f"{path} has factors for its rotary positions: it can be converted packed, not plain")
        tensors = {name: source.rows(name, 0, shape[0]).contiguous() for name, shape in source.shapes.items()}
        _write(folder / "config.json", config)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    _write(
        folder / "generation_config.json",
        {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")},
    )
    _write_tokenizer(source, folder)
    return folder


def config_of(source: GgufSource) -> dict[str, Any]:
    """The model's config.json, as `transformers` has it."""
    value, sized = source.value, source.sized
    heads, width = sized("attention.head_count"), sized("embedding_length")
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": float(sized("rope.freq_base", 10000.0))}
    if (kind := sized("rope.scaling.type", "none")) != "none":
        rope |= {"rope_type": kind, "factor": float(sized("rope.scaling.factor", 1.0))}
        if original := sized("rope.scaling.original_context_length"):
            rope["original_max_position_embeddings"] = original
    if source.rope_factors is not None:
        rope["factors"] = source.rope_factors
    return {
        "architectures": [ARCHITECTURES[source.architecture]],
        "model_type": source.architecture,
        "dtype": "float32",
        "hidden_size": width,
        "intermediate_size": sized("feed_forward_length"),
        "num_hidden_layers": sized("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": sized("attention.head_count_kv", heads),
        "head_dim": sized("attention.key_length", width // heads),
        "max_position_embeddings": sized("context_length"),
        "rms_norm_eps": float(f"{sized('attention.layer_norm_rms_epsilon'):.4g}"),
        "rope_theta": rope["rope_theta"],
        "rope_parameters": rope,
        "vocab_size": source.shapes["model.embed_tokens.weight"][0],
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": "lm_head.weight" not in source.shapes,
        "bos_token_id": value("tokenizer.ggml.bos_token_id"),
        "eos_token_id": value("tokenizer.ggml.eos_token_id"),
        "pad_token_id": value("tokenizer.ggml.padding_token_id"),
    }


def _write_tokenizer(source: GgufSource, folder: Path) -> None:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    value = source.value
    split = value("tokenizer.ggml.pre", "default")
    if split not in _SPLITS:
        raise HubError(f"the GGUF file's pre-tokenizer is {split!r}; only {sorted(_SPLITS)} are known")
    tokens, kinds = value("tokenizer.ggml.tokens"), value("tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ", 1)) for merge in value("tokenizer.ggml.merges")]
    special = [token for token, kind in zip(tokens, kinds) if kind == _CONTROL]
    tokenizer = Tokenizer(models.BPE(vocab={token: n for n, token in enumerate(tokens)}, merges=merges))
    words, prefix = _SPLITS[split], bool(value("tokenizer.ggml.add_space_prefix", False))
    if isinstance(words, str):
        tokenizer.normalizer = normalizers.NFC()
        pieces: list[Any] = [
            pre_tokenizers.Split(Regex(words), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=False),
        ]
    else:
        pieces = [pre_tokenizers.ByteLevel(add_prefix_space=prefix)]
        if words:
            pieces.insert(0, pre_tokenizers.Digits(individual_digits=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(pieces)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    own = [token for token, kind in zip(tokens, kinds) if kind == _USER_DEFINED]
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in own])
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
            "model_max_length": source.sized("context_length"),
            "chat_template": template,
        },
    )


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
