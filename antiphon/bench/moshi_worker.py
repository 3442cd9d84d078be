"""What the processes of `antiphon.bench.moshi` do: make models of the same random weights, and time steps."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable

import torch
from torch import Tensor

from antiphon.bench.codec import in_turns
from antiphon.bench.moshi import BATCH, SIZES
from antiphon.models.moshi.model import Moshi
from antiphon.models.moshi.weights import for_kyutai, for_transformers, to_kyutai

Step = Callable[[int], None]


def main(fields: str) -> None:
    """Runs one job, given as JSON; prints seconds by side as JSON, on the last line."""
    given = json.loads(fields)
    torch.set_num_threads(given["threads"])
    torch.manual_seed(0)
    model = Moshi(SIZES[given["size"]]).half().float().eval()  # weights as they are saved
    model.pack()
    frames = given["frames"] + given["warmup"]
    user = torch.randint(model.config.card, (frames, BATCH, model.config.user_codebooks))
    sides = {"step": _step, "batch": _batch}[given["group"]](model, user)
    print(json.dumps(in_turns(sides, given["frames"], given["warmup"])))


def _ours(model: Moshi, user: Tensor) -> Step:
    state = model.init_state(user.shape[1])
    return lambda i: model.step(user[i], state)


def _unpacked(model: Moshi, user: Tensor) -> Step:
    state, packed = model.init_state(user.shape[1]), model.packed

    def step(i: int) -> None:
        model.packed = None
        model.step(user[i], state)
        model.packed = packed

    return step


def _step(model: Moshi, user: Tensor) -> dict[str, Step]:
    """One conversation, ours and the peers'."""
    user = user[:, :1]
    sides: dict[str, Step] = {"ours": _ours(model, user), "unpacked": _unpacked(model, user)}
    if importlib.util.find_spec("moshi"):
        sides["moshi"] = _moshi(model, user)
    if importlib.util.find_spec("transformers"):
        sides["transformers"] = _transformers(model, user)
    return sides


def _batch(model: Moshi, user: Tensor) -> dict[str, Step]:
    """Many conversations in one batch, and one alone."""
    return {"one": _ours(model, user[:, :1]), "many": _ours(model, user)}


def _moshi(model: Moshi, user: Tensor) -> Step:
    from moshi.models.lm import LMGen
    from moshi.models.loaders import get_moshi_lm

    theirs = get_moshi_lm(None, to_kyutai(model.config), dtype=torch.float32)
    theirs.load_state_dict(for_kyutai(model.state_dict(), model.config))
    generator = LMGen(theirs.eval(), use_sampling=False)
    generator.streaming_forever(1)
    return lambda i: generator.step(user[i, :, :, None])


def _transformers(model: Moshi, user: Tensor) -> Step:
    from transformers import DynamicCache

    theirs, config = transformers_model(model), model.config
    state = {"cache": DynamicCache(config=theirs.config), "tokens": torch.tensor([config.initial])}

    @torch.no_grad()
    def step(i: int) -> None:
        tokens = state["tokens"]
        own, heard = tokens[:, 1 : 1 + config.codebooks, None], tokens[:, 1 + config.codebooks :, None]
        out = theirs(input_ids=tokens[:, :1], moshi_audio_codes=own, user_audio_codes=heard,
                     past_key_values=state["cache"], use_cache=True)  # fmt: skip
        made = [out.logits[:, -1:].argmax(-1)]
        cache = DynamicCache(config=theirs.depth_decoder.config)
        for _ in range(config.codebooks):
            codes = theirs.depth_decoder(input_ids=made[-1], last_hidden_state=out.last_hidden_state,
                                         past_key_values=cache, use_cache=True)  # fmt: skip
            made.append(codes.logits[:, -1:].argmax(-1))
        state["tokens"] = torch.cat([*made, user[i]], dim=1)

    return step


def transformers_model(model: Moshi):
    """`transformers`' Moshi of the same sizes and weights, with a codec of no size."""
    import transformers

    config, depth = model.config, model.config.depth
    codec = transformers.MimiConfig(
        num_filters=4, hidden_size=64, upsample_groups=64, intermediate_size=64, num_hidden_layers=1,
        vector_quantization_hidden_dimension=16, codebook_dim=16, codebook_size=32, num_quantizers=config.codebooks,
        num_attention_heads=4, num_key_value_heads=4, head_dim=16,
    )  # fmt: skip
    below = {
        "hidden_size": depth.dim, "num_hidden_layers": depth.layers, "num_attention_heads": depth.heads,
        "ffn_dim": 2 * depth.inner, "num_codebooks": config.codebooks,
    }  # fmt: skip
    sizes = transformers.MoshiConfig(
        vocab_size=config.text_card, hidden_size=config.dim, num_hidden_layers=config.layers,
        num_attention_heads=config.heads, num_key_value_heads=config.kv_heads, ffn_dim=2 * config.inner,
        num_codebooks=config.codebooks, audio_vocab_size=config.card, sliding_window=config.context,
        max_position_embeddings=config.context, rms_norm_eps=config.eps,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_base}, depth_decoder_config=below,
        audio_encoder_config=codec.to_dict(),
    )  # fmt: skip
    theirs = transformers.MoshiForConditionalGeneration(sizes)
    missing, unknown = theirs.load_state_dict(for_transformers(model.state_dict(), config), strict=False)
    if unknown or any(not key.startswith("audio_encoder.") for key in missing):
        raise ValueError(f"transformers' Moshi has other weights: {missing[:3]}, {unknown[:3]}")
    return theirs.eval()
