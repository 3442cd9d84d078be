"""Answers in manners that their contexts decide: what was said before, and how the user was heard to sound.

    speak_in_manners(users, answers, MannersConfig(Path("sets/manners")))  # sentences, what either of them says

The words of an answer tell nothing of its manner, as each context has answers that were drawn without regard to it: all
that a talker can learn the manner from is what the thinker thinks. The teacher itself changes speed, pitch and level,
so what a manner is said to be is true of every utterance.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import yaml
from numpy.random import Generator
from tqdm import tqdm

from antiphon.data.speech.augment import Samples
from antiphon.data.speech.speak import SpeakConfig, Speaker, generator_for, make_utterance
from antiphon.data.speech.utterances import SpeechWriter, Turn, Utterance
from antiphon.data.text.corpora import Sentence
from antiphon.errors import DataError
from antiphon.models.llm.prompts import MINDED

MANNERS = Path(__file__).parents[1] / "text" / "manners.yaml"
# What the shares of contexts are: none at all, one that decides nothing, and all the others evenly.
ALONE, PLAIN = 0.25, 0.2
AGREED = ("Of course.", "Sure.", "All right.", "Okay, I will.")


@dataclass(frozen=True)
class Manner:
    """A way to say something.

    Attributes:
        name: what it is called.
        speed, pitch, movement: factors; the first is a tempo, the last is on how far the pitch moves.
        level: dB, added.
        heard: labels of how a user sounds who is answered like that.
        asked, unseen: what users say who want it; the latter to measure by.
    """

    name: str
    speed: float = 1.0
    pitch: float = 1.0
    movement: float = 1.0
    level: float = 0.0
    heard: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()


@cache
def manners() -> tuple[Manner, ...]:
    """Those that are told apart; of an answer that nothing decides there is none."""
    found = yaml.safe_load(MANNERS.read_text(encoding="utf-8"))
    return tuple(
        Manner(name, **each["changes"], **{kind: tuple(each[kind]) for kind in ("heard", "asked", "unseen")})
        for name, each in found.items()
    )


@dataclass(frozen=True)
class Context:
    """What decides how answers are said.

    Attributes:
        turns: oldest first; none where the answers are read from their words alone.
        manner: that it decides; None for a plain one.
    """

    turns: tuple[Turn, ...] = ()
    manner: Manner | None = None


@dataclass(frozen=True)
class MannersConfig:
    """How a set is made.

    Attributes:
        out: the set's folder.
        voice: a voice that can change its pitch: hibari.
        contexts: how many.
        answers: in each of them, by one and the same manner.
        words: fewest and most of an answer.
        spread: of speed and pitch around the manner's, as a factor.
        split: "train", or "dev" for contexts and answers that no training sees.
        seed: of everything drawn.
    """

    out: Path
    voice: str = "hibari"
    contexts: int = 800
    answers: int = 5
    words: tuple[int, int] = (3, 14)
    spread: float = 1.03
    split: str = "train"
    seed: int = 0
    speech: SpeakConfig = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "speech", SpeakConfig(self.out, (self.voice,), seed=self.seed))


def draw_context(generator: Generator, users: Sequence[Sentence], answers: Sequence[Sentence], unseen: bool) -> Context:
    """A context, and what it decides.

    Args:
        generator: draws it.
        users, answers: what is said in it.
        unseen: ask in words that are kept for measuring.
    """

    def said() -> str:
        return users[int(generator.integers(len(users)))].text

    def answered() -> str:
        return answers[int(generator.integers(len(answers)))].text

    chance = generator.random()
    if chance < ALONE:
        return Context()
    before = (Turn("user", said()), Turn("assistant", answered())) if generator.random() < 0.3 else ()
    if chance < ALONE + PLAIN:
        return Context((*before, Turn("user", said())))
    manner = manners()[int(generator.integers(len(manners())))]
    if generator.random() < 0.4:
        heard = str(generator.choice(manner.heard))
        return Context((*before, Turn("user", said(), heard)), manner)
    asked = str(generator.choice(manner.unseen if unseen else manner.asked))
    way = generator.random()
    if way < 0.4:  # now
        return Context((*before, Turn("user", asked)), manner)
    if way < 0.6:  # with a question
        return Context((*before, Turn("user", f"{asked} {said()}")), manner)
    later = (Turn("user", asked), Turn("assistant", str(generator.choice(AGREED))), Turn("user", said()))
    if way < 0.8:  # a turn ago
        return Context((*before, *later), manner)
    return Context((*later, Turn("assistant", answered()), Turn("user", said())), manner)


def drawn_answers(
    config: MannersConfig, users: Sequence[Sentence], answers: Sequence[Sentence]
) -> Iterator[tuple[Context, Sentence]]:
    """Every answer of a set with its context, in order. Where something was heard, one in four first says that it
    noticed, as the thinker often does."""
    answers = [each for each in answers if config.words[0] <= len(each.text.split()) <= config.words[1]]
    if not answers or not users:
        raise DataError(f"There are no {config.split} sentences of {config.words} words: give other texts.")
    for number in range(config.contexts):
        generator = generator_for(config.seed, f"context {number}")
        context = draw_context(generator, users, answers, config.split != "train")
        heard = context.turns[-1].heard.partition("/")[2] if context.turns else ""
        for place in range(config.answers):
            sentence = answers[int(generator.integers(len(answers)))]
            noticed = f"{MINDED[heard][0]} " if heard and generator.random() < 0.25 else ""
            yield context, replace(sentence, id=f"{number}-{place}-{sentence.id}", text=noticed + sentence.text)


def spoken_in(
    manner: Manner | None, sentence: Sentence, speaker: Speaker, config: MannersConfig, context: Sequence[Turn] = ()
) -> tuple[Utterance, Samples]:
    """A sentence in a manner; None for as it is. As `make_utterance`."""
    generator = generator_for(config.seed, f"manner {sentence.id}")
    low, high = -np.log(config.spread), np.log(config.spread)
    speed, pitch = np.exp(generator.uniform(low, high, 2))
    manner = manner or Manner("plain")
    changes = {
        "tempo": round(manner.speed * speed, 3),
        "pitch": round(manner.pitch * pitch, 3),
        "movement": manner.movement,
    }
    utterance, samples = make_utterance(sentence, [speaker], config.speech, changes=changes)
    told = {**utterance.changes, **({"level": manner.level} if manner.level else {})}
    utterance = replace(utterance, changes=told, context=[asdict(turn) for turn in context])
    return utterance, samples * np.float32(10.0 ** (manner.level / 20.0))


def speak_in_manners(
    users: Sequence[Sentence], answers: Sequence[Sentence], config: MannersConfig, bar: bool = True
) -> None:
    """Makes the set. Safe to stop and to rerun.

    Args:
        users, answers: sentences of the config's split, what users and assistants say.
        config: how much, and how.
        bar: show progress, on stderr.

    Raises:
        DataError: a voice that can't change its pitch, no sentences, or a set of another rate.
    """
    speaker = Speaker(config.voice)
    if not speaker.changes_pitch:
        raise DataError(f"{config.voice} can't change its pitch: name hibari.")
    with SpeechWriter(config.out, config.speech.sample_rate) as writer:
        all_of_them = drawn_answers(config, users, answers)
        total = config.contexts * config.answers
        rows = tqdm(all_of_them, config.out.name, total, disable=not bar, file=sys.stderr, mininterval=1)
        for context, sentence in rows:
            if sentence.id not in writer.done:
                utterance, samples = spoken_in(context.manner, sentence, speaker, config, context.turns)
                if len(samples):
                    writer.add(utterance, samples)
                else:
                    writer.skip(sentence.id, "nothing to say")
