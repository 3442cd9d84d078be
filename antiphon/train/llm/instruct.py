"""Teach the language model to answer as a voice should: low-rank adapters in its upper layers, everything else frozen.

Only replies (and the end of each) are learnt. Layers below the first adapted one run without autograd, and the output
layer sees only the positions whose next token is part of a reply.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from antiphon.data.text.instruct import Example, InstructData
from antiphon.errors import ModelError
from antiphon.hub.folders import folder
from antiphon.models.llm.llama import Llama
from antiphon.models.llm.text import as_words
from antiphon.models.lora import Lora, LoraConfig
from antiphon.train.config import StageConfig

IGNORED = -100  # cross_entropy's own


class ChatEncoder:
    """Conversation -> token ids and labels, in the ChatML of the language model.

    Args:
        tokenizer: the language model's tokenizer.json.
        system: system prompt, or None for no system turn at all.
        merges: with a share of `spelt`, users' words are spelled with only the first `merges` merges, as the ears
            spell them.
    """

    def __init__(self, tokenizer: Path, system: str | None = None, merges: int = 0):
        text = tokenizer.read_text(encoding="utf-8")
        self.whole = Tokenizer.from_str(text)
        self.system = system
        self.short = self.whole
        if merges:
            tree = json.loads(text)
            tree["model"]["merges"] = tree["model"]["merges"][:merges]
            self.short = Tokenizer.from_str(json.dumps(tree))
        self.end = self.whole.token_to_id("<|im_end|>")

    def encode(self, turns: Iterable[tuple[str, str]], spelt: bool = False) -> tuple[list[int], list[int]]:
        """Token ids and, for each, itself if it is to be learnt, else `IGNORED`.

        A label stands at its own token's position; the shift by one is :func:`reply_loss`'s.
        """
        ids: list[int] = []
        labels: list[int] = []

        def put(tokens: list[int], learnt: bool) -> None:
            ids.extend(tokens)
            labels.extend(tokens if learnt else [IGNORED] * len(tokens))

        if self.system is not None:
            put(self.whole.encode(f"<|im_start|>system\n{self.system}<|im_end|>\n").ids, False)
        for asked, reply in turns:
            put(self.whole.encode("<|im_start|>user\n").ids, False)
            put((self.short if spelt else self.whole).encode(as_words(asked)).ids, False)
            put(self.whole.encode("<|im_end|>\n<|im_start|>assistant\n").ids, False)
            put([*self.whole.encode(reply).ids, self.end], True)
            put(self.whole.encode("\n").ids, False)
        return ids[:-1], labels[:-1]  # nothing follows the last newline


def collate(rows: list[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
    """Pad on the right: token ids and labels `[B, T]`. Attention is causal, so nothing sees the padding."""
    longest = max(len(ids) for ids, _ in rows)
    tokens, labels = torch.zeros(len(rows), longest, dtype=torch.long), torch.full((len(rows), longest), IGNORED)
    for row, (ids, own) in enumerate(rows):
        tokens[row, : len(ids)] = torch.tensor(ids)
        labels[row, : len(own)] = torch.tensor(own)
    return tokens, labels


def bucket(lengths: list[int], size: int, rng: random.Random) -> list[list[int]]:
    """Indices of examples in batches of `size` whose lengths are alike, batches in random order; the rest that fills
    no batch is left out, unless it is all there is.
    """
    order = list(range(len(lengths)))
    rng.shuffle(order)
    batches = []
    for start in range(0, len(order), 32 * size):
        alike = sorted(order[start : start + 32 * size], key=lambda index: lengths[index])
        batches += [alike[at : at + size] for at in range(0, len(alike) - size + 1, size)]
    rng.shuffle(batches)
    return batches or ([order] if order else [])


def reply_scores(model: Llama, lora: Lora, tokens: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the labelled tokens, each predicted from the position before it.

    Args:
        tokens, labels: `[B, T]`; see :func:`collate`.

    Returns:
        logits [learnt, vocabulary], row after row, and which positions of `labels[:, 1:]` they are of, [B, T - 1].
    """
    with torch.no_grad():
        x = model(model.embed(tokens[:, :-1]), last=lora.first_layer)
    x = model(x, lora=lora, first=lora.first_layer)
    learnt = labels[:, 1:] != IGNORED
    return model.logits(x[learnt]), learnt


