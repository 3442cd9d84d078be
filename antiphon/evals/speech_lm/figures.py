"""`antiphon eval speech-lm`: does it know words, grammar and endings, write down what it hears, still read?

    report = run(SpeechLMConfig(model="runs/speech-lm-speech/model", texts=Path("texts")), Path("figures.json"))
    figures = quick((model, folder))                         # a dict, for training to look at now and then

Chance is 0.5 wherever a figure is a share of pairs. A likelihood is the mean of a token's, as TWIST has it (Hassid et
al. 2023), so that a longer side isn't less likely for its length.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antiphon.audio.io import Audio
from antiphon.data.formats.formats import Weights, prompt, prompt_to_say, text, undo
from antiphon.errors import EvalError
from antiphon.evals import harness
from antiphon.evals.harness import EvalConfig, Evaluation, Group
from antiphon.evals.metrics.text import word_error_rate
from antiphon.evals.report import Figure, Report
from antiphon.evals.rows import spread
from antiphon.evals.speech_lm.likelihood import (
    Units,
    across_sides,
    log_likelihoods,
    right_share,
    speech_sides,
    text_sides,
)
from antiphon.evals.speech_lm.material import dev_sentences, material
from antiphon.evals.speech_lm.pairs import Pair, read_pairs
from antiphon.models.llm.sampling import TokenSampling
from antiphon.models.speech_lm.generate import generate
from antiphon.models.speech_lm.model import SpeechLM
from antiphon.models.speech_lm.vocoder import UnitVocoder

QUICK = 100
AT_ONCE = 32  # rows that are written down together
MAX_TEXT = 80  # tokens of a sentence
MAX_UNITS = 800  # of one that is said: 25 s, where runs are one
SAMPLED = TokenSampling(temperature=0.7, top_k=50)  # the likeliest units alone run in circles
KEPT = 8  # sounds to listen to


@dataclass(frozen=True)
class SpeechLMConfig(EvalConfig):
    """How to measure; see also `EvalConfig`.

    Attributes:
        model: the folder of a speech language model.
        texts: folder of the text sources, to make our pairs from.
        material: where they lie; None is a folder in the cache.
        pairs: folders of official benchmarks, measured beside ours.
        vocoder: folder of what makes sound of the model's units; None leaves out what it says.
    """

    model: str = "runs/speech-lm-speech/model"
    texts: Path | None = None
    material: Path | None = None
    pairs: tuple[Path, ...] = ()
    vocoder: Path | None = None


class SpeechLMEvaluation(Evaluation):
    """What the figures share."""

    config: SpeechLMConfig

    @cached_property
    def model(self) -> SpeechLM:
        """The model that is measured."""
        return SpeechLM.from_pretrained(self.config.model)

    def place(self, kind: str, n: int) -> Path:
        """The folder of our pairs of a kind."""
        return material(self.config.material or self.cached("speech-lm"), kind, n, self.config.texts)

    def pairs(self, kind: str, n: int) -> tuple[list[Pair], Units]:
        """`n` of our pairs of a kind, and their units."""
        place = self.place(kind, n)
        return read_pairs(place)[:n], Units(self.model, place)


def words(evaluation: SpeechLMEvaluation, n: int) -> list[Figure]:
    """A word against a non-word."""
    return [_spoken(evaluation, "words", "spoken-words-right", ">= 0.62", n)]


def grammar(evaluation: SpeechLMEvaluation, n: int) -> list[Figure]:
    """A sentence against an ungrammatical one, spoken; beside it, written."""
    pairs, _ = evaluation.pairs("grammar", n)
    written = right_share(evaluation.model, *text_sides(evaluation.model, pairs))
    spoken = _spoken(evaluation, "grammar", "spoken-grammar-right", ">= 0.55", n)
    return [spoken, Figure("written-grammar-right", written, "share", None, None, len(pairs))]


def _spoken(evaluation: SpeechLMEvaluation, kind: str, name: str, bar: str | None, n: int) -> Figure:
    pairs, units = evaluation.pairs(kind, n)
    share = right_share(evaluation.model, *speech_sides(evaluation.model, units, pairs))
    return Figure(name, share, "share", bar, 0.5, len(pairs))


def endings(evaluation: SpeechLMEvaluation, n: int) -> list[Figure]:
    """The right second half of a sentence against another's: spoken, from speech to text, and written."""
    (pairs, units), model = evaluation.pairs("endings", n), evaluation.model
    sides = {
        "endings-spoken-right": (speech_sides(model, units, pairs), None),
        "endings-across-right": (across_sides(model, units, pairs), ">= 0.6"),
        "endings-written-right": (text_sides(model, pairs), None),
    }
    return [
        Figure(name, right_share(model, *both), "share", bar, 0.5, len(pairs)) for name, (both, bar) in sides.items()
    ]


