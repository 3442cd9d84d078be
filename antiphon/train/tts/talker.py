"""Trains the talker on recordings turned into codes: what is said, how long each phoneme lasts, and the codes of every
frame. The codes are any codec's: the recipe names it, and what the talker must know of it follows.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from omegaconf import MISSING
from torch import Tensor
from torch.nn import functional as F

from antiphon import codecs, hub
from antiphon.codecs.base import CodecModule
from antiphon.data.codes import CodeSet
from antiphon.data.omni.states import omni_states
from antiphon.data.speech.timed_codes import TimedCodes, TimedSet
from antiphon.data.states import (
    Beginnings,
    StateSet,
    Thoughts,
    beginnings,
    think_beginnings,
    think_set,
    thought_states,
)
from antiphon.data.store import kind_of
from antiphon.data.tokenize.encode import tokenized
from antiphon.errors import ConfigError
from antiphon.models.llm.thinker import Thinker
from antiphon.models.omni import weights
from antiphon.models.omni.processor import OmniProcessor
from antiphon.models.tts.durations import DURATION_UNIT, TalkerConfig
from antiphon.models.tts.phonemes import alphabet
from antiphon.models.tts.talker import Talker
from antiphon.nn.delays import delay
from antiphon.train.config import StageConfig
from antiphon.train.prepare import preparing


def join(first: TimedCodes, second: TimedCodes, frame_rate: float) -> TimedCodes:
    """Two utterances in a row: a space stands where the first's last silence meets the second's first one."""
    seconds = first.codes.shape[1] / frame_rate
    symbols = np.concatenate([first.symbols[:-1], [alphabet()[" "]], second.symbols[1:]])
    ends = np.concatenate([first.ends[:-1], second.ends + seconds])
    codes = np.concatenate([first.codes, second.codes], axis=1)
    return TimedCodes(symbols, ends, codes, f"{first.text} {second.text}", first.voice)


def fitted_to(codec: CodecModule, config: TalkerConfig) -> TalkerConfig:
    """A talker's sizes with what follows from the codec that it speaks to."""
    return dataclasses.replace(
        config, codebooks=min(config.codebooks, codec.codebooks), codebook_size=codec.codebook_size,
        code_dim=codec.codebook_vectors()[0].shape[1], frame_rate=codec.frame_rate,
    )  # fmt: skip


def collate(examples: Sequence[TimedCodes], config: TalkerConfig) -> dict[str, Tensor]:
    """Utterances as rows of a batch, as `Talker.forward` takes them: symbols, mask, ends [batch, symbols], grid [batch,
    codebooks, frames], -1 where nothing is, and speaker [batch] where speakers have names."""
    length = max(len(each.symbols) for each in examples)
    frames = max(each.codes.shape[1] for each in examples)
    symbols = np.zeros((len(examples), length), np.int64)
    mask = np.zeros((len(examples), length), bool)
    ends = np.zeros((len(examples), length), np.float32)
    codes = np.full((len(examples), config.codebooks, frames), -1, np.int64)
    for row, each in enumerate(examples):
        symbols[row, : len(each.symbols)], mask[row, : len(each.symbols)] = each.symbols, True
        ends[row, : len(each.symbols)], ends[row, len(each.symbols) :] = each.ends, each.ends[-1]
        codes[row, :, : each.codes.shape[1]] = each.codes[: config.codebooks]
    tensors = {"symbols": symbols, "mask": mask, "ends": ends}
    if config.speakers:
        numbers = {name: number for number, name in enumerate(config.speakers)}
        # Who isn't known speaks as the first.
        tensors["speaker"] = np.array([numbers.get(each.voice, 0) for each in examples])
    grid = delay(torch.from_numpy(codes), config.delays, fill=-1)
    return {name: torch.from_numpy(array) for name, array in tensors.items()} | {"grid": grid}


