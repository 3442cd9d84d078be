"""Qwen2.5-Omni: reads text, sounds, pictures and videos, writes a reply and speaks it while it is being written.

    model = weights.load(folder)
    state = model.init_state()
    model.read(state, [Words(tokens), Heard(mel)])
    for event in model.reply(state, "Chelsie"):        # Written(token), Spoken(samples), in turns
        ...

The three parts overlap: the talker reads a token of the reply with each code, so it starts with the first one; the
sound of a few blocks of codes is made as soon as they are there. A conversation's state is a value: it goes on with the
next `read`, may be copied, and be cut to what was heard of the last reply. Where no voice is given, only text comes.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from antiphon.encoders.whisper.tower import AudioTowerState
from antiphon.errors import ModelError
from antiphon.models.llm.sampling import TokenSampling, sample_rows
from antiphon.models.lora import Lora
from antiphon.models.omni.config import OmniConfig
from antiphon.models.omni.talker import Talker
from antiphon.models.omni.thinker import Given, OmniThinker, Read, Words
from antiphon.models.omni.token2wav import AHEAD, Token2Wav, Voice
from antiphon.nn.cache import KeyValues

SPEAKING = TokenSampling(temperature=0.9, top_k=40, top_p=0.8, repetition=1.05)  # as published
MAX_BLOCKS = 16  # of codes whose sound is made at once


@dataclass(frozen=True)
class Written:
    """A token of the reply; where the model doesn't say it itself, with the thinker's last hidden state that chose it
    [width]."""

    token: int
    hidden: Tensor | None = None


@dataclass(frozen=True)
class Spoken:
    """The next samples [n] of the reply's sound, 24 kHz; and the codes said so far."""

    samples: Tensor
    codes: int


@dataclass
class OmniState:
    """A conversation.

    Attributes:
        thinker, talker: what they have read; the talker's lags behind.
        after: where the next part starts.
        last: where a reply starts.
        hidden: last hidden state of what was read [width], from which the reply's first token follows; None before.
        unread: for the talker: hidden states and embeddings summed [n, width], and their places [3, n].
        reply: tokens of the last reply.
        codes: of the last reply; of a model with several codebooks a tuple of them a frame.
        started: how much the thinker had read, and where it was, when the last reply started.
        hearing: what waits of a sound that is being heard.
    """

    thinker: KeyValues
    talker: KeyValues | None
    unread: tuple[Tensor, Tensor]
    after: float = 0
    last: float = 0
    hidden: Tensor | None = None
    reply: list[int] = field(default_factory=list)
    codes: list[Any] = field(default_factory=list)
    started: tuple[int, float] = (0, 0)
    hearing: AudioTowerState | None = None


@dataclass(frozen=True)
class OmniMark:
    """A point of a conversation, to which `Omni.rewind` goes back.

    Attributes:
        length: tokens that the thinker had read.
        after, last: see `OmniState`.
        told: the last of what the talker reads [1, width], and its place [3, 1].
    """

    length: int
    after: float
    last: float
    told: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class ReplySettings:
    """How a reply is made.

    Attributes:
        max_tokens, max_codes: at most.
        patience: codes for each token of the text, and codes more, after which a talker that misses its end is stopped;
            None waits for it.
        ends: tokens that end the text.
        thinking, speaking: how tokens and codes are drawn.
        seed: of the sound's noise.
        ahead: see `Token2Wav.step`.
        script: the reply's tokens, where it isn't thought but given; one that ends the text isn't among them.
    """

    max_tokens: int = 1024
    max_codes: int = 4096
    ends: tuple[int, ...] = (151645, 151643)
    thinking: TokenSampling = field(default_factory=TokenSampling)
    speaking: TokenSampling = SPEAKING
    seed: int = 0
    ahead: int | None = AHEAD
    script: tuple[int, ...] | None = None
    patience: tuple[int, int] | None = None