def writing(evaluation: SpeechLMEvaluation, n: int) -> list[Figure]:
    """What the model writes down of sentences that it never heard, half of them by a voice that it never heard."""
    (pairs, units), model = evaluation.pairs("sentences", n), evaluation.model
    items, heard = units.items([pair.right for pair in pairs]), []
    for start in range(0, len(items), AT_ONCE):
        prompts = [prompt(item, model, ("T",)) for item in items[start : start + AT_ONCE]]
        for tokens in generate(model, prompts, MAX_TEXT):
            heard.append(" ".join(part.text for part in undo(tokens, model) if part.text))
    said = [pair.right.text for pair in pairs]
    evaluation.save_items("sentences", ({"said": a, "heard": b} for a, b in zip(said, heard)))
    return [Figure("speech-to-text-wer", word_error_rate(said, heard), "WER", "<= 0.25", None, len(said))]


def speaking(evaluation: SpeechLMEvaluation, n: int) -> list[Figure]:
    """What is heard of sentences that the model says; beside it, of the sentences' own units by the same vocoder."""
    if evaluation.config.vocoder is None:
        raise EvalError("what it says is heard through a vocoder: give --vocoder FOLDER (recipe speech-lm/vocoder)")
    (pairs, units), model = evaluation.pairs("sentences", n), evaluation.model
    vocoder = UnitVocoder.from_pretrained(evaluation.config.vocoder)
    if vocoder.config.tokenizer and model.vocabulary.fingerprint not in ("", vocoder.config.tokenizer):
        raise EvalError(f"{evaluation.config.vocoder} speaks units of another tokenizer than the model's")
    said, made = [pair.right.text for pair in pairs], []
    for start in range(0, len(said), AT_ONCE):
        prompts = [prompt_to_say(words, model) for words in said[start : start + AT_ONCE]]
        for tokens in generate(model, prompts, MAX_UNITS, SAMPLED):
            parts = [part.units for part in undo(tokens, model) if part.units is not None]
            made.append(np.concatenate(parts) if parts else np.zeros(0, np.int64))
    figures = []
    own = [item.units for item in units.items([pair.right for pair in pairs])]
    for name, bar, rows in (("text-to-speech-wer", "<= 0.25", made), ("unit-vocoder-wer", None, own)):
        clips = evaluation.each(name, rows, lambda row: _sound(vocoder, row, model))
        heard = evaluation.transcribed(name, clips)
        evaluation.save_items(name, ({"said": a, "heard": b} for a, b in zip(said, heard)))
        for number, clip in enumerate(clips[:KEPT]):
            evaluation.save_sound(f"{name}-{number}", clip)
        figures.append(Figure(name, word_error_rate(said, heard), "WER", bar, None, len(said)))
    return figures


def _sound(vocoder: UnitVocoder, units: NDArray[np.int64], model: SpeechLM) -> Audio:
    return Audio(vocoder.speak(np.atleast_2d(units)[0], model.vocabulary.deduplicated), vocoder.codec.sample_rate)


