"""Trains a duplex model of Moshi's kind: one task, whose recipe fields make it any of the stages.

The loss is Moshi's (Defossez et al. 2024, sections 3.4.4 and 4.2; `finetune/loss.py` of moshi-finetune): cross-entropy
of the text, PAD and EPAD counting half, plus cross-entropy of the codes, the semantic one counting 100 and the others
1; each is the weighted sum over the sum of the weights, and what has no target weighs nothing.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import MISSING
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon import codecs
from antiphon.codecs.base import Tokenizer
from antiphon.data.codes import CodeSet
from antiphon.data.dialogue.codes import DialogueCodes, dialogue_codes
from antiphon.data.dialogue.format import MODEL, USER
from antiphon.data.dialogue.grid import NOTHING, TextGrids, weights
from antiphon.data.text.corpora import read_sentences, shuffled
from antiphon.data.tokenize.encode import tokenized
from antiphon.errors import ConfigError
from antiphon.hub.folders import folder
from antiphon.models.moshi.bundle import Duplex
from antiphon.models.moshi.config import MoshiConfig
from antiphon.models.moshi.from_llm import take_language_model
from antiphon.models.moshi.model import Moshi, MoshiOutput
from antiphon.models.moshi.text_tokenizer import TextTokenizer
from antiphon.models.tts.durations import TalkerConfig
from antiphon.train.config import Measures, StageConfig
from antiphon.train.moshi.batches import DialogueWindows, VoiceWindows, speaking
from antiphon.train.moshi.samples import write_samples
from antiphon.train.prepare import preparing

KINDS = ("conversations", "audio", "text")
QUIET = 8  # frames of PAD that make a silence of the text
NO_TEXT = "No text is known of any of these recordings."  # for a tokenizer, where it stands for nothing that is said


def fitted_to(codec: Tokenizer, config: MoshiConfig) -> MoshiConfig:
    """A model's sizes with what follows from the codec: as many codebooks as both have, its card, their delays."""
    own, user = min(config.codebooks, codec.codebooks), min(config.user_codebooks, codec.codebooks)
    both = config.depth.codebooks == config.codebooks + config.user_codebooks
    delays = config.delays
    if (own, user) != (config.codebooks, config.user_codebooks):
        streams = config.delays[1 : 1 + config.codebooks], config.delays[1 + config.codebooks :]
        delays = [config.delays[0], *streams[0][:own], *streams[1][:user]]
    depth = dataclasses.replace(config.depth, codebooks=own + user if both else own)
    return dataclasses.replace(
        config, codebooks=own, user_codebooks=user, card=codec.codebook_size, delays=delays, depth=depth
    )


@dataclass
class DuplexModel:
    """What is trained, and what it starts from."""

    moshi: MoshiConfig = field(default_factory=MoshiConfig)
    """Its sizes. Each voice has at most `codebooks` of the codec's codebooks, the first ones; `card` is the codec's."""
    init_llm: str | None = None
    """Name or folder of a Llama that the temporal transformer starts from."""
    codebooks: bool = True
    """Whether embeddings and heads start from the codec's codebooks."""
    listen: float | None = None
    """Seconds after a word of the user began at which the temporal transformer is also asked what it was, through a
    head that isn't kept; None for never. Not in Moshi; it tells a model that has few hours what to hear."""


@dataclass
class Mix:
    """Share of batches of each kind."""

    conversations: float = 0.0
    """Two channels."""
    audio: float = 0.0
    """One voice, nobody else."""
    text: float = 0.0
    """Text in a row, no codes."""

    def __post_init__(self) -> None:
        if min(dataclasses.astuple(self)) < 0 or not sum(dataclasses.astuple(self)) > 0:
            raise ConfigError(f"data.mix: {dataclasses.asdict(self)}; give shares of which at least one is above 0")