class Omni(nn.Module):
    """See the module.

    Args:
        config: sizes; parts that it lacks are None.
        published: what config.json says, for saving.

    Attributes:
        speaking: how codes are drawn unless told.
        code_rate: codes a second.
        voices: who can speak, by name.
    """

    speaking, code_rate = SPEAKING, 50.0

    def __init__(self, config: OmniConfig, published: dict[str, Any]):
        super().__init__()
        self.config, self.published = config, published
        self.thinker, self.talker, self.token2wav = self._parts(config)
        self.voices: dict[str, Any] = {}

    @staticmethod
    def _parts(config: OmniConfig) -> tuple[nn.Module | None, nn.Module | None, nn.Module | None]:
        """Thinker, talker and what makes the sound."""
        thinker = OmniThinker(config.thinker) if config.thinker else None
        talker = Talker(config.talker) if config.talker else None
        return thinker, talker, Token2Wav(config.dit, config.vocoder) if config.dit and config.vocoder else None

    def reset(self) -> None:
        """Computes what is no weight; needed where the module was made without memory."""
        if self.thinker is not None:
            self.thinker.audio_tower.reset()

    @property
    def sample_rate(self) -> int:
        """Of what is spoken: 50 codes a second, Hz."""
        assert self.config.dit is not None and self.config.vocoder is not None
        return 50 * self.config.dit.repeats * self.config.vocoder.hop

    def init_state(self) -> OmniState:
        """A conversation in which nothing was said."""
        if self.thinker is None:
            raise ModelError("this model has no thinker: load the whole folder to talk to it")
        nothing = self.thinker.language_model.norm.new_zeros(0, self.thinker.width, dtype=torch.float32)
        places = torch.zeros(3, 0, dtype=torch.long, device=nothing.device)
        talker = None if self.talker is None else self.talker.lm.init_cache()
        return OmniState(self.thinker.language_model.init_cache(), talker, (nothing, places))

    @torch.inference_mode()
    def read(self, state: OmniState, parts: Sequence[Given], lora: Lora | None = None) -> None:
        """Reads what comes next in a conversation; the state is changed.

        Raises:
            ModelError: there is nothing to read, or it is longer than the model's context.
        """
        read = self.thinker.read(parts, state.after, int(state.thinker.length))
        if not len(read.x):
            raise ModelError("there is nothing to read")
        self._take(state, read, lora)

    @torch.inference_mode()
    def listen(self, state: OmniState, mel: Tensor, last: bool = False, lora: Lora | None = None) -> None:
        """Hears a sound while it is being made: what comes to the same as reading it whole, two seconds at a time.

        Args:
            state: a conversation; nothing else may be read before the sound is over.
            mel: the next of its log-mel [bands, frames], any number of them.
            last: nothing follows.
            lora: adapters.
        """
        ids, tower = self.thinker.config.tokens, self.thinker.audio_tower
        if state.hearing is None:
            state.hearing = tower.init_state()
            self.read(state, [Words(torch.tensor([ids.audio_start_token_id]))], lora)
        heard = tower.step(mel[None].to(state.hearing.mel), state.hearing, last)[0]
        if len(heard):
            self._take(state, self.thinker.perceived(heard, state.after), lora)
        if last:
            state.hearing = None
            self.read(state, [Words(torch.tensor([ids.audio_end_token_id]))], lora)

    def _take(self, state: OmniState, read: Read, lora: Lora | None) -> None:
        """The thinker reads, the talker will."""
        hidden = self.thinker(read.x[None], read.places[:, None], state.thinker, lora)[0]
        state.hidden, state.after, state.last = hidden[-1], read.after, max(state.last, read.last)
        self._leave(state, hidden + read.x * ~read.perceived[:, None], read.places)

    @staticmethod
    def _leave(state: OmniState, told: Tensor, places: Tensor) -> None:
        """Puts down what the talker hasn't read."""
        held, at = state.unread
        state.unread = torch.cat([held, told]), torch.cat([at, places], dim=1)

    @staticmethod
    def _told(hidden: Tensor, x: Tensor) -> Tensor:
        """What the talker reads of a token of the reply: of its hidden state and its embedding, [width] both."""
        return hidden + x

    def write(
        self, state: OmniState, settings: ReplySettings | None = None, lora: Lora | None = None
    ) -> Iterator[tuple[int, Tensor | None]]:
        """Thinks the reply that is due, token by token; may be left at any point.

        Yields:
            A token, and what the talker reads of it [width]: None of the last one, which the thinker hasn't read.

        Raises:
            ModelError: no reply is due.
        """
        if state.hidden is None:
            raise ModelError("no reply is due: read a question first")
        settings = settings or ReplySettings(speaking=self.speaking)
        state.reply, state.codes, state.started = [], [], (int(state.thinker.length), state.last)
        for number in range(settings.max_tokens):
            with torch.inference_mode():
                if settings.script is None:
                    logits = self.thinker.logits(state.hidden[None])
                    (token,) = sample_rows(logits, [settings.thinking], [number], [state.reply])
                else:
                    token = settings.script[number] if number < len(settings.script) else settings.ends[0]
            state.reply.append(token)
            if token in settings.ends or number + 1 == settings.max_tokens:
                state.hidden = None  # whoever goes on reads the end of the turn
                yield token, None
                return
            with torch.inference_mode():
                x = self.thinker.language_model.embed(torch.tensor([token], device=state.hidden.device))
                place = torch.full((3, 1), state.last, device=state.hidden.device)
                state.hidden = self.thinker(x[None], place[:, None], state.thinker, lora)[0, -1]
                told = self._told(state.hidden, x[0])
            state.after = state.last = state.last + 1
            yield token, told

    def reply(
        self, state: OmniState, voice: Any | None = None, settings: ReplySettings | None = None,
        lora: Lora | None = None,
    ) -> Iterator[Written | Spoken]:  # fmt: skip
        """The reply that is due, written and spoken; may be left at any point.

        Args:
            state: a conversation whose last part is a question; it is changed.
            voice: one of `voices` or its name; None for text alone.
            settings: how.
            lora: adapters of the thinker.

        Raises:
            ModelError: no reply is due, there is no such voice, or the model has no part that speaks.
        """
        settings, told = settings or ReplySettings(speaking=self.speaking), []
        begun = state.last
        tokens = self.write(state, settings, lora)
        try:
            if voice is None:
                chose = state.hidden
                for token, thought in tokens:
                    told += [] if thought is None else [thought]
                    yield Written(token, chose)
                    chose = state.hidden
                return
            voice = self.voice(voice)
            yield from self._speak(state, voice, settings, tokens, told)
        finally:
            if told:
                places = torch.arange(begun, begun + len(told), device=told[0].device).expand(3, -1)
                self._leave(state, torch.stack(told), places)

    def voice(self, name: Any) -> Any:
        """The voice of that name; a voice itself is given back.

        Raises:
            ModelError: there is none, or the model can't speak.
        """
        if self.talker is None or self.token2wav is None:
            raise ModelError("this model has no talker: it can only write")
        if not isinstance(name, str):
            return name
        if name not in self.voices:
            raise ModelError(f"there is no voice {name!r}; there are: {', '.join(self.voices) or 'none'}")
        return self.voices[name]

    def _speak(
        self, state: OmniState, voice: Any, settings: ReplySettings, tokens: Iterator[tuple[int, Tensor | None]],
        told: list[Tensor],
    ) -> Iterator[Written | Spoken]:  # fmt: skip
        """Tokens and sound; `told` gets what the talker reads of the tokens."""
        following = iter(tokens)
        token, thought = next(following)
        told += [] if thought is None else [thought]
        yield Written(token)
        if thought is None:
            return
        wave, size = self._silence(voice, settings), self.token2wav.codes_per_block
        waiting: list[Any] = []
        blocks = self.token2wav.first_blocks
        wanted = blocks + (settings.ahead or 0)
        with closing(self._codes(state, voice, settings, thought)) as codes:
            code = next(codes)
            while code is not None:
                waiting.append(code)
                if len(waiting) == size * wanted and settings.ahead is not None:
                    samples = self._sound(waiting, wave, False, settings)
                    if samples.numel():
                        yield Spoken(samples, len(state.codes))
                    blocks = min(2 * blocks, MAX_BLOCKS)
                    waiting, wanted = [], blocks
                token, thought = next(following, (None, None))
                if thought is not None:
                    told.append(thought)
                if token is not None:
                    yield Written(token)
                code = codes.send(thought)
        for token, thought in following:  # the talker may end before the text does
            told += [] if thought is None else [thought]
            yield Written(token)
        if state.codes and (samples := self._sound(waiting, wave, True, settings)).numel():
            yield Spoken(samples, len(state.codes))

    def _silence(self, voice: Any, settings: ReplySettings) -> Any:
        """The state of the sound before the first code."""
        return self.token2wav.init_state(voice, settings.seed)

    def _sound(self, codes: list[Any], wave: Any, last: bool, settings: ReplySettings) -> Tensor:
        """The samples [n] that are certain with the next codes."""
        new = torch.tensor([codes], dtype=torch.long)
        most = None if settings.ahead is None else MAX_BLOCKS
        return self.token2wav.step(new, wave, last, settings.ahead, most)[0]

    def _codes(
        self, state: OmniState, voice: Voice, settings: ReplySettings, first: Tensor
    ) -> Generator[int | None, Tensor | None, None]:
        """A generator of codes, to which what the talker reads next is sent: of a token, or None when there is none
        left; gives None when the speech is over."""
        talker, tokens = self.talker, self.config.talker.tokens
        embed = self.thinker.language_model.embed
        with torch.inference_mode():
            marks = torch.tensor([voice.token, tokens.tts_text_end_token_id, tokens.tts_text_pad_token_id])
            speaker, end, pad = embed(marks.to(first.device))
            read, places = state.unread
            if len(read) > 1:  # the conversation, which later replies go on from
                talker(read[:-1][None], places[:, None, :-1], state.talker)
            kept = int(state.talker.length)
            start = state.started[1]
            after = torch.arange(start, start + 2, device=first.device).expand(3, -1)
            x, at = talker.begin(read[-1:], speaker, first), torch.cat([places[:, -1:], after], dim=1)
            hidden = talker(x[None], at[:, None], state.talker)[:, -1]
        said = [tokens.tts_codec_mask_token_id, tokens.tts_codec_pad_token_id, tokens.tts_codec_start_token_id]
        place, ended, tokens_read = start + 2, 0, 1
        try:
            for number in range(settings.max_codes):
                with torch.inference_mode():
                    logits = talker.logits(hidden)
                    ends = logits[:, list(talker.ends)].clone()
                    logits[:, tokens.tts_codec_start_token_id] = -torch.inf
                    logits[:, self.config.dit.num_embeds :] = -torch.inf  # marks, which have no sound
                    logits[:, list(talker.ends)] = ends
                    (code,) = sample_rows(logits, [settings.speaking], [number], [said])
                if code in talker.ends:
                    break
                if ended and settings.patience is not None:
                    each, more = settings.patience
                    if number >= each * tokens_read + more:
                        break
                said.append(code)
                state.codes.append(code)
                thought = yield code
                if thought is None:
                    thought, ended = (pad if ended else end), ended + 1
                else:
                    tokens_read += 1
                with torch.inference_mode():
                    x = talker.next(torch.tensor([code], device=first.device), thought[None])
                    at = torch.full((3, 1, 1), place, device=first.device)
                    hidden = talker(x[None], at, state.talker)[:, -1]
                place += 1
            yield None
        finally:
            # What was said stays the thinker's to remember; the talker reads it as text when it speaks again.
            with torch.inference_mode():
                state.talker.cut(kept)
            state.unread = read[-1:], places[:, -1:]

    @staticmethod
    def mark(state: OmniState) -> OmniMark:
        """Where a conversation stands, between what is read and replies."""
        told, places = state.unread
        return OmniMark(int(state.thinker.length), state.after, state.last, (told[-1:], places[:, -1:]))

    @staticmethod
    def rewind(state: OmniState, mark: OmniMark) -> None:
        """Goes back to a mark: what was read and said since is forgotten. Something is to be read next."""
        state.thinker.cut(mark.length)
        done = 0 if state.talker is None else int(state.talker.length)
        told, places = state.unread
        if state.talker is None or done < mark.length:
            state.unread = told[: mark.length - done], places[:, : mark.length - done]
        else:  # the talker, too, has read on: it reads the last of it once more
            state.talker.cut(mark.length - 1)
            state.unread = mark.told
        state.after, state.last, state.hidden, state.hearing = mark.after, mark.last, None, None
        state.reply, state.codes = [], []

    def cut(self, state: OmniState, tokens: int) -> None:
        """Forgets all of the last reply but its first tokens, as when the rest wasn't heard."""
        length, place = state.started
        gone = int(state.thinker.length) - length - tokens
        if gone > 0:
            state.thinker.cut(length + tokens)
            self._forget(state, gone)
            state.after = state.last = place + tokens
        del state.reply[tokens:]
        state.hidden = None

    @staticmethod
    def _forget(state: OmniState, count: int) -> None:
        """Takes away the last of what was put down for the talker."""
        told, places = state.unread
        state.unread = told[: len(told) - count], places[:, : places.shape[1] - count]
