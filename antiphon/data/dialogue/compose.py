"""Compose a two-channel conversation from a script: who says what, when, and what the other does meanwhile.

    script = Script((Exchange("Set a timer for ten minutes.", "Okay, your timer is set.", gap=0.28),))
    talk = compose(script, TtsCache().utterance)
    talk = apply_conditions(talk, AcousticConditions(noise="pink", snr_db=20.0), np.random.default_rng(0))

Composing is pure: nothing is drawn here, and all times follow from the script and the lengths of what is said. A
script is drawn by `antiphon.data.dialogue.sample`.

What the model says starts at whole frames of the codec (80 ms). The codec is causal and the model's channel silent
before, so that an utterance said again gives the same codes again, which a small model learns in a fraction of the
time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from antiphon.data.dialogue.format import MODEL, USER, Dialogue, Event, Word
from antiphon.data.dialogue.phrases import FADE_SECONDS, RATE, SpokenUtterance, Voice, faded, quiet_place
from antiphon.data.speech.augment import (
    Samples,
    fit,
    make_noise,
    muffle,
    reverberate,
    rms,
    room_response,
    telephone,
)

FRAME_SECONDS = 0.08
STOP_FADE_SECONDS = 0.03  # in which the model falls silent when it is interrupted
LONG_SILENCE_SECONDS = 2.0
# Of a reply that are left when it is interrupted; of a shorter rest nobody would notice.
MIN_REPLY_SECONDS = 0.7

Say = Callable[[Voice, str, int], SpokenUtterance]


@dataclass(frozen=True)
class Pause:
    """A silence inside a user's turn.

    Attributes:
        after: words of the turn before it.
        seconds: of silence; where there is a hesitation, of silence after it.
        hesitation: what is said in it ("Um,"), or "".
        lead: seconds of silence before the hesitation.
        backchannel: what the model says in it ("Mhm."), or "".
        backchannel_after: seconds from the start of the pause to the model's backchannel.
        take: of the hesitation and the backchannel.
    """

    after: int
    seconds: float
    hesitation: str = ""
    lead: float = 0.12
    backchannel: str = ""
    backchannel_after: float = 0.3
    take: int = 0


@dataclass(frozen=True)
class Backchannel:
    """A user's backchannel while the model speaks.

    Attributes:
        at: seconds into the model's reply; it is left out where it would not end before the reply does.
        text, take: what is said.
        level_db: against the user's other speech.
    """

    at: float
    text: str
    take: int = 0
    level_db: float = -6.0


@dataclass(frozen=True)
class Exchange:
    """A user's turn and the model's reply.

    Attributes:
        text: what the user says.
        reply: what the model says.
        intent: of the user, for the notes.
        take, reply_take: of the two utterances.
        wait: seconds from the end of what the model said before to the user's start; after an interruption not used.
        pauses: inside the user's turn.
        gap: seconds from the user's end to the model's start, moved to the nearest frame; below 0 they overlap.
        cut_in: the next exchange's user starts so many seconds into this reply, and the model stops; None for never. It
            comes earlier where less than `MIN_REPLY_SECONDS` would be left, and not at all where the reply is too
            short.
        stop: seconds from there to the model's silence, moved to the nearest frame.
        backchannels: the user's backchannels during the reply.
    """

    text: str
    reply: str
    intent: str = ""
    take: int = 0
    reply_take: int = 0
    wait: float = 0.8
    pauses: tuple[Pause, ...] = ()
    gap: float = 0.28
    cut_in: float | None = None
    stop: float = 0.3
    backchannels: tuple[Backchannel, ...] = ()


@dataclass(frozen=True)
class Script:
    """A conversation before it is spoken.

    Attributes:
        exchanges: in order.
        user, model: the voices.
        takes: speeds of the model's renderings; `reply_take` i is spoken at the i-th of them (after the last comes the
            first again).
        greeting: what the model says first, or "".
        lead: seconds of silence at the start.
        tail: seconds of silence at the end, at least; the whole is filled up to a whole frame.
        backchannel_db: level of the model's backchannels against its replies.
    """

    exchanges: tuple[Exchange, ...]
    user: Voice = Voice()
    model: Voice = Voice()
    takes: tuple[float, ...] = (1.0,)
    greeting: str = ""
    lead: float = 0.5
    tail: float = 1.0
    backchannel_db: float = -6.0

    def model_voice(self, take: int) -> Voice:
        """The model's voice for one of its renderings."""
        speed = self.takes[take % len(self.takes)]
        return Voice(self.model.name, speed, self.model.pitch, self.model.formant)


