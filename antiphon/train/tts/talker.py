"""Trains the talker on a speech set turned into codes:
what is said, how long each phoneme lasts, and the codes of every frame.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from omegaconf import MISSING
from torch import Tensor
from torch.nn import functional as F

from antiphon import hub
from antiphon.codecs.mini.model import MiniCodec
from antiphon.data.codes import Coded, CodeSet, encode_set
from antiphon.data.shards import SpeechSet
from antiphon.data.states import StateSet, think_set
from antiphon.errors import ConfigError
from antiphon.models.llm.thinker import Thinker
from antiphon.models.tts.durations import DURATION_UNIT, TalkerConfig
from antiphon.models.tts.phonemes import alphabet
from antiphon.models.tts.talker import Talker
from antiphon.nn.delays import delay
from antiphon.train.config import StageConfig


def join(first: Coded, second: Coded, frame_rate: float) -> Coded:
    """Two utterances in a row: a space stands where the first's last silence meets the second's first one."""
    seconds = first.codes.shape[1] / frame_rate
    symbols = np.concatenate([first.symbols[:-1], [alphabet()[" "]], second.symbols[1:]])
    ends = np.concatenate([first.ends[:-1], second.ends + seconds])
    return Coded(symbols, ends, np.concatenate([first.codes, second.codes], axis=1), f"{first.text} {second.text}")


@dataclass
class TalkerModel:
    """What is trained."""

    talker: TalkerConfig = field(default_factory=TalkerConfig)
    """Its sizes."""


@dataclass
class ThinkerStates:
    """Whose thoughts the talker reads beside the phonemes."""

    llm: str = "llm"
    """Part or folder of the language model."""
    lora: str = "lora"
    """Part or folder of its adapters."""
    states: str = MISSING
    """Folder in which its hidden states are kept."""
    count: int = MISSING
    """The first utterances, whose texts it reads; the others aren't trained on."""
    drop: float = 0.3
    """Share of examples without states: the talker must be able to read a text that nobody thought."""


@dataclass
class TalkerData:
    """What is spoken."""

    codec: str = MISSING
    """Name or folder of the codec."""
    codes: str = MISSING
    """Folder in which the speech's codes are kept."""
    speech: str | None = None
    """Folder of a speech set; None where the codes are there."""
    hours: float | None = None
    """Use only the first hours of speech."""
    frames: int = 800
    """Frames in a batch."""
    depth_share: float = 0.5
    """Share of frames whose codes are asked for."""
    noise: float = 0.4
    """Noise on the codes that the model sees."""
    joined: float = 0.0
    """Share of examples made of two utterances."""
    held_out: int = 8
    """Utterances at the end that are kept for samples, at most half of them."""
    thinker: ThinkerStates | None = None
    """The thinker whose states are read; None for phonemes alone."""


class TalkerTask:
    """The stage's task; see the Task protocol of the engine."""

    Model, Data = TalkerModel, TalkerData

    def __init__(self, config: StageConfig):
        self.config = config
        self.data: TalkerData = config.data
        self.codec = MiniCodec.from_pretrained(self.data.codec)
        self.model = Talker(config.model.talker)
        self.model.take_codebooks(self.codec)
        folder = Path(self.data.codes)
        if (folder / "codes.npy").exists():
            self.set = CodeSet(folder)
        elif self.data.speech is None:
            raise ConfigError(f"data.codes: {folder} holds no codes; name the speech to make them from as data.speech")
        else:
            speech = SpeechSet(self.data.speech, hours=self.data.hours)
            self.set = encode_set(speech, self.codec, folder, self.model.config.lead)
        self.states = self._think(self.data.thinker) if self.data.thinker else None
        held = min(self.data.held_out, len(self.set) // 2)
        self.count = len(self.states) if self.states is not None else len(self.set) - held
        if self.count < 1:
            raise ConfigError(f"data.codes: {folder} holds no utterance to train on; make speech and encode it anew")
        self.by_length = np.argsort(self.set.lengths[: self.count], kind="stable")

    def _think(self, how: ThinkerStates) -> StateSet:
        if (Path(how.states) / "states.npy").exists():
            return StateSet(how.states)
        thinker = Thinker.from_pretrained(hub.folder(how.llm), hub.folder(how.lora))
        return think_set(self.set, thinker, how.states, how.count)

    def _examples(self, rng: np.random.Generator) -> list[tuple[Coded, np.ndarray | None]]:
        """Utterances of about one length, as many as fill the batch's frames, each with its states [symbols,
        hidden]."""
        at = int(rng.integers(self.count))
        length = int(self.set.lengths[self.by_length[at]])
        joined = rng.random() < self.data.joined and length < 90
        number = max(1, self.data.frames // (length * (2 if joined else 1)))
        near = np.clip(at + rng.integers(-200, 201, size=2 * number), 0, self.count - 1)
        picked = [self.set[int(i)] for i in self.by_length[near]]
        if self.states is not None:  # states are of single utterances
            return [(example, self.states.hidden(int(i))) for example, i in zip(picked[:number], self.by_length[near])]
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
        codes = np.full((len(examples), self.codec.codebooks, frames), -1, np.int64)
        for row, e in enumerate(examples):
            symbols[row, : len(e.symbols)], mask[row, : len(e.symbols)] = e.symbols, True
            ends[row, : len(e.symbols)], ends[row, len(e.symbols) :] = e.ends, e.ends[-1]
            codes[row, :, : e.codes.shape[1]] = e.codes
        grid = delay(torch.from_numpy(codes), self.model.config.delays, fill=-1)
        asked = (grid >= 0).any(1) & torch.from_numpy(rng.random(grid[:, 0].shape) < self.data.depth_share)
        tensors = {"symbols": symbols, "mask": mask, "ends": ends}
        if self.states is not None:
            thought = np.zeros((*symbols.shape, self.model.config.hidden), np.float32)
            for row, states in enumerate(hidden):
                if rng.random() >= self.data.thinker.drop:
                    thought[row, : len(states)] = states
            tensors["hidden"] = thought
        return {name: torch.from_numpy(array) for name, array in tensors.items()} | {"grid": grid, "keep": asked}

    def losses(self, batch: dict[str, Any], group: str) -> dict[str, Tensor]:
        logits, durations = self.model(**batch, noise=self.data.noise)
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
            "acoustic": sum(each[1:]) / (len(each) - 1),
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