def code_losses(logits: Sequence[Tensor], batch: dict[str, Tensor]) -> list[Tensor]:
    """Mean nats of each codebook's codes in the frames of a batch that are asked for."""
    targets = batch["grid"].transpose(1, 2)[batch["keep"]]
    return [F.cross_entropy(scores.float(), targets[:, level], ignore_index=-1) for level, scores in enumerate(logits)]


@dataclass
class TalkerModel:
    """What is trained."""

    talker: TalkerConfig = field(default_factory=TalkerConfig)
    """Its sizes. It speaks at most `codebooks` of the codec's codebooks, the first ones; codebook_size, code_dim and
    frame_rate are the codec's. Its speakers are the recordings' voices, where there are several and none are named."""


@dataclass
class ThinkerStates:
    """Whose thoughts the talker reads beside the phonemes."""

    llm: str = "llm"
    """Part or folder of the language model."""
    lora: str | None = "lora"
    """Part or folder of its adapters; None for none."""
    omni: str | None = None
    """Folder of an Omni, whose thinker is read in place of those two."""
    states: str = MISSING
    """Folder in which its hidden states are kept: one of its own for each thinker, also for one that was trained on."""
    count: int = MISSING
    """The first utterances, whose texts it reads; the others aren't trained on."""
    drop: float = 0.3
    """Share of examples without states, of those without a context: the talker must be able to read a text that nobody
    thought."""


@dataclass
class TalkerData:
    """What is spoken."""

    codec: str = MISSING
    """Name or folder of the codec."""
    speech: str | None = None
    """Recordings, as `antiphon.data.recordings.recordings` takes them, or their codes, made by `antiphon tokenize`."""
    codes: str | None = None
    """Folder in which codes are kept that are made here; None for one in the run's folder."""
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


def thoughts_of(how: ThinkerStates) -> Thoughts:
    """What the thinker thinks of texts."""
    if how.omni is None:
        return partial(thought_states, _thinker(how))
    folder = hub.folder(how.omni)
    model = weights.load(folder)
    if model.config.thinker is None:
        raise ConfigError(f"data.thinker.omni: {folder} has no thinker")
    return partial(omni_states, model, OmniProcessor.from_pretrained(folder, model.config.thinker))


def beginnings_of(how: ThinkerStates) -> Beginnings:
    """From where the thinker's replies begin."""
    if how.omni is not None:
        raise ConfigError("model.talker.situation: an Omni's states are read word by word; leave it 0")
    return partial(beginnings, _thinker(how))


def _thinker(how: ThinkerStates) -> Thinker:
    return Thinker.from_pretrained(hub.folder(how.llm), hub.folder(how.lora) if how.lora else None)


