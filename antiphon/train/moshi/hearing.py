"""Teaches a duplex model what is said to it: its `hearing` learns to choose the reply's words, and all else stays.

The pieces of the model's text are asked for, and two things besides: the user's words, some time after each began,
through a head that isn't kept, and the intent of the user's turn (its note) from its end until the user speaks again.
The choice of pieces is told an intent, in training mostly the true one (`data.teacher_forcing`), so that it learns what
is answered to an intent and not to a sentence. The frozen temporal transformer goes through each
conversation once; its states are kept, so that a step costs what `hearing` costs.

A transformer that was trained on such conversations knows by heart what is answered to the voices and sentences that it
has heard, and nothing of others. So that `hearing` learns to decide in spite of it, the transformer hears other users:
in the user's turns stand codes of somebody else's, of the same length, while the encoder heard what was said.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import MISSING
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.data.dialogue.codes import DialogueCodes, dialogue_codes
from antiphon.data.dialogue.format import MODEL, USER
from antiphon.data.dialogue.grid import NOTHING, window
from antiphon.data.dialogue.heard import HeardDialogues, hear_dialogues
from antiphon.data.store import kind_of
from antiphon.encoders.whisper.frames import FrameEncoder
from antiphon.errors import ConfigError
from antiphon.hub.folders import folder
from antiphon.models.moshi.bundle import Duplex, codec_name
from antiphon.models.moshi.config import MoshiConfig
from antiphon.models.moshi.hearing import HearingConfig, reworded
from antiphon.models.moshi.model import Moshi
from antiphon.train.config import Measures, StageConfig
from antiphon.train.moshi.batches import DialogueWindows
from antiphon.train.moshi.task import imported
from antiphon.train.prepare import preparing

INTENT_SECONDS = 0.6  # after a turn's end, when its intent must be known


@dataclass
class HearingStart:
    """What is trained, and on what."""

    duplex: str = MISSING
    """Folder of the duplex model, whose other weights stay."""
    hearing: HearingConfig = field(default_factory=HearingConfig)
    """Sizes; without `intents`, those that the model knows, or all notes of the users' turns. What a model has
    already goes on where sizes are the same."""


@dataclass
class HearingData:
    """What is heard and said."""

    conversations: list[str] = MISSING
    """Indexes of two-channel recordings, or sets of their codes."""
    heard: list[str] = field(default_factory=list)
    """For each, what the encoder makes of its users, as far as that was computed before; conversations of which there
    is nothing are left out. Computed where this is empty."""
    held_out: int = 64
    """Conversations at the end that are measured alone."""
    frames: int = 240
    """Length of a window."""
    others: float = 0.8
    """Share of conversations in whose user's turns (events "turn") the codes are of other turns; those held out all are
    so."""
    teacher_forcing: float = 0.7
    """Share of windows in which the choice of pieces is told the true intent; in the others what `hearing` predicts."""
    dropout: float = 0.0
    """Share of the encoder's numbers that are left out."""
    lost: float = 0.02
    """Share of frames in which nothing was heard."""
    lag: float = 0.4
    """Seconds after a word of the user began at which it is asked for."""
    padding: float = 0.5
    """Weight of PAD and EPAD in the user's words."""
    measure: str | None = None
    """As in `antiphon.train.moshi.task.DuplexData`."""