def reply_loss(model: Llama, lora: Lora, tokens: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy (nats) of the labelled tokens.

    Args:
        tokens, labels: `[B, T]`; see :func:`collate`.

    Returns:
        The mean over all labelled tokens, and each row's maximum, the loss of its least expected token `[B]`, detached.
    """
    scores, learnt = reply_scores(model, lora, tokens, labels)
    losses = F.cross_entropy(scores, labels[:, 1:][learnt], reduction="none")
    largest = (
        torch.zeros(learnt.shape, device=losses.device).masked_scatter(learnt, losses.detach().float()).amax(dim=1)
    )
    return losses.mean(), largest


@dataclass(frozen=True)
class InstructModel(LoraConfig):
    """The adapters' sizes."""

    llm: str = "llm"
    """Name or folder of the language model."""


@dataclass
class InstructTexts:
    """What replies are learnt from."""

    texts: str | None = None
    """Folder of the corpora; None for the made facts alone."""
    held_out: str | None = None
    """A jsonl with "question": what must not be trained on."""
    spelt: float = 0.0
    """Share of examples whose user's words are spelled as the adapter spells them; see ChatEncoder."""
    merges: int = 0
    """The tokenizer's first merges that those are spelled with."""
    epoch: int = 0
    """The first one to take; a second stage goes on where the first ended."""
    skip: list[str] = field(default_factory=list)
    """Globs of kinds of examples to leave out."""
    focus: list[str] = field(default_factory=list)
    """Files max_token_loss.json of earlier stages: facts that they knew are left out."""
    above: float = 0.5
    """Nats of a reply's least expected token above which it isn't known yet."""


class InstructTask:
    """The stage's task; see the Task protocol of the engine. Its model is the adapters alone: the base stays outside.

    While it trains, the task notes the loss of each reply's least expected token and writes it to
    `max_token_loss.json` beside the exported folder, for a later stage's `data.focus`.
    """

    Model, Data = InstructModel, InstructTexts

    def __init__(self, config: StageConfig):
        self.config, data = config, config.data
        model = dataclasses.asdict(config.model)
        self.llm = folder(model.pop("llm"))
        self.base = Llama.from_pretrained(self.llm, torch.float32)  # packed weights can't be trained through
        self.model = Lora(self.base, LoraConfig(**model))
        held_out = data.held_out
        if held_out and not Path(held_out).is_file():
            raise ModelError(f"data.held_out: {held_out} does not exist; give the questions to keep out, or null")
        questions = [json.loads(line)["question"] for line in Path(held_out).open(encoding="utf-8")] if held_out else []
        self.data = InstructData(data.texts, questions, config.seed)
        self.encoder = ChatEncoder(self.llm / "tokenizer.json", self.model.config.system, data.merges)
        self.spelt, self.first_epoch, self.skip = data.spelt, data.epoch, data.skip
        self.max_token_loss: dict[str, float] = {}  # reply -> nats of its least expected token
        before: dict[str, float] = {}
        for focus in data.focus:
            if not Path(focus).is_file():
                raise ModelError(f"data.focus: {focus} does not exist; it is written by the stage before this one")
            before |= json.loads(Path(focus).read_text(encoding="utf-8"))
        self.known = {reply for reply, nats in before.items() if nats <= data.above}
        self.plan = lru_cache(maxsize=2)(self._plan)

    def _plan(self, epoch: int) -> list[list[Example]]:
        rng = random.Random(f"{self.config.seed}/batches/{epoch}")
        examples = [example for example in self.data.epoch(epoch) if not self._is_left_out(example)]
        lengths = [
            sum(len(text) for turn in example.turns for text in turn) + 30 * len(example.turns) for example in examples
        ]
        return [[examples[n] for n in batch] for batch in bucket(lengths, self.config.batch, rng)]

    def _is_left_out(self, example: Example) -> bool:
        if any(fnmatch.fnmatch(example.kind, glob) for glob in self.skip):
            return True
        return "/" in example.kind and all(reply in self.known for _, reply in example.turns)

    def batch(self, step: int) -> tuple[Tensor, Tensor, list[str]]:
        """Tokens and labels `[B, T]`, and the last reply of each row: a pure function of the step."""
        rng, epoch = random.Random(f"{self.config.seed}/spelt/{step}"), self.first_epoch
        while step >= len(batches := self.plan(epoch)):
            if not batches:
                raise ModelError(
                    f"epoch {epoch} has no examples left; data.skip, data.held_out and data.focus leave out too much"
                )
            step -= len(batches)
            epoch += 1
        rows = [self.encoder.encode(example.turns, rng.random() < self.spelt) for example in batches[step]]
        return *collate(rows), [example.turns[-1][1] for example in batches[step]]

    def losses(self, batch: tuple[Tensor, Tensor, list[str]], group: str) -> dict[str, Tensor]:
        """The loss of the replies, `reply`."""
        tokens, labels, replies = batch
        if self.base.norm.device != tokens.device:
            self.base.to(tokens.device)
        loss, largest = reply_loss(self.base, self.model, tokens, labels)
        self.max_token_loss |= dict(zip(replies, largest.tolist(), strict=True))
        return {"reply": loss}

    def state_dict(self) -> dict[str, Any]:
        """What is known of the replies seen so far."""
        return {"max_token_loss": self.max_token_loss}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.max_token_loss = dict(state.get("max_token_loss", {}))

    def sample(self, step: int, folder: Path) -> None:
        """Write replies to development questions, beside the replies they should have, to `folder`/<step>.jsonl."""
        from antiphon.models.llm.thinker import Thinker

        thinker = Thinker(self.base, self.llm, self.model)
        chosen = random.Random(0).sample(self.data.development, min(100, len(self.data.development)))
        replies = thinker.reply_many([example.turns[0][0] for example in chosen], max_tokens=32)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{step:06d}.jsonl").open("w", encoding="utf-8") as file:
            for example, reply in zip(chosen, replies, strict=True):
                asked, wanted = example.turns[0]
                line = {"question": asked, "reply": reply, "wanted": wanted, "same": reply == wanted}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def export(self, folder: Path) -> None:
        """Write the adapters in the format of peft; and beside the folder the largest losses."""
        self.model.save(folder)
        (folder.parent / "max_token_loss.json").write_text(
            json.dumps(self.max_token_loss, indent=0, ensure_ascii=False), encoding="utf-8"
        )

    def describe(self) -> dict[str, Any]:
        """What the first epoch holds, for a model card: examples and tokens by kind of source."""
        examples = [example for batch in self.plan(self.first_epoch) for example in batch]
        tokens = sum(len(self.encoder.encode(example.turns)[0]) for example in examples)
        return {"examples": len(examples), "tokens": tokens, "wordings": len(list(self.data.wordings()))}
