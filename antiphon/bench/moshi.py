"""How fast a step of Moshi is: time over that of named peers, same sizes and weights (random ones), see `compare`.

A step is what a frame needs between the codec's encoder and decoder: the temporal transformer, the text and all codes,
likeliest ones taken. The weights are such as float16 can express, as those of saved models are; ours are packed
(`Moshi.pack`), which changes no result, and once more they are not ("unpacked").

Against `transformers`, its two decoders are called in a loop with caches, the way its `generate` does inside, without
what `generate` adds.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from antiphon.bench.compare import (
    Progress,
    Times,
    add_ratios,
    add_worst,
    check_known,
    in_turns,
    missing,
    on_threads,
    start_report,
)
from antiphon.evals.machine import in_fresh_process
from antiphon.evals.report import Report
from antiphon.models.moshi.config import DepthConfig, MoshiConfig
from antiphon.models.moshi.model import Moshi
from antiphon.models.moshi.weights import for_kyutai, for_transformers, to_kyutai

Step = Callable[[int], Any]
GROUPS = ("step", "batch")
PEERS = {"moshi": "<= 1.0", "transformers": "<= 0.5"}
BATCH = 8

SIZES: dict[str, MoshiConfig] = {
    "mini": MoshiConfig(),
    "middle": MoshiConfig(
        dim=1024, heads=16, layers=8, inner=2816, text_card=8000, card=2048, context=750,
        depth=DepthConfig(dim=512, heads=8, layers=4, inner=1408),
    ),
    "tiny": MoshiConfig(
        dim=32, heads=2, layers=1, inner=48, text_card=40, card=24, context=20, codebooks=2, user_codebooks=2,
        depth=DepthConfig(dim=16, heads=2, layers=1, inner=24, codebooks=2),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class MoshiBenchConfig:
    """What to measure.

    Attributes:
        sizes: names of `SIZES`; "tiny" is there to try the bench itself.
        only: groups, see `GROUPS`.
        threads: numbers of threads; where there are several, a figure is the worst of them.
        frames: of 80 ms that are timed, after `warmup` that aren't.
        warmup: frames.
    """

    sizes: tuple[str, ...] = ("mini", "middle")
    only: tuple[str, ...] = GROUPS
    threads: tuple[int, ...] = (1, 2)
    frames: int = 100
    warmup: int = 10

    def __post_init__(self) -> None:
        check_known(self.sizes, SIZES, "size")
        check_known(self.only, GROUPS, "group")


def bench_moshi(config: MoshiBenchConfig, progress: Progress = lambda line: None) -> Report:
    """Runs the bench.

    Raises:
        EvalError: a process failed.
    """
    report = start_report(PEERS, config.threads, progress)
    found: dict[str, dict[str, Times]] = {group: {} for group in GROUPS}
    for group in config.only:
        for size in config.sizes:
            for threads in config.threads:
                progress(f"{group}, {size}, {on_threads(threads)}")
                fields = {"group": group, "size": size, "threads": threads}
                fields |= {"frames": config.frames, "warmup": config.warmup}
                found[group][f"{size} {on_threads(threads)}"] = in_fresh_process(
                    work, fields, f"{group} of {size}", threads
                )
    for peer, bar in PEERS.items():
        add_ratios(report, f"moshi-step-vs-{peer}", found["step"], "ours", peer, bar, digits=2)
        add_ratios(report, f"moshi-step-unpacked-vs-{peer}", found["step"], "unpacked", peer, None, digits=2)
    speedups = {}
    for label, times in found["batch"].items():
        one, many = statistics.median(times["one"]), statistics.median(times["many"])
        speedups[label] = (BATCH * one / many, f"{BATCH / many:.0f} / {1 / one:.0f} frames/s", len(times["one"]))
    add_worst(report, f"batch-{BATCH}-speedup", speedups, "frames/s over one at a time", ">= 3", min)
    return report


def work(fields: dict[str, Any]) -> Times:
    """One job, in a process of its own: models of the same random weights, and seconds of their steps."""
    torch.set_num_threads(fields["threads"])
    torch.manual_seed(0)
    model = Moshi(SIZES[fields["size"]]).half().float().eval()  # weights as they are saved
    model.pack()
    frames = fields["frames"] + fields["warmup"]
    user = torch.randint(model.config.card, (frames, BATCH, model.config.user_codebooks))
    sides = {"step": _step, "batch": _batch}[fields["group"]](model, user)
    return in_turns(sides, fields["frames"], fields["warmup"])


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
    if not missing(["moshi"]):
        sides["moshi"] = _moshi(model, user)
    if not missing(["transformers"]):
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