class HearingTask:
    """The stage's task; see the Task protocol of the engine."""

    Model, Data = HearingStart, HearingData

    def __init__(self, config: StageConfig) -> None:
        self.config, self.data = config, config.data
        self.folder = Path(folder(config.model.duplex))
        self.codec_name = codec_name(self.folder)
        duplex = Duplex.from_pretrained(self.folder)
        self.duplex = duplex
        sizes: HearingConfig = config.model.hearing
        self.moshi: MoshiConfig = duplex.moshi.config
        # A step predicts the frame after those that were heard.
        self.delay = 1 + sizes.delay - sizes.wait
        self.talks, self.heard = self._read()
        known = duplex.moshi.config.hearing.intents if duplex.moshi.config.hearing is not None else []
        intents = list(sizes.intents) or list(known) or self._notes()
        if not intents:
            raise ConfigError("data.conversations: no turn of a user has a note in its sidecar that says its intent")
        self.intents = {intent: number for number, intent in enumerate(intents)}
        self.model = with_hearing(duplex.moshi, replace(sizes, intents=intents))
        self.moshi = self.model.config
        assert self.model.hearing is not None
        self.hearing = self.model.hearing
        self.model.words_head = nn.Linear(sizes.dim, self.moshi.text_card, bias=False)
        self.model.train()
        self._kept: dict[int, Tensor] = {}
        ends = np.cumsum(self.talks.frames)
        self.count = len(self.talks) - self.data.held_out
        if self.count < 1:
            raise ConfigError("data.conversations: no more than are held out; give more, or a smaller data.held_out")
        self.ends = ends[: self.count]

    def _read(self) -> tuple[DialogueWindows, list[HeardDialogues]]:
        """The conversations of which something was heard, and what."""
        out, names = Path(self.config.out), [Path(place) for place in self.data.conversations]
        if self.data.heard and len(self.data.heard) != len(names):
            raise ConfigError("data.heard: give as many as data.conversations, or none")
        codes: list[DialogueCodes] = []
        heard: list[HeardDialogues] = []
        with preparing(out) as resumed:
            for number, place in enumerate(names):
                about = (self.duplex.codec, self.codec_name, out / "codes" / str(number), resumed)
                codes.append(dialogue_codes(place, *about))
                made = Path(self.data.heard[number]) if self.data.heard else out / "heard" / str(number)
                if self.data.heard or (resumed and kind_of(made)):
                    heard.append(HeardDialogues(made))
                    continue
                if kind_of(place) == "dialogues":
                    raise ConfigError(
                        f"data.conversations: {place} holds codes, in which nothing can be heard; name the recordings, "
                        "or what was heard of them as data.heard"
                    )
                encoder = FrameEncoder.from_pretrained(folder(self.config.model.hearing.encoder))
                heard.append(hear_dialogues(place, encoder, made))
        talks = DialogueWindows(codes, self.duplex.pieces, self.moshi, lag=self.data.lag)
        ids = [identity for each in codes for identity in each.ids]
        of = [known for each, known in zip(codes, heard) for _ in range(len(each))]
        there = [index for index, (identity, known) in enumerate(zip(ids, of)) if identity in known]
        talks.keep(there)
        return talks, [of[index] for index in there]

    def _notes(self) -> list[str]:
        """All intents, the most frequent first."""
        counts: Counter[str] = Counter()
        for index in range(len(self.talks)):
            counts.update(note for _, note in self._noted(index))
        return [kind for kind, _ in counts.most_common()]

    def _noted(self, index: int) -> list[tuple[float, str]]:
        """When each of the user's turns ends, and its note."""
        events = self.talks[index].events
        return [(e.end, e.note) for e in events if e.kind == "turn" and e.speaker == USER and e.note]

    def _frame(self, seconds: float, index: int) -> int:
        """The step at which what was heard so far is all there."""
        return max(0, int(seconds * self.talks[index].frame_rate) + self.delay)

    @torch.no_grad()
    def _states(self, index: int) -> Tensor:
        """What the temporal transformer makes of a whole conversation, float16 [frames, dim]."""
        if index not in self._kept:
            whole = self.talks.grid(index)
            rng = np.random.default_rng([self.config.seed, index])
            if rng.random() < self.data.others or index >= self.count:
                self._exchange(whole, index, rng)
            delayed = window(whole, 0, whole.shape[1], self.moshi.delays)
            self._kept[index] = self.model.states(delayed[None])[0][0].half()
        return self._kept[index]

    def _exchange(self, whole: Tensor, index: int, rng: np.random.Generator) -> None:
        """Puts the codes of other users' turns into those of this conversation."""
        user = slice(1 + self.moshi.codebooks, self.moshi.streams)
        for first, last in self._turns(index):
            parts: list[Tensor] = []
            while sum(part.shape[1] for part in parts) < last - first:
                other = int(rng.integers(self.count))
                codes = self.talks.grid(other)[user]
                parts += [codes[:, start:end] for start, end in self._turns(other)] or [codes]
            whole[user, first:last] = torch.cat(parts, 1)[:, : last - first]

    def _turns(self, index: int) -> list[tuple[int, int]]:
        """Frames of the user's turns, from the first to the one after the last."""
        talk = self.talks[index]
        spans = [(e.start, e.end) for e in talk.events if e.kind == "turn" and e.speaker == USER]
        return [(int(start * talk.frame_rate), int(end * talk.frame_rate)) for start, end in spans]

    def _row(self, index: int, start: int, frames: int) -> dict[str, Tensor]:
        """A window: what `hearing` reads, and what is asked of it."""
        talk, stop = self.talks[index], start + frames
        # At a step, the newest frame that is there is the one `delay` steps before; where codes wait, it may be later.
        heard = self.heard[index][talk.id]
        heard = F.pad(heard, (0, 0, self.delay, max(0, -self.delay)))[: talk.frames]
        intent = torch.full((talk.frames,), NOTHING)
        for end, note in self._noted(index):
            intent[self._frame(end, index) :] = self.intents.get(note, NOTHING)
        for event in talk.events:
            if event.kind == "turn" and event.speaker == USER:
                intent[self._frame(event.start, index) : self._frame(event.end, index)] = NOTHING
        text, words = self.talks.text(index).long(), self.talks.said_to(index, USER).long()
        rows = {"states": self._states(index).float(), "heard": heard, "text": text, "words": words, "intent": intent}
        rows = {name: row[start:stop] for name, row in rows.items()}
        short = frames - len(rows["text"])
        return {
            name: F.pad(row, (0, 0, 0, short)) if row.ndim == 2 else F.pad(row, (0, short), value=NOTHING)
            for name, row in rows.items()
        }

    def batch(self, step: int) -> dict[str, Tensor]:
        """Windows of conversations, every second about equally likely."""
        rng, frames = np.random.default_rng([self.config.seed, step]), self.data.frames
        rows = []
        for _ in range(self.config.batch):
            index = int(np.searchsorted(self.ends, rng.integers(int(self.ends[-1])), side="right"))
            spare = max(0, int(self.talks.frames[index]) - frames)
            rows.append(self._row(index, int(rng.integers(spare + 1)), frames))
        batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        lost = torch.from_numpy(rng.random(batch["text"].shape)) < self.data.lost
        batch["heard"] = batch["heard"].masked_fill(lost[..., None], 0.0)
        if self.data.dropout:
            out = torch.from_numpy(rng.random(batch["heard"].shape, dtype=np.float32)) < self.data.dropout
            batch["heard"] = batch["heard"].masked_fill(out, 0.0) / (1 - self.data.dropout)
        batch["forced"] = torch.from_numpy(rng.random(len(rows)) < self.data.teacher_forcing)
        return batch

    def losses(self, batch: dict[str, Tensor], group: str = "model") -> dict[str, Tensor]:
        """`text`, which piece it is where there is one; `words` and `intent`."""
        seen, silent = self.hearing.read(batch["heard"], batch["states"]), (self.moshi.pad, self.moshi.end_pad)
        losses: dict[str, Tensor] = {}
        intents, known = self.hearing.intent_head(seen), batch["intent"] != NOTHING
        said = (batch["text"] != NOTHING) & (batch["text"] != silent[0]) & (batch["text"] != silent[1])
        if said.any():
            intent = intents[said].detach().softmax(-1)
            if "forced" in batch:
                forced = (known & batch["forced"][:, None])[said]
                intent[forced] = F.one_hot(batch["intent"][said][forced], len(self.intents)).float()
            logits = self.model.text_head(self.hearing.conditioned(seen[said], batch["states"][said], intent))
            logits = logits.index_fill(1, torch.tensor(silent, device=logits.device), float("-inf"))
            losses["text"] = F.cross_entropy(logits, batch["text"][said])
        there = batch["words"] != NOTHING
        if there.any():
            target = batch["words"][there]
            each = F.cross_entropy(self.model.words_head(seen[there]), target, reduction="none")
            weight = torch.where((target == silent[0]) | (target == silent[1]), self.data.padding, 1.0)
            losses["words"] = (each * weight).sum() / weight.sum()
        if known.any():
            losses["intent"] = F.cross_entropy(intents[known], batch["intent"][known])
        return losses

    @torch.no_grad()
    def measure(self, step: int, measures: Measures) -> dict[str, float]:
        """Losses on conversations that are held out, and the share of their turns whose intent is known."""
        self.model.eval()
        total: Counter[str] = Counter()
        right = turns = 0
        held = range(self.count, len(self.talks))
        for index in held:
            row = {name: each[None] for name, each in self._row(index, 0, int(self.talks.frames[index])).items()}
            total.update({f"held-{name}": float(each) / len(held) for name, each in self.losses(row).items()})
            best = self.hearing.intent_head(self.hearing.read(row["heard"], row["states"])[0]).argmax(-1)
            for end, note in self._noted(index):
                at = self._frame(end + INTENT_SECONDS, index) - 1
                if at < len(best):
                    right, turns = right + int(best[at] == self.intents.get(note, NOTHING)), turns + 1
        self.model.train()
        figures = {**total, "intent-accuracy": right / max(1, turns)}
        if self.data.measure:
            measure = measures.get(self.data.measure) or imported(self.data.measure, "data.measure")
            figures |= measure(Duplex(self._bare(), self.duplex.codec, self.duplex.pieces, self.duplex.sampling))
        return figures

    def sample(self, step: int, folder: Path) -> None:
        """Writes what was said in the first held-out conversations, and the words that the model hears and chooses."""
        folder.mkdir(parents=True, exist_ok=True)
        lines: list[str] = []
        for index in range(self.count, min(self.count + 6, len(self.talks))):
            talk = self.talks[index]
            row = {name: each[None] for name, each in self._row(index, 0, talk.frames).items()}
            with torch.no_grad():
                seen = self.hearing.read(row["heard"], row["states"])
                silent = (self.moshi.pad, self.moshi.end_pad)
                text, worded = (
                    self.model.text_head(x) for x in (row["states"], self.hearing.conditioned(seen, row["states"]))
                )
                chosen = reworded(text, worded, silent).argmax(-1)[0]
                words = self.model.words_head(seen).argmax(-1)[0]
            for who, made in ((USER, words), (MODEL, chosen)):
                said = " ".join(word.text for word in talk.words if word.speaker == who)
                lines += [f"{who}: {said}", f"  {self._spelt(made)}"]
            lines.append("")
        (folder / f"held-{step:06d}.txt").write_text("\n".join(lines), encoding="utf-8")

    def _spelt(self, text: Tensor) -> str:
        silent = (self.moshi.pad, self.moshi.end_pad)
        return self.duplex.pieces.decode([token for token in text.tolist() if token not in silent])

    def _bare(self) -> Moshi:
        """The model without the heads that aren't kept."""
        bare = Moshi(self.moshi)
        bare.load_state_dict({k: v for k, v in self.model.state_dict().items() if not k.startswith("words_head.")})
        return bare.eval()

    def export(self, folder: Path) -> None:
        """Writes the duplex model's folder."""
        duplex = Duplex(self._bare(), self.duplex.codec, self.duplex.pieces, self.duplex.sampling)
        duplex.save_pretrained(folder, self.codec_name)


def with_hearing(moshi: Moshi, config: HearingConfig) -> Moshi:
    """The model with a `hearing` of these sizes; of one that it has, weights are kept as far as they fit."""
    fields: dict[str, Any] = moshi.config.to_dict() | {"hearing": config}
    model = Moshi(MoshiConfig.from_dict(fields))
    fresh = model.state_dict()
    fits = {k: v for k, v in moshi.state_dict().items() if k in fresh and fresh[k].shape == v.shape}
    if (
        moshi.config.hearing is not None and moshi.config.hearing.intents != config.intents
    ):  # others, or in another order
        fits = {
            k: v
            for k, v in fits.items()
            if k not in ("hearing.intent_head.weight", "hearing.conditioning.embedding.weight")
        }
    missing, _ = model.load_state_dict(fits, strict=False)
    assert all(name.startswith("hearing.") for name in missing)
    return model
