"""Questions about generated pictures, videos and sounds that were never trained on, in wordings that weren't either.

The reference of each figure is chance: what is right if each question gets the answer that is the most frequent one to
its kind in what is trained on.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from antiphon import hub
from antiphon.data.omni.make import Item, make, usual
from antiphon.data.omni.pictures import Ask
from antiphon.data.omni.questions import worded
from antiphon.data.omni.sounds import Bank
from antiphon.data.speech.speak import generator_for
from antiphon.dialogue.omni import OmniBackend
from antiphon.errors import DataError
from antiphon.evals.assistant.evaluation import fingerprint
from antiphon.evals.harness import EvalConfig, Evaluation, rows_of
from antiphon.evals.report import Figure
from antiphon.model.omni import OmniModel
from antiphon.models.omni.model import ReplySettings
from antiphon.models.omni.parts import ADAPTERS, beside

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
        texts: folder of the text sources, of which what it says aloud is taken.
    """

    recordings: Path | None = None
    texts: Path | None = None


class OmniEvaluation(Evaluation):
    """What the figures share."""

    config: OmniEvalConfig

    @cached_property
    def backend(self) -> OmniBackend:
        """What answers.

        Raises:
            DataError: it is no Omni.
        """
        if not isinstance(self.model, OmniModel):
            raise DataError(f"{self.config.model} is no Omni that could be asked")
        return self.model.backend

    @cached_property
    def folder(self) -> Path:
        """Where it is."""
        return hub.folder(self.config.model)

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
        omni, processor = self.backend.model, self.backend.processor
        state = omni.init_state()
        omni.read(state, processor(messages, own_sound=True))
        settings = ReplySettings(max_tokens=MAX_TOKENS, ends=processor.ends[:1])
        tokens = [token for token, _ in omni.write(state, settings)]
        return processor.tokenizer.decode(tokens).strip()

    def ask(self, item: Item, question: Mapping[str, Any], folder: Path) -> str:
        """What the model replies to a question about an item, whose files are put into a folder."""
        contents = [whole(content, folder) for content in item.contents(folder, "item")]
        return self.answer([{"role": "user", "content": [*contents, question]}])


def weights_of(evaluation: OmniEvaluation) -> dict[str, str]:
    """sha256 (first 12 digits) of what is measured: the folder's weights, its adapters, what stands beside it."""
    folder = evaluation.folder
    folders = {"omni": folder, **beside(folder, evaluation.config.parts)}
    if (folder / ADAPTERS).is_dir():
        folders["lora"] = folder / ADAPTERS
    return {name: fingerprint(each)[:12] for name, each in folders.items()}


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
            return evaluation.ask(item, {"type": "text", "text": question}, Path(scratch))

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


def whole(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A content with the whole path of its file."""
    kind = content["type"]
    return {**content, kind: str(folder / content[kind])}
