"""How likely a model finds what is said: the mean log-likelihood of a token, behind a prompt or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from antiphon.audio import io
from antiphon.codecs import load
from antiphon.codecs.base import has_codes_of
from antiphon.data.formats.example import Example
from antiphon.data.formats.formats import Weights, speech, speech_to_text, text
from antiphon.data.formats.item import Item, make_item
from antiphon.data.packing import stack
from antiphon.data.recordings import fitted
from antiphon.data.tokenize.encode import encode
from antiphon.errors import EvalError
from antiphon.evals.cache import ResultCache, key_of, pack_codes, unpack_codes
from antiphon.evals.speech_lm.pairs import Pair, Said
from antiphon.models.speech_lm.model import SpeechLM

BATCH_TOKENS = 4096
ONLY_ANSWER = Weights(given=0.0, tags=0.0)


class Units:
    """The units of sounds, for one model; what was encoded once is kept beside the sounds.

    Args:
        model: whose vocabulary names the tokenizer.
        folder: of the sounds, in which `units-<fingerprint>.jsonl` is kept.
    """

    def __init__(self, model: SpeechLM, folder: Path):
        self.model, vocabulary = model, model.vocabulary
        self.cache = ResultCache(folder / f"units-{vocabulary.fingerprint or 'codec'}.jsonl")
        self._codec = None

    @property
    def codec(self):
        """The tokenizer that the vocabulary is of.

        Raises:
            EvalError: it has other weights now.
        """
        if self._codec is None:
            vocabulary = self.model.vocabulary
            self._codec = load(vocabulary.codec)
            if not has_codes_of(self._codec, vocabulary.fingerprint):
                raise EvalError(
                    f"{vocabulary.codec} has other weights than the model was trained with: give those back"
                )
        return self._codec

    def items(self, said: Sequence[Said]) -> list[Item]:
        """Each sound as an item."""

        def make(rows: list[int]) -> list[dict]:
            found = []
            for row in tqdm(rows, desc="  units", leave=False):
                audio = fitted(io.load(said[row].sound), self.codec.sample_rate, self.codec.channels)
                found.append(pack_codes(encode(self.codec, audio, self.model.vocabulary.codebooks)))
            return found

        keys = [key_of(Path(each.sound).name, str(Path(each.sound).stat().st_size)) for each in said]
        rate, deduplicated = self.model.vocabulary.frame_rate, self.model.vocabulary.deduplicated
        codes = [unpack_codes(value) for value in self.cache.get(keys, make)]
        return [make_item(each, rate, deduplicated=deduplicated) for each in codes]


@torch.no_grad()
def log_likelihoods(model: SpeechLM, examples: Sequence[Example]) -> list[float]:
    """Mean log-likelihood, nats, of the tokens that have weight.

    Args:
        model: in evaluation mode.
        examples: of any format, unpacked.

    Returns:
        One an example.
    """
    found = np.zeros(len(examples))
    order = sorted(range(len(examples)), key=lambda at: len(examples[at]))
    device = next(model.parameters()).device
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and (end + 1 - start) * len(examples[order[end]]) <= BATCH_TOKENS:
            end += 1
        rows = order[start:end]
        tokens, weights, _ = stack([examples[row] for row in rows])
        losses = model.losses(tokens.to(device), weights.to(device)).sum(1).cpu() / weights[:, 1:].sum(1)
        found[rows] = -losses.double().numpy()
        start = end
    return found.tolist()


def right_share(model: SpeechLM, right: Sequence[Example], wrong: Sequence[Example]) -> float:
    """The share of pairs of which the right side is likelier; half a pair where both are equally likely."""
    scores = np.array(log_likelihoods(model, [*right, *wrong]))
    better = scores[: len(right)] - scores[len(right) :]
    return float(((better > 0) + 0.5 * (better == 0)).mean())


def speech_sides(model: SpeechLM, units: Units, pairs: Sequence[Pair]) -> tuple[list[Example], list[Example]]:
    """Both sides of each pair as speech, behind the spoken prompt if there is one: that has no weight."""
    prompts = units.items([pair.prompt for pair in pairs if pair.prompt]) if pairs[0].prompt else [None] * len(pairs)
    sides = []
    for name in ("right", "wrong"):
        items = units.items([getattr(pair, name) for pair in pairs])
        sides.append([_behind(model, prompt, item) for prompt, item in zip(prompts, items, strict=True)])
    return sides[0], sides[1]


def _behind(model: SpeechLM, prompt: Item | None, item: Item) -> Example:
    if prompt is None:
        return speech(item, model)
    whole = speech(Item(np.concatenate((prompt.units, item.units), -1)), model)
    weights = whole.weights.copy()
    weights[: 1 + prompt.units.shape[-1]] = 0.0
    return replace(whole, weights=weights)


def across_sides(model: SpeechLM, units: Units, pairs: Sequence[Pair]) -> tuple[list[Example], list[Example]]:
    """Both sides of each pair as text behind the spoken prompt; the text alone has weight."""
    prompts = units.items([pair.prompt for pair in pairs if pair.prompt])
    made = [
        [
            speech_to_text(replace(item, text=getattr(pair, name).text), model, ONLY_ANSWER)
            for pair, item in zip(pairs, prompts)
        ]
        for name in ("right", "wrong")
    ]
    return made[0], made[1]


def text_sides(model: SpeechLM, pairs: Sequence[Pair]) -> tuple[list[Example], list[Example]]:
    """Both sides of each pair as text behind the written prompt; the side alone has weight."""
    sides: Callable[[str], list[Example]] = lambda name: [  # noqa: E731
        _text_behind(model, pair.prompt.text if pair.prompt else "", getattr(pair, name).text) for pair in pairs
    ]
    return sides("right"), sides("wrong")


def _text_behind(model: SpeechLM, prompt: str, side: str) -> Example:
    whole = text(f"{prompt} {side}".strip(), model, Weights(tags=0.0))
    weights: NDArray[np.float32] = whole.weights.copy()
    if prompt:
        weights[: 2 + len(model.text_ids(f" {prompt}"))] = 0.0
    return replace(whole, weights=weights)