@dataclass
class _Stage:
    """What has been said so far: (start in seconds, samples) of each channel, words and events."""

    model: list[tuple[float, NDArray[np.float32]]] = field(default_factory=list)
    user: list[tuple[float, NDArray[np.float32]]] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def put(self, utterance: SpokenUtterance, start: float, speaker: str, gain_db: float = 0.0) -> float:
        """Says an utterance from `start` on; returns its end."""
        sound = utterance.samples * np.float32(10.0 ** (gain_db / 20.0))
        (self.model if speaker == MODEL else self.user).append((start, sound))
        self.words += [Word(word, start + a, start + b, speaker) for word, a, b in utterance.words]
        return start + utterance.seconds

    def event(self, kind: str, start: float, end: float, speaker: str = USER, note: str = "") -> None:
        self.events.append(Event(kind, start, end, speaker, note))


def on_frame(seconds: float) -> float:
    """The nearest whole frame."""
    return round(round(seconds / FRAME_SECONDS) * FRAME_SECONDS, 6)


def cut_short(utterance: SpokenUtterance, seconds: float) -> SpokenUtterance:
    """An utterance that stops at `seconds`: a short fade, later words gone, the word that was being said cut."""
    kept = faded(utterance.samples[: round(seconds * RATE)], 0.0, STOP_FADE_SECONDS)
    words = tuple((word, a, min(b, seconds)) for word, a, b in utterance.words if a < seconds - STOP_FADE_SECONDS)
    return SpokenUtterance(utterance.text, kept, words)


def compose(script: Script, say: Say) -> Dialogue:
    """Speak a script.

    Args:
        script: who says what, when.
        say: gives the sound of a text by a voice, with its words' times.

    Returns:
        The conversation at `RATE`, the channels clean, a whole number of frames long. Events: a "turn" of either side
        from its first to its last sound, whose note is the user's intent (with "cut" after it where the model was
        interrupted; "opening" where it greets first); a "pause" from the last sound before it to the first one after
        it, a hesitation in it included (its note is then "hesitation"), and the "hesitation" itself; "backchannel"s of
        either side; an "interruption" from the user's start to the model's silence; an "overlap" where the model
        starts before the user's end; a "silence" where nobody speaks for `LONG_SILENCE_SECONDS`.
    """
    stage = _Stage()
    free = 0.0  # when the one who spoke last ended
    start = script.lead
    if script.greeting:
        begun = on_frame(script.lead)
        free = stage.put(say(script.model_voice(0), script.greeting, 0), begun, MODEL)
        stage.event("turn", begun, free, MODEL, "opening")
        start = free + (script.exchanges[0].wait if script.exchanges else 0.0)
    for number, exchange in enumerate(script.exchanges):
        if start - free >= LONG_SILENCE_SECONDS:
            stage.event("silence", free, start, USER)
        ended = _user_turn(stage, script, exchange, start, say)
        stage.event("turn", start, ended, USER, exchange.intent)
        begun = on_frame(ended + exchange.gap)
        utterance = say(script.model_voice(exchange.reply_take), exchange.reply, exchange.reply_take)
        if begun < ended:
            stage.event("overlap", begun, min(ended, begun + utterance.seconds), MODEL)
        following = script.exchanges[number + 1] if number + 1 < len(script.exchanges) else None
        cut_in = None if exchange.cut_in is None else min(exchange.cut_in, utterance.seconds - MIN_REPLY_SECONDS)
        if following is not None and cut_in is not None and cut_in >= MIN_REPLY_SECONDS:
            start = begun + cut_in
            stop = min(on_frame(start + exchange.stop), begun + utterance.seconds)
            free = stage.put(cut_short(utterance, stop - begun), begun, MODEL)
            stage.event("turn", begun, free, MODEL, f"{exchange.intent} cut".strip())
            stage.event("interruption", start, free, USER, following.intent)
        else:
            free = stage.put(utterance, begun, MODEL)
            stage.event("turn", begun, free, MODEL, exchange.intent)
            _backchannels(stage, script, exchange, begun, free, say)
            start = free + (following.wait if following is not None else 0.0)
    end = np.ceil(round((max(free, script.lead) + script.tail) / FRAME_SECONDS, 6)) * FRAME_SECONDS
    if end - free >= LONG_SILENCE_SECONDS:
        stage.event("silence", free, float(end), USER)
    channels = [_laid(pieces, round(float(end) * RATE)) for pieces in (stage.model, stage.user)]
    return Dialogue(channels[0], channels[1], RATE, stage.words, stage.events)


def _user_turn(stage: _Stage, script: Script, exchange: Exchange, start: float, say: Say) -> float:
    """The user's turn with its pauses, from `start` on; returns its end."""
    utterance = say(script.user, exchange.text, exchange.take)
    at, done, spoken = start, 0.0, 0  # time now; seconds and words of the utterance that are said
    for pause in sorted(exchange.pauses, key=lambda pause: pause.after):
        if not spoken < pause.after < len(utterance.words):
            continue
        before, after = utterance.words[pause.after - 1], utterance.words[pause.after]
        cut = quiet_place(utterance.samples, before[2] - 0.02, after[1] + 0.02)
        at = stage.put(_piece(utterance, done, cut, spoken, pause.after), at, USER)
        done, spoken, silent = cut, pause.after, at
        if pause.hesitation:
            begun = at + pause.lead
            at = stage.put(say(script.user, pause.hesitation, pause.take), begun, USER)
            stage.event("hesitation", begun, at, USER, pause.hesitation)
        at += pause.seconds
        stage.event("pause", silent, at, USER, "hesitation" if pause.hesitation else "")
        if pause.backchannel:
            begun = on_frame(silent + pause.backchannel_after)
            ended = stage.put(say(script.model_voice(0), pause.backchannel, 0), begun, MODEL, script.backchannel_db)
            stage.event("backchannel", begun, ended, MODEL, pause.backchannel)
    return stage.put(_piece(utterance, done, utterance.seconds, spoken, len(utterance.words)), at, USER)


