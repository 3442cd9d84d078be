"""One run of `antiphon eval assistant`: the assistant that is measured, and what it is measured on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from antiphon.evals.assistant import material
from antiphon.evals.assistant.asterisk import asterisk_prompts
from antiphon.evals.assistant.material import Clip
from antiphon.evals.harness import EvalConfig, Evaluation
from antiphon.evals.rows import spread


@dataclass(frozen=True)
class AssistantConfig(EvalConfig):
    """How to measure; see also `EvalConfig`.

    Attributes:
        texts: folder of the text sources; needed for what is said in our voice, and to make the test questions.
        questions: the set of test questions; None is a folder in the cache.
        asterisk: where Debian's Asterisk prompts are unpacked; None is a folder in the cache.
        benchmarks: folder of public question sets (see `antiphon.evals.assistant.benchmarks`).
        reference: the weights that a packed thinker was made from, as a GGUF file or a folder.
    """

    texts: Path | None = None
    questions: Path | None = None
    asterisk: Path | None = None
    benchmarks: Path | None = None
    reference: Path | None = None


class AssistantEvaluation(Evaluation):
    """What the assistant's figures share.

    Args:
        config: how to measure.
    """

    config: AssistantConfig

    def __init__(self, config: AssistantConfig) -> None:
        super().__init__(config)
        self._teacher: dict[int, list[Clip]] = {}

    def bar(self, **bars: str) -> str | None:
        """What is asked of the preset that is measured; nothing of another model."""
        return bars.get(self.config.model)

    @cached_property
    def thinker_folder(self) -> Path:
        """Where the thinker was read from."""
        return self.model.folders["thinker"]

    @cached_property
    def thinker_name(self) -> str:
        """Which thinker results are of: its folder, and when that was made."""
        config = self.thinker_folder / "config.json"
        return f"{self.thinker_folder} {config.stat().st_mtime_ns}"

    @cached_property
    def ends(self) -> list[int]:
        """Ids of the tokens that end the thinker's turn."""
        return sorted(self.model.thinker.ends)

    def questions(self, n: int) -> list[Clip]:
        """Test questions by voices never trained on."""
        return material.unseen_questions(self.config.questions or self.cached("unseen-voices"), self.config.texts, n)

    def prompts(self, n: int) -> list[Clip]:
        """Real recordings."""
        prompts = asterisk_prompts(self.config.asterisk or self.cached("asterisk"))
        return spread([clip for clip in prompts if clip.audio.duration <= material.MAX_SECONDS], n)

    def teacher(self, n: int) -> list[Clip]:
        """Sentences of an assistant by the teacher of our voice."""
        if n not in self._teacher:
            self._teacher[n] = material.teacher_speaks(material.assistant_texts(self.config.texts, n))
        return self._teacher[n]


def fingerprints(config: EvalConfig) -> dict[str, str]:
    """sha256 (first 12 digits) of weights, part by part: which model a figure is of.

    Of those that this project trained and those that replace a part; a published part is told by its name.
    """
    from antiphon import hub

    presets = {preset.name: preset for preset in hub.PRESETS}
    found = {}
    for role, part in presets.get(config.model, presets["mini"]).parts.items():
        if role in config.parts:
            folder = hub.folder(config.parts[role])
        elif part.shipped:
            folder = hub.present(part)
        else:
            found[role] = part.name
            continue
        if folder is not None:
            found[role] = fingerprint(folder)[:12]
    return found


def fingerprint(source: Path) -> str:
    """sha256 of a GGUF file, or of a folder's weights."""
    files = sorted(source.glob("*.safetensors")) if source.is_dir() else [source]
    hashes = []
    for file in files:
        with file.open("rb") as opened:
            hashes.append(hashlib.file_digest(opened, "sha256").digest())
    return hashes[0].hex() if len(hashes) == 1 else hashlib.sha256(b"".join(hashes)).hexdigest()
