"""Presets: named models, part by part, and what each takes to have and to run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from antiphon.errors import HubError
from antiphon.hub.parts import (
    ADAPTER,
    CODEC,
    CODEC_VOICES,
    DUPLEX,
    LORA,
    OMNI,
    PHONE_TIMES,
    QWEN_CODER_0_5B,
    QWEN_CODER_1_5B,
    SCENE,
    SMART_TURN,
    SMOLLM2_135M_INSTRUCT,
    TALKER,
    TURN_TAKING,
    WHISPER_BASE,
    Part,
)

PROGRAM_MEMORY = 450_000_000  # bytes that Python and the libraries take


@dataclass(frozen=True)
class Preset:
    """A named model: which part plays which role.

    Attributes:
        name: of the preset.
        title: what it is, in words.
        parts: role -> part.
        family: the kind of model that they make, as a saved model's config.json says it.
    """

    name: str
    title: str
    parts: dict[str, Part]
    family: str = "thinker-talker"

    @property
    def fetched(self) -> tuple[Part, ...]:
        """The parts that don't ship, each once."""
        return tuple(part for part in dict.fromkeys(self.parts.values()) if not part.shipped)

    @property
    def memory(self) -> int:
        """Bytes that it takes while it is talked to, the program included."""
        return PROGRAM_MEMORY + sum(part.memory for part in dict.fromkeys(self.parts.values()))


def needs(parts: Iterable[Part]) -> tuple[int, int]:
    """Bytes to download for parts, and bytes of disk while they are made, one after the other."""
    kept = download = most = 0
    for part in parts:
        download += part.size
        most = max(most, kept + part.disk)
        kept += part.disk - part.size - (part.joined.size if part.joined else 0)  # what is left when it is made
    return download, most


_HEARING = {"asr": WHISPER_BASE, "judge": WHISPER_BASE, "turns": SMART_TURN, "turn-taking": TURN_TAKING}
_SCENE = {"scene": SCENE}
_SPEAKING = {"codec": CODEC, "talker": TALKER}

BASE = Preset(
    "base",
    "Qwen2.5-Coder-1.5B thinks: the most able one",
    {**_HEARING, **_SCENE, "thinker": QWEN_CODER_1_5B, **_SPEAKING},
)
SMALL = Preset(
    "small",
    "Qwen2.5-Coder-0.5B thinks: where memory is short",
    {**_HEARING, **_SCENE, "thinker": QWEN_CODER_0_5B, **_SPEAKING},
)
MINI = Preset(
    "mini",
    "SmolLM2-135M thinks, with adapters trained here: for the smallest machines",
    {**_HEARING, "thinker": SMOLLM2_135M_INSTRUCT, "adapter": ADAPTER, "lora": LORA, **_SPEAKING},
)
MINI_DUPLEX = Preset(
    "mini-duplex",
    "listens while it speaks; trained here",
    {"asr": WHISPER_BASE, "duplex": DUPLEX, "codec": CODEC},
    family="moshi",
)

OMNI_SMALL = Preset(
    "omni",
    "sees generated pictures and videos, names sounds; trained here: a proof, and a start for training",
    {"omni": OMNI, "thinker": SMOLLM2_135M_INSTRUCT, "recognizer": WHISPER_BASE, **_SPEAKING},
    family="omni",
)

OTHERS = (CODEC_VOICES, PHONE_TIMES)  # parts of no preset, for training
PRESETS = (BASE, SMALL, MINI, MINI_DUPLEX, OMNI_SMALL)
EARLIER_ROLES = {"ears": "asr", "brain": "thinker", "llm": "thinker"}  # what roles were called; still understood


def role_of(name: str) -> str:
    """Today's name of a role."""
    return EARLIER_ROLES.get(name, name)


def part_named(name: str) -> Part | None:
    """A part of any preset, or of none, by its own name."""
    parts = (*(part for each in PRESETS for part in each.parts.values()), *OTHERS)
    return next((part for part in parts if part.name == name), None)


def preset(name: str) -> Preset:
    """Finds a preset.

    Raises:
        HubError: there is none of that name.
    """
    for candidate in PRESETS:
        if candidate.name == name:
            return candidate
    raise HubError(f"There is no preset {name!r}. Presets: {', '.join(each.name for each in PRESETS)}.")
