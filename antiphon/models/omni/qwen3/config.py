"""Sizes and special tokens of Qwen3-Omni, as its config.json says them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from antiphon.encoders.vision.deepstack import DeepstackConfig
from antiphon.encoders.whisper.aut import AudioTransformerConfig
from antiphon.errors import ModelError
from antiphon.models.llm.llama import LlamaConfig
from antiphon.models.omni.config import ThinkerConfig, ThinkerTokens, sizes
from antiphon.models.omni.qwen3.positions import PER_SECOND, SECTIONS
from antiphon.nn.transformer import TransformerConfig

FAMILY = "qwen3_omni_moe"
PIXELS, VIDEO_PIXELS = (56 * 56, 1280 * 32 * 32), (128 * 32 * 32, 768 * 32 * 32)  # of a scaled picture, least and most
CODE_RATE = 12.5  # frames of codes a second
# What `transformers` takes where a config.json doesn't say.
_TEXT: dict[str, Any] = {"rope_theta": 10000.0, "rms_norm_eps": 1e-6, "max_position_embeddings": 32768}
_THINKER = _TEXT | {
    "vocab_size": 3584, "hidden_size": 2048, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "num_experts_per_tok": 8, "moe_intermediate_size": 768,
    "norm_topk_prob": True, "rope_theta": 1000000.0,
}  # fmt: skip
_TALKER = _TEXT | {
    "vocab_size": 3072, "hidden_size": 1024, "intermediate_size": 2048, "num_hidden_layers": 20,
    "num_attention_heads": 16, "num_key_value_heads": 2, "num_experts_per_tok": 8, "moe_intermediate_size": 384,
    "norm_topk_prob": False,
}  # fmt: skip
_PREDICTOR = _TEXT | {
    "vocab_size": 2048, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 5,
    "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
}  # fmt: skip


@dataclass(frozen=True)
class ConversationTokens:
    """Ids of the text vocabulary that mark turns and what the talker reads; names are those of config.json."""

    im_start_token_id: int = 151644
    user_token_id: int = 872
    assistant_token_id: int = 77091
    tts_pad_token_id: int = 151671
    tts_bos_token_id: int = 151672
    tts_eos_token_id: int = 151673


@dataclass(frozen=True)
class TalkerTokens:
    """Codes that are marks; names are those of config.json."""

    codec_eos_token_id: int = 4198
    codec_nothink_id: int = 4203
    codec_think_bos_id: int = 4204
    codec_think_eos_id: int = 4205
    codec_pad_id: int = 4196
    codec_bos_id: int = 4197


@dataclass(frozen=True)
class TalkerConfig:
    """The part that speaks in codes.

    Attributes:
        text: of its transformer, whose vocabulary are the codes of the first codebook, and marks.
        predictor: of the transformer that tells the other codebooks' codes of a frame.
        groups: codebooks.
        width: of the thinker's embeddings and hidden states.
        accepted: after how many of the thinker's layers what was heard and seen is read.
        speakers: their code, by name.
        tokens: marks.
        sections: as in `ThinkerConfig`.
    """

    text: LlamaConfig
    predictor: LlamaConfig
    groups: int
    width: int
    accepted: int
    speakers: tuple[tuple[str, int], ...] = ()
    tokens: TalkerTokens = field(default_factory=TalkerTokens)
    sections: tuple[int, ...] = SECTIONS


@dataclass(frozen=True)
class Code2WavConfig:
    """The part that makes sound of codes; names are those of config.json's `code2wav_config`.

    Attributes:
        sliding_window: frames that a frame sees, itself included.
        upsampling_ratios, upsample_rates: how many values each stage makes of one, before and in the decoder.
        decoder_dim: channels of the decoder's first stage, halved by each.
    """

    codebook_size: int = 2048
    num_quantizers: int = 16
    hidden_size: int = 1024
    intermediate_size: int = 3072
    num_hidden_layers: int = 8
    num_attention_heads: int = 16
    num_key_value_heads: int = 16
    sliding_window: int = 72
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    upsampling_ratios: tuple[int, ...] = (2, 2)
    upsample_rates: tuple[int, ...] = (8, 5, 4, 3)
    decoder_dim: int = 1536

    @property
    def samples(self) -> int:
        """Of a frame of codes."""
        total = 1
        for each in (*self.upsampling_ratios, *self.upsample_rates):
            total *= each
        return total

    @property
    def transformer(self) -> TransformerConfig:
        """Of what reads the codes."""
        return TransformerConfig(
            self.hidden_size, self.num_attention_heads, self.intermediate_size, self.num_hidden_layers,
            self.sliding_window, self.num_key_value_heads, eps=self.rms_norm_eps, layer_scale=0.01,
            rope_base=self.rope_theta, rope_halves=True, max_piece=4,
        )  # fmt: skip


@dataclass(frozen=True)
class Qwen3OmniConfig:
    """All of it; a part that a folder hasn't is None."""

    thinker: ThinkerConfig
    talker: TalkerConfig | None = None
    code2wav: Code2WavConfig | None = None
    tokens: ConversationTokens = field(default_factory=ConversationTokens)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "config.json") -> Qwen3OmniConfig:
        """Reads a config.json of the whole model, or of a thinker alone.

        Raises:
            ModelError: another model, a quantized one, or a setting that isn't computed here.
        """
        kind = values.get("model_type", FAMILY)
        if quantized := values.get("quantization_config"):
            method = str(quantized.get("quant_method", "")).upper() or "an unknown method"
            raise ModelError(
                f"{where}: its weights are quantized ({method}), which isn't read here: take the unquantized folder"
            )
        tokens = sizes(ConversationTokens, values, where)
        if kind == f"{FAMILY}_thinker":
            return cls(_thinker(values, where), tokens=tokens)
        if kind != FAMILY:
            raise ModelError(f"{where}: it is a {kind!r}; known here are {FAMILY}, {FAMILY}_thinker")
        thinker = _thinker(values.get("thinker_config", {}), where)
        if not values.get("enable_audio_output", True) or "talker_config" not in values:
            return cls(thinker, tokens=tokens)
        talker, sound = _talker(values["talker_config"], where), _code2wav(values.get("code2wav_config", {}), where)
        width, layers = thinker.text.hidden_size, thinker.text.num_hidden_layers
        if talker.width != width or talker.accepted > layers:
            raise ModelError(
                f"{where}: its talker reads layer {talker.accepted} of a thinker {talker.width} wide, but its thinker "
                f"has {layers} layers and is {width} wide"
            )
        if talker.groups != sound.num_quantizers:
            raise ModelError(
                f"{where}: its talker has {talker.groups} codebooks, and its code2wav {sound.num_quantizers}"
            )
        return cls(thinker, talker, sound, tokens)