def _piece(utterance: SpokenUtterance, start: float, end: float, first: int, last: int) -> SpokenUtterance:
    """Seconds `start` to `end` of an utterance, with its words `first` to `last` (not included)."""
    samples = faded(utterance.samples[round(start * RATE) : round(end * RATE)], FADE_SECONDS, FADE_SECONDS)
    longest = len(samples) / RATE
    words = [
        (word, min(max(a - start, 0.0), longest), min(max(b - start, 0.0), longest))
        for word, a, b in utterance.words[first:last]
    ]
    return SpokenUtterance(utterance.text, samples, tuple(words))


def _backchannels(stage: _Stage, script: Script, exchange: Exchange, begun: float, ended: float, say: Say) -> None:
    """The user's backchannels during a reply, as far as they end before it does and do not meet each other."""
    last = begun
    for backchannel in sorted(exchange.backchannels, key=lambda backchannel: backchannel.at):
        utterance = say(script.user, backchannel.text, backchannel.take)
        at = begun + backchannel.at
        if at >= last and at + utterance.seconds <= ended - 0.3:
            last = stage.put(utterance, at, USER, backchannel.level_db)
            stage.event("backchannel", at, last, USER, backchannel.text)


def _laid(pieces: list[tuple[float, NDArray[np.float32]]], count: int) -> NDArray[np.float32]:
    """Pieces at their times in silence, [count]."""
    channel = np.zeros(count, np.float32)
    for start, samples in pieces:
        first = round(start * RATE)
        channel[first : first + len(samples)] += samples[: max(0, count - first)]
    return channel


@dataclass(frozen=True)
class AcousticConditions:
    """What a user's microphone makes of a conversation; everything off unless asked for.

    Attributes:
        peak_db: the user's loudest sample, dB of full scale; None leaves the level.
        room_seconds: reverberation time of the room; 0 for none.
        noise: a kind of `antiphon.data.speech.augment.NOISES` that goes on through silences, or "".
        snr_db: the user's speech over the noise.
        echo_db: the model's own voice in the microphone against the model's channel; None for none.
        echo_seconds: its delay.
        channel: "telephone", "muffled" (with `muffle_hz`) or "".
        muffle_hz: where the low-pass begins.
    """

    peak_db: float | None = None
    room_seconds: float = 0.0
    noise: str = ""
    snr_db: float = 20.0
    echo_db: float | None = None
    echo_seconds: float = 0.06
    channel: str = ""
    muffle_hz: float = 4000.0


def apply_conditions(
    talk: Dialogue, conditions: AcousticConditions, generator: Generator, others: list[Samples] | None = None
) -> Dialogue:
    """The conversation with its user as heard by a microphone; the model's channel, words and events stay.

    Args:
        talk: clean.
        conditions: what is to be heard.
        generator: draws the noise and the room.
        others: utterances at the conversation's rate, for babble.
    """
    rate, user = talk.sample_rate, talk.user.copy()
    if conditions.peak_db is not None:
        peak = float(np.abs(user).max(initial=0.0))
        user *= np.float32(10 ** (conditions.peak_db / 20) / peak if peak else 1.0)
    level = rms(user[np.abs(user) > 0.01 * np.abs(user).max(initial=0.0)]) or 0.03
    room = room_response(rate, conditions.room_seconds, generator) if conditions.room_seconds else None
    if room is not None:
        user = reverberate(user, room)
    if conditions.echo_db is not None:
        late = fit(np.pad(talk.model, (round(conditions.echo_seconds * rate), 0)), len(user))
        late = reverberate(late, room) if room is not None else late
        user = user + late * np.float32(10 ** (conditions.echo_db / 20))
    if conditions.noise:
        noise = make_noise(conditions.noise, len(user), rate, generator, others or ())
        user = user + noise * np.float32(level * 10 ** (-conditions.snr_db / 20))
    if conditions.channel == "telephone":
        user = telephone(user, rate, generator)
    elif conditions.channel == "muffled":
        user = muffle(user, rate, conditions.muffle_hz)
    user = np.clip(user, -1.0, 1.0).astype(np.float32)
    return Dialogue(talk.model, user, rate, talk.words, talk.events, talk.info)
