"""Mining: a model answers each prompt several times, each answer is measured and kept.

    mine(prompts, TalkerDraws(synthesizer), [hears, pauses], MineConfig(Path("pairs/talker"), samples=4))

What is drawn follows from the prompt, the sample's number and the seed, so that a set comes out the same however often
its making was stopped and taken up again.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from antiphon.audio.io import Audio
from antiphon.data.preferences.samples import Sample, SampleWriter
from antiphon.data.store import writing
from antiphon.errors import DataError


@dataclass(frozen=True)
class Prompt:
    """What a model is to answer.

    Attributes:
        id: unique.
        text: what is to be said, or asked.
        about: what a measure must know of it, such as the accepted answers.
    """

    id: str
    text: str
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Drawn:
    """One answer.

    Attributes:
        array: what was drawn, [streams, length].
        answer: in words, where it is text.
        audio: how it sounds, where it does.
        about: what training must know of the prompt (see `Sample.about`).
    """

    array: NDArray[np.integer]
    answer: str = ""
    audio: Audio | None = None
    about: dict[str, Any] = field(default_factory=dict)


Draw = Callable[[Sequence[Prompt], int], list[list[Drawn]]]
"""(prompts, how many) -> the answers to each; none to a prompt that can't be answered."""
Measure = Callable[[Sequence[Prompt], Sequence[Drawn]], list[dict[str, Any]]]
"""(the prompt of each answer, answers) -> what is measured of each, by name."""


@dataclass(frozen=True)
class MineConfig:
    """How much is mined, and where to.

    Attributes:
        out: the set's folder.
        samples: answers to a prompt.
        count: prompts; 0 takes all.
        batch: prompts at once.
        about: how answers are drawn, which the set remembers.
    """

    out: Path
    samples: int = 4
    count: int = 0
    batch: int = 8
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise DataError(f"{self.samples} samples make no pair: ask for at least 2.")


def mine(prompts: Iterable[Prompt], draw: Draw, measures: Sequence[Measure], config: MineConfig) -> Path:
    """Mines the prompts that the set hasn't yet; gives its folder.

    Raises:
        DataError: there are no prompts, or the set can't be written, or was drawn in another way.
    """
    wanted = list(prompts)[: config.count or None]
    if not wanted:
        raise DataError("There are no prompts to mine: give other texts or questions.")
    with SampleWriter(config.out, {"samples": config.samples, **config.about}) as writer:
        todo = [prompt for prompt in wanted if not _is_done(writer, prompt.id, config.samples)]
        with tqdm(total=len(wanted), initial=len(wanted) - len(todo), unit="prompt", file=sys.stderr) as bar:
            for at in range(0, len(todo), config.batch):
                group = todo[at : at + config.batch]
                _mine(writer, group, draw(group, config.samples), measures, config.out)
                bar.update(len(group))
    return config.out


def seed_of(prompt: Prompt, number: int, seed: int) -> int:
    """The chance of a prompt's sample: another for each, and always the same."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{prompt.id}/{number}".encode()).digest()[:4], "big")


def _is_done(writer: SampleWriter, prompt: str, samples: int) -> bool:
    return prompt in writer.skipped or all(f"{prompt}-{number}" in writer.done for number in range(samples))


def _mine(
    writer: SampleWriter, prompts: Sequence[Prompt], answers: Sequence[Sequence[Drawn]], measures: Sequence[Measure],
    folder: Path,
) -> None:  # fmt: skip
    """Measures and writes the answers to a few prompts: a shard, so that no prompt is left half done."""
    asked = [prompt for prompt, several in zip(prompts, answers, strict=True) for _ in several]
    flat = [answer for several in answers for answer in several]
    found: list[dict[str, Any]] = [{} for _ in flat]
    for measure in measures if flat else ():
        for one, values in zip(found, measure(asked, flat), strict=True):
            one |= values
    measured = iter(found)
    for prompt, several in zip(prompts, answers):
        if not several:
            writer.skip(prompt.id, "the model has no answer to it", text=prompt.text)
        for number, answer in enumerate(several):
            values, name = next(measured), f"{prompt.id}-{number}"
            if name not in writer.done:
                file = _save_sound(answer.audio, folder, name)
                writer.add(
                    Sample(name, prompt.id, prompt.text, answer.answer, values, answer.about, file), answer.array
                )
    writer.flush()


def _save_sound(audio: Audio | None, folder: Path, name: str) -> str:
    if audio is None:
        return ""
    with writing(folder):
        (folder / "audio").mkdir(exist_ok=True)
        audio.save(folder / "audio" / f"{name}.wav")
    return f"audio/{name}.wav"
