"""Align the ears with the language model: CTC from frozen Whisper features onto the language model's own pieces.

The data are folders of features (antiphon.data.speech.features), which may still grow while this runs.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import torch
from omegaconf import MISSING
from safetensors import safe_open
from torch import Tensor

from antiphon.data.speech.features import EncodedUtterance, FeatureSet
from antiphon.errors import ModelError
from antiphon.models.asr.adapter import Adapter, AdapterConfig, Spelling, adapter_lengths, ctc_frames, ctc_loss
from antiphon.train.config import StageConfig


def piece_ids(texts: list[str], tokenizer: str, merges: int) -> list[int]:
    """The language model's ids of the pieces that occur in `texts`, most frequent first."""
    spelling = Spelling(tokenizer, merges)
    counts: dict[int, int] = {}
    for encoding in spelling.tokenizer.encode_batch(texts):
        for token in encoding.ids:
            counts[token] = counts.get(token, 0) + 1
    return sorted(counts, key=lambda token: (-counts[token], token))


def read_embeddings(llm: Path, ids: list[int]) -> Tensor:
    """Rows `ids` of the language model's embeddings, float32 [len(ids), width]."""
    with safe_open(llm / "model.safetensors", "pt") as file:
        return file.get_tensor("model.embed_tokens.weight")[torch.tensor(ids)].float()


def plain(text: str) -> str:
    """Lower case without punctuation, for the error rate shown in training (the figures use Whisper's normaliser)."""
    return " ".join("".join(c if c.isalnum() or c == "'" else " " for c in text.lower()).split())


def word_errors(truth: list[str], heard: list[str]) -> float:
    """Word error rate of `plain` texts."""
    return jiwer.wer([plain(text) or "-" for text in truth], [plain(text) for text in heard])


@dataclass(frozen=True)
class AlignModel(AdapterConfig):
    """The adapter's sizes; `pieces` follows from the texts."""

    llm: str = MISSING
    """Folder of the language model."""


@dataclass
class AlignData:
    """What the adapter hears."""

    train: list[str] = MISSING
    """Folders of features."""
    held: list[str] = field(default_factory=list)
    """Folders of features that are listened to and not trained on."""
    pieces: str | None = None
    """A file of all sentences to come, so that their pieces are known from the start; None: those that are there."""
    refresh: int = 0
    """Steps between two looks at what has been added to the training folders; 0 for none."""
    limit: int | None = None
    """Utterances of each training folder that are used; all when None."""


