"""Align the ears with the language model: CTC from frozen Whisper features onto the language model's own pieces.

The data are folders of features (antiphon.data.speech.features), which may still grow while this runs: `data.refresh`
says after how many steps to look again (0: never, then a resumed run is exact).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import torch
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


def read_embeddings(brain: Path, ids: list[int]) -> Tensor:
    """Rows `ids` of the language model's embeddings, float32 [len(ids), width]."""
    with safe_open(brain / "model.safetensors", "pt") as file:
        return file.get_tensor("model.embed_tokens.weight")[torch.tensor(ids)].float()


def plain(text: str) -> str:
    """Lower case without punctuation, for the error rate shown in training (the figures use Whisper's normaliser)."""
    return " ".join("".join(c if c.isalnum() or c == "'" else " " for c in text.lower()).split())


def word_errors(truth: list[str], heard: list[str]) -> float:
    """Word error rate of `plain` texts."""
    return jiwer.wer([plain(text) or "-" for text in truth], [plain(text) for text in heard])


class AlignTask:
    """The stage's task; see the Task protocol of the engine.

    `config.model`: brain (folder of the language model) and any field of AdapterConfig but `pieces`.
    `config.data`: train and held (lists of feature folders), refresh (steps), limit (utterances of each training
    folder that are used).
    """

    players = {"model": ["*"]}

    def __init__(self, config: StageConfig) -> None:
        self.config, data = config, config.data
        model = dict(config.model)
        if "brain" not in model or not data.get("train"):
            raise ModelError(
                "the align stage needs model.brain (the language model's folder) and data.train (feature folders)"
            )
        brain = Path(model.pop("brain"))
        self.folders = [Path(folder) for folder in data["train"]]
        self.sets = {folder: FeatureSet(folder) for folder in map(Path, [*data["train"], *data.get("held", [])])}
        self.refresh, self.limit = int(data.get("refresh", 0)), data.get("limit")
        tokenizer = (brain / "tokenizer.json").read_text(encoding="utf-8")
        merges = int(model.get("merges", AdapterConfig.merges))
        if config.init:  # its pieces, so that its weights fit
            ids = json.loads((Path(config.init) / "config.json").read_text())["ids"]
        else:
            if data.get("pieces"):
                texts = Path(data["pieces"]).read_text(encoding="utf-8").splitlines()
            else:
                texts = [utterance.text for folder in self.folders for utterance in self.sets[folder].utterances]
            ids = piece_ids(texts, tokenizer, merges)
        self.spelling = Spelling(tokenizer, merges, ids)
        torch.manual_seed(config.seed)
        self.model = Adapter(AdapterConfig(**model, pieces=len(ids)))
        self.model.set_embeddings(read_embeddings(brain, ids))
        self.known: list[tuple[Path, EncodedUtterance, list[int]]] = []
        self.counts = {folder: 0 for folder in self.folders}
        self.look()

    def look(self) -> None:
        """Takes in what the training folders hold by now."""
        for folder in self.folders:
            self.sets[folder].refresh()
            for utterance in self.sets[folder].utterances[self.counts[folder] : self.limit]:
                self.counts[folder] += 1
                target = self.spelling.spell(utterance.text)
                if target and ctc_frames(target) <= utterance.length // 2:
                    self.known.append((folder, utterance, target))
        self.known.sort(key=lambda item: (item[1].length, item[1].id, item[1].voice))
        if not self.known:
            raise ModelError(f"{', '.join(map(str, self.folders))}: no utterance there can be trained on")

    def batch(self, step: int) -> dict[str, Any]:
        """Utterances of like length, drawn by the seed and the step alone."""
        if self.refresh and step % self.refresh == 0:
            self.look()
        generator = np.random.default_rng([self.config.seed, step])
        size = self.config.batch
        middle = int(generator.integers(len(self.known)))
        low = max(0, min(middle - 2 * size, len(self.known) - 4 * size))
        window = np.arange(low, min(len(self.known), low + 4 * size))
        chosen = [self.known[i] for i in generator.choice(window, size, replace=len(window) < size)]
        return collate([(self.sets[folder](utterance), target) for folder, utterance, target in chosen])

    def losses(self, batch: dict[str, Any], player: str = "model") -> dict[str, Tensor]:
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
        if not self.config.data.get("held"):
            print(f"step {step}: nothing to hear, data.held names no folder", file=sys.stderr, flush=True)
            return
        folder.mkdir(parents=True, exist_ok=True)
        for held in map(Path, self.config.data.get("held", [])):
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
