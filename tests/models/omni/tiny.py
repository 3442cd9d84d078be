"""Tiny random Qwen2.5-Omnis, `transformers`' and ours, for the tests of all that works with them."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken
from torch.nn import functional as F

from antiphon.dialogue.omni import OmniBackend
from antiphon.models.omni.config import OmniConfig
from antiphon.models.omni.model import Omni
from antiphon.models.omni.processor import OmniProcessor
from antiphon.models.omni.speech import SynthesizerVoice
from antiphon.models.omni.thinker import Given, Heard, OmniThinker, Seen, Watched, Words
from antiphon.models.omni.token2wav import Voice
from antiphon.models.tts.phonemes import Phonemizer
from antiphon.models.tts.synthesizer import Synthesizer
from antiphon.models.tts.talker import Talker
from tests.models.speech_lm.tiny import tokenizer
from tests.models.tts.test_talker import TINY as TALKER

ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
TEXT, CODES = 300, 80
TOKENS = {
    "audio_token_index": 280, "image_token_index": 281, "video_token_index": 282, "audio_start_token_id": 283,
    "audio_end_token_id": 284, "vision_start_token_id": 285, "vision_end_token_id": 286, "seconds_per_chunk": 2,
}  # fmt: skip
SPEAKER, END = 287, 290
DIT = {
    "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "head_dim": 16, "emb_dim": 8,
    "enc_channels": [8, 8, 8, 8, 24], "num_embeds": 90, "enc_dim": 8, "enc_emb_dim": 8, "enc_attention_channels": 4,
    "enc_se_channels": 4, "mel_dim": 20, "look_ahead_layers": [1], "look_backward_layers": [0, 3], "block_size": 8,
}  # fmt: skip
VOCODER = {
    "mel_dim": 20, "upsample_initial_channel": 32, "upsample_rates": [5, 3, 2], "upsample_kernel_sizes": [11, 7, 4],
}  # fmt: skip


def values() -> dict[str, Any]:
    """What a config.json of the tiny one says."""
    return {
        "model_type": "qwen2_5_omni",
        "thinker_config": {
            "model_type": "qwen2_5_omni_thinker",
            "audio_config": {
                "d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32,
                "output_dim": 32, "num_mel_bins": 128,
            },
            "vision_config": {
                "depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32,
                "fullatt_block_indexes": [1],
            },
            "text_config": {
                "vocab_size": TEXT, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
                "num_attention_heads": 4, "num_key_value_heads": 2, "rope_parameters": ROPE,
                "max_position_embeddings": 4096,
            },
            **TOKENS,
        },
        "talker_config": {
            "vocab_size": CODES, "embedding_size": 32, "hidden_size": 16, "intermediate_size": 32,
            "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
            "rope_parameters": ROPE, "tts_text_start_token_id": 287, "tts_text_end_token_id": 288,
            "tts_text_pad_token_id": 289, "tts_codec_start_token_id": 73, "tts_codec_end_token_id": 74,
            "tts_codec_pad_token_id": 72, "tts_codec_mask_token_id": 76, "max_position_embeddings": 4096, **TOKENS,
        },
        "token2wav_config": {"dit_config": DIT, "bigvgan_config": VOCODER},
    }  # fmt: skip


def ours(seed: int = 0, scale: float = 0.3, given: dict[str, Any] | None = None) -> Omni:
    """Ours alone, of the same sizes or as `given` says, with random weights of its own."""
    torch.manual_seed(seed)
    given = given or values()
    model = Omni(OmniConfig.from_dict(given), given).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(0, 0.08 if "vocoder" in name else 0.15 if "token2wav" in name else scale)
    model.voices = {"anna": Voice(torch.randn(1, 8), torch.randn(1, 30, 20), SPEAKER)}
    return model


def talking(ends: bool = False) -> OmniBackend:
    """One that is talked to at 24 kHz: it says words, and its talker goes on until it is stopped.

    Args:
        ends: it says few words; otherwise as many as it may.
    """
    given, words = values(), tokenizer()
    given["token2wav_config"]["bigvgan_config"] = VOCODER | {
        "upsample_initial_channel": 64, "upsample_rates": [5, 3, 2, 2, 2, 2],
        "upsample_kernel_sizes": [11, 7, 4, 4, 4, 4],
    }  # fmt: skip
    words.add_special_tokens([AddedToken(name, special=True) for name in ("<|im_start|>", "<|im_end|>")])
    model = ours(given=given)
    said = [number for name, number in words.get_vocab().items() if name.startswith("\u0120") and len(name) > 2]
    head = model.thinker.language_model.lm_head.weight.data
    head.copy_(10 * head * torch.zeros(len(head), 1).index_fill(0, torch.tensor(said), 1.0))
    model.talker.lm.lm_head.weight.data[list(model.talker.ends)] = 0
    backend = OmniBackend(model, OmniProcessor(words, model.config.thinker))
    if ends:  # as likely as another word, but not at once
        state = model.init_state()
        model.read(state, backend.processor([{"role": "user", "content": "the cat"}]))
        end = torch.randn(32, generator=torch.Generator().manual_seed(9))
        end -= end @ state.hidden / (state.hidden @ state.hidden) * state.hidden
        head[backend.ends[0]] = head[said].std() * end
    return backend


class Silence:
    """A codec of 24 kHz that makes no sound of anything."""

    sample_rate = 24000

    def init_state(self, batch: int) -> None: ...

    def decode_step(self, codes: torch.Tensor, state: None) -> torch.Tensor:
        return torch.full((1, 1, 1920), 0.1)


def small_talker(hidden: int = 32) -> Talker:
    """One that reads a thinker of that width, and says a few frames of each word."""
    torch.manual_seed(1)
    talker = Talker(replace(TALKER, hidden=hidden, codebook_size=16, code_dim=6)).eval()
    for linear in talker.out:
        torch.nn.init.normal_(linear.weight, std=0.5)
    torch.nn.init.normal_(talker.encoder.thinker.weight)
    torch.nn.init.constant_(talker.encoder.duration[-1].bias, 1.2)
    return talker


def spoken_beside(recognizer: Any = None) -> OmniBackend:
    """One without a talker of its own, beside which a small one says what it thinks."""
    backend = talking()
    backend.model.talker = backend.model.token2wav = None
    voice = SynthesizerVoice(backend.model, backend.processor, Synthesizer(small_talker(), Silence(), Phonemizer()))
    return OmniBackend(backend.model, backend.processor, speaker=voice, recognizer=recognizer)


def theirs(seed: int = 0, scale: float = 0.3) -> Any:
    """`transformers`' model with random weights large enough that everything matters."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import Qwen2_5OmniConfig, Qwen2_5OmniForConditionalGeneration
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.manual_seed(seed)
    model = Qwen2_5OmniForConditionalGeneration(Qwen2_5OmniConfig(**values())).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name.rpartition(".")[0] and parameter.ndim == 1:
            continue
        parameter.data.normal_(0, 0.08 if "bigvgan" in name else 0.15 if "token2wav" in name else scale)
    model.speaker_map = {
        "anna": {"bos_token": SPEAKER, "cond": torch.randn(1, 8), "ref_mel": torch.randn(1, 30, 20)},
        "bert": {"bos_token": SPEAKER + 1, "cond": torch.randn(1, 8), "ref_mel": torch.randn(1, 25, 20)},
    }
    model.talker.register_forward_pre_hook(_with_mask, with_kwargs=True)
    return model