class TalkerTask:
    """The stage's task; see the Task protocol of the engine."""

    Model, Data = TalkerModel, TalkerData

    def __init__(self, config: StageConfig):
        self.config = config
        self.data: TalkerData = config.data
        self.codec = codecs.load(self.data.codec)
        sizes = fitted_to(self.codec, config.model.talker)
        self.set = self._spoken(sizes)
        if not sizes.speakers and len(self.set.voices) > 1:
            sizes = dataclasses.replace(sizes, speakers=self.set.voices)
        if sizes.speakers and (others := sorted(set(self.set.voices) - set(sizes.speakers))):
            raise ConfigError(f"model.talker.speakers doesn't name all voices of data.speech: {', '.join(others)}")
        self.model = Talker(sizes)
        self.model.take_codebooks(self.codec)
        self.states = self._think(self.data.thinker) if self.data.thinker else None
        if self.states is not None and self.model.encoder.situation is not None:
            begun = [self.states.states(identity) for identity in self.set.ids[: len(self.states)]]
            self.model.encoder.situation.take_states(torch.from_numpy(np.concatenate(begun)))
        held = min(self.data.held_out, len(self.set) // 2)
        self.count = len(self.states) if self.states is not None else len(self.set) - held
        if self.count < 1:
            raise ConfigError(
                f"data.speech: {self.set.codes.folder} holds no recording of which it is known what is said; give a "
                "manifest with texts, or a .txt beside each sound"
            )
        self.by_length = np.argsort(self.set.frames[: self.count], kind="stable")

    def _spoken(self, config: TalkerConfig) -> TimedSet:
        """The codes and what is said in them, encoded first if that hasn't been done."""
        place, out = self.data.speech, Path(self.config.out)
        folder = Path(self.data.codes) if self.data.codes else out / "codes"
        if not place and kind_of(folder) != "codes":
            raise ConfigError("data.speech names no recordings, nor their codes, to train on")
        with preparing(out) as resumed:
            if not place:
                codes = CodeSet(folder, self.codec)
            else:
                codes = tokenized(place, self.codec, self.data.codec, folder, config.lead, resumed)
        if codes.info.codebooks < config.codebooks:
            raise ConfigError(
                f"{codes.folder} has codes of {codes.info.codebooks} codebooks, the talker {config.codebooks}: set "
                f"model.talker.codebooks={codes.info.codebooks}, or encode anew"
            )
        return TimedSet(codes, config.lead, config.tail, self.data.hours)

    def _think(self, how: ThinkerStates) -> StateSet:
        with preparing(self.config.out):
            if kind_of(how.states) == "states" and len(made := StateSet(how.states)) >= min(how.count, len(self.set)):
                return made
            if self.model.config.situation:
                return think_beginnings(self.set, beginnings_of(how), how.states, how.count)
            return think_set(self.set, thoughts_of(how), how.states, how.count)

    def _examples(self, rng: np.random.Generator) -> list[tuple[TimedCodes, np.ndarray | None]]:
        """Utterances of about one length, as many as fill the batch's frames, each with its states [symbols,
        hidden]."""
        at = int(rng.integers(self.count))
        length = int(self.set.frames[self.by_length[at]])
        joined = rng.random() < self.data.joined and length < 90
        number = max(1, self.data.frames // (length * (2 if joined else 1)))
        near = np.clip(at + rng.integers(-200, 201, size=2 * number), 0, self.count - 1)
        picked = [self.set[int(i)] for i in self.by_length[near]]
        if self.states is not None:  # states are of single utterances
            read = self.states.states if self.model.config.situation else self.states.hidden
            return [
                (example, read(self.set.ids[i]) * (bool(self.set.context(i)) or rng.random() >= self.data.thinker.drop))
                for example, i in zip(picked[:number], map(int, self.by_length[near]))
            ]
        rate = self.codec.frame_rate
        pairs = picked[:number]
        if joined:  # of one voice
            pairs = [join(a, b, rate) if a.voice == b.voice else a for a, b in zip(pairs, picked[number:])]
        return [(example, None) for example in pairs]

    def batch(self, step: int) -> dict[str, Any]:
        rng = np.random.default_rng((self.config.seed, step))
        examples, hidden = zip(*self._examples(rng))
        tensors = collate(examples, self.model.config)
        grid = tensors["grid"]
        tensors["keep"] = (grid >= 0).any(1) & torch.from_numpy(rng.random(grid[:, 0].shape) < self.data.depth_share)
        if self.states is not None:
            situation = bool(self.model.config.situation)
            length = max(map(len, hidden)) if situation else tensors["symbols"].shape[1]
            thought = np.zeros((len(hidden), length, self.model.config.hidden), np.float32)
            for row, states in enumerate(hidden):
                first = length - len(states) if situation else 0  # the last turn is last
                thought[row, first : first + len(states)] = states
            tensors["hidden"] = torch.from_numpy(thought)
        return tensors

    def losses(self, batch: dict[str, Any], group: str) -> dict[str, Tensor]:
        logits, durations = self.model(**batch, noise=self.data.noise)
        each = code_losses(logits, batch)
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
            speaker = example.voice if self.model.config.speakers else None
            state = self.model.init_state(seed=step, temperature=0.4, top_k=8, speaker=speaker)
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
