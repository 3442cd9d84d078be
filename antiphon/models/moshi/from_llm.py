"""A Moshi model that starts from a text model, the text stage done by others (Defossez et al. 2024, section 4.1).

sizes = language_model_sizes(folder, layers=8)           # of SmolLM2-135M, say: 576 wide, 9 heads on 3
model = Moshi(MoshiConfig(**sizes, context=750, text_card=1024))
take_language_model(model, folder)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from antiphon.errors import HubError
from antiphon.models.llm.llama import Llama, LlamaConfig
from antiphon.models.moshi.model import Moshi
from antiphon.nn.transformer import neighbours


def language_model_sizes(folder: Path | str, layers: int | None = None) -> dict[str, Any]:
    """The sizes in which a temporal transformer must agree with a Llama model, as fields of `MoshiConfig`.

    Args:
        folder: of the language model.
        layers: how many of its layers, the first ones; None for all.

    Raises:
        AntiphonError: no Llama model, or it has fewer layers.
    """
    config = LlamaConfig.from_file(Path(folder) / "config.json")
    if layers is not None and not 1 <= layers <= config.num_hidden_layers:
        raise HubError(f"{folder} has {config.num_hidden_layers} layers, not {layers}.")
    if config.qkv_bias or config.o_bias or config.qk_norm:
        raise HubError(f"{folder} has biases or norms in its attention, which the temporal transformer doesn't have.")
    if config.head_dim * config.num_attention_heads != config.hidden_size:
        raise HubError(f"{folder}: heads of {config.head_dim} that don't share its width of {config.hidden_size}.")
    return {
        "dim": config.hidden_size, "heads": config.num_attention_heads, "kv_heads": config.num_key_value_heads,
        "layers": layers or config.num_hidden_layers, "inner": config.intermediate_size, "eps": config.rms_norm_eps,
        "rope_base": config.rope_theta,
    }  # fmt: skip


@torch.no_grad()
def take_language_model(model: Moshi, folder: Path | str) -> None:
    """Copies the first layers of a Llama model into the temporal transformer.

    The last norm is copied where all layers are, and the vocabulary (embeddings and head) where it has the same size.

    Args:
        model: of the sizes that `language_model_sizes` gives; with as many kv_heads as heads, keys and values are
            repeated, which changes nothing.
        folder: with transformers' key names, as SmolLM2's.

    Raises:
        AntiphonError: no Llama model, or one of other sizes.
    """
    config = model.config
    sizes = language_model_sizes(folder, config.layers)
    for name, value in sizes.items():
        found = getattr(config, name)
        if found != value and not (name == "kv_heads" and found == config.heads):
            raise HubError(f"{folder}: its {name} is {value}, the model's {found}.")
    llama = Llama.from_pretrained(folder, torch.float32)
    for layer, source in zip(model.temporal.layers, llama.layers):
        q = neighbours(source.q_proj.weight, config.heads)
        k, v = neighbours(source.k_proj.weight, sizes["kv_heads"]), source.v_proj.weight
        if config.kv_heads != sizes["kv_heads"]:
            k, v = (_repeated(part, sizes["kv_heads"], config.kv_heads) for part in (k, v))
        layer.project.weight.copy_(torch.cat([q, k, v]))
        layer.out.weight.copy_(source.o_proj.weight)
        layer.gate_up.weight.copy_(torch.cat([source.gate_proj.weight, source.up_proj.weight]))
        layer.down.weight.copy_(source.down_proj.weight)
        layer.norm_attention.weight.copy_(source.input_layernorm)
        layer.norm_mlp.weight.copy_(source.post_attention_layernorm)
    if config.layers == len(llama.layers):
        model.temporal.norm.weight.copy_(llama.norm)
    vocabulary = llama.embed_tokens.weight
    if config.text_card == len(vocabulary):
        model.text_embedding.weight[: config.text_card] = vocabulary
        model.text_head.weight.copy_(vocabulary if llama.lm_head is None else llama.lm_head.weight)


def _repeated(weight: torch.Tensor, few: int, many: int) -> torch.Tensor:
    """Rows of `few` heads, each `many / few` times in a row."""
    return weight.unflatten(0, (few, -1)).repeat_interleave(many // few, dim=0).flatten(0, 1)