def reading(evaluation: SpeechLMEvaluation, n: int) -> list[Figure]:
    """Perplexity of text that was kept out of training."""
    if evaluation.config.texts is None:
        raise EvalError("text perplexity needs texts: give --texts FOLDER")
    sentences = spread(dev_sentences(evaluation.config.texts), n)
    return [perplexity(evaluation.model, sentences)]


def perplexity(model: SpeechLM, sentences: list[str]) -> Figure:
    """Of a token of these texts."""
    examples = [text(each, model, Weights(tags=0.0)) for each in sentences]
    counts = [float(each.weights.sum()) for each in examples]
    nats = -sum(score * count for score, count in zip(log_likelihoods(model, examples), counts)) / sum(counts)
    return Figure("text-perplexity", math.exp(min(nats, 80.0)), "perplexity", None, None, len(sentences))


def official(evaluation: SpeechLMEvaluation, n: int) -> list[Figure]:
    """Benchmarks in their official layouts, a figure a kind."""
    if not evaluation.config.pairs:
        raise EvalError("no official pairs were given: --pairs FOLDER, of sWUGGY, sBLIMP, StoryCloze or SALMon")
    figures = []
    for place in evaluation.config.pairs:
        found, units = read_pairs(place), Units(evaluation.model, place)
        for kind in sorted({pair.kind for pair in found}):
            own = [pair for pair in found if pair.kind == kind][:n]
            share = right_share(evaluation.model, *speech_sides(evaluation.model, units, own))
            figures.append(Figure(f"{kind}-right", share, "share", None, 0.5, len(own)))
            if own[0].prompt and own[0].right.text:
                share = right_share(evaluation.model, *across_sides(evaluation.model, units, own))
                figures.append(Figure(f"{kind}-across-right", share, "share", None, 0.5, len(own)))
    return figures


GROUPS = {
    "words": Group(words, 500, ("spoken-words-right",)),
    "grammar": Group(grammar, 500, ("spoken-grammar-right", "written-grammar-right")),
    "endings": Group(endings, 500, ("endings-spoken-right", "endings-across-right", "endings-written-right")),
    "writing": Group(writing, 200, ("speech-to-text-wer",)),
    "speaking": Group(speaking, 200, ("text-to-speech-wer", "unit-vocoder-wer")),
    "reading": Group(reading, 500, ("text-perplexity",)),
    "official": Group(official, 100_000, ("official-pairs",)),
}


WANTS = {"official": "pairs", "speaking": "vocoder"}  # what else these are measured with


def run(config: SpeechLMConfig, json: Path | None = None, resume: bool = False) -> Report:
    """Measures a speech language model; see `harness.run`. Official benchmarks are measured where they are given."""
    evaluation = SpeechLMEvaluation(config)
    groups = {name: group for name, group in GROUPS.items() if WANTS.get(name) is None or getattr(config, WANTS[name])}
    weights = Path(config.model) / "model.safetensors"
    digest = hashlib.sha256()
    with weights.open("rb") if weights.is_file() else _missing(weights) as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return harness.run(evaluation, groups, {"speech-lm": digest.hexdigest()[:12]}, json, resume)


def _missing(path: Path) -> Any:
    raise EvalError(f"{path} is not there: give the model folder of a run of antiphon train speech-lm/speech")


def quick(given: tuple[SpeechLM, Path]) -> dict[str, float]:
    """The shares of words, grammar and endings over the first pairs of each that lie in a folder already; what recipes
    measure with `data.pairs`."""
    model, folder = given
    found: dict[str, float] = {}
    for kind, sides in (("words", speech_sides), ("grammar", speech_sides), ("endings", across_sides)):
        if (folder / kind).is_dir():
            pairs = read_pairs(folder / kind)[:QUICK]
            found[f"{kind}-right"] = right_share(model, *sides(model, Units(model, folder / kind), pairs))
    return found
