"""What the figure groups share: the model, the judge and the material, each made when first asked for and then kept."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tqdm import tqdm

from antiphon.audio.io import Audio
from antiphon.evals.asr_judge import MOST, Judge
from antiphon.evals.assistant import material
from antiphon.evals.assistant.material import Clip
from antiphon.evals.cache import Memo, key_of
from antiphon.evals.metrics.speech import dnsmos_all
from antiphon.evals.report import available_cores


@dataclass(frozen=True)
class MiniConfig:
    """How to measure.

    Attributes:
        model: a preset, a folder or a hub id.
        parts: parts of it to replace: role -> folder or hub id.
        texts: folder of the text sources; needed for what is said in our voice, and to make the test questions.
        questions: the set of test questions; None is a folder in the cache.
        asterisk: where Debian's Asterisk prompts are unpacked; None is a folder in the cache.
        only: groups or figures to measure; empty measures all.
        n: most items a figure; None is each figure's own number.
        keep: folder for every single item (transcripts, replies, sounds), to see what is wrong; None keeps none.
        seed: of everything sampled.
    """

    model: str = "mini"
    parts: dict[str, str] = field(default_factory=dict)
    texts: Path | None = None
    questions: Path | None = None
    asterisk: Path | None = None
    only: tuple[str, ...] = ()
    n: int | None = None
    keep: Path | None = None
    seed: int = 0


class Bench:
    """One run of the evaluation.

    Args:
        config: how to measure.
    """

    def __init__(self, config: MiniConfig) -> None:
        self.config = config
        self._teacher: dict[int, list[Clip]] = {}

    @cached_property
    def model(self):
        """The model that is measured."""
        import antiphon

        return antiphon.load(self.config.model, **self.config.parts)

    @cached_property
    def judge(self) -> Judge:
        """Whisper base."""
        return Judge.from_pretrained()

    @cached_property
    def bare(self):
        """The untouched language model: (transformers model, tokenizer)."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from antiphon import hub

        folder = hub.folder(self.config.parts.get("llm", "llm"))
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        return model, AutoTokenizer.from_pretrained(folder)

    @cached_property
    def memo(self) -> Memo:
        """References that were measured before."""
        return Memo(self.cached("references.jsonl"))

    def cached(self, name: str) -> Path:
        """A place for material in the user's cache."""
        from antiphon import hub

        return hub.cache_dir() / "eval" / name

    def questions(self, n: int) -> list[Clip]:
        """Test questions by voices never trained on."""
        return material.unseen_questions(self.config.questions or self.cached("unseen-voices"), self.config.texts, n)

    def prompts(self, n: int) -> list[Clip]:
        """Real recordings."""
        return material.asterisk_prompts(self.config.asterisk or self.cached("asterisk"), n)

    def teacher(self, n: int) -> list[Clip]:
        """Sentences of an assistant by the teacher of our voice."""
        if n not in self._teacher:
            self._teacher[n] = material.teacher_speaks(material.assistant_texts(self.config.texts, n))
        return self._teacher[n]

    def judged(self, title: str, clips: Sequence[Audio], reference: bool = False) -> list[str]:
        """The judge's transcripts, with progress; those of references are made once and for all."""
        with tqdm(total=len(clips), desc=f"  judge hears {title}", unit="clip", file=sys.stderr, leave=False) as bar:

            def hear(rows: list[int]) -> list[str]:
                return self.judge.transcribe([clips[i] for i in rows], progress=bar.update)

            if not reference:
                return hear(list(range(len(clips))))
            return self.memo.all([key_of(f"whisper-base, {MOST} tokens", clip) for clip in clips], hear)

    def dnsmos(self, title: str, clips: Sequence[Audio], reference: bool = False) -> list[float]:
        """DNSMOS OVRL of each clip, with progress; those of references are made once and for all."""
        with tqdm(total=len(clips), desc=f"  DNSMOS of {title}", unit="clip", file=sys.stderr, leave=False) as bar:

            def score(rows: list[int]) -> list[float]:
                return dnsmos_all([clips[i] for i in rows], available_cores(), bar.update)

            if not reference:
                return score(list(range(len(clips))))
            return self.memo.all([key_of("dnsmos", clip) for clip in clips], score)

    def each(self, title: str, items: Iterable, work: Callable[[Any], Any]) -> list:
        """`work` of every item, with progress."""
        return [work(item) for item in tqdm(list(items), desc=f"  {title}", file=sys.stderr, leave=False)]

    def save_items(self, group: str, rows: Iterable[dict[str, Any]]) -> None:
        """Keeps every single item of a group as JSON lines, where that was asked for."""
        if self.config.keep is not None:
            self.config.keep.mkdir(parents=True, exist_ok=True)
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (self.config.keep / f"{group}.jsonl").write_text(lines, encoding="utf-8")

    def save_sound(self, name: str, audio: Audio) -> None:
        """Keeps a sound as a wav file, where that was asked for."""
        if self.config.keep is not None:
            audio.save(self.config.keep / f"{name}.wav")
