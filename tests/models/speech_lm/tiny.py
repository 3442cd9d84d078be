"""A tiny speech language model with random weights, for the tests of all that works with one."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from antiphon.models.llm.llama import LlamaConfig
from antiphon.models.speech_lm.model import SpeechLM
from antiphon.models.speech_lm.vocabulary import SpeechVocabulary

CONFIG = LlamaConfig(
    hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
    max_position_embeddings=512,
)  # fmt: skip


def tokenizer() -> Tokenizer:
    """Bytes, and a few merges."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=["<|end|>"])
    made.train_from_iterator(["the cat sat on the mat and the dog sat on the log"] * 4, trainer)
    return made


def vocabulary(**changes) -> SpeechVocabulary:
    text = changes.pop("text", tokenizer().get_vocab_size())
    return SpeechVocabulary(
        **{"text": text, "codebook_size": 20, "speakers": ("joe",), "languages": ("en",), **changes}
    )


def speech_lm(**changes) -> SpeechLM:
    return SpeechLM.from_scratch(CONFIG, vocabulary(**changes), tokenizer()).eval()


def text_model(folder: Path, tied: bool = True, kind: str = "llama") -> Path:
    """A text model's folder, made by `transformers`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    words = tokenizer()
    config = AutoConfig.for_model(
        kind, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, vocab_size=words.get_vocab_size() + 3, tie_word_embeddings=tied, max_position_embeddings=512,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    words.save(str(folder / "tokenizer.json"))
    assert json.loads((folder / "config.json").read_text())["model_type"] == kind
    return folder
