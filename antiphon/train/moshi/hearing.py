"""Teaches a duplex model what is said to it: its `hearing` learns the state of the dialogue, and the rest to go by it.

`hearing` is asked for the state (idle; the user's turn lasts; the turn's intent, its note, from its end until the user
speaks again) and, through a head that isn't kept, for the user's words, some time after each began. The temporal
transformer reads the state as `hearing` predicts it, and so as unsure as it will be; but where an intent is known it is
told the true one for the most part (`data.teacher_forcing`), so that it learns to answer what it is told. It learns to
answer when it is told, too: where a reply of the conversation comes late, the user's turn lasts for it until shortly
before (`data.gap`). Text and codes are asked for as in `antiphon.train.moshi.task`.

The user's codes are left out of what it becomes: a transformer that reads them knows by heart what is answered to the
voices and sentences that it has heard, and nothing of others.

Without `data.replies` it is `hearing` alone that is trained.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from omegaconf import MISSING
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.data.dialogue.codes import DialogueCodes, dialogue_codes
from antiphon.data.dialogue.format import USER
from antiphon.data.dialogue.grid import NOTHING, weights, window
from antiphon.data.dialogue.heard import HeardDialogues, hear_dialogues
from antiphon.data.store import kind_of
from antiphon.encoders.whisper.frames import FrameEncoder
from antiphon.errors import ConfigError
from antiphon.hub.folders import folder
from antiphon.models.moshi.bundle import Duplex, codec_name
from antiphon.models.moshi.config import MoshiConfig
from antiphon.models.moshi.hearing import FIRST_INTENT, IDLE, LISTENING, HearingConfig
from antiphon.models.moshi.model import Moshi
from antiphon.train.config import Measures, StageConfig
from antiphon.train.moshi.batches import DialogueWindows, speaking
from antiphon.train.moshi.task import dialogue_losses, disturbed, imported
from antiphon.train.prepare import preparing

INTENT_SECONDS = 0.6  # after a turn's end, when its intent must be known


@dataclass
class HearingStart:
    """What is trained, and on what."""

    duplex: str = MISSING
    """Folder of the duplex model that it begins from."""
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
    replies: bool = True
    """Whether the replies are learnt, too; if not, `hearing` alone is."""
    from_start: float = 0.2
    """Share of windows that begin where the conversation does."""
    late: int = 3
    """Frames by which replies come later after a turn than in the conversations. The encoder is late, and what was said
    last must be known when it is time to answer."""
    teacher_forcing: float = 0.6
    """Where an intent is known, at least such a part of all chances is that intent's; the rest is as `hearing` predicts
    it. Drawn for each window, from this to 1."""
    gap: int = 3
    """At most so many frames are between that a reply's intent is told and that it begins, drawn anew for each."""
    dropout: float = 0.0
    """Share of the encoder's numbers that are left out."""
    lost: float = 0.02
    """Share of frames in which nothing was heard."""
    noise: float = 0.4
    """Share of the model's own codes that are others in what the temporal transformer sees. Codes tell of the sound
    after them, too, as far as the codec's encoder looks ahead: of a known reply they tell the next word, and the text
    would be read from them in place of the state."""
    depth_share: float = 0.4
    """Share of frames whose codes are asked for where the model speaks."""
    depth_share_quiet: float = 0.05
    """The same where it is silent."""
    semantic: float = 10.0
    """Weight of the semantic code."""
    lag: float = 0.4
    """Seconds after a word of the user began at which it is asked for."""
    padding: float = 0.5
    """Weight of PAD and EPAD, in the user's words and the model's."""
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
        self.moshi = without_user(duplex.moshi.config)
        # A step predicts the frame after those that were heard.
        self.delay = 1 + sizes.delay - self.data.late
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

    def _turns(self, index: int) -> list[tuple[int, int]]:
        """Frames of the user's turns, from the first to the one after the last."""
        talk = self.talks[index]
        spans = [(e.start, e.end) for e in talk.events if e.kind == "turn" and e.speaker == USER]
        return [(int(start * talk.frame_rate), int(end * talk.frame_rate)) for start, end in spans]

    def _states(self, index: int, start: int) -> tuple[Tensor, Tensor]:
        """The state of the dialogue at each step of a conversation, int64 [frames]; and what is asked of who hears
        from `start` on, `NOTHING` where that can't be known."""
        state = torch.full((self.talks[index].frames,), IDLE)
        target = state.clone()
        turns = [e for e in self.talks[index].events if e.kind == "turn" and e.speaker == USER]
        for turn in sorted(turns, key=lambda e: e.end):
            first, end = self._frame(turn.start, index), self._frame(turn.end, index)
            known = FIRST_INTENT + self.intents[turn.note] if turn.note in self.intents else LISTENING
            state[first:end] = target[first:end] = LISTENING
            state[end:] = known
            target[end:] = known if first >= start and turn.note in self.intents else NOTHING
        return state, target

    def _held(self, index: int, rng: np.random.Generator) -> Tensor:
        """Steps of a conversation in which the temporal transformer isn't told yet that a turn is over, for the reply
        comes later: bool [frames]."""
        spoken = (self.talks.text(index) != self.moshi.pad).nonzero()[:, 0].numpy()  # a reply begins with EPAD
        held = torch.zeros(self.talks[index].frames, dtype=torch.bool)
        turns = sorted(e.end for e in self.talks[index].events if e.kind == "turn" and e.speaker == USER)
        ends = [self._frame(end, index) for end in turns]
        for end, following in zip(ends, [*ends[1:], len(held)]):
            at = int(np.searchsorted(spoken, end))
            if at < len(spoken) and spoken[at] < following:
                held[end : max(end, int(spoken[at]) - int(rng.integers(self.data.gap + 1)))] = True
        return held

    def _row(self, index: int, start: int, frames: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """A window: what is read, and what is asked for."""
        talk, stop = self.talks[index], start + frames
        # At a step, the newest frame that is there is the one `delay` steps before, or ahead of late replies.
        heard = self.heard[index][talk.id]
        heard = F.pad(heard, (0, 0, max(0, self.delay), 0))[max(0, -self.delay) :]
        heard = F.pad(heard, (0, 0, 0, max(0, talk.frames - len(heard))))[: talk.frames]
        words = self.talks.said_to(index, USER).long()
        state, target = self._states(index, start)
        rows = {"heard": heard, "words": words, "true": state, "state": target, "held": self._held(index, rng).long()}
        rows = {name: row[start:stop] for name, row in rows.items()}
        short = frames - len(rows["words"])
        rows = {
            name: F.pad(row, (0, 0, 0, short)) if row.ndim == 2 else F.pad(row, (0, short), value=NOTHING)
            for name, row in rows.items()
        }
        return rows | {"target": window(self.talks.grid(index), start, frames, self.moshi.delays)}

    def batch(self, step: int) -> dict[str, Tensor]:
        """Windows of conversations, every second about equally likely."""
        rng, frames = np.random.default_rng([self.config.seed, step]), self.data.frames
        rows = []
        for _ in range(self.config.batch):
            index = int(np.searchsorted(self.ends, rng.integers(int(self.ends[-1])), side="right"))
            spare = max(0, int(self.talks.frames[index]) - frames)
            start = 0 if rng.random() < self.data.from_start else int(rng.integers(spare + 1))
            rows.append(self._row(index, start, frames, rng))
        batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        lost = torch.from_numpy(rng.random(batch["words"].shape)) < self.data.lost
        batch["heard"] = batch["heard"].masked_fill(lost[..., None], 0.0)
        if self.data.dropout:
            out = torch.from_numpy(rng.random(batch["heard"].shape, dtype=np.float32)) < self.data.dropout
            batch["heard"] = batch["heard"].masked_fill(out, 0.0) / (1 - self.data.dropout)
        forced = torch.from_numpy(rng.random(len(rows), dtype=np.float32))
        batch["forced"] = self.data.teacher_forcing + forced * (1 - self.data.teacher_forcing)
        return self._asked(batch, rng, self.data.noise)

    def _asked(self, batch: dict[str, Tensor], rng: np.random.Generator, noise: float) -> dict[str, Tensor]:
        """A batch with what the model sees of the grids, and what each target weighs."""
        target, moshi = batch["target"], self.moshi
        batch["weight"] = weight = weights(
            target, moshi.codebooks, moshi.predicted, moshi.pad, moshi.end_pad,
            self.data.semantic, text_padding=self.data.padding,
        )  # fmt: skip
        spoken = speaking(target[:, 0], moshi.pad, moshi.end_pad)
        shares = torch.where(spoken, self.data.depth_share, self.data.depth_share_quiet)
        batch["keep"] = (weight[:, 1:] > 0).any(1) & (torch.from_numpy(rng.random(shares.shape)) < shares)
        batch["delayed"] = disturbed(target, moshi, rng, noise, 0.0)
        return batch

    def teacher_forced(self, predicted: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """What the temporal transformer is told: predicted probabilities [B, T, states], of which a part is the true
        intent's where there is one, and all is where who hears from the window's begin can't know it; and that the turn
        lasts, where the reply is late."""
        true = F.one_hot(batch["true"].clamp_min(0), predicted.shape[-1]).to(predicted)
        forced, asked = batch["forced"][:, None, None], batch["true"] >= FIRST_INTENT
        told = torch.where(asked[..., None], predicted + forced * (true - predicted), predicted)
        told = torch.where((asked & (batch["state"] == NOTHING))[..., None], true, told)
        lasting = F.one_hot(torch.tensor(LISTENING, device=told.device), predicted.shape[-1]).to(told)
        return torch.where((batch["held"] > 0)[..., None], lasting, told)

    def losses(self, batch: dict[str, Tensor], group: str = "model") -> dict[str, Tensor]:
        """`heard`, the user's words, and `state`; `text` and `audio` of what is said, and what goes with them."""
        seen = self.hearing(batch["heard"])
        losses: dict[str, Tensor] = {}
        logits, known = self.hearing.state_head(seen), batch["state"] != NOTHING
        if known.any():
            losses["state"] = F.cross_entropy(logits[known], batch["state"][known])
        there = batch["words"] != NOTHING
        if there.any() and self.model.words_head.weight.requires_grad:
            target = batch["words"][there]
            each = F.cross_entropy(self.model.words_head(seen[there]), target, reduction="none")
            weight = torch.where((target == self.moshi.pad) | (target == self.moshi.end_pad), self.data.padding, 1.0)
            losses["heard"] = (each * weight).sum() / weight.sum()
        if self.data.replies:
            condition = self.hearing.embedding(self.teacher_forced(self.hearing.chances(seen).detach(), batch))
            output = self.model.conditioned(batch["delayed"], batch["keep"], condition, batch["target"])
            losses |= dialogue_losses(output, batch["target"], batch["weight"], batch["keep"], self.moshi)
        return losses

    @torch.no_grad()
    def measure(self, step: int, measures: Measures) -> dict[str, float]:
        """Losses on conversations that are held out; of their turns, the share whose intent is known `INTENT_SECONDS`
        after the end, and the share of their frames in which an intent is found likeliest (`too-soon`)."""
        self.model.eval()
        device, total = self.model.text_head.weight.device, Counter[str]()
        right = turns = soon = frames = 0
        held = range(self.count, len(self.talks))
        for index in held:
            rng = np.random.default_rng([self.config.seed, index])
            row = self._row(index, 0, int(self.talks.frames[index]), rng)
            batch = {name: each[None] for name, each in row.items()} | {"forced": torch.zeros(1)}
            batch = {name: each.to(device) for name, each in self._asked(batch, rng, 0.0).items()}
            total.update({f"held-{name}": float(each) / len(held) for name, each in self.losses(batch).items()})
            logits = self.hearing.state_head(self.hearing(batch["heard"]))[0]
            best = logits[:, FIRST_INTENT:].argmax(-1)
            for start, end in self._turns(index):
                inside = logits[max(0, start + self.delay) : max(0, end + self.delay)].argmax(-1)
                soon, frames = soon + int((inside >= FIRST_INTENT).sum()), frames + len(inside)
            for end, note in self._noted(index):
                at = self._frame(end + INTENT_SECONDS, index) - 1
                if at < len(best):
                    right, turns = right + int(best[at] == self.intents.get(note, NOTHING)), turns + 1
        self.model.train()
        figures = {**total, "intent-accuracy": right / max(1, turns), "too-soon": soon / max(1, frames)}
        if self.data.measure:
            measure = measures.get(self.data.measure) or imported(self.data.measure, "data.measure")
            figures |= measure(Duplex(self._bare(), self.duplex.codec, self.duplex.pieces, self.duplex.sampling))
        return figures

    def sample(self, step: int, folder: Path) -> None:
        """Writes what was said in the first held-out conversations, the words that the model hears, and when it finds
        the state of the dialogue another."""
        folder.mkdir(parents=True, exist_ok=True)
        names = ["idle", "listening", *self.intents]
        lines: list[str] = []
        for index in range(self.count, min(self.count + 6, len(self.talks))):
            talk = self.talks[index]
            row = self._row(index, 0, talk.frames, np.random.default_rng([self.config.seed, index]))
            with torch.no_grad():
                seen = self.hearing(row["heard"][None].to(self.model.text_head.weight.device))[0]
                words, state = (
                    head(seen).argmax(-1).cpu() for head in (self.model.words_head, self.hearing.state_head)
                )
            said = " ".join(word.text for word in talk.words if word.speaker == USER)
            lines += [f"{USER}: {said}"]
            if self.model.words_head.weight.requires_grad:
                lines += [f"  {self._spelt(words)}"]
            for found in (row["true"], state):
                changes = [0, *((found[1:] != found[:-1]).nonzero()[:, 0] + 1).tolist()]
                lines.append("  " + " ".join(f"{at / talk.frame_rate:.1f} {names[int(found[at])]}" for at in changes))
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


def without_user(config: MoshiConfig) -> MoshiConfig:
    """Sizes of the same model without the user's codes.

    Raises:
        ConfigError: it predicts them.
    """
    if config.predicted > config.codebooks:
        raise ConfigError(
            "model.duplex: this model predicts the user's codes, and one that goes by its hearing has none; begin with "
            f"one whose depth.codebooks is {config.codebooks}."
        )
    return replace(config, user_codebooks=0, delays=list(config.delays)[: 1 + config.codebooks])


def with_hearing(moshi: Moshi, config: HearingConfig) -> Moshi:
    """The model with a `hearing` of these sizes, without the user's codes; weights are kept as far as they fit.

    Raises:
        ConfigError: it predicts the user's codes.
    """
    model = Moshi(replace(without_user(moshi.config), hearing=config))
    fresh, there = model.state_dict(), moshi.state_dict()
    codes = there["code_embedding.weight"]  # the own voice's, the user's, and the one of nothing
    there["code_embedding.weight"] = torch.cat([codes[: len(fresh["code_embedding.weight"]) - 1], codes[-1:]])
    fits = {name: each for name, each in there.items() if name in fresh and fresh[name].shape == each.shape}
    if moshi.config.hearing is not None and moshi.config.hearing.intents != config.intents:
        of_intents = ("hearing.state_head.weight", "hearing.embedding.weight")  # rows of others, or in another order
        fits = {name: each for name, each in fits.items() if name not in of_intents}
    missing, _ = model.load_state_dict(fits, strict=False)
    assert all(name.startswith("hearing.") for name in missing)
    return model