@dataclass
class DuplexData:
    """What it hears and says, and how much each part of the loss weighs."""

    codec: str = MISSING
    """Name or folder of the codec."""
    pieces: str = MISSING
    """Folder of the text tokenizer; trained from the words of the conversations, or the sentences of `text`, and kept
    there if it doesn't exist."""
    mix: Mix = MISSING
    """Share of batches of each kind."""
    codec_name: str | None = None
    """By which the trained model finds its codec again; None for `codec`."""
    conversations: list[str] = field(default_factory=list)
    """Indexes of two-channel recordings, or sets of their codes."""
    count: int | None = None
    """Use the first ones of each."""
    held: list[str] = field(default_factory=list)
    """Folders with conversations to look at what the model does."""
    held_out: int = 8
    """As many at the end of `conversations` instead."""
    speech: str | None = None
    """Recordings of single voices, as `antiphon.data.recordings.recordings` takes them, or their codes, made by
    `antiphon tokenize`; for "audio"."""
    text: str | None = None
    """Folder of the corpora, for "text"."""
    sentences: int = 20000
    """How many of them."""
    frames: int = MISSING
    """Length of a window; a step has `batch` windows."""
    from_start: float = 0.2
    """Share of windows that begin where the conversation does."""
    swap: float = 0.0
    """Share of windows of conversations in which the user is the model (post-training: any speaker may be the main
    one)."""
    text_mask: float = 0.0
    """Share of windows of audio whose text is unknown."""
    jitter: float = 0.0
    """Seconds by which their text is shifted either way."""
    depth_share: float = 1.0
    """Share of frames whose codes are asked for where the model speaks."""
    depth_share_quiet: float | None = None
    """The same where it is silent; None for the same share."""
    noise: float = 0.0
    """Share of own codes that are others in what the model sees."""
    lost: float = 0.0
    """Share of the user's frames that did not arrive."""
    semantic: float = 100.0
    """Weight of the semantic code."""
    acoustic: float = 1.0
    """Weight of the other codes."""
    padding: float = 0.5
    """Weight of PAD and EPAD."""
    user: float = 1.0
    """Weight of the user's codes, times those of their levels."""
    measure: str | None = None
    """Called as function(duplex) -> figures, every `measure_every` steps: "duplex" measures as `antiphon eval duplex`
    does, a few conversations; or one of your own, "package.module:function"."""
    samples: int = 4
    """Conversations in a sample."""
    sample_seconds: float = 30.0
    """How long each."""


