"""Tiny random Qwen2.5-Omnis, `transformers`' and ours, for the tests of all that works with them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
TEXT, CODES = 300, 80
TOKENS = {
    "audio_token_index": 280, "image_token_index": 281, "video_token_index": 282, "audio_start_token_id": 283,
    "audio_end_token_id": 284, "vision_start_token_id": 285, "vision_end_token_id": 286,
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
                "vocab_size": TEXT, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
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
    return model


def save(model: Any, folder: Path) -> Path:
    """A folder as it is published: weights, config.json, spk_dict.pt."""
    model.save_pretrained(folder)
    torch.save(model.speaker_map, folder / "spk_dict.pt")
    return folder
