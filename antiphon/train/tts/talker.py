"""Trains the talker on recordings turned into codes: what is said, how long each phoneme lasts, and the codes of every
frame. The codes are any codec's: the recipe names it, and the talker's sizes follow from it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.nn import functional as F

from antiphon import codecs, hub
from antiphon.codecs.base import Tokenizer
from antiphon.data.codes import CodeSet
from antiphon.data.speech.timed_codes import TimedCodes, TimedSet
from antiphon.data.states import StateSet, think_set
from antiphon.data.store import kind_of
from antiphon.data.tokenize.encode import tokenized
from antiphon.errors import ConfigError
from antiphon.models.llm.thinker import Thinker
from antiphon.models.tts.durations import DURATION_UNIT, TalkerConfig
from antiphon.models.tts.phonemes import alphabet
from antiphon.models.tts.talker import Talker
from antiphon.nn.streams import delay
from antiphon.train.config import StageConfig
from antiphon.train.prepare import preparing

MAX_CODEBOOKS = 8  # that a talker speaks where the recipe does not say: 1 kbit/s and more of most codecs


def join(first: TimedCodes, second: TimedCodes, frame_rate: float) -> TimedCodes:
    """Two utterances in a row: a space stands where the first's last silence meets the second's first one."""
    seconds = first.codes.shape[1] / frame_rate
    symbols = np.concatenate([first.symbols[:-1], [alphabet()[" "]], second.symbols[1:]])
    ends = np.concatenate([first.ends[:-1], second.ends + seconds])
    return TimedCodes(symbols, ends, np.concatenate([first.codes, second.codes], axis=1), f"{first.text} {second.text}")


def codec_sizes(codec: Tokenizer, codebooks: int = MAX_CODEBOOKS) -> dict[str, Any]:
    """What a codec says about the talker's sizes, fields of `TalkerConfig`.

    Args:
        codec: with `codebook_vectors`.
        codebooks: how many of its first ones the talker speaks, at most.
    """
    width = codec.codebook_vectors()[0].shape[1]
    return {
        "codebooks": min(codebooks, codec.codebooks), "codebook_size": codec.codebook_size, "code_dim": width,
        "frame_rate": codec.frame_rate,
    }  # fmt: skip


class TalkerTask:
    """See the module. Recipe fields:

    model.talker: fields of TalkerConfig.
    data.codec: name or folder of the codec. data.speech: recordings, as `antiphon.data.recordings.recordings` takes
    them, or their codes, made by `antiphon tokenize`; data.hours: use only the first hours. data.codes: where codes are
    kept that are made here, "codes" in the run's folder where it isn't named.
    data.frames: frames a batch. data.depth_share: share of frames whose codes are asked for. data.noise: on the codes
    seen. data.joined: share of examples made of two utterances. data.held_out: utterances at the end kept for samples,
    at most half of them.
    data.thinker: {brain, lora, states, count, drop}: parts or folders of the thinker whose states are read on the
    first `count` utterances and kept in `states`; the share of examples that do without.
    """

    def __init__(self, config: StageConfig):
        self.config, self.data = config, config.data
        self.codec = codecs.load(self.data["codec"])
        fields = config.model.get("talker", {})
        sizes = codec_sizes(self.codec, fields.get("codebooks", MAX_CODEBOOKS))
        self.model = Talker(TalkerConfig(**{**sizes, **fields}))
        self.model.take_codebooks(self.codec)
        self.set = self._spoken()
        self.states = self._think() if self.data.get("thinker") else None
        held = min(int(self.data["held_out"]), len(self.set) // 2)
        self.count = len(self.states) if self.states is not None else len(self.set) - held
        if self.count < 1:
            raise ConfigError(
                f"data.speech: {self.set.codes.folder} holds no recording of which it is known what is said; give a "
                "manifest with texts, or a .txt beside each sound"
            )
        self.by_length = np.argsort(self.set.frames[: self.count], kind="stable")

    def _spoken(self) -> TimedSet:
        """The codes and what is said in them, encoded first if that hasn't been done."""
        config, place = self.model.config, self.data.get("speech")
        folder = Path(self.data.get("codes") or Path(self.config.out) / "codes")
        if not place and kind_of(folder) != "codes":
            raise ConfigError("data.speech names no recordings or codes to train on")
        with preparing(self.config.out) as resumed:
            codes = (
                tokenized(place, self.codec, self.data["codec"], folder, config.lead, resumed)
                if place else CodeSet(folder, self.codec)
            )  # fmt: skip
        if codes.info.codebooks < config.codebooks:
            raise ConfigError(
                f"{codes.folder} has codes of {codes.info.codebooks} codebooks, the talker {config.codebooks}: set "
                f"model.talker.codebooks={codes.info.codebooks}, or encode anew"
            )
        return TimedSet(codes, config.lead, config.tail, self.data.get("hours"))

    def _think(self) -> StateSet:
        how = self.data["thinker"]
        with preparing(self.config.out) as resumed:
            if resumed and kind_of(how["states"]) == "states":
                return StateSet(how["states"])
            thinker = Thinker.from_pretrained(hub.folder(how["brain"]), hub.folder(how["lora"]))
            return think_set(self.set, thinker, how["states"], int(how["count"]))

    def _examples(self, rng: np.random.Generator) -> list[tuple[TimedCodes, np.ndarray | None]]:
        """Utterances of about one length, as many as fill the batch's frames, each with its states [symbols,
        hidden]."""
        at = int(rng.integers(self.count))
        length = int(self.set.frames[self.by_length[at]])
        joined = rng.random() < self.data["joined"] and length < 90
        number = max(1, int(self.data["frames"]) // (length * (2 if joined else 1)))
        near = np.clip(at + rng.integers(-200, 201, size=2 * number), 0, self.count - 1)
        picked = [self.set[int(i)] for i in self.by_length[near]]
        if self.states is not None:  # states are of single utterances
            ids = [self.set.ids[i] for i in self.by_length[near]]
            return [(example, self.states.hidden(identity)) for example, identity in zip(picked[:number], ids)]
        rate = self.codec.frame_rate
        pairs = [join(a, b, rate) for a, b in zip(picked[:number], picked[number:])] if joined else picked[:number]
        return [(example, None) for example in pairs]

    def batch(self, step: int) -> dict[str, Any]:
        rng = np.random.default_rng((self.config.seed, step))
        examples, hidden = zip(*self._examples(rng))
        length = max(len(e.symbols) for e in examples)
        frames = max(e.codes.shape[1] for e in examples)
        symbols = np.zeros((len(examples), length), np.int64)
        mask = np.zeros((len(examples), length), bool)
        ends = np.zeros((len(examples), length), np.float32)
        levels = self.model.config.codebooks
        codes = np.full((len(examples), levels, frames), -1, np.int64)
        for row, e in enumerate(examples):
            symbols[row, : len(e.symbols)], mask[row, : len(e.symbols)] = e.symbols, True
            ends[row, : len(e.symbols)], ends[row, len(e.symbols) :] = e.ends, e.ends[-1]
            codes[row, :, : e.codes.shape[1]] = e.codes[:levels]
        grid = delay(torch.from_numpy(codes), self.model.config.delays, fill=-1)
        asked = (grid >= 0).any(1) & torch.from_numpy(rng.random(grid[:, 0].shape) < self.data["depth_share"])
        tensors = {"symbols": symbols, "mask": mask, "ends": ends}
        if self.states is not None:
            thought = np.zeros((*symbols.shape, self.model.config.hidden), np.float32)
            for row, states in enumerate(hidden):
                if rng.random() >= self.data["thinker"].get(
                    "drop", 0.3
                ):  # it must be able to read a text that nobody thought
                    thought[row, : len(states)] = states
            tensors["hidden"] = thought
        return {name: torch.from_numpy(array) for name, array in tensors.items()} | {"grid": grid, "keep": asked}

    def losses(self, batch: dict[str, Any], player: str) -> dict[str, Tensor]:
        logits, durations = self.model(**batch, noise=self.data["noise"])
        targets = batch["grid"].transpose(1, 2)[batch["keep"]]
        each = [
            F.cross_entropy(scores.float(), targets[:, level], ignore_index=-1) for level, scores in enumerate(logits)
        ]
        lasts = torch.diff(batch["ends"], prepend=torch.zeros_like(batch["ends"][:, :1]), dim=1)
        inside = batch["mask"].clone()
        inside[:, 0] = False  # how long silence lasts at either end is not the text's affair
        inside &= F.pad(batch["mask"], (0, 1))[:, 1:]
        error = (durations.float() - torch.log1p(lasts / DURATION_UNIT)).abs()
        return {
            "semantic": each[0],
            "acoustic": sum(each[1:]) / max(1, len(each) - 1),
            "duration": error[inside].mean(),
            "last": each[-1].detach(),
        }

    def sample(self, step: int, folder: Path) -> None:
        """Speaks held-out sentences from their phonemes alone."""
        if self.count >= len(self.set):
            print(f"sample {step}: nothing to speak, all {len(self.set)} utterances train", file=sys.stderr, flush=True)
            return
        folder.mkdir(parents=True, exist_ok=True)
        names = {number: phoneme for phoneme, number in alphabet().items()}
        for index in range(self.count, min(self.count + 8, len(self.set))):
            example = self.set[index]
            state = self.model.init_state(seed=step, temperature=0.4, top_k=8)
            self.model.add_phonemes("".join(names[int(i)] for i in example.symbols[1:-1]), state)
            self.model.end_text(state)
            frames = []
            while (codes := self.model.step(state)) is not None:
                frames.append(codes)
            if not frames:
                print(f"sample {step}: nothing was said of {example.text!r}", file=sys.stderr, flush=True)
                continue
            made = self.codec.decode(torch.cat(frames, -1).cpu())[0, 0].numpy()
            soundfile.write(folder / f"{step:06d}-{index - self.count}.wav", made, self.codec.sample_rate)
            (folder / f"{step:06d}-{index - self.count}.txt").write_text(example.text + "\n")

    def export(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