class DuplexTask:
    """The stage's task; see the Task protocol of the engine. Its fields make it any of Moshi's stages."""

    Model, Data = DuplexModel, DuplexData

    def __init__(self, config: StageConfig):
        self.config = config
        self.data: DuplexData = config.data
        self.mix = dataclasses.asdict(self.data.mix)
        self.codec = codecs.load(self.data.codec)
        if not hasattr(self.codec, "encode_step") or self.codec.channels != 1:
            raise ConfigError(
                f"data.codec {self.data.codec!r} can't stream, or is stereo: a duplex model needs a causal codec of "
                "one channel, such as mini, mimi or encodec_24khz"
            )
        self.model = Moshi(fitted_to(self.codec, config.model.moshi))
        self.moshi = self.model.config
        if config.model.codebooks and hasattr(self.codec, "codebook_vectors"):
            self.model.take_codebooks(self.codec)
        if config.model.init_llm:
            take_language_model(self.model, folder(config.model.init_llm))
        self.lag = config.model.listen
        if self.lag is not None:
            self.model.listener = nn.Linear(self.moshi.dim, self.moshi.text_card, bias=False)
            nn.init.normal_(self.model.listener.weight, std=0.1 * self.moshi.dim**-0.5)
        self.dialogues, self.held_dialogues = self._dialogues("conversations"), self._dialogues("held")
        self.pieces = self._pieces()
        self._open()

    def _dialogues(self, name: str) -> list[DialogueCodes]:
        """The sets of dialogues that a field names; recordings are encoded first."""
        out = Path(self.config.out) / "codes"
        with preparing(self.config.out) as resumed:
            return [
                dialogue_codes(place, self.codec, self.data.codec, out / f"{name}-{number}", resumed)
                for number, place in enumerate(getattr(self.data, name))
            ]

    @cached_property
    def voice_codes(self) -> CodeSet:
        """The codes of data.speech; recordings are encoded first."""
        out = Path(self.config.out) / "codes" / "speech"
        with preparing(self.config.out) as resumed:
            return tokenized(self.data.speech, self.codec, self.data.codec, out, TalkerConfig.lead, resumed)

    def _sentences(self) -> list[str]:
        sentences = shuffled(read_sentences(self.data.text, "assistant"))
        return [sentence.text for sentence in sentences[: self.data.sentences]]

    def _pieces(self) -> TextTokenizer:
        folder = Path(self.data.pieces)
        if (folder / "tokenizer.json").exists():
            return TextTokenizer.from_pretrained(folder)
        texts: list[str] = []
        who = (MODEL, USER) if self.data.swap or self.lag is not None else (MODEL,)
        for talks in self.dialogues:
            said = (" ".join(word.text for word in talk.words if word.speaker in who) for talk in talks)
            texts += [text for text in said if text]
        if not texts and self.data.text:
            texts = self._sentences()
        if not texts and self.mix["audio"] and self.data.speech:
            texts = [row.text for row in self.voice_codes.rows if row.text] or [NO_TEXT]
        if not texts:
            raise ConfigError(f"data.pieces: {folder} has no pieces, and there are no texts to make them from")
        pieces = TextTokenizer.train(texts, self.moshi.text_card)
        pieces.save(folder)
        return pieces

    def _open(self) -> None:
        """Opens the sources that the mix asks for."""
        for kind, source in zip(KINDS, ("conversations", "speech", "text")):
            if self.mix[kind] and not getattr(self.data, source):
                raise ConfigError(f"data.mix has {kind}, so data.{source} must say where they are")
        about = (self.pieces, self.moshi)
        self.held, self.held_first, self.count = None, 0, 0
        if self.mix["conversations"]:
            self.talks = DialogueWindows(self.dialogues, *about, self.data.count, self.lag)
            self.count = len(self.talks) - (0 if self.data.held else self.data.held_out)
            if self.count < 1:
                raise ConfigError(
                    "data.conversations: no more than are held out; give more, or a smaller data.held_out"
                )
            self.held, self.held_first = self.talks, self.count
        if self.data.held:
            self.held, self.held_first = DialogueWindows(self.held_dialogues, *about), 0
        if self.mix["audio"]:
            self.voice = VoiceWindows(self.voice_codes, *about, self.codec)
        if self.mix["text"]:
            self.prose = TextGrids(self._sentences(), *about)

    def _target(self, kind: str, rng: np.random.Generator) -> Tensor:
        """Windows of the delayed grid [batch, streams, frames]."""
        frames = self.data.frames
        if kind == "text":
            return self.prose.batch(rng, self.config.batch, frames)
        if kind == "audio":
            how = self.data.text_mask, self.data.jitter
            return torch.stack([self.voice.window(rng, frames, *how) for _ in range(self.config.batch)])
        how = self.data.from_start, self.data.swap
        return torch.stack([self.talks.window(rng, frames, self.count, *how) for _ in range(self.config.batch)])

    def batch(self, step: int) -> dict[str, Tensor]:
        """`delayed` [B, S, T]: the grid as the model sees it; `target` [B, S, T]: as it is; `weight` [B, 1 + predicted,
        T], 0 where there is no target; `keep` [B, T]: frames whose codes are asked for; `heard` [B, 0 or 1, T]: what
        the user says."""
        rng = np.random.default_rng((self.config.seed, step))
        shares = np.array([self.mix[kind] for kind in KINDS])
        target = self._target(KINDS[int(rng.choice(len(KINDS), p=shares / shares.sum()))], rng)
        target, heard = target[:, : self.moshi.streams], target[:, self.moshi.streams :]
        weight = weights(
            target, self.moshi.codebooks, self.moshi.predicted, self.moshi.pad, self.moshi.end_pad,
            self.data.semantic, self.data.acoustic, 1.0, self.data.padding,
        )  # fmt: skip
        weight[:, 1 + self.moshi.codebooks :] *= self.data.user
        share, quiet = self.data.depth_share, self.data.depth_share_quiet
        spoken = speaking(target[:, 0], self.moshi.pad, self.moshi.end_pad)
        shares = torch.where(spoken, share, share if quiet is None else quiet)
        keep = (weight[:, 1:] > 0).any(1) & (torch.from_numpy(rng.random(shares.shape)) < shares)
        seen = disturbed(target, self.moshi, rng, self.data.noise, self.data.lost)
        return {"delayed": seen, "target": target, "weight": weight, "keep": keep, "heard": heard}

    def losses(self, batch: dict[str, Tensor], group: str) -> dict[str, Tensor]:
        """`text` and `audio`, the losses, and with model.listen `heard`.

        Beside them, detached, in nats: `words` (text without padding), `onset` and `end` (text where a turn of the
        model begins and ends), `quiet` (PAD in a silence), `semantic`, `acoustic`, `user`, `heard-words`.
        """
        states: list[Tensor] = []
        hook = self.model.temporal.register_forward_hook(lambda module, given, made: states.append(made))
        output = self.model(batch["delayed"], batch["keep"])
        hook.remove()
        out: dict[str, Tensor] = self._heard(states[0], batch["heard"]) if batch["heard"].shape[1] else {}
        return out | dialogue_losses(output, batch["target"], batch["weight"], batch["keep"], self.moshi)

    def _heard(self, states: Tensor, heard: Tensor) -> dict[str, Tensor]:
        """`heard`, the loss of the user's words, weighted as the text; `heard-words`, without padding, detached."""
        heard = heard[:, 0]
        there, words = heard != NOTHING, moments(heard, self.moshi.pad, self.moshi.end_pad)["words"]
        each = F.cross_entropy(self.model.listener(states[there]).float(), heard[there], reduction="none")
        weight = torch.where(words[there], 1.0, self.data.padding)
        out = {"heard": (each * weight).sum() / weight.sum()}
        return out | ({"heard-words": each.detach()[words[there]].mean()} if words.any() else {})

    def measure(self, step: int, measures: Measures) -> dict[str, float]:
        """What the recipe's measure finds."""
        name = self.data.measure
        if not name:
            return {}
        measure = measures[name] if name in measures else imported(name, "data.measure")
        return measure(Duplex(self.model, self.codec, self.pieces))

    def sample(self, step: int, folder: Path) -> None:
        """Lets the model talk with the users of held-out conversations: both channels, who spoke when, the words."""
        if self.held is not None and len(self.held) > self.held_first:
            last = min(self.held_first + self.data.samples, len(self.held))
            chosen = [self.held[index] for index in range(self.held_first, last)]
            write_samples(Duplex(self.model, self.codec, self.pieces), chosen, step, folder, self.data.sample_seconds)
        else:
            print(f"sample {step}: no conversations are held out (data.held)", file=sys.stderr, flush=True)

    def export(self, folder: Path) -> None:
        """Writes config.json, model.safetensors and tokenizer.json."""
        moshi = Moshi(self.moshi)
        moshi.load_state_dict({k: v for k, v in self.model.state_dict().items() if not k.startswith("listener.")})
        Duplex(moshi, self.codec, self.pieces).save_pretrained(folder, self.data.codec_name or self.data.codec)


