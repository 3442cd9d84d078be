"""How soon Qwen2.5-Omni speaks, and how long a reply takes and how much memory, beside `transformers`, same weights.

The weights are random ones, of fewer and narrower layers than the published ones (the DiT has all of its layers), with
a tenth of the vocabulary, whose tables would be most of what there is to hold. The reply has so many tokens and so many
codes, whatever they are. "Serial" is the same model where the sound is made when the reply is done, as in the published
code.

What is packed is a language model of the 3B one's sizes, in 4 bits, and a talker's transformer of Qwen2.5-0.5B's, in 8;
their random weights are made and packed a piece at a time.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from antiphon.bench.compare import Progress, check_known, missing, on_threads, start_report
from antiphon.evals.machine import in_fresh_process, memory_bytes
from antiphon.evals.report import Figure, Report
from antiphon.hub.pack import pack
from antiphon.models.llm.llama import Llama, LlamaConfig
from antiphon.models.llm.sampling import TokenSampling
from antiphon.models.omni import weights
from antiphon.models.omni.config import OmniConfig
from antiphon.models.omni.model import Omni, ReplySettings, Spoken
from antiphon.models.omni.packing import BITS, described
from antiphon.models.omni.thinker import Given, Heard, Seen, Words
from antiphon.models.omni.token2wav import Voice

PEER = "transformers"
GROUPS = ("first", "reply", "memory", "packed")
ROPE = {"rope_type": "default", "rope_theta": 1000000.0, "mrope_section": [8, 12, 12]}

VOCABULARY = 16384
TOKENS = {
    name: VOCABULARY - 1 - number
    for number, name in enumerate(
        ("audio_token_index", "image_token_index", "video_token_index", "audio_start_token_id", "audio_end_token_id",
         "vision_start_token_id", "vision_end_token_id")
    )
}  # fmt: skip


def sizes(width: int, layers: int, wave: int) -> dict[str, Any]:
    """What config.json says of a model whose thinker is `width` wide and `layers` deep, and whose DiT is `wave` wide;
    all that the published one's sizes have in common stays as it is."""
    heads = {"num_attention_heads": width // 64, "num_key_value_heads": max(1, width // 256), "rope_parameters": ROPE}
    return {
        "model_type": "qwen2_5_omni",
        "thinker_config": {
            "audio_config": {
                "d_model": width // 2, "encoder_layers": layers, "encoder_attention_heads": max(1, width // 128),
                "encoder_ffn_dim": 2 * width, "output_dim": width,
            },
            "vision_config": {
                "depth": layers, "hidden_size": width // 2, "intermediate_size": width,
                "num_heads": max(1, width // 128), "out_hidden_size": width, "fullatt_block_indexes": [layers - 1],
            },
            "text_config": {
                "vocab_size": VOCABULARY, "hidden_size": width, "intermediate_size": 4 * width,
                "num_hidden_layers": layers, "head_dim": 64, **heads,
            },
            **TOKENS,
        },
        "talker_config": {
            **TOKENS, "vocab_size": 8448, "embedding_size": width, "hidden_size": width // 2,
            "intermediate_size": 2 * width, "tts_text_start_token_id": VOCABULARY - 11,
            "tts_text_end_token_id": VOCABULARY - 9, "tts_text_pad_token_id": VOCABULARY - 10,
            "num_hidden_layers": layers, "head_dim": 64, **heads,
        },
        "token2wav_config": {
            "dit_config": {"hidden_size": wave, "num_attention_heads": wave // 64, "emb_dim": wave // 2},
            "bigvgan_config": {"upsample_initial_channel": 2 * wave},
        },
    }  # fmt: skip


SIZES = {"small": (512, 8, 128), "tiny": (256, 2, 64)}
LANGUAGE_MODELS = {  # of the thinker of Qwen2.5-Omni-3B; and one to try the bench
    "small": LlamaConfig(
        hidden_size=2048, intermediate_size=11008, num_hidden_layers=36, num_attention_heads=16, num_key_value_heads=2,
        head_dim=128, vocab_size=151936, rope_theta=1e6, max_position_embeddings=32768, tie_word_embeddings=False,
        qkv_bias=True,
    ),
    "tiny": LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        head_dim=32, vocab_size=512, tie_word_embeddings=False, qkv_bias=True,
    ),
}  # fmt: skip
TALKERS = {
    "small": LlamaConfig(
        hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2,
        head_dim=64, vocab_size=8448, rope_theta=1e6, max_position_embeddings=32768, tie_word_embeddings=False,
        qkv_bias=True,
    ),
    "tiny": LANGUAGE_MODELS["tiny"],
}  # fmt: skip
PROMPT, STEPS = 64, 32  # tokens that a packed one reads at once, and one by one


@dataclass(frozen=True)
class OmniBenchConfig:
    """What to measure.

    Attributes:
        size: of `SIZES`; "tiny" is there to try the bench itself.
        only: groups, see `GROUPS`.
        threads: of the processor.
        tokens, codes: of the reply; a second of speech is 50 codes, and three or four tokens.
        rounds: replies of each side.
    """

    size: str = "small"
    only: tuple[str, ...] = GROUPS
    threads: int = 1
    tokens: int = 60
    codes: int = 900
    rounds: int = 1

    def __post_init__(self) -> None:
        check_known([self.size], SIZES, "size")
        check_known(self.only, GROUPS, "group")


def bench_omni(config: OmniBenchConfig, progress: Progress = lambda line: None) -> Report:
    """Runs the bench.

    Raises:
        EvalError: a process failed.
    """
    report = start_report([PEER], [config.threads], progress)
    with tempfile.TemporaryDirectory() as folder:
        weights.save(random_model(config.size), folder)
        fields = {"folder": folder, "threads": config.threads, "tokens": config.tokens, "codes": config.codes}

        def run(group: str, sides: list[str], rounds: int) -> dict[str, Any]:
            progress(f"{group}: {' and '.join(sides)}, {on_threads(config.threads)}")
            asked = {**fields, "sides": sides, "rounds": rounds}
            return in_fresh_process(work, asked, f"{group} of {config.size}", config.threads)

        peer = [] if missing([PEER]) else [PEER]
        if "first" in config.only:
            found = run("first sound", ["ours", "serial"], config.rounds)
            _add(report, "omni-first-sound-over-serial", found, "first", ("ours", "serial"), "<= 0.2", config.rounds)
        if "reply" in config.only and peer:
            found = run("reply", ["ours", PEER], config.rounds)
            _add(report, f"omni-reply-over-{PEER}", found, "whole", ("ours", PEER), "<= 0.6", config.rounds)
        if "memory" in config.only and peer:
            peaks = {side: run("memory", [side], 1)["peak"] for side in ("ours", PEER)}
            detail = f"{peaks['ours'] / 1e9:.2f} / {peaks[PEER] / 1e9:.2f} GB, of the whole process"
            name = f"omni-memory-over-{PEER}"
            report.add(Figure(name, peaks["ours"] / peaks[PEER], detail, "<= 0.7", None, 1))
    if "packed" in config.only:
        _bench_packed(config, report, progress)
    return report


def _bench_packed(config: OmniBenchConfig, report: Report, progress: Progress) -> None:
    size = "3b" if config.size == "small" else config.size
    for part, sizes, bits in (
        ("", LANGUAGE_MODELS, BITS["language_model"]),
        ("talker-", TALKERS, BITS["talker_model"]),
    ):
        with tempfile.TemporaryDirectory() as folder:
            progress(f"packed: drawing and packing the {part or 'thinker-'}weights into {bits} bits")
            pack(RandomSource(sizes[config.size]), described(sizes[config.size]), Path(folder), bits=bits)
            progress(f"packed: reading and thinking, {on_threads(config.threads)}")
            asked = {"folder": folder, "threads": config.threads}
            found = in_fresh_process(think, asked, f"the packed model of {config.size}", config.threads)
        name, what = f"omni-{size}-{part}int{bits}", "codes" if part else "tokens"
        report.add(Figure(f"{name}-memory-gb", found["peak"] / 1e9, "GB", None, None, 1))
        speed = 1 / statistics.median(found["steps"])
        report.add(Figure(f"{name}-{what}-per-s", speed, f"{what}/s", None, None, STEPS))
        report.add(Figure(f"{name}-prompt-{PROMPT}-s", statistics.median(found["prompts"]), "s", None, None, 3))


class RandomSource:
    """Weights to be packed that are drawn when they are asked for: they are never there as a whole.

    Args:
        config: the language model's sizes.
    """

    def __init__(self, config: LlamaConfig):
        width = config.hidden_size
        self.shapes: dict[str, tuple[int, ...]] = {"model.norm.weight": (width,)}
        self.shapes |= dict.fromkeys(("model.embed_tokens.weight", "lm_head.weight"), (config.vocab_size, width))
        for layer in range(config.num_hidden_layers):
            for linear, shape in config.shapes.items():
                name = Llama.published_name(f"layers.{layer}.{linear}")
                self.shapes[f"{name}.weight"] = shape
                if linear in ("q_proj", "k_proj", "v_proj"):
                    self.shapes[f"{name}.bias"] = shape[:1]
            norms = ("input_layernorm", "post_attention_layernorm")
            self.shapes |= {f"model.layers.{layer}.{norm}.weight": (width,) for norm in norms}
        source = torch.Generator().manual_seed(0)
        widths = {shape[1] for shape in self.shapes.values() if len(shape) == 2}
        self._drawn = {width: 0.02 * torch.randn(1024, width, generator=source) for width in widths}

    def rows(self, name: str, first: int, last: int) -> torch.Tensor:
        """See `antiphon.hub.pack.Source`; rows come again every 1024."""
        if len(self.shapes[name]) == 1:
            return torch.full((last - first,), float(name.endswith("norm.weight")))
        return self._drawn[self.shapes[name][1]][torch.arange(first, last) % 1024]


def think(fields: dict[str, Any]) -> dict[str, Any]:
    """Seconds of prompts and of single tokens with their logits, and the most memory of this process."""
    torch.set_num_threads(fields["threads"])
    model, found = Llama.from_pretrained(fields["folder"]), {"prompts": [], "steps": []}

    def read(count: int, cache: Any) -> float:
        tokens = torch.randint(500, (1, count))  # every vocabulary has them
        start = time.perf_counter()
        model.logits(model(model.embed(tokens), cache)[:, -1])
        return time.perf_counter() - start

    with torch.inference_mode():
        for _ in range(4):
            cache = model.init_cache()
            found["prompts"].append(read(PROMPT, cache))
        found["steps"] = [read(1, cache) for _ in range(STEPS + 4)]
    return {"prompts": found["prompts"][1:], "steps": found["steps"][4:], "peak": memory_bytes("VmHWM")}


def _add(
    report: Report, name: str, found: dict[str, Any], what: str, sides: tuple[str, str], bar: str, rounds: int
) -> None:
    one, other = (statistics.median(found[what][side]) for side in sides)
    report.add(Figure(name, one / other, f"{one:.2f} / {other:.2f} s", bar, None, rounds))


def random_model(size: str) -> Omni:
    """A model whose weights are random; no reply of it ends by itself."""
    torch.manual_seed(0)
    values = sizes(*SIZES[size])
    model = Omni(OmniConfig.from_dict(values), values).eval()
    head = model.talker.lm.lm_head.weight.data
    head[list(model.talker.ends)] = 0  # another code is always likelier
    head[model.config.dit.num_embeds :] = 0  # marks that aren't codes
    mel = model.config.dit.mel_dim
    voice = Voice(torch.randn(1, model.config.dit.enc_emb_dim), torch.randn(1, 300, mel), VOCABULARY - 12)
    model.voices = {"random": voice}
    return model


def question() -> list[Given]:
    """A picture, two seconds of sound, and a text about them."""
    source = torch.Generator().manual_seed(1)

    def words(count: int) -> Words:
        return Words(torch.randint(VOCABULARY - 20, (count,), generator=source))

    patches = torch.randn(1, 256, 3 * 2 * 14 * 14, generator=source)
    return [words(20), Seen(patches, 16, 16), Heard(torch.randn(128, 200, generator=source)), words(20)]


def work(fields: dict[str, Any]) -> dict[str, Any]:
    """Seconds to the first sound and to the last of each side, in turns, and the most memory of this process."""
    torch.set_num_threads(fields["threads"])
    sides = {side: _side(side, fields) for side in fields["sides"]}
    found: dict[str, Any] = {"first": {side: [] for side in sides}, "whole": {side: [] for side in sides}}
    for round_ in range(fields["rounds"]):
        for side in list(sides) if round_ % 2 else list(sides)[::-1]:
            first, whole = sides[side]()
            found["first"][side].append(first)
            found["whole"][side].append(whole)
    return found | {"peak": memory_bytes("VmHWM")}


def _side(side: str, fields: dict[str, Any]) -> Callable[[], tuple[float, float]]:
    if side == PEER:
        return _theirs(fields)
    model = weights.load(fields["folder"])
    settings = ReplySettings(
        fields["tokens"], fields["codes"], ends=(), speaking=TokenSampling(repetition=1.05)
    )  # fmt: skip
    if side == "serial":
        settings = replace(settings, ahead=None)
    parts = question()

    def reply() -> tuple[float, float]:
        start, first, samples = time.perf_counter(), 0.0, 0
        state = model.init_state()
        model.read(state, parts)
        for event in model.reply(state, "random", settings):
            if isinstance(event, Spoken):
                first, samples = first or time.perf_counter() - start, samples + len(event.samples)
        assert samples == fields["codes"] * model.sample_rate // 50
        return first, time.perf_counter() - start

    return reply


def _theirs(fields: dict[str, Any]) -> Callable[[], tuple[float, float]]:
    from transformers import Qwen2_5OmniForConditionalGeneration

    model = Qwen2_5OmniForConditionalGeneration.from_pretrained(Path(fields["folder"])).eval()
    parts = question()
    ids = _ids(parts)
    picture, sound = parts[1], parts[2]
    assert isinstance(picture, Seen) and isinstance(sound, Heard)
    given = {
        "input_ids": ids, "attention_mask": torch.ones_like(ids), "input_features": sound.mel[None],
        "feature_attention_mask": torch.ones(1, sound.mel.shape[1], dtype=torch.long),
        "thinker_pixel_values": picture.patches[0], "image_grid_thw": torch.tensor([[1, 16, 16]]),
        "thinker_max_new_tokens": fields["tokens"], "thinker_do_sample": False, "talker_do_sample": False,
        "talker_max_new_tokens": fields["codes"], "speaker": "random",
    }  # fmt: skip

    def reply() -> tuple[float, float]:
        start = time.perf_counter()
        tokens, samples = model.generate(**copy.copy(given))
        assert tokens.shape[1] - ids.shape[1] == fields["tokens"] and len(samples) == fields["codes"] * 480
        taken = time.perf_counter() - start
        return taken, taken

    return reply


def _ids(parts: list[Given]) -> torch.Tensor:
    """The ids of a question, placeholders where something is heard or seen."""
    values = sizes(*SIZES["tiny"])
    thinker = Omni(replace(OmniConfig.from_dict(values), talker=None, dit=None, vocoder=None), values).thinker
    return torch.cat([thinker.tokens_of(part) for part in parts])[None]
