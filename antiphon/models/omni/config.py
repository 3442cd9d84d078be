"""Sizes and special tokens of Qwen2.5-Omni, as its config.json says them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from antiphon.encoders.vision.pictures import MAX_PIXELS, MIN_PIXELS
from antiphon.encoders.vision.tower import VisionConfig
from antiphon.encoders.whisper.tower import AudioTowerConfig
from antiphon.errors import ModelError
from antiphon.models.llm.llama import LlamaConfig
from antiphon.models.omni.positions import CHUNK_SECONDS, PER_SECOND, SECTIONS

Kind = TypeVar("Kind")
FAMILY = "qwen2_5_omni"
PROMPT = (  # as published: with another one its talker speaks less well
    "You are Qwen, a virtual human developed by the Qwen Team, Alibaba Group, capable of perceiving auditory "
    "and visual inputs, as well as generating text and speech."
)
VIDEO_PIXELS = (128 * 28 * 28, 768 * 28 * 28)  # of a scaled picture of a video, at least and at most
# Settings that would change what is computed, and the one value of each that is computed here.
_GIVEN: dict[str, Any] = {
    "activation_function": "gelu", "hidden_act": "silu", "scale_embedding": False, "use_sliding_window": False,
}  # fmt: skip


@dataclass(frozen=True)
class ThinkerTokens:
    """Ids of the text vocabulary that stand for something else; names are those of config.json."""

    audio_token_index: int = 151646
    image_token_index: int = 151655
    video_token_index: int = 151656
    audio_start_token_id: int = 151647
    audio_end_token_id: int = 151648
    vision_start_token_id: int = 151652
    vision_end_token_id: int = 151653


@dataclass(frozen=True)
class TalkerTokens:
    """Ids of the text vocabulary that the talker reads, and of its own; names are those of config.json."""

    tts_text_end_token_id: int = 151861
    tts_text_pad_token_id: int = 151859
    tts_codec_start_token_id: int = 8293
    tts_codec_end_token_id: int = 8294
    tts_codec_pad_token_id: int = 8292
    tts_codec_mask_token_id: int = 8296


@dataclass(frozen=True)
class ThinkerConfig:
    """The part that hears, sees and writes.

    Attributes:
        text, audio, vision: of the language model and of its towers.
        tokens: special ones.
        sections: pairs of channels that follow time, height and width.
        per_second, chunk_seconds: see `positions`.
        pixels, video_pixels: of a scaled picture, and of one of a video, at least and at most.
        prompt: the system prompt where a conversation is given none; "" for nothing.
    """

    text: LlamaConfig
    audio: AudioTowerConfig
    vision: VisionConfig
    tokens: ThinkerTokens = field(default_factory=ThinkerTokens)
    sections: tuple[int, ...] = SECTIONS
    per_second: int = PER_SECOND
    chunk_seconds: float = CHUNK_SECONDS
    pixels: tuple[int, int] = (MIN_PIXELS, MAX_PIXELS)
    video_pixels: tuple[int, int] = VIDEO_PIXELS
    prompt: str = PROMPT


@dataclass(frozen=True)
class TalkerConfig:
    """The part that speaks in codes.

    Attributes:
        text: of its transformer, whose vocabulary are codes.
        width: of what it reads: the thinker's hidden states.
        tokens: special ones.
        sections: as in `ThinkerConfig`.
    """

    text: LlamaConfig
    width: int
    tokens: TalkerTokens = field(default_factory=TalkerTokens)
    sections: tuple[int, ...] = SECTIONS


@dataclass(frozen=True)
class DiTConfig:
    """The part that makes a spectrogram of codes; names are those of config.json's `dit_config`.

    Attributes:
        block_size: spectrogram frames that see one another; in `look_backward_layers` and `look_ahead_layers` also the
            block before and after.
        repeats: spectrogram frames a code.
        num_embeds: of codes; there is one row more.
        enc_emb_dim: of the speaker's vector.
        enc_*: the encoder of the reference spectrogram (ECAPA-TDNN).
    """

    hidden_size: int = 1024
    num_hidden_layers: int = 22
    num_attention_heads: int = 16
    ff_mult: int = 2
    emb_dim: int = 512
    head_dim: int = 64
    block_size: int = 24
    look_ahead_layers: tuple[int, ...] = (10,)
    look_backward_layers: tuple[int, ...] = (0, 20)
    repeats: int = 2
    num_embeds: int = 8193
    mel_dim: int = 80
    enc_emb_dim: int = 192
    enc_dim: int = 128
    enc_channels: tuple[int, ...] = (256, 256, 256, 256, 768)
    enc_kernel_sizes: tuple[int, ...] = (5, 3, 3, 3, 1)
    enc_dilations: tuple[int, ...] = (1, 2, 3, 4, 1)
    enc_attention_channels: int = 64
    enc_res2net_scale: int = 2
    enc_se_channels: int = 64
    max_position_embeddings: int = 32768


@dataclass(frozen=True)
class VocoderConfig:
    """The part that makes sound of a spectrogram; names are those of config.json's `bigvgan_config`."""

    mel_dim: int = 80
    upsample_initial_channel: int = 1536
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    upsample_rates: tuple[int, ...] = (5, 3, 2, 2, 2, 2)
    upsample_kernel_sizes: tuple[int, ...] = (11, 7, 4, 4, 4, 4)

    @property
    def hop(self) -> int:
        """Samples a spectrogram frame."""
        total = 1
        for rate in self.upsample_rates:
            total *= rate
        return total