class AlignTask:
    """The stage's task; see the Task protocol of the engine."""

    Model, Data = AlignModel, AlignData

    def __init__(self, config: StageConfig) -> None:
        self.config = config
        self.data: AlignData = config.data
        model, data = dataclasses.asdict(config.model), self.data
        llm, merges = Path(model.pop("llm")), config.model.merges
        self.folders = [Path(folder) for folder in data.train]
        self.sets = {folder: FeatureSet(folder) for folder in map(Path, [*data.train, *data.held])}
        tokenizer = (llm / "tokenizer.json").read_text(encoding="utf-8")
        if config.init:  # its pieces, so that its weights fit
            ids = json.loads((Path(config.init) / "config.json").read_text())["ids"]
        else:
            if data.pieces:
                texts = Path(data.pieces).read_text(encoding="utf-8").splitlines()
            else:
                texts = [utterance.text for folder in self.folders for utterance in self.sets[folder].utterances]
            ids = piece_ids(texts, tokenizer, merges)
        self.spelling = Spelling(tokenizer, merges, ids)
        torch.manual_seed(config.seed)
        self.model = Adapter(AdapterConfig(**model | {"pieces": len(ids)}))
        self.model.set_embeddings(read_embeddings(llm, ids))
        self.known: list[tuple[Path, EncodedUtterance, list[int]]] = []
        self.counts = dict.fromkeys(self.folders, 0)
        self.look()

    def look(self, until: dict[str, int] | None = None) -> None:
        """Takes in what the training folders hold by now, or held when they had so many utterances."""
        for folder in self.folders:
            end = self.data.limit if until is None else until.get(str(folder))
            self.sets[folder].refresh()
            for utterance in self.sets[folder].utterances[self.counts[folder] : end]:
                self.counts[folder] += 1
                target = self.spelling.spell(utterance.text)
                if target and ctc_frames(target) <= utterance.length // 2:
                    self.known.append((folder, utterance, target))
        self.known.sort(key=lambda item: (item[1].length, item[1].id, item[1].voice))
        if not self.known:
            raise ModelError(f"{', '.join(map(str, self.folders))}: no utterance there can be trained on")

    def batch(self, step: int) -> dict[str, Any]:
        """Utterances of like length, drawn by the seed and the step alone."""
        if self.data.refresh and step % self.data.refresh == 0:
            self.look()
        generator = np.random.default_rng([self.config.seed, step])
        size = self.config.batch
        middle = int(generator.integers(len(self.known)))
        low = max(0, min(middle - 2 * size, len(self.known) - 4 * size))
        window = np.arange(low, min(len(self.known), low + 4 * size))
        chosen = [self.known[i] for i in generator.choice(window, size, replace=len(window) < size)]
        return collate([(self.sets[folder](utterance), target) for folder, utterance, target in chosen])

    def state_dict(self) -> dict[str, Any]:
        """How many utterances of each folder are known: a resumed run draws from the same ones until its next look."""
        return {"counts": {str(folder): count for folder, count in self.counts.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if counts := state.get("counts"):
            self.known, self.counts = [], dict.fromkeys(self.folders, 0)
            self.look(counts)

    def losses(self, batch: dict[str, Any], group: str = "model") -> dict[str, Tensor]:
        """The CTC loss."""
        vectors = self.model(batch["features"], batch["lengths"])
        return {"ctc": ctc_loss(self.model.logits(vectors), adapter_lengths(batch["lengths"]), batch["targets"])}

    def hear(self, folder: Path, utterances: list[EncodedUtterance]) -> list[str]:
        """What the adapter understands of features at hand, greedily."""
        training, texts = self.model.training, []
        self.model.eval()
        device = next(self.model.parameters()).device
        for first in range(0, len(utterances), 16):
            part = collate([(self.sets[folder](utterance), []) for utterance in utterances[first : first + 16]])
            best = self.model.best(part["features"].to(device), part["lengths"].to(device))
            texts += [self.spelling.text(indices) for indices in best]
        self.model.train(training)
        return texts

    def sample(self, step: int, folder: Path) -> None:
        """Writes what is heard of the held-out utterances, with the word error rate of each folder."""
        if not self.data.held:
            print(f"step {step}: nothing to hear, data.held names no folder", file=sys.stderr, flush=True)
            return
        folder.mkdir(parents=True, exist_ok=True)
        for held in map(Path, self.data.held):
            utterances = self.sets[held].utterances[:200]
            if not utterances:
                print(f"step {step}: nothing to hear in {held}", file=sys.stderr, flush=True)
                continue
            heard = self.hear(held, utterances)
            errors = word_errors([utterance.text for utterance in utterances], heard)
            lines = [f"step {step}: WER {errors:.3f} of {len(utterances)} utterances in {held}", ""]
            lines += [f"{utterance.text}\n  {text}" for utterance, text in zip(utterances, heard)]
            (folder / f"{held.name}-{step:06d}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
            print(lines[0], f"({len(self.known)} utterances to train on)", file=sys.stderr, flush=True)

    def export(self, folder: Path) -> None:
        """Writes the adapter's folder."""
        self.model.save(folder, self.spelling.ids)


def collate(items: list[tuple[Tensor, list[int]]]) -> dict[str, Any]:
    """Pads features [frames, width] to one tensor; lengths in encoder frames."""
    lengths = torch.tensor([len(features) for features, _ in items])
    features = torch.nn.utils.rnn.pad_sequence([features for features, _ in items], batch_first=True)
    return {"features": features, "lengths": lengths, "targets": [target for _, target in items]}
