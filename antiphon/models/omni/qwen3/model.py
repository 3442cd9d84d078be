"""Qwen3-Omni: what `omni.model` says of Qwen2.5-Omni, with parts of its own.

    model = weights.load(folder)
    state = model.init_state()
    model.read(state, processor([{"role": "user", "content": "Hello."}]))
    for event in model.reply(state, "ethan"):        # Written(token), Spoken(samples), in turns

The talker reads users' turns alone and the reply that is due; which turn a token is of is told by the marks around it.
What it has read of users stays read, and goes on with the next turn; of a reply it forgets everything.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from antiphon.errors import ModelError
from antiphon.models.llm.sampling import TokenSampling, sample_rows
from antiphon.models.lora import Lora
from antiphon.models.omni.model import Omni, OmniMark, OmniState, ReplySettings, Spoken, Written
from antiphon.models.omni.qwen3.code2wav import Code2Wav
from antiphon.models.omni.qwen3.config import CODE_RATE, Qwen3OmniConfig
from antiphon.models.omni.qwen3.talker import READ_FIRST, ROLE, Qwen3Talker
from antiphon.models.omni.qwen3.thinker import Qwen3Thinker
from antiphon.models.omni.thinker import Read

SPEAKING = TokenSampling(temperature=0.9, top_k=50, repetition=1.05)  # as published, as are the other codebooks'
PREDICTING = TokenSampling(temperature=1.0, top_k=50, top_p=0.8)
NO_TURN, UNKNOWN = -2, -1  # roles: no turn is open; who speaks isn't told yet


@dataclass
class Qwen3State(OmniState):
    """A conversation.

    Attributes:
        unread: of users' turns, as the talker reads it [n, hidden], and the places [3, n] of that.
        role: token of who speaks in the turn that is open.
        said: embeddings of its tokens [n, width], where it is the assistant's, or who speaks isn't known yet.
        shift: by how much places of an open turn are further on for the thinker than for the talker.
        place: where the talker's next token stands.
        top: behind all that the talker reads.
    """

    role: int = NO_TURN
    said: Tensor | None = None
    shift: float = 0.0
    place: float = 0.0
    top: float = 0.0


@dataclass(frozen=True)
class Qwen3Mark(OmniMark):
    """A point of a conversation; `asked` counts the tokens of users, see `Qwen3State` for the others."""

    asked: int
    role: int
    said: Tensor
    shift: float
    place: float
    top: float


class Qwen3Omni(Omni):
    """See the module.

    Args:
        config: sizes; parts that it lacks are None.
        published: what config.json says, for saving.
    """

    speaking, code_rate = SPEAKING, CODE_RATE

    def __init__(self, config: Qwen3OmniConfig, published: dict[str, Any]):
        super().__init__(config, published)
        speakers = () if config.talker is None else config.talker.speakers
        self.voices = {name.lower(): code for name, code in speakers}

    @staticmethod
    def _parts(config: Qwen3OmniConfig) -> tuple[nn.Module | None, nn.Module | None, nn.Module | None]:
        thinker, talker = Qwen3Thinker(config.thinker), Qwen3Talker(config.talker) if config.talker else None
        return thinker, talker, Code2Wav(config.code2wav) if config.code2wav else None

    def reset(self) -> None:
        """Computes what is no weight; needed where the module was made without memory."""
        super().reset()
        if self.token2wav is not None:
            self.token2wav.reset()

    @property
    def sample_rate(self) -> int:
        """Of what is spoken, Hz."""
        assert self.config.code2wav is not None
        return round(CODE_RATE * self.config.code2wav.samples)

    def init_state(self) -> Qwen3State:
        """A conversation in which nothing was said."""
        norm = self.thinker.language_model.norm
        talker = None if self.talker is None else self.talker.lm.init_cache()
        width = 0 if self.talker is None else self.config.talker.text.hidden_size
        unread = norm.new_zeros(0, width, dtype=torch.float32), torch.zeros(3, 0, device=norm.device)
        said = norm.new_zeros(0, self.thinker.width, dtype=torch.float32)
        return Qwen3State(self.thinker.language_model.init_cache(), talker, unread, said=said)

    def reply(
        self, state: OmniState, voice: Any | None = None, settings: ReplySettings | None = None,
        lora: Lora | None = None,
    ) -> Iterator[Written | Spoken]:  # fmt: skip
        """See `Omni.reply`; sound needs no codes behind its own, so `ahead` only tells whether to wait for the end.

        Raises:
            ModelError: besides, sound is asked for, and no turn of the assistant has begun.
        """
        settings = settings or ReplySettings(speaking=self.speaking)
        if voice is not None:
            voice = self.voice(voice)
            if state.hidden is not None and (
                state.role != self.config.tokens.assistant_token_id or len(state.said) < ROLE
            ):
                raise ModelError("no turn of the assistant has begun: what is read must end with its first marks")
        return super().reply(state, voice, replace(settings, ahead=None if settings.ahead is None else 0), lora)

    def voice(self, name: Any) -> Any:
        """The code of a speaker, whose name may be given in capitals."""
        return super().voice(name.lower() if isinstance(name, str) else name)

    # What the talker reads: of users' turns.

    def _take(self, state: Qwen3State, read: Read, lora: Lora | None) -> None:
        accepted = None if self.talker is None else self.config.talker.accepted
        hidden, seen = self.thinker.thought(read.x[None], read.places[:, None], state.thinker, lora, accepted)
        state.hidden, state.after, state.last = hidden[0, -1], read.after, max(state.last, read.last)
        if self.talker is None:
            return
        start = self.config.tokens.im_start_token_id
        begins = [0, *((read.tokens[1:] == start).nonzero().flatten() + 1).tolist(), len(read.tokens)]
        for first, end in zip(begins, begins[1:]):
            self._tell(state, read, seen[0], slice(first, end))

    def _tell(self, state: Qwen3State, read: Read, seen: Tensor, at: slice) -> None:
        """Puts down the next tokens of one turn, as far as the talker reads them."""
        marks, places, tokens = self.config.tokens, read.places[:, at], read.tokens[at].tolist()
        x, perceived = read.x[at, : self.thinker.width], read.perceived[at]
        if tokens[0] == marks.im_start_token_id:
            state.role, state.said, state.shift = UNKNOWN, state.said[:0], float(places[0, 0]) - state.place
            tokens = tokens[1:]
        if state.role == UNKNOWN and tokens:
            state.role = tokens[0]
        if state.role in (UNKNOWN, marks.assistant_token_id):
            state.said = torch.cat([state.said, x])
        elif state.role == marks.user_token_id:
            held, state.said = state.said, state.said[:0]  # a mark that came before it was known whose turn it is
            own = torch.cat([torch.zeros(len(held), dtype=torch.bool, device=x.device), perceived])
            asked = self.talker.asked(torch.cat([held, x]), torch.cat([held, seen[at]]), own)
            before = (torch.arange(len(held), device=x.device) + state.place).expand(3, -1)
            self._unread(state, asked, torch.cat([before, places - state.shift], dim=1))

    @staticmethod
    def _unread(state: Qwen3State, asked: Tensor, places: Tensor) -> None:
        held, at = state.unread
        state.unread = torch.cat([held, asked]), torch.cat([at, places], dim=1)
        state.place = float(places[:, -1].max()) + 1
        state.top = max(state.top, float(places.max()) + 1)

    @staticmethod
    def _told(hidden: Tensor, x: Tensor) -> Tensor:
        return x

    @staticmethod
    def _leave(state: Qwen3State, told: Tensor, places: Tensor) -> None:
        """What was written goes on with the assistant's turn."""
        state.said = torch.cat([state.said, told])

    @staticmethod
    def _forget(state: Qwen3State, count: int) -> None:
        state.said = state.said[: len(state.said) - count]

    # How it speaks.

    def _silence(self, voice: Any, settings: ReplySettings) -> Any:
        return self.token2wav.init_state()

    def _sound(self, codes: list[Any], wave: Any, last: bool, settings: ReplySettings) -> Tensor:
        frames = torch.tensor(codes, dtype=torch.long, device=self.token2wav.code_embedding.weight.device)
        return self.token2wav.step(frames.view(-1, self.config.code2wav.num_quantizers).T[None], wave)[0]

    def _codes(
        self, state: Qwen3State, voice: int, settings: ReplySettings, first: Tensor
    ) -> Generator[tuple[int, ...] | None, Tensor | None, None]:
        """A generator of frames of codes, to which the embedding of the reply's next token is sent, or None when there
        is none left; gives None when the speech is over."""
        talker, marks, ends = self.talker, self.config.tokens, self.config.talker.tokens.codec_eos_token_id
        greedy = settings.speaking.temperature == 0
        predicting = TokenSampling() if greedy else replace(PREDICTING, seed=settings.speaking.seed)
        texts = deque([*state.said[ROLE:], first])
        with torch.inference_mode():
            spoken = torch.tensor([marks.tts_bos_token_id, marks.tts_eos_token_id, marks.tts_pad_token_id])
            bos, end, pad = self.thinker.language_model.embed(spoken.to(first.device))
            asked, places = state.unread
            if len(asked):
                talker(asked[None], places[:, None], state.talker)
            state.unread = asked[:0], places[:, :0]
            kept = int(state.talker.length)
            x = talker.begin(state.said[:ROLE], texts.popleft(), voice, bos, pad)
            at = (torch.arange(READ_FIRST, device=x.device) + state.place).expand(3, 1, -1)
            hidden = talker(x[None], at, state.talker)[0, -1]
        said: list[int] = []
        place, ended, tokens_read = max(state.top, state.place + READ_FIRST), 0, 1
        try:
            for number in range(settings.max_codes):
                with torch.inference_mode():
                    logits = talker.logits(hidden[None])
                    (code,) = sample_rows(logits, [settings.speaking], [number], [said])
                    if code == ends:
                        break
                    if ended and settings.patience is not None:
                        each, more = settings.patience
                        if number >= each * tokens_read + more:
                            break
                    frame = talker.frame(hidden, code, predicting, number)
                said.append(code)
                state.codes.append(frame)
                thought = yield frame
                if thought is not None:
                    texts.append(thought)
                    tokens_read += 1
                if texts:
                    text = texts.popleft()
                else:
                    text, ended = (pad if ended else end), ended + 1
                with torch.inference_mode():
                    x = talker.next(frame, text)
                    hidden = talker(x[None], torch.full((3, 1, 1), place, device=x.device), state.talker)[0, -1]
                place += 1
            yield None
        finally:
            with torch.inference_mode():
                state.talker.cut(kept)

    @staticmethod
    def mark(state: Qwen3State) -> Qwen3Mark:
        """See `Omni.mark`."""
        told, places = state.unread
        read = 0 if state.talker is None else int(state.talker.length)
        return Qwen3Mark(
            int(state.thinker.length), state.after, state.last, (told[:0], places[:, :0]), read + len(told),
            state.role, state.said, state.shift, state.place, state.top,
        )  # fmt: skip

    @staticmethod
    def rewind(state: Qwen3State, mark: Qwen3Mark) -> None:
        """See `Omni.rewind`."""
        state.thinker.cut(mark.length)
        read = 0 if state.talker is None else int(state.talker.length)
        told, places = state.unread
        more = max(0, mark.asked - read)
        state.unread = told[:more], places[:, :more]
        if state.talker is not None:
            state.talker.cut(mark.asked)
        state.role, state.said, state.shift = mark.role, mark.said, mark.shift
        state.place, state.top = mark.place, mark.top
        state.after, state.last, state.hidden, state.hearing = mark.after, mark.last, None, None
        state.reply, state.codes = [], []
