"""Questions about generated pictures, videos and sounds that were never trained on, in wordings that weren't either.

The reference of each figure is chance: what is right if each question gets the answer that is the most frequent one to
its kind in what is trained on.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from antiphon import hub
from antiphon.data.omni.make import Item, make, usual
from antiphon.data.omni.pictures import Ask
from antiphon.data.omni.questions import worded
from antiphon.data.omni.sounds import Bank
from antiphon.data.speech.speak import generator_for
from antiphon.errors import DataError
from antiphon.evals.harness import EvalConfig, Evaluation, Group, rows_of
from antiphon.evals.report import Figure
from antiphon.models.omni import weights
from antiphon.models.omni.model import Omni, ReplySettings
from antiphon.models.omni.processor import AFTER, OmniProcessor

MAX_TOKENS = 16
LEARNT = 300  # items of the training split, of which chance knows the most frequent answers
BARS = {"picture": ">= 0.8", "video": ">= 0.7", "sound": ">= 0.7", "both": ">= 0.7"}
NAMES = {
    "picture": "pictures-right", "video": "videos-right", "sound": "sounds-right", "both": "picture-with-sound-right",
}  # fmt: skip


@dataclass(frozen=True)
class OmniEvalConfig(EvalConfig):
    """How to measure; see also `EvalConfig`.

    Attributes:
        recordings: folder of ESC-10 or ESC-50, of which the test split is heard.
    """

    recordings: Path | None = None


class OmniEvaluation(Evaluation):
    """What the figures share."""

    config: OmniEvalConfig

    @cached_property
    def omni(self) -> Omni:
        """The model, which answers in writing."""
        return weights.load(self.folder)

    @cached_property
    def folder(self) -> Path:
        """Where it is."""
        return hub.folder(self.config.model)

    @cached_property
    def processor(self) -> OmniProcessor:
        """What makes parts of messages."""
        if self.omni.config.thinker is None:
            raise DataError(f"{self.folder} has no thinker: there is nothing to ask")
        return OmniProcessor.from_pretrained(self.folder, self.omni.config.thinker)

    @cached_property
    def bank(self) -> Bank:
        """Recordings.

        Raises:
            DataError: none are given.
        """
        if self.config.recordings is None:
            raise DataError("There are no recordings to make sounds of: name the folder of ESC-10 with --recordings.")
        return Bank(self.config.recordings)

    def answer(self, messages: list[dict[str, Any]]) -> str:
        """What the model replies, greedily."""
        state = self.omni.init_state()
        self.omni.read(state, self.processor(messages, own_sound=True))
        marks = self.processor.tokenizer.encode(AFTER, add_special_tokens=False).ids
        settings = ReplySettings(max_tokens=MAX_TOKENS, ends=(marks[0],))
        tokens = [token for token, _ in self.omni.write(state, settings)]
        return self.processor.tokenizer.decode(tokens).strip()


def is_right(reply: str, ask: Ask) -> bool:
    """Whether a reply says the right words and none of those that it could be mistaken for.

    >>> ask = Ask("colour-of", {}, "It is red.", ("red",), ("red", "blue"))
    >>> is_right("Red, I think.", ask), is_right("It is red or blue.", ask)
    (True, False)
    """
    return {word for word in re.findall(r"[a-z]+", reply.lower()) if word in ask.among} == set(ask.keys)


def asked(evaluation: OmniEvaluation, maker: str, n: int) -> Iterator[tuple[Item, Ask, str]]:
    """Items of the test split, a question about each, and how it is worded."""
    seed = evaluation.config.seed
    for number in range(n):
        item = _item(evaluation, maker, "test", number)
        generator = generator_for(seed, f"asked {maker} test {number}")
        kinds = sorted({each.kind for each in item.asks})
        kind = kinds[int(generator.integers(len(kinds)))]
        some = [each for each in item.asks if each.kind == kind]
        ask = some[int(generator.integers(len(some)))]
        yield item, ask, worded(ask, "test", generator)


def right(evaluation: OmniEvaluation, n: int, maker: str) -> list[Figure]:
    """Share of questions about a maker's items that are answered rightly."""
    with tempfile.TemporaryDirectory() as scratch:

        def answered(each: tuple[Item, Ask, str]) -> str:
            item, _, question = each
            contents = [_whole(content, Path(scratch)) for content in item.contents(Path(scratch), "item")]
            return evaluation.answer([{"role": "user", "content": [*contents, {"type": "text", "text": question}]}])

        rows = list(asked(evaluation, maker, n))
        replies = evaluation.each(NAMES[maker], rows, answered)
    asks = [ask for _, ask, _ in rows]
    found = [is_right(reply, ask) for reply, ask in zip(replies, asks, strict=True)]
    columns = {"kind": [a.kind for a in asks], "question": [q for _, _, q in rows], "reply": replies, "right": found}
    evaluation.save_items(NAMES[maker], rows_of(columns | {"wanted": [ask.reply for ask in asks]}))
    blind = usual(each for number in range(LEARNT) for each in _item(evaluation, maker, "train", number).asks)
    chance = sum(blind.get(ask.kind) == ask.keys for ask in asks) / n
    return [Figure(NAMES[maker], sum(found) / n, "share", BARS[maker], chance, n)]


def _item(evaluation: OmniEvaluation, maker: str, split: str, number: int) -> Item:
    return make(maker, None if maker == "picture" else evaluation.bank, split, number, evaluation.config.seed)


def _whole(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    kind = content["type"]
    return {**content, kind: str(folder / content[kind])}


GROUPS = {maker: Group(partial(right, maker=maker), 300, (name,)) for maker, name in NAMES.items()}