def disturbed(target: Tensor, moshi: MoshiConfig, rng: np.random.Generator, noise: float, lost: float) -> Tensor:
    """What the model sees of grids [B, S, T]: a share `noise` of its own codes are others, a share `lost` of the user's
    frames did not arrive."""
    if not noise and not lost:
        return target
    seen, user = target.clone(), 1 + moshi.codebooks
    codes = seen[:, 1:user]
    other = (torch.from_numpy(rng.random(codes.shape)) < noise) & (codes != NOTHING)
    codes[other] = torch.from_numpy(rng.integers(moshi.card, size=codes.shape))[other]
    missing = torch.from_numpy(rng.random((len(seen), 1, seen.shape[-1]))) < lost
    seen[:, user:] = seen[:, user:].masked_fill(missing, NOTHING)
    return seen


def dialogue_losses(
    output: MoshiOutput, target: Tensor, weight: Tensor, keep: Tensor, moshi: MoshiConfig
) -> dict[str, Tensor]:
    """`text` and `audio`, and beside them, detached, what `DuplexTask.losses` tells of.

    Args:
        output: of the model.
        target: grids [B, S, T].
        weight: of each target, [B, 1 + predicted, T].
        keep: [B, T], frames whose codes are asked for.
        moshi: sizes.
    """
    out: dict[str, Tensor] = {}
    text = weight[:, 0] > 0
    if text.any():
        each = torch.zeros_like(weight[:, 0])
        each[text] = F.cross_entropy(output.text[text].float(), target[:, 0][text], reduction="none")
        out["text"] = (each * weight[:, 0]).sum() / weight[:, 0].sum()
        for name, where in moments(target[:, 0], moshi.pad, moshi.end_pad).items():
            if where.any():
                out[name] = each.detach()[where].mean()
    targets = target[:, 1 : 1 + moshi.predicted].transpose(1, 2)[keep]
    weights = weight[:, 1:].transpose(1, 2)[keep]
    if weights.sum() > 0:
        logits = output.codes.float().transpose(1, 2)
        each = F.cross_entropy(logits, targets, ignore_index=NOTHING, reduction="none")
        out["audio"] = (each * weights).sum() / weights.sum()
        own, there = moshi.codebooks, targets != NOTHING
        groups = {"semantic": slice(0, 1), "acoustic": slice(1, own), "user": slice(own, None)}
        for name, levels in groups.items():
            if there[:, levels].any():
                out[name] = each.detach()[:, levels][there[:, levels]].mean()
    return out


def moments(text: Tensor, pad: int, end_pad: int, quiet: int = QUIET) -> dict[str, Tensor]:
    """Where in the text something worth a look of its own happens.

    Args:
        text: targets [B, T], -1 for none.
        pad, end_pad: ids.
        quiet: frames of PAD that make a silence.

    Returns:
        masks [B, T]: "words": pieces of words; "onset": the first that isn't PAD after a silence; "end": the first PAD
        of a silence; "quiet": PAD after a silence has begun.
    """
    silent = text == pad
    runs = F.pad(silent, (quiet, 0)).unfold(1, quiet, 1).all(-1)  # [:, t]: the `quiet` frames before t are silent
    before, after = runs[:, :-1], runs[:, quiet:]
    after = F.pad(after, (0, text.shape[1] - after.shape[1]))
    said = (text != pad) & (text != end_pad) & (text != NOTHING)
    previous = F.pad(said, (1, 0))[:, :-1]
    return {
        "words": said,
        "onset": before & ~silent & (text != NOTHING),
        "end": silent & previous & after,
        "quiet": before & silent,
    }


def imported(path: str, field: str) -> Callable[..., Any]:
    """The function that a recipe names "package.module:function"."""
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{field}: {path!r} can't be imported ({error}); write it as package.module:function"
        ) from error
