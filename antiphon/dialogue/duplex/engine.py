"""Full-duplex conversations, many in one batch on one set of weights: a frame in, a frame out, no threads.

    engine = DuplexEngine(duplex)
    one = engine.join(seed=1)
    two = engine.join(engine.prompt(text="Be brief."))
    frames = engine.step({one: heard, two: None})         # [1920] samples each; None: the frame was lost
    frames[one].audio                                     # to be played while the next frame is heard

Conversations join and leave between frames, and one that is not named in a step simply rests. Each is a value: a
`DuplexState` is all that is remembered, to be kept, forked or gone back to. Nothing in it grows with time.

Everything here is a function of what went in, on no clock but that of the frames; `BatchedEngine` puts it on a thread.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from antiphon.audio.io import Audio
from antiphon.errors import ModelError
from antiphon.models.moshi.bundle import Duplex
from antiphon.models.moshi.model import MoshiSampling
from antiphon.nn.cpu import one_thread
from antiphon.nn.state import StateBatch

FREE = -1  # a token that isn't forced
PROMPT_GAP_FRAMES = 6  # of silence between a voice prompt and the conversation
SMALL = 200_000_000  # weights, of a model whose operators are too short to be shared by cores, alone or 16 in a batch
LETTER_SECONDS = 0.07  # a letter of English aloud, with its share of the pauses


@dataclass(frozen=True)
class DuplexFrame:
    """What the model makes of one frame heard.

    Attributes:
        audio: float32 [frame_samples], to be played while the next frame is heard.
        token: of the text; -1 in the first frames, whose text isn't there yet.
        text: that token's letters, with a space before a word; "" for padding and for a letter that isn't complete.
        codes: own codes [codebooks], -1 as `token`.
        number: of the frame that `token` and `codes` are about, 0 for the first.
    """

    audio: Tensor
    token: int
    text: str
    codes: Tensor
    number: int


@dataclass
class DuplexState:
    """All that is remembered of a conversation between two frames: a value, see `DuplexEngine.snapshot`.

    Attributes:
        state: of Moshi and codec, one row.
        frames: heard so far.
        letters: tokens of a letter that isn't complete.
        own_muted: the model's own stream is silence; it doesn't speak.
        user_muted: what is heard is replaced by silence.
        script: text tokens that the model is made to say, one a frame.
    """

    state: Any
    frames: int = 0
    letters: list[int] = field(default_factory=list)
    own_muted: bool = False
    user_muted: bool = False
    script: deque[int] = field(default_factory=deque)

    def fork(self) -> DuplexState:
        """A copy of everything but `state`, which no one changes."""
        return replace(self, letters=list(self.letters), script=copy.copy(self.script))


@dataclass
class _Live:
    """A conversation in the batch: its state lies there."""

    row: int
    conversation: DuplexState


class DuplexEngine:
    """Conversations in one batch. Not for several threads at once.

    Args:
        duplex: the weights; engines may share them.
        sampling: how text and codes are drawn, in all conversations; None is the model's own.
        capacity: conversations there is room for at first; there will be more when more join.
    """

    def __init__(self, duplex: Duplex, sampling: MoshiSampling | None = None, capacity: int = 1):
        self.duplex, self.sampling = duplex, sampling or duplex.sampling
        self._rows: StateBatch[Any] = StateBatch(self._fresh, capacity)
        self._live: dict[int, _Live] = {}
        self._order: list[int] = []  # handle of each row
        self._next = 0
        self._silence = duplex.silence.to(duplex.device)
        weights = sum(weight.numel() for weight in duplex.moshi.parameters())
        on_one_core = duplex.device.type == "cpu" and weights < SMALL
        self._cores: Callable[[], AbstractContextManager[None]] = one_thread if on_one_core else nullcontext
        if duplex.moshi.packed is None and duplex.device.type == "cpu":
            with self._cores():  # the products are packed for as many
                duplex.moshi.pack()

    @property
    def sample_rate(self) -> int:
        return self.duplex.sample_rate

    @property
    def frame_samples(self) -> int:
        return self.duplex.frame_samples

    @property
    def conversations(self) -> list[int]:
        """Handles of those that are live."""
        return list(self._live)

    def _fresh(self, rows: int) -> Any:
        encoder = self.duplex.audio_encoder
        heard = None if encoder is None else encoder.init_state(rows)
        return self.duplex.moshi.init_state(rows), self.duplex.codec.init_state(rows), heard

    def start(self, seed: int = 0) -> DuplexState:
        """A conversation before its first frame."""
        return DuplexState(_seeded(self._fresh(1), seed))

    @torch.no_grad()
    def prompt(self, text: str = "", voice: Audio | None = None, seed: int = 0) -> DuplexState:
        """A conversation before its first frame, with a past: compute it once, let many join with it.

        The voice comes first, as if the model had said it; then the text, one piece a frame, as if it had thought it
        in silence. The user is silent meanwhile. What a prompt does depends on what the model has learnt from.

        Args:
            text: becomes inner monologue.
            voice: becomes the model's own past, any sample rate.
            seed: of the conversation.
        """
        with self._cores():
            return self._prompt(text, voice, seed)

    def _prompt(self, text: str, voice: Audio | None, seed: int) -> DuplexState:
        moshi, codec = self.duplex.moshi, self.duplex.codec
        start, pad, own = self.start(seed), moshi.config.pad, moshi.config.codebooks
        silence = self._silence[:own]
        past: list[tuple[int, Tensor]] = []
        if voice is not None:
            samples = voice.mono().resample(self.sample_rate).samples.to(self.duplex.device)
            past += [(pad, codes) for codes in codec.encode(samples[None, None])[0, :own].T]
            past += [(pad, silence)] * PROMPT_GAP_FRAMES
        past += [(token, silence) for token in self._tokens(text)]
        if past:  # what was decided upon in the prompt's last frame mustn't be heard in the conversation
            past += [(pad, silence)] * (1 + self.duplex.delay)
        user, (state, *_) = self._silence[None, : moshi.config.user_codebooks], start.state
        for token, codes in past:
            forced = torch.tensor([token], device=self.duplex.device)
            moshi.step(user, state, self.sampling, forced_text=forced, forced_own=codes[None])
        return start

    def join(self, start: DuplexState | None = None, seed: int = 0) -> int:
        """Takes a conversation into the batch, between two frames.

        Args:
            start: where it stands: of `start`, `prompt` or `snapshot`, which stay as they are. None is `start(seed)`.
            seed: without `start`, the same seed and sound give the same conversation.

        Returns:
            Its handle, which no other conversation of this engine ever has.
        """
        start = self.start(seed) if start is None else start
        row, handle = self._rows.add(start.state), self._next
        self._next += 1
        self._order.append(handle)
        self._live[handle] = _Live(row, replace(start.fork(), state=None))
        return handle

    def leave(self, handle: int) -> None:
        """Ends a conversation; its place in the batch is free."""
        live = self._find(handle)
        self._rows.remove(live.row)
        last = self._order.pop()
        if last != handle:
            self._order[live.row] = last
            self._live[last].row = live.row
        del self._live[handle]

    def snapshot(self, handle: int) -> DuplexState:
        """Where a conversation stands, a value that nothing changes any more: `join` forks it, `restore` goes back."""
        live = self._find(handle)
        return replace(live.conversation.fork(), state=self._rows.get(live.row))

    def restore(self, handle: int, snapshot: DuplexState) -> None:
        """Rewinds a live conversation to a snapshot, its own or another's."""
        live = self._find(handle)
        self._rows.put(live.row, snapshot.state)
        live.conversation = replace(snapshot.fork(), state=None)

    def fork(self, handle: int, seed: int | None = None) -> int:
        """A second future of a live conversation.

        Args:
            handle: of the first.
            seed: draws otherwise from here on; None draws as the first does.
        """
        snapshot = self.snapshot(handle)
        if seed is not None:
            _seeded(snapshot.state, seed)
        return self.join(snapshot)

    def mute(self, handle: int, own: bool | None = None, user: bool | None = None) -> None:
        """Makes the model silent (`own`) or deaf (`user`) from the next frame on, or no longer; None leaves as is.

        Its own stream is then forced to silence and its text to padding; the user's is replaced by silence.
        """
        conversation = self._find(handle).conversation
        conversation.own_muted = conversation.own_muted if own is None else own
        conversation.user_muted = conversation.user_muted if user is None else user

    def say(self, handle: int, text: str) -> None:
        """Has the model say a text, by forcing its inner monologue at the pace of speech from the next frame on.

        It speaks the words as far as it learnt to follow its own text. A text that is given meanwhile comes after it.
        """
        config, script = self.duplex.moshi.config, self._find(handle).conversation.script
        for word in text.split():
            pieces = self.duplex.pieces.encode_word(word, first=False)
            frames = max(len(pieces) + 1, round(len(word) * LETTER_SECONDS * self.duplex.frame_rate))
            script.extend([*pieces, *[config.pad] * (frames - len(pieces) - 1), config.end_pad])

    def has_script(self, handle: int) -> bool:
        """Whether there is text left of what `say` gave."""
        return bool(self._find(handle).conversation.script)

    @torch.no_grad()
    def step(self, frames: Mapping[int, Tensor | None]) -> dict[int, DuplexFrame]:
        """One frame of some conversations; the others rest.

        Args:
            frames: what each heard, float32 [frame_samples]; None if it was lost: the model then knows that it doesn't
                know, and goes on. A speech encoder takes it for silence.

        Returns:
            For the same handles, in the order given.

        Raises:
            ModelError: no such conversation, or a frame of another size.
        """
        if not frames:
            return {}
        with self._cores():
            return self._step(frames)

    def _step(self, frames: Mapping[int, Tensor | None]) -> dict[int, DuplexFrame]:
        order = self._to_front(frames)
        audio, unknown = self._heard(order, frames)
        state = self._rows.front(len(order))
        moshi_state, codec_state, encoder_state = state
        moshi, codec, config = self.duplex.moshi, self.duplex.codec, self.duplex.moshi.config
        user = torch.empty(len(order), 0, dtype=torch.long, device=audio.device)
        if config.user_codebooks:
            user = codec.encode_step(audio, codec_state)[:, : config.user_codebooks, 0]
        encoder = self.duplex.audio_encoder
        heard = None if encoder is None else encoder.step(audio[:, 0], encoder_state)
        lives = [self._live[handle] for handle in order]
        deaf = [row for row, live in enumerate(lives) if live.conversation.user_muted]
        user[unknown] = -1
        user[deaf] = self._silence[: config.user_codebooks]
        if heard is not None:
            heard[deaf] = 0.0
        text, own = self._forced(lives)
        tokens = moshi.step(user, moshi_state, self.sampling, forced_text=text, forced_own=own, heard=heard)
        codes = torch.where(tokens[:, 1:] < 0, self._silence[: config.codebooks], tokens[:, 1:])
        sound = codec.decode_step(codes[..., None], codec_state)[:, 0]
        self._rows.keep(state)
        made = {}
        for handle, live, token, said, samples in zip(
            order, lives, tokens[:, 0].tolist(), tokens[:, 1:].unbind(0), sound.unbind(0)
        ):
            number = live.conversation.frames - self.duplex.delay
            live.conversation.frames += 1
            made[handle] = DuplexFrame(samples, token, self._letters(live.conversation, token), said, number)
        return {handle: made[handle] for handle in frames}

    def _find(self, handle: int) -> _Live:
        if handle not in self._live:
            raise ModelError(f"there is no conversation {handle}: it never joined, or it has left")
        return self._live[handle]

    def _to_front(self, handles: Mapping[int, Any]) -> list[int]:
        """Moves the rows of these conversations to the batch's front; returns their handles in the rows' order."""
        for handle in handles:
            self._find(handle)
        count, gap = len(handles), 0
        for row in range(count, len(self._order)):
            if self._order[row] not in handles:
                continue
            while self._order[gap] in handles:
                gap += 1
            self._rows.swap(gap, row)
            self._order[gap], self._order[row] = self._order[row], self._order[gap]
            self._live[self._order[gap]].row, self._live[self._order[row]].row = gap, row
        return self._order[:count]

    def _heard(self, order: Sequence[int], frames: Mapping[int, Tensor | None]) -> tuple[Tensor, list[int]]:
        """Frames as a batch [n, 1, frame_samples], zeros for lost ones, and the rows of these."""
        audio = torch.zeros(len(order), 1, self.frame_samples)
        unknown = []
        for row, handle in enumerate(order):
            if (frame := frames[handle]) is None:
                unknown.append(row)
                continue
            if frame.shape != (self.frame_samples,):
                raise ModelError(f"a frame is [{self.frame_samples}] samples, got {list(frame.shape)}")
            audio[row, 0] = frame
        return audio.to(self.duplex.device), unknown

    def _forced(self, lives: Sequence[_Live]) -> tuple[Tensor | None, Tensor | None]:
        """Text [n] and own codes [n, codebooks] that are given, FREE where they are drawn; None if all are."""
        config = self.duplex.moshi.config
        muted = [live.conversation.own_muted for live in lives]
        text = [
            config.pad if mute else live.conversation.script.popleft() if live.conversation.script else FREE
            for live, mute in zip(lives, muted)
        ]
        if all(token == FREE for token in text):
            return None, None
        own = None
        if any(muted):
            mask = torch.tensor(muted, device=self.duplex.device)[:, None]
            own = torch.where(mask, self._silence[: config.codebooks], FREE)
        return torch.tensor(text, device=self.duplex.device), own

    def _letters(self, conversation: DuplexState, token: int) -> str:
        """The letters that this token completes."""
        config, pieces = self.duplex.moshi.config, self.duplex.pieces
        if token < 0 or token in (config.pad, config.end_pad):
            conversation.letters.clear()
            return ""
        conversation.letters.append(token)
        text = pieces.decode(conversation.letters)
        if text.endswith("\ufffd") and len(conversation.letters) < 4:  # a letter has four bytes at most
            return ""
        text = f" {text}" if pieces.starts_word(conversation.letters[0]) else text
        conversation.letters.clear()
        return text

    def _tokens(self, text: str) -> list[int]:
        return [token for word in text.split() for token in self.duplex.pieces.encode_word(word, first=False)]


def _seeded(state: Any, seed: int) -> Any:
    """The state, with another seed of what it draws."""
    state[0].seed.fill_(seed)
    return state
