"""Draw conversations for the duplex model: what is said, when, by whom, in what acoustic conditions.

    script = draw_script(Material.read(texts), Mix(), seed=0, index=0)     # `compose.compose` speaks it

Script i of a seed is always the same, whoever draws it, whenever. Whole sets are made by `make`.

The timing that the model is to learn: a complete request is answered 0.16 to 0.44 s after its end, always; in a pause
inside a turn it never takes over, though it may say "mhm" in a long one; when the user starts to say something while
it speaks, it stops 0.2 to 0.44 s later and answers that; at a mere "yeah" it goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.random import Generator

from antiphon.data.dialogue.compose import FRAME_SECONDS, AcousticConditions, Backchannel, Exchange, Pause, Script
from antiphon.data.dialogue.phrases import Request, Voice, read_requests
from antiphon.data.dialogue.replies import PhraseBank, read_phrases
from antiphon.data.speech.speak import MANY_SPEAKERS, Variety, generator_for
from antiphon.errors import DataError

T = TypeVar("T")
# After these words nobody thinks that somebody is done.
UNFINISHED = frozenset(
    "a an the my your our his her their this that these those to of in on at for from with by about into is are was am "
    "be do does did can could will would should may i you we he she they it and or but if when because so as than how "
    "what which who where why i'm i'd i'll what's there please let me get set tell give need want have any some".split()
)
ANSWERS = ("yes", "no", "maybe", "thank_you", "goodbye", "greeting", "repeat", "cancel")  # interrupt nobody
DEV_PREAMBLES = 5  # one in as many ways to begin a long turn is kept for the split "dev"


@dataclass(frozen=True)
class Material:
    """What is said.

    Attributes:
        requests: intent -> what users say.
        replies: what the model says.
        preambles: how a user's long turn may begin.
    """

    requests: dict[str, tuple[Request, ...]]
    replies: PhraseBank
    preambles: tuple[str, ...]

    @classmethod
    def read(cls, texts: str | Path, split: str = "train") -> Material:
        """The requests of a split from the folder of the text sources, and the replies.

        Raises:
            DataError: no requests.jsonl.gz there, a broken one, or none with requests of the split.
        """
        replies = read_phrases()
        preambles = replies.extras["preamble"]
        held = preambles[::DEV_PREAMBLES]
        preambles = held if split == "dev" else tuple(each for each in preambles if each not in held)
        requests = {i: found for i, found in read_requests(texts, split).items() if i in replies.by_intent}
        if not requests:
            raise DataError(
                f"{texts} has no {split} requests that any reply fits: give the folder of the text sources."
            )
        return cls(requests, replies, preambles)


@dataclass(frozen=True)
class Mix:
    """How often things happen; chances are of a user's turn unless said otherwise.

    Attributes:
        seconds: shortest and longest conversation, about.
        voices: of users, with their shares.
        variety: of hibari as a user.
        speeds: of the model's renderings: each reply exists once at each.
        oos: chance of a request that no reply fits.
        paused: chance of a turn with pauses, where it has five words or more.
        second_pause: chance that it has a second one.
        pause_seconds: shortest and longest pause.
        hesitating: chance of a pause with an "um".
        long_turn: chance of a turn that begins with an preamble and a long pause, in which the model murmurs.
        gap: seconds from the user's end to the model's start (before it is moved to a frame, by up to 0.04 s).
        early: chance that the model starts 0.08 s before the user's end, where the turn has no pause.
        late: chance of an answer after `late_gap` seconds: who missed the moment learns that it is still their turn.
        interrupted: chance of a reply that is interrupted.
        cut_in: seconds into the reply.
        stop: seconds until the model is silent (before it is moved to a frame).
        backchannelled: chance of a reply with a user's backchannel.
        wait: seconds until the user comes back.
        silent: chance of a long silence instead.
        silence_seconds: its length.
        greeted: chance of a conversation that the model opens.
        noisy, echoing, roomy, telephone, muffled: chances, of a conversation.
        peak_db, snr_db, echo_db, echo_seconds, room_seconds: ranges.
    """

    seconds: tuple[float, float] = (20.0, 60.0)
    voices: tuple[tuple[str, float], ...] = (("hibari", 1.0),)
    variety: Variety = MANY_SPEAKERS
    speeds: tuple[float, ...] = (1.0, 1.06)
    oos: float = 0.03
    paused: float = 0.45
    second_pause: float = 0.25
    pause_seconds: tuple[float, float] = (0.4, 1.6)
    hesitating: float = 0.4
    long_turn: float = 0.1
    gap: tuple[float, float] = (0.2, 0.4)
    early: float = 0.04
    late: float = 0.0
    late_gap: tuple[float, float] = (1.9, 2.6)
    interrupted: float = 0.2
    cut_in: tuple[float, float] = (0.8, 3.0)
    stop: tuple[float, float] = (0.2, 0.4)
    backchannelled: float = 0.15
    wait: tuple[float, float] = (0.4, 2.5)
    silent: float = 0.12
    silence_seconds: tuple[float, float] = (2.5, 6.0)
    greeted: float = 0.08
    noisy: float = 0.55
    echoing: float = 0.4
    roomy: float = 0.3
    telephone: float = 0.08
    muffled: float = 0.12
    peak_db: tuple[float, float] = (-20.0, -3.0)
    snr_db: tuple[float, float] = (10.0, 35.0)
    echo_db: tuple[float, float] = (-40.0, -20.0)
    echo_seconds: tuple[float, float] = (0.02, 0.12)
    room_seconds: tuple[float, float] = (0.1, 0.5)


def dialogue_id(seed: int, index: int) -> str:
    """Names a conversation among all that can be drawn."""
    return f"talk-{seed}-{index:06d}"


def lower_first(text: str) -> str:
    """ "What time is it?" -> "what time is it?", so that it can follow other words; "I" and names in capitals stay."""
    first = text.split(maxsplit=1)[0]
    return text if first.split("'")[0] == "I" or not first[1:].islower() else text[0].lower() + text[1:]


def _chance(generator: Generator, share: float) -> bool:
    return float(generator.random()) < share


def _between(generator: Generator, bounds: tuple[float, float]) -> float:
    return float(generator.uniform(*bounds))


def _one(generator: Generator, items: Sequence[T]) -> T:
    return items[int(generator.integers(len(items)))]


def draw_pauses(text: str, mix: Mix, hesitations: tuple[str, ...], generator: Generator) -> tuple[Pause, ...]:
    """Up to two pauses inside a text of five words or more, mostly where nobody would think that it is complete."""
    words = text.split()
    places = np.arange(1, len(words))
    weights = np.array(
        [
            0.0 if words[place - 1][-1] in ".?!" else 6.0 if words[place - 1].lower().strip(",") in UNFINISHED else 1.0
            for place in places
        ]
    )
    count = min(1 + _chance(generator, mix.second_pause), int((weights > 0).sum()))
    if len(words) < 5 or not count:
        return ()
    chosen = generator.choice(places, count, replace=False, p=weights / weights.sum())
    return tuple(
        Pause(
            int(place),
            _between(generator, mix.pause_seconds),
            _one(generator, hesitations) if _chance(generator, mix.hesitating) else "",
            lead=_between(generator, (0.05, 0.4)),
            take=int(generator.integers(2**31)),
        )
        for place in sorted(chosen)
    )


def draw_exchange(material: Material, mix: Mix, generator: Generator, interrupting: bool) -> Exchange:
    """One request with its reply.

    Args:
        material, mix, generator: what can be said, how often things happen, and the dice.
        interrupting: the user starts it while the model speaks.
    """
    extras = material.replies.extras
    interrupted = _chance(generator, mix.interrupted)
    backchannelled = not interrupted and _chance(generator, mix.backchannelled)
    intents = [intent for intent in material.requests if not (interrupting and intent in ANSWERS) and intent != "oos"]
    intents = intents or list(material.requests)
    longest = {intent: max(len(text.split()) for text in material.replies.by_intent[intent]) for intent in intents}
    if interrupted or backchannelled:  # something must be said that is long enough
        wanted = 16 if _chance(generator, 0.7) else 7
        intents = [intent for intent in intents if longest[intent] >= wanted] or intents
    intent = "oos" if "oos" in material.requests and _chance(generator, mix.oos) else _one(generator, intents)
    replies = material.replies.by_intent[intent]
    if interrupted or backchannelled:
        replies = (max(replies, key=len),)
    choices = [each for each in material.requests[intent] if len(each.text.split()) >= 4 * interrupting]
    text = _one(generator, choices or material.requests[intent]).text
    pauses: tuple[Pause, ...] = ()
    if interrupting:
        if _chance(generator, 0.5):
            text = f"{_one(generator, extras['cut-in'])} {lower_first(text)}"
    elif _chance(generator, mix.long_turn):
        preamble = _one(generator, material.preambles)
        backchannel = _one(generator, extras["model backchannel"])
        pauses = (
            Pause(
                len(preamble.split()),
                _between(generator, (1.1, 1.8)),
                backchannel=backchannel,
                backchannel_after=_between(generator, (0.24, 0.4)),
            ),
        )
        text = f"{preamble} {lower_first(text)}"
    if not pauses and _chance(generator, mix.paused):
        pauses = draw_pauses(text, mix, extras["hesitation"], generator)
    early = not pauses and _chance(generator, mix.early)
    late = mix.late > 0 and not early and _chance(generator, mix.late)
    backchannels: tuple[Backchannel, ...] = ()
    if backchannelled:
        at = _between(generator, (0.6, 3.0))
        backchannels = tuple(
            Backchannel(
                place,
                _one(generator, extras["user backchannel"]),
                int(generator.integers(2**31)),
                _between(generator, (-9.0, -2.0)),
            )
            for place in (at, at + _between(generator, (1.5, 3.5)))
        )
    return Exchange(
        text=text,
        reply=_one(generator, replies),
        intent=intent,
        take=int(generator.integers(2**31)),
        reply_take=int(generator.integers(len(mix.speeds))),
        wait=_between(generator, mix.silence_seconds if _chance(generator, mix.silent) else mix.wait),
        pauses=pauses,
        gap=-FRAME_SECONDS if early else _between(generator, mix.late_gap if late else mix.gap),
        cut_in=_between(generator, mix.cut_in) if interrupted else None,
        stop=_between(generator, mix.stop),
        backchannels=backchannels,
    )


def draw_voice(mix: Mix, generator: Generator) -> Voice:
    """Who the user is."""
    shares = np.array([share for _, share in mix.voices])
    name = mix.voices[int(generator.choice(len(shares), p=shares / shares.sum()))][0]
    return Voice(name, **mix.variety.draw(generator))


def draw_script(material: Material, mix: Mix, seed: int, index: int) -> Script:
    """Dialogue `index` of a seed, not yet spoken."""
    generator = generator_for(seed, f"script {index}")
    wanted = _between(generator, mix.seconds)
    greeting = _one(generator, material.replies.extras["greeting"]) if _chance(generator, mix.greeted) else ""
    lead = _between(generator, mix.silence_seconds if _chance(generator, 0.2) else (0.2, 2.0))
    tail = _between(generator, mix.silence_seconds if _chance(generator, 0.3) else (0.6, 2.0))
    exchanges: list[Exchange] = []
    at, interrupting = lead + tail, False
    while not exchanges or at < wanted:
        exchange = draw_exchange(material, mix, generator, interrupting)
        # Three words a second, roughly; what is cut off is never said.
        replied = min(exchange.cut_in or 1e9, len(exchange.reply.split()) / 3)
        at += len(exchange.text.split()) / 3 + sum(pause.seconds + 0.4 for pause in exchange.pauses)
        at += exchange.gap + replied + (0.0 if interrupting else exchange.wait)
        interrupting = exchange.cut_in is not None
        exchanges.append(exchange)
    exchanges[-1] = replace(exchanges[-1], cut_in=None)
    return Script(
        tuple(exchanges),
        user=draw_voice(mix, generator),
        takes=mix.speeds,
        greeting=greeting,
        lead=lead,
        tail=tail,
    )


def draw_conditions(mix: Mix, generator: Generator, babble: bool = True) -> AcousticConditions:
    """What the user's microphone hears besides the user."""
    kinds = ("white", "pink", "brown", "hum", *(("babble",) if babble else ()))
    channel = generator.random()
    return AcousticConditions(
        peak_db=_between(generator, mix.peak_db),
        room_seconds=_between(generator, mix.room_seconds) if _chance(generator, mix.roomy) else 0.0,
        noise=_one(generator, kinds) if _chance(generator, mix.noisy) else "",
        snr_db=_between(generator, mix.snr_db),
        echo_db=_between(generator, mix.echo_db) if _chance(generator, mix.echoing) else None,
        echo_seconds=_between(generator, mix.echo_seconds),
        channel="telephone" if channel < mix.telephone else "muffled" if channel < mix.telephone + mix.muffled else "",
        muffle_hz=_between(generator, (2500.0, 7000.0)),
    )