def _thinker(values: Mapping[str, Any], where: str) -> ThinkerConfig:
    audio, vision, text = (values.get(f"{name}_config", {}) for name in ("audio", "vision", "text"))
    if vision.get("hidden_act", "gelu_pytorch_tanh") != "gelu_pytorch_tanh":
        raise ModelError(f"{where}: hidden_act {vision['hidden_act']!r} of the vision tower is not supported")
    usual = ThinkerTokens(151675, 151655, 151656, 151669, 151670, 151652, 151653)
    names = {name: name.replace("_index", "_id") for name in vars(usual)}
    given = {name: values.get(published, getattr(usual, name)) for name, published in names.items()}
    tied = {"tie_word_embeddings": values.get("tie_word_embeddings", False)}
    return ThinkerConfig(
        _transformer(_THINKER | text | tied, "qwen3_moe", where),
        sizes(AudioTransformerConfig, audio, where),
        sizes(DeepstackConfig, {key: value for key, value in vision.items() if key != "hidden_act"}, where),
        ThinkerTokens(**given), _sections(text), values.get("position_id_per_seconds", PER_SECOND),
        pixels=tuple(values.get("pixels", PIXELS)), video_pixels=tuple(values.get("video_pixels", VIDEO_PIXELS)),
    )  # fmt: skip


def _talker(values: Mapping[str, Any], where: str) -> TalkerConfig:
    text, predictor = values.get("text_config", {}), values.get("code_predictor_config", {})
    groups = values.get("num_code_groups", 32)
    if predictor.get("num_code_groups", groups) != groups:
        raise ModelError(f"{where}: its talker has {groups} codebooks, and its code predictor another number of them")
    config = TalkerConfig(
        _transformer(_TALKER | text, "qwen3_moe", where),
        _transformer(_PREDICTOR | predictor | {"tie_word_embeddings": True}, "qwen3", where),  # it has its own heads
        groups, values.get("thinker_hidden_size", 2048), values.get("accept_hidden_layer", 18),
        tuple((values.get("speaker_id") or {}).items()), sizes(TalkerTokens, values, where), _sections(text),
    )  # fmt: skip
    if config.text.hidden_size != config.predictor.hidden_size:
        raise ModelError(f"{where}: its talker and its code predictor are of different widths")
    return config


def _code2wav(values: Mapping[str, Any], where: str) -> Code2WavConfig:
    if values.get("attention_bias"):
        raise ModelError(f"{where}: a code2wav with attention_bias is not supported")
    heads = values.get("num_attention_heads", 16)
    if values.get("head_dim", values.get("hidden_size", 1024) // heads) * heads != values.get("hidden_size", 1024):
        raise ModelError(f"{where}: a code2wav whose heads together are of another width is not supported")
    theta = {"rope_theta": _rope(values, where).get("rope_theta", values.get("rope_theta", 10000.0))}
    return sizes(Code2WavConfig, {**values, **theta}, where)


def _transformer(values: Mapping[str, Any], kind: str, where: str) -> LlamaConfig:
    given = {**values, "model_type": kind}
    given["rope_theta"] = _rope(values, where).get("rope_theta", given["rope_theta"])
    return LlamaConfig.from_values(given, where)


def _rope(values: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "mrope"):
        raise ModelError(f"{where}: rotary positions of the kind {kind!r} are not supported")
    return rope


def _sections(values: Mapping[str, Any]) -> tuple[int, ...]:
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    return tuple(rope.get("mrope_section", SECTIONS))
