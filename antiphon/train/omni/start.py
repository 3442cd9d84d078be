"""What the stages of Qwen2.5-Omni have in common: the model that they start from, and conversations in files.

A file has a line of JSON a conversation: `{"messages": [...]}`, as `antiphon.models.omni.processor` takes them; files
that are named in it lie beside it or have whole paths. What a stage needs besides stands in the same line.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from antiphon import hub
from antiphon.errors import ConfigError, DataError
from antiphon.models.omni import weights
from antiphon.models.omni.config import OmniConfig
from antiphon.models.omni.model import Omni
from antiphon.models.omni.parts import part_weights
from antiphon.models.omni.processor import AFTER, REPLY, OmniProcessor
from antiphon.models.omni.thinker import Given, Words

MEDIA = ("image", "audio", "video")


@dataclass
class OmniStart:
    """The model that is trained, all of it; what of it trains is the recipe's `trainable`."""

    folder: str | None = None
    """Name or folder of the model to start from."""
    sizes: dict[str, Any] = field(default_factory=dict)
    """From scratch: what its config.json is to say, in the published form."""
    tokenizer: str | None = None
    """Folder with the tokenizer.json; None for the model's own."""


class TrainableOmni(Omni):
    """A model that later stages start from by its folder."""

    def read_weights(self, folder: Path | str) -> dict[str, Tensor]:
        """See `antiphon.train.task.ReadsFolders`."""
        return {name: weight.float() for name, weight in weights.read(folder)[2].items()}


def build(start: OmniStart) -> TrainableOmni:
    """The model that a recipe starts from.

    Raises:
        ConfigError: neither a folder nor sizes, or a folder of a model that isn't trained here.
    """
    if start.folder:
        loaded = weights.load(hub.folder(start.folder))
        if not isinstance(loaded.config, OmniConfig):
            raise ConfigError(f"model.folder: {start.folder} is a Qwen3-Omni, which isn't trained here: give a 2.5")
        model = TrainableOmni(loaded.config, loaded.published)
        model.load_state_dict(loaded.state_dict())
        model.voices = loaded.voices
        return model
    if not start.sizes:
        raise ConfigError("model: give the folder to start from, or sizes to start from scratch")
    model = TrainableOmni(OmniConfig.from_dict(start.sizes, "model.sizes"), dict(start.sizes))
    model.load_state_dict(part_weights(start.sizes.get("parts", {}), model.config), strict=False)
    return model


def processor_of(start: OmniStart, model: Omni) -> OmniProcessor:
    """What makes parts of messages."""
    folder = start.tokenizer or start.folder
    if folder is None or model.config.thinker is None:
        raise ConfigError("model.tokenizer names no folder with a tokenizer.json, or the model has no thinker")
    return OmniProcessor.from_pretrained(hub.folder(folder), model.config.thinker)


class Conversations:
    """The lines of a file, see the module.

    Raises:
        DataError: it can't be read, or is empty.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
            self.lines: list[dict[str, Any]] = [json.loads(line) for line in lines if line.strip()]
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is no file of conversations, a line of JSON each: {error}") from error
        if not self.lines:
            raise DataError(f"{path} holds no conversations")

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> dict[str, Any]:
        line = dict(self.lines[index])
        if "messages" in line:
            line["messages"] = [self._message(message) for message in line["messages"]]
        for name in MEDIA:
            if isinstance(line.get(name), str):
                line[name] = str(self.path.parent / line[name])
        return line

    def _message(self, message: dict[str, Any]) -> dict[str, Any]:
        if isinstance(message["content"], str):
            return message
        contents = [
            {key: str(self.path.parent / value) if key in MEDIA else value for key, value in content.items()}
            for content in message["content"]
        ]
        return {**message, "content": contents}


@dataclass
class Example:
    """A conversation as parts, and which of them are replies, learnt from."""

    parts: list[Given]
    learnt: list[bool]


def example(processor: OmniProcessor, messages: Sequence[dict[str, Any]], own_sound: bool = False) -> Example:
    """Parts of a conversation; of the assistant's messages, the words and the end of the turn are learnt from."""
    made = Example([], [])
    for message in messages:
        if message["role"] != "assistant":
            parts = processor([message], own_sound, reply=False)
            made.parts += parts
            made.learnt += [False] * len(parts)
            continue
        words, (end, *rest) = reply_tokens(processor, message["content"]), marks(processor, AFTER)
        made.parts += [Words(torch.tensor(each)) for each in (marks(processor, REPLY), [*words, end], rest) if each]
        made.learnt += [False, True, False][: 3 if rest else 2]
    return made


def reply_tokens(processor: OmniProcessor, text: str) -> list[int]:
    """The tokens of what the assistant says."""
    return processor.plain.encode(text, add_special_tokens=False).ids


def marks(processor: OmniProcessor, text: str) -> list[int]:
    """The tokens of what stands around turns."""
    return processor.tokenizer.encode(text, add_special_tokens=False).ids
