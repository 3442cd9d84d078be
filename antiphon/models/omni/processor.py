"""Messages as people give them, with files of sound, pictures and videos, to the parts that the thinker reads.

    processor = OmniProcessor.from_pretrained(folder, model.config.thinker)
    parts = processor([{"role": "user", "content": [
        {"type": "video", "video": "clip.mp4"}, {"type": "text", "text": "What moves there?"},
    ]}])

Contents are those of the published processor: text, image, audio, video. What a person wrote is never taken for one of
the marks that stand around turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from antiphon.audio.given import as_audio
from antiphon.audio.mel import HOP, SAMPLE_RATE
from antiphon.encoders.vision.pictures import load_picture, patchify, scaled
from antiphon.encoders.vision.video import FPS, MAX_PICTURES, has_sound, load_video
from antiphon.encoders.whisper.features import whisper_mel
from antiphon.errors import AudioError, DataError, ModelError
from antiphon.hub.bpe import VOCABULARY, read_bpe
from antiphon.models.omni.config import ThinkerConfig
from antiphon.models.omni.parts import tokenizer_of
from antiphon.models.omni.thinker import Encoded, Given, Heard, Seen, Watched, Words

BEFORE, AFTER, REPLY = "<|im_start|>{role}\n", "<|im_end|>\n", "<|im_start|>assistant\n"
ALL_PIXELS = 2 * 24576 * 28 * 28  # of all of them


class OmniProcessor:
    """See the module.

    Args:
        tokenizer: of the text.
        config: of the thinker.
        fps: pictures of a video a second.
    """

    def __init__(self, tokenizer: Tokenizer, config: ThinkerConfig, fps: float = FPS):
        self.tokenizer, self.config, self.fps = tokenizer, config, fps
        self.plain = Tokenizer.from_str(tokenizer.to_str())
        self.plain.encode_special_tokens = True  # a person's words are words

    @classmethod
    def from_pretrained(cls, folder: Path | str, config: ThinkerConfig) -> OmniProcessor:
        """With a folder's tokenizer.json, its vocab.json and merges.txt (`antiphon.hub.bpe`), or the tokenizer.json
        of the language model that the folder names.

        Raises:
            ModelError: there is none that can be read.
            HubError: vocab.json or what belongs to it can't be read.
        """
        if not (Path(folder) / "tokenizer.json").is_file() and (Path(folder) / VOCABULARY).is_file():
            return cls(read_bpe(Path(folder)), config)
        path = tokenizer_of(Path(folder))
        try:
            return cls(Tokenizer.from_file(str(path)), config)
        except Exception as error:  # the library raises plain Exceptions
            raise ModelError(f"{path} is no tokenizer that can be read ({error})") from error

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """Tokens that end a reply.

        Raises:
            ModelError: the tokenizer has none.
        """
        known = (self.tokenizer.token_to_id(name) for name in ("<|im_end|>", "<|endoftext|>"))
        if found := tuple(token for token in known if token is not None):
            return found
        raise ModelError("The tokenizer has no <|im_end|>, which ends turns: it isn't that of a Qwen2.5-Omni.")

    def opening(self, instructions: str | None = None) -> list[dict[str, Any]]:
        """The messages that a conversation begins with: its instructions, or the model's own system prompt, if any."""
        prompt = instructions or self.config.prompt
        return [{"role": "system", "content": prompt}] if prompt else []

    def __call__(
        self, messages: Sequence[Mapping[str, Any]], own_sound: bool = False, reply: bool = True
    ) -> list[Given]:
        """The parts of a conversation.

        Args:
            messages: role and content each: a text, or a list of contents.
            own_sound: whether videos are heard, too.
            reply: whether the beginning of a reply stands behind them.

        Raises:
            DataError: a content of an unknown kind, or a picture or video that can't be read.
            AudioError: a sound that can't be read.
        """
        parts: list[Given] = []
        ids: list[int] = []

        def words() -> None:
            if ids:
                parts.append(Words(torch.tensor(ids)))
                ids.clear()

        for message in messages:
            ids += self._marks(BEFORE.format(role=message["role"]))
            content = message["content"]
            for each in [{"type": "text", "text": content}] if isinstance(content, str) else content:
                if each.get("type") == "text":
                    ids += self.plain.encode(each["text"], add_special_tokens=False).ids
                else:
                    words()
                    parts.append(self.part(each, own_sound))
            ids += self._marks(AFTER)
        ids += self._marks(REPLY) if reply else []
        words()
        return parts

    def part(self, content: Mapping[str, Any], own_sound: bool = False) -> Given:
        """A content that is no text."""
        kind = content.get("type")
        if kind == "image":
            return self.picture(content["image"])
        if kind == "audio" and "heard" in content:
            return Encoded(content["heard"])
        if kind == "audio":
            return self.sound(content["audio"], content.get("sample_rate"))
        if kind == "video":
            return self.video(content["video"], own_sound)
        raise DataError(f"a content of the kind {kind!r} isn't known: give text, image, audio or video")

    def sound(self, source: Any, sample_rate: int | None = None) -> Heard:
        """A sound: a file, an `Audio`, or samples at a rate."""
        return Heard(self._mel(source, sample_rate))

    def picture(self, source: Any) -> Seen:
        """A picture: a file, its bytes, or a tensor [3, height, width]."""
        picture = scaled(load_picture(source), self.config.vision, *self.config.pixels)
        return Seen(*patchify(picture[None], self.config.vision))

    def video(self, source: Any, own_sound: bool = False) -> Watched:
        """A video: a file or its bytes; with `own_sound` heard, too, where there is something to hear."""
        if own_sound and isinstance(source, bytes):
            raise DataError("a video that is to be heard, too, must be a file")
        shrink = partial(_shrunk, config=self.config)
        pictures, seconds = load_video(source, self.fps, MAX_PICTURES, shrink)
        patches, height, width = patchify(pictures, self.config.vision)
        mel = self._mel(source) if own_sound and has_sound(source) else None
        return Watched(patches, height, width, seconds * self.config.vision.temporal_patch_size, mel)

    def _mel(self, source: Any, sample_rate: int | None = None) -> Tensor:
        audio = as_audio(source, sample_rate).resample(SAMPLE_RATE)
        samples = audio.mono().samples[None]
        count = samples.shape[1]
        mel = whisper_mel(samples, torch.tensor([count]), self.config.audio.num_mel_bins)[0, :, : -(-count // HOP)]
        if mel.shape[1] < 3:
            raise AudioError(f"a sound of {count} samples is too short to be heard: at least 30 ms are needed")
        return mel

    def _marks(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids


def _shrunk(picture: Tensor, expected: int, config: ThinkerConfig) -> Tensor:
    least, most = config.video_pixels
    return scaled(picture, config.vision, least, max(least, min(most, ALL_PIXELS // expected)))