@dataclass(frozen=True)
class OmniConfig:
    """All of it; a part that a folder hasn't is None."""

    thinker: ThinkerConfig | None = None
    talker: TalkerConfig | None = None
    dit: DiTConfig | None = None
    vocoder: VocoderConfig | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "config.json") -> OmniConfig:
        """Reads a config.json: of the whole model, of a thinker or of a talker alone.

        Raises:
            ModelError: another model, a quantized one, or a setting that isn't computed here.
        """
        kind = values.get("model_type", FAMILY)
        if quantized := values.get("quantization_config"):
            method = str(quantized.get("quant_method", "")).upper() or "an unknown method"
            raise ModelError(
                f"{where}: its weights are quantized ({method}), which isn't read here: take the unquantized folder"
            )
        if kind == f"{FAMILY}_thinker":
            return cls(thinker=_thinker(values, where))
        if kind == f"{FAMILY}_talker":
            return cls(talker=_talker(values, where))
        if kind != FAMILY:
            raise ModelError(f"{where}: it is a {kind!r}; known here are {FAMILY}, {FAMILY}_thinker, {FAMILY}_talker")
        wave = values.get("token2wav_config") or {}
        speaks = values.get("enable_audio_output", True) and "talker_config" in values
        return cls(
            _thinker(values.get("thinker_config", {}), where),
            _talker(values["talker_config"], where) if speaks else None,
            sizes(DiTConfig, wave.get("dit_config", {}), where) if speaks else None,
            sizes(VocoderConfig, wave.get("bigvgan_config", {}), where) if speaks else None,
        )


def _thinker(values: Mapping[str, Any], where: str) -> ThinkerConfig:
    audio, vision, text = (values.get(f"{name}_config", {}) for name in ("audio", "vision", "text"))
    tied = {"tie_word_embeddings": values.get("tie_word_embeddings", False)}
    return ThinkerConfig(
        _text({**text, **tied}, where), sizes(AudioTowerConfig, audio, where), sizes(VisionConfig, vision, where),
        sizes(ThinkerTokens, values, where), _sections(text), values.get("position_id_per_seconds", PER_SECOND),
        values.get("seconds_per_chunk", CHUNK_SECONDS), tuple(values.get("pixels", (MIN_PIXELS, MAX_PIXELS))),
        tuple(values.get("video_pixels", VIDEO_PIXELS)), values.get("system_prompt", PROMPT),
    )  # fmt: skip


def _talker(values: Mapping[str, Any], where: str) -> TalkerConfig:
    if "embedding_size" not in values:
        raise ModelError(f"{where}: the talker's config doesn't say embedding_size")
    tokens = sizes(TalkerTokens, values, where)
    return TalkerConfig(_text(values, where), values["embedding_size"], tokens, _sections(values))


def _text(values: Mapping[str, Any], where: str) -> LlamaConfig:
    """Both transformers are those of Qwen2."""
    given = {**values, "model_type": "qwen2"}
    if given.get("rope_theta") is None and not _rope(values).get("rope_theta"):
        given["rope_theta"] = 1000000.0
    if given.get("rope_theta") is None:
        given.pop("rope_theta", None)
    return LlamaConfig.from_values(given, where)


def _rope(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return values.get("rope_parameters") or values.get("rope_scaling") or {}


def _sections(values: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(_rope(values).get("mrope_section", SECTIONS))


def sizes(kind: type[Kind], values: Mapping[str, Any], where: str) -> Kind:
    """A dataclass from what a config.json says under its fields' names; lists become tuples."""
    for name, value in _GIVEN.items():
        if values.get(name, value) != value:
            raise ModelError(f"{where}: {name} {values[name]!r} is not supported, only {value!r}")
    known = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: _tuples(value) for name, value in values.items() if name in known})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(each) for each in value) if isinstance(value, list) else value
