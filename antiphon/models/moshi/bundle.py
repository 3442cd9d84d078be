"""A full-duplex model in one piece: the Moshi that listens and speaks, the codec of both streams, the text's pieces.

    duplex = Duplex.from_pretrained("weights/duplex")     # config.json says which codec it was trained with
    engine = DuplexEngine(duplex)                         # antiphon.dialogue.duplex.engine: conversations

Its folder holds config.json (the Moshi's, and "codec": the name of the codec), model.safetensors and tokenizer.json;
and generation_config.json, how this model is best drawn from (the fields of `MoshiSampling`), where that is known.
"""

from __future__ import annotations

import dataclasses
import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from antiphon import codecs
from antiphon.encoders.whisper.frames import FrameEncoder
from antiphon.errors import ModelError
from antiphon.hub.folders import folder as hub_folder
from antiphon.models.moshi.config import MoshiSampling
from antiphon.models.moshi.model import Moshi
from antiphon.models.moshi.weights import load

if TYPE_CHECKING:
    from antiphon.codecs.base import StreamingCodec
    from antiphon.models.moshi.text_tokenizer import TextTokenizer

SAMPLING_FILE = "generation_config.json"
SETTLED = 16  # frames of silence after which a codec says nothing but that it is silent


class Duplex:
    """Weights alone: conversations are states, see `antiphon.dialogue.duplex.engine.DuplexEngine`.

    Args:
        moshi: predicts text and own codes.
        codec: of both streams; causal. It may have more codebooks than the Moshi uses.
        pieces: of the text.
        sampling: how text and codes are drawn where nothing else is asked for.
        encoder: folder of the speech encoder that a Moshi with `hearing` hears by; None for the one that its config
            names, fetched when conversations begin.

    Raises:
        ModelError: they don't fit.
    """

    def __init__(
        self,
        moshi: Moshi,
        codec: StreamingCodec,
        pieces: TextTokenizer,
        sampling: MoshiSampling | None = None,
        encoder: Path | str | None = None,
    ):
        config = moshi.config
        used = max(config.codebooks, config.user_codebooks)
        if codec.codebooks < used or codec.codebook_size != config.card:
            raise ModelError(
                f"The model has {used} codebooks of {config.card} codes a stream, the codec {codec.codebooks} of "
                f"{codec.codebook_size}: it was trained with another codec."
            )
        if not hasattr(codec, "encode_step") or codec.channels != 1:
            raise ModelError("A duplex model needs a causal mono codec, one with encode_step and decode_step.")
        self.moshi, self.codec, self.pieces, self.sampling = moshi, codec, pieces, sampling or MoshiSampling()
        self.encoder = encoder

    @classmethod
    def from_pretrained(
        cls,
        folder: Path | str,
        codec: StreamingCodec | Path | str | None = None,
        encoder: Path | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Duplex:
        """Reads a folder.

        Args:
            folder: see the module; or a published Moshi's, with its text tokenizer beside it.
            codec: the codec, or its folder or name; None takes the one that config.json names.
            encoder: see the class.
            dtype: of the Moshi's weights; the codec's stay float32.

        Raises:
            ModelError: parts that don't fit.
            AntiphonError: a part that can't be read.
        """
        from antiphon.models.moshi.text_tokenizer import TextTokenizer

        folder = Path(folder)
        if codec is None:
            codec = codec_name(folder)
        if isinstance(codec, (str, Path)):
            codec = codecs.load(codec)
        sampling = _sampling(folder / SAMPLING_FILE)
        return cls(load(folder, dtype), codec, TextTokenizer.from_pretrained(folder), sampling, encoder)

    def save_pretrained(self, folder: Path | str, codec: str = "mini", dtype: torch.dtype = torch.float16) -> None:
        """Writes the folder.

        Args:
            folder: to be made.
            codec: the name by which the codec is found again; it isn't written itself.
            dtype: of the weights in the file: float16, or int8 for half the size; see `Moshi.save_pretrained`.
        """
        folder = Path(folder)
        self.moshi.save_pretrained(folder, dtype)
        self.pieces.save(folder)
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"codec": codec}, indent=2) + "\n")
        (folder / SAMPLING_FILE).write_text(json.dumps(dataclasses.asdict(self.sampling), indent=2) + "\n")

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.codec.sample_rate

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.codec.frame_rate

    @property
    def frame_samples(self) -> int:
        """Samples a frame."""
        return round(self.codec.sample_rate / self.codec.frame_rate)

    @property
    def delay(self) -> int:
        """Frames by which what the model says comes out later than it is decided upon: the largest acoustic delay."""
        return self.moshi.config.lag

    def to(self, device: torch.device | str) -> Duplex:
        """Moves the weights; before conversations begin."""
        self.moshi.to(device)
        self.codec.to(device)
        self.__dict__.pop("audio_encoder", None)  # made anew, there
        self.__dict__.pop("silence", None)
        return self

    @property
    def device(self) -> torch.device:
        """Where the weights are, and so the conversations."""
        return next(self.moshi.parameters()).device

    @cached_property
    def audio_encoder(self) -> FrameEncoder | None:
        """Hears the user for a Moshi with `hearing`; None for one without.

        Raises:
            ModelError: the encoder's frames aren't what the model was trained with.
            AntiphonError: it can't be had.
        """
        hearing = self.moshi.config.hearing
        if hearing is None:
            return None
        place = hub_folder(hearing.encoder) if self.encoder is None else self.encoder
        encoder = FrameEncoder.from_pretrained(place, self.sample_rate)
        encoder.encoder.to(self.device)
        if self.device.type == "cpu":
            encoder.pack()
        if (encoder.width, encoder.delay, encoder.frame_samples) != (hearing.width, hearing.delay, self.frame_samples):
            raise ModelError(
                f"{place} gives frames of {encoder.width} numbers and {encoder.frame_samples} samples, {encoder.delay} "
                f"steps late; the model hears {hearing.width} of {self.frame_samples}, {hearing.delay} late: it was "
                "trained with another encoder."
            )
        return encoder

    @cached_property
    def silence(self) -> Tensor:
        """The codes of a silent frame, [codebooks of the codec]."""
        audio = torch.zeros(1, 1, SETTLED * self.frame_samples, device=self.device)
        return self.codec.encode(audio)[0, :, -1]


def codec_name(folder: Path | str) -> str:
    """The codec that a duplex model's config.json names; Mimi where it names none (Kyutai's)."""
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} can't be read ({error}): it is no duplex model's folder.") from error
    return str(config.get("codec", "mimi"))


def _sampling(path: Path) -> MoshiSampling | None:
    """What a generation_config.json says of `MoshiSampling`'s fields; other libraries' are passed over."""
    if not path.is_file():
        return None
    try:
        known, fields = {field.name for field in dataclasses.fields(MoshiSampling)}, json.loads(path.read_text())
        return MoshiSampling(**{name: value for name, value in fields.items() if name in known})
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} doesn't say how to draw tokens ({error}).") from error
