"""seed-tts-eval (Anastassiou et al. 2024): is what a model reads aloud understood, and does it sound like the prompt?

The set lies in `seed_tts_eval/en/` of the data's folder as it is published: meta.lst with lines
utterance|prompt's words|prompt's sound|text. Its word error rate is that of run_wer.py: each text's own, then their
mean, case and punctuation aside. Its recogniser is Whisper large-v3 and its speaker network WavLM; here they are the
evaluations' own, which is told.
"""

from __future__ import annotations

import string
import time
import unicodedata
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from antiphon.audio.io import Audio, load
from antiphon.errors import AntiphonError, DataError, EvalError
from antiphon.evals.cache import ResultCache, key_of
from antiphon.evals.rows import spread
from antiphon.evals.tables.items import Item, Measured, mean_of, measured, name_of

SOURCE = "https://github.com/BytedanceSpeech/seed-tts-eval"
UTMOS_RATE = 16_000
NOT_RATED = "UTMOS is not measured: --utmos FILE with its weights as TorchScript"


class Speaks(Protocol):
    """What is measured."""

    def say(self, text: str) -> Audio:
        """A text, read aloud."""


def plain(text: str) -> str:
    """What counts as the same text: lower case, no punctuation but apostrophes.

    >>> plain("Well -  it's 5, isn't it?")
    "well it's 5 isn't it"
    """
    kept = "".join(
        sign
        for sign in text
        if sign == "'" or (sign not in string.punctuation and not unicodedata.category(sign).startswith("P"))
    )
    return kept.replace("  ", " ").lower()


def word_errors(said: str, heard: str) -> float:
    """Word error rate of one text; 1 where there is nothing to be said."""
    import jiwer

    reference = plain(said)
    return float(jiwer.wer(reference, plain(heard))) if reference.strip() else 1.0


def texts(data: Path) -> list[tuple[str, str, Path]]:
    """Name, text and prompt's sound of each utterance.

    Raises:
        DataError: not here, or in another layout.
    """
    table = data / "seed_tts_eval" / "en" / "meta.lst"
    if not table.is_file():
        raise DataError(f"seed_tts_en: not here (no {table}); to be had at {SOURCE}.")
    found = []
    for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), 1):
        parts = line.strip().split("|")
        if len(parts) not in (4, 5):
            raise DataError(f"{table}, line {number} isn't utterance|words|sound|text: get the set from {SOURCE}.")
        found.append((parts[0], parts[3], table.parent / parts[2]))
    return found


def measure_seed_tts(
    name: str,
    system: Speaks,
    data: Path,
    n: int | None = None,
    seed: int = 0,
    cache: ResultCache | None = None,
    known_as: str = "",
    utmos: Path | None = None,
    sounds: Path | None = None,
    judge: Any = None,
) -> tuple[Measured, list[Item]]:
    """Has a model read a set's texts aloud.

    Args:
        name: of the task.
        system: the model; it speaks in its own voice.
        data: folder of the sets.
        n: texts at most, at even distances over the set.
        seed: kept with the items.
        cache: of earlier figures.
        known_as: under which they are kept.
        utmos: TorchScript of UTMOS: takes a wave [1, samples] of 16 kHz, gives its rating; None leaves that out.
        sounds: folder for what is said.
        judge: the recogniser; None takes the evaluations' own.

    Raises:
        DataError: the set isn't there, or not as it is published.
        EvalError: UTMOS can't be opened.
    """
    from antiphon.evals.metrics.speaker import speaker_similarity

    found, cache, start = texts(data), cache or ResultCache(), time.perf_counter()
    rating = opened_utmos(utmos) if utmos is not None else None
    listens = lru_cache(maxsize=1)(lambda: judge or _judge())
    items = []
    for label, text, prompt in spread(found, n or len(found)):
        heard, score, more, fault = "", 0.0, {}, ""
        try:

            def made(_: list[int], text: str = text, prompt: Path = prompt, label: str = label) -> list[Any]:
                sound = system.say(text)
                if sounds is not None:
                    (sounds / name).mkdir(parents=True, exist_ok=True)
                    sound.save(sounds / name / f"{name_of(label)}.wav")
                similar = speaker_similarity(load(prompt), sound) if prompt.is_file() else None
                rated = float(rating(_wave(sound))) if rating is not None else None
                return [{"heard": listens().transcribe([sound])[0], "similarity": similar, "utmos": rated}]

            got = cache.get([key_of(known_as, name, text, label, str(utmos))], made)[0]
            heard, errors = got["heard"], word_errors(text, got["heard"])
            score = max(0.0, 1 - errors)
            more = {"wer": 100 * errors, "similarity": got["similarity"], "utmos": got["utmos"]}
        except AntiphonError as error:  # told, counted, and no reason to stop
            fault, more = str(error), {"wer": 100.0}
        items.append(Item(label, text, heard, text, score, seed, more, fault))
    notes = ["read in the model's own voice, not in the prompt's", "heard by Whisper base, voices by Resemblyzer"]
    figure = measured(
        items, mean_of("wer"), task=name, title="seed-tts-eval, English", row="speech", metric="WER", size=len(found),
        seconds=time.perf_counter() - start, notes=(*notes, *([] if utmos else [NOT_RATED])),
    )  # fmt: skip
    means = {key: mean_of(key)(items) for key in ("similarity", "utmos")}
    return replace(figure, more={key: value for key, value in means.items() if not np.isnan(value)}), items


def _judge() -> Any:
    from antiphon.evals.asr_judge import AsrJudge

    return AsrJudge.from_pretrained()


def _wave(sound: Audio) -> torch.Tensor:
    return sound.mono().resample(UTMOS_RATE).samples.flatten()[None].float()


def opened_utmos(path: Path) -> torch.jit.ScriptModule:
    """UTMOS (Saeki et al. 2022), whose weights are given.

    Raises:
        EvalError: they can't be opened, or don't rate a sound.
    """
    try:
        model = torch.jit.load(str(path), map_location="cpu").eval()
        with torch.inference_mode():
            float(model(torch.zeros(1, UTMOS_RATE)))
    except Exception as error:  # torch raises many kinds
        raise EvalError(
            f"--utmos {path} is no TorchScript that takes a wave [1, samples] of 16 kHz and gives a rating: {error}"
        ) from error
    return model
