"""Tiny random Qwen3-Omnis, `transformers`' and ours."""

from __future__ import annotations

import os
import random
from typing import Any

import torch
from tokenizers import AddedToken
from torch.nn import functional as F

from antiphon.dialogue.omni import OmniBackend
from antiphon.models.omni.processor import OmniProcessor
from antiphon.models.omni.qwen3.config import Qwen3OmniConfig
from antiphon.models.omni.qwen3.model import Qwen3Omni
from antiphon.models.omni.qwen3.thinker import Qwen3Thinker
from antiphon.models.omni.thinker import Given, Heard, Seen, Watched, Words
from tests.models.speech_lm.tiny import tokenizer

ROPE = {"rope_type": "default", "rope_theta": 10000.0}
TEXT = 300
START, END, USER, ASSISTANT, SYSTEM, LINE = 290, 291, 292, 293, 294, 295
MARKS = {
    "audio_token_id": 280, "image_token_id": 281, "video_token_id": 282, "audio_start_token_id": 283,
    "vision_start_token_id": 285, "position_id_per_seconds": 13,
}  # fmt: skip


def values() -> dict[str, Any]:
    """What a config.json of the tiny one says."""
    text = {
        "vocab_size": TEXT, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 4096,
        "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
        "rope_parameters": {**ROPE, "mrope_section": [2, 1, 1]},
    }  # fmt: skip
    talker = {
        **text, "vocab_size": 1100, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3,
        "num_attention_heads": 2, "num_key_value_heads": 1, "shared_expert_intermediate_size": 20,
    }  # fmt: skip
    return {
        "model_type": "qwen3_omni_moe",
        "thinker_config": {
            "model_type": "qwen3_omni_moe_thinker",
            "audio_config": {
                "d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32,
                "output_dim": 32, "num_mel_bins": 128, "downsample_hidden_size": 6, "n_window": 50,
                "n_window_infer": 200,
            },
            "vision_config": {
                "depth": 4, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32,
                "deepstack_visual_indexes": [0, 2], "num_position_embeddings": 36,
            },
            "text_config": text, "audio_end_token_id": 284, "vision_end_token_id": 286, "user_token_id": USER, **MARKS,
        },
        "talker_config": {
            "text_config": talker,
            "code_predictor_config": {
                "vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
                "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "num_code_groups": 5,
                "rope_parameters": ROPE,
            },
            "num_code_groups": 5, "thinker_hidden_size": 32, "accept_hidden_layer": 2, "spatial_merge_size": 2,
            "codec_eos_token_id": 1080, "codec_nothink_id": 1081, "codec_think_bos_id": 1082,
            "codec_think_eos_id": 1083, "codec_pad_id": 1084, "codec_bos_id": 1085,
            "speaker_id": {"anna": 1090, "bert": 1091}, **MARKS,
        },
        "code2wav_config": {
            "codebook_size": 80, "hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2,
            "sliding_window": 5, "intermediate_size": 24, "num_hidden_layers": 2, "num_quantizers": 5,
            "upsample_rates": [4, 3], "upsampling_ratios": [2, 2], "decoder_dim": 24, "rope_parameters": ROPE,
        },
        "im_start_token_id": START, "im_end_token_id": END, "tts_pad_token_id": 287, "tts_bos_token_id": 288,
        "tts_eos_token_id": 289, "system_token_id": SYSTEM, "user_token_id": USER, "assistant_token_id": ASSISTANT,
    }  # fmt: skip


def _drawn(model: Any, scale: float = 0.3) -> Any:
    """Random weights large enough that everything matters."""
    for name, parameter in model.named_parameters():
        if "norm" in name.rpartition(".")[0] and parameter.ndim == 1:
            continue
        parameter.data.normal_(0, 0.15 if "code2wav" in name or "token2wav" in name else scale)
    return model


def ours(seed: int = 0, given: dict[str, Any] | None = None) -> Qwen3Omni:
    """Ours alone, with random weights of its own."""
    torch.manual_seed(seed)
    given = given or values()
    return _drawn(Qwen3Omni(Qwen3OmniConfig.from_dict(given), given).eval())