def _with_mask(module: Any, args: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """`generate` drops a mask of ones before the talker sees it, and without one the talker neither marks where the
    speech begins nor counts its places as it was trained to: it gets the mask back."""
    if given.get("attention_mask") is None:
        new = given["inputs_embeds"] if given.get("inputs_embeds") is not None else given["input_ids"]
        length = given["past_key_values"].get_seq_length() + new.shape[1]
        given = {**given, "attention_mask": torch.ones(len(new), length, dtype=torch.long)}
    return args, given


def random_parts(chance: random.Random, own_sound: bool = False, bands: int = 128) -> list[Given]:
    """What somebody gives: text, sounds, pictures and videos in any order, text at both ends."""
    source = torch.Generator().manual_seed(chance.randrange(1 << 30))

    def words() -> Words:
        return Words(torch.randint(270, (chance.randint(2, 6),), generator=source))

    def mel(seconds: float) -> torch.Tensor:
        return torch.randn(bands, int(100 * seconds) + chance.randint(4, 90), generator=source)

    def patches(pictures: int, height: int, width: int) -> torch.Tensor:
        return torch.randn(pictures, height * width, 3 * 2 * 14 * 14, generator=source)

    parts: list[Given] = [words()]
    for _ in range(chance.randint(0, 4)):
        kind = chance.choice(("sound", "picture", "video", "words"))
        height, width = 2 * chance.randint(1, 3), 2 * chance.randint(1, 6)
        if kind == "sound":
            parts.append(Heard(mel(chance.choice((0.1, 1.0, 3.0)))))
        elif kind == "picture":
            parts.append(Seen(patches(1, height, width), height, width))
        elif kind == "video":
            frames = chance.randint(1, 4)
            sound = mel(frames * chance.choice((0.5, 1.0, 1.5))) if own_sound else None
            parts.append(Watched(patches(frames, height, width), height, width, 1.0, sound))
        parts.append(words())
    return [*parts, Words(torch.randint(270, (12,), generator=source))]


def inputs(model: Any, parts: list[Given], own_sound: bool) -> dict[str, Any]:
    """What `transformers`' model takes for the same."""
    sounds = [part.mel for part in parts if isinstance(part, Heard | Watched) and part.mel is not None]
    pictures = [part for part in parts if isinstance(part, Seen)]
    videos = [part for part in parts if isinstance(part, Watched)]
    thinker = OmniThinker(OmniConfig.from_dict(values()).thinker)
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


def save(model: Any, folder: Path, **how: Any) -> Path:
    """A folder as it is published: weights, config.json, spk_dict.pt."""
    model.save_pretrained(folder, **how)
    torch.save(model.speaker_map, folder / "spk_dict.pt")
    return folder