def theirs(seed: int = 0) -> Any:
    """`transformers`' model."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import Qwen3OmniMoeConfig, Qwen3OmniMoeForConditionalGeneration
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.manual_seed(seed)
    model = _drawn(Qwen3OmniMoeForConditionalGeneration(Qwen3OmniMoeConfig(**values())).eval())
    # The published config.json doesn't say it, and without it the talker's places can't be told where there is sound.
    model.talker.config.audio_config = model.config.thinker_config.audio_config
    return model


def turn(role: int, parts: list[Given]) -> list[Given]:
    """A turn, between its marks."""
    return [Words(torch.tensor([START, role, LINE])), *parts, Words(torch.tensor([END, LINE]))]


def random_parts(chance: random.Random, own_sound: bool = False) -> list[Given]:
    """What somebody says in a turn: text, sounds, pictures and videos in any order. No sound is shorter than a second:
    what `transformers` makes of a shorter one depends on what else is heard."""
    source = torch.Generator().manual_seed(chance.randrange(1 << 30))

    def words() -> Words:
        return Words(torch.randint(270, (chance.randint(1, 6),), generator=source))

    def mel(seconds: float) -> torch.Tensor:
        return torch.randn(128, int(100 * seconds) + chance.randint(4, 90), generator=source)

    def patches(pictures: int, height: int, width: int) -> torch.Tensor:
        return torch.randn(pictures, height * width, 3 * 2 * 16 * 16, generator=source)

    parts: list[Given] = [words()]
    for _ in range(chance.randint(0, 3)):
        kind = chance.choice(("sound", "picture", "video", "words"))
        height, width = 2 * chance.randint(1, 3), 2 * chance.randint(1, 5)
        if kind == "sound":
            parts.append(Heard(mel(chance.choice((1.0, 2.0, 3.0)))))
        elif kind == "picture":
            parts.append(Seen(patches(1, height, width), height, width))
        elif kind == "video":
            frames, seconds = chance.randint(1, 4), chance.choice((1.0, 1.0, 0.7))
            sound = mel(frames * chance.choice((1.0, 1.5))) if own_sound else None
            parts.append(Watched(patches(frames, height, width), height, width, seconds, sound))
        parts.append(words())
    return parts


def conversation(seed: int) -> tuple[list[Given], bool]:
    """Turns of a conversation whose last one is the assistant's, to be said; whether videos are heard, too."""
    chance = random.Random(seed)
    own_sound = bool(seed % 2)
    words = [Words(torch.randint(270, (5,), generator=torch.Generator().manual_seed(seed)))]
    parts = turn(SYSTEM, words) if seed % 3 else []
    if seed % 5 == 0:
        parts += turn(USER, random_parts(chance, own_sound)) + turn(ASSISTANT, words)
    parts += turn(USER, random_parts(chance, own_sound))
    return [*parts, Words(torch.tensor([START, ASSISTANT, LINE]))], own_sound


def inputs(model: Any, parts: list[Given], own_sound: bool) -> dict[str, Any]:
    """What `transformers`' model takes for the same."""
    sounds = [part.mel for part in parts if isinstance(part, Heard | Watched) and part.mel is not None]
    pictures = [part for part in parts if isinstance(part, Seen)]
    videos = [part for part in parts if isinstance(part, Watched)]
    thinker = Qwen3Thinker(Qwen3OmniConfig.from_dict(values()).thinker)
    ids = torch.cat([thinker.tokens_of(part) for part in parts])[None]
    found: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if sounds:
        longest = max(sound.shape[1] for sound in sounds)
        found["input_features"] = torch.stack([F.pad(sound, (0, longest - sound.shape[1])) for sound in sounds])
        lengths = torch.tensor([sound.shape[1] for sound in sounds])
        found["feature_attention_mask"] = (torch.arange(longest) < lengths[:, None]).long()
    if pictures:
        found["pixel_values"] = torch.cat([part.patches.flatten(0, 1) for part in pictures])
        found["image_grid_thw"] = torch.tensor([[1, part.height, part.width] for part in pictures])
    if videos:
        found["pixel_values_videos"] = torch.cat([part.patches.flatten(0, 1) for part in videos])
        found["video_grid_thw"] = torch.tensor([[len(part.patches), part.height, part.width] for part in videos])
        found["video_second_per_grid"] = torch.tensor([part.seconds for part in videos])
    return found | {"use_audio_in_video": own_sound}


def talking() -> OmniBackend:
    """One that is talked to at 24 kHz: it says words, as many as it may, and its talker goes on until it is stopped."""
    words = tokenizer()
    words.add_special_tokens([AddedToken(name, special=True) for name in ("<|im_start|>", "<|im_end|>")])
    words.add_tokens(["user", "assistant", "system"])
    given = values()
    given |= {
        "im_start_token_id": words.token_to_id("<|im_start|>"), "user_token_id": words.token_to_id("user"),
        "assistant_token_id": words.token_to_id("assistant"),
    }  # fmt: skip
    given["thinker_config"]["text_config"]["vocab_size"] = 320
    given["code2wav_config"] |= {"decoder_dim": 32, "upsample_rates": [8, 5, 4, 3]}
    model = ours(given=given)
    said = [number for name, number in words.get_vocab().items() if name.startswith("\u0120") and len(name) > 2]
    head = model.thinker.language_model.lm_head.weight.data
    head.copy_(10 * head * torch.zeros(len(head), 1).index_fill(0, torch.tensor(said), 1.0))
    model.talker.lm.lm_head.weight.data[model.config.talker.tokens.codec_eos_token_id] = 0
    model.talker.lm.lm_head.weight.data *= 3
    return OmniBackend(model, OmniProcessor(words, model.config.thinker))
