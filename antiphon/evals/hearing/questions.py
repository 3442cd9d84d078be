"""Whether the model can say what else is in a recording: 300 spoken questions about sounds, music, voices and times.

The wordings (`sound_questions.jsonl`) were never shown to training, the voices that ask are those that no training set
has, and the sounds are of the test split. What counts as an answer stands in `sound_answers.json`, by group and label.
The reference is the answers to the same questions, typed: what can be guessed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator

from antiphon.audio.io import Audio
from antiphon.data.scene.example import RATE, Example
from antiphon.data.scene.make import Material
from antiphon.data.scene.manner import EFFORTS, analyse, loud, shouted, soft, stretched, synthesize, whispered
from antiphon.data.scene.mixtures import Canvas, Clip, excerpt, levelled
from antiphon.data.scene.music import INSTRUMENTS as RENDERED
from antiphon.data.scene.music import instrument_alone, piece
from antiphon.data.speech.augment import Samples
from antiphon.errors import DataError
from antiphon.evals.assistant import material as spoken_material
from antiphon.evals.harness import rows_of
from antiphon.evals.hearing.classes import INSTRUMENTS
from antiphon.evals.hearing.evaluation import HearingEvaluation
from antiphon.evals.metrics.answers import is_right
from antiphon.evals.metrics.hearing import TOLERANCE
from antiphon.evals.report import Figure
from antiphon.evals.rows import spread
from antiphon.models.scene.labels import TEMPO

QUESTIONS = Path(__file__).with_name("sound_questions.jsonl")
ANSWERS = Path(__file__).with_name("sound_answers.json")
# How many of the 300 ask for what.
ASKED = {
    "sound": 80, "instrument": 30, "order": 12, "last": 12, "side": 16, "sounds": 20, "people": 20, "sex": 40,
    "who": 10, "manner": 24, "pace": 8, "volume": 8, "tempo": 20,
}  # fmt: skip
KINDS = ("what", "when", "how many", "who", "how")
LEVEL, GAP = -22.0, 0.4  # dB of full scale of a question; seconds between it and a sound
MALE = frozenset({"joe", "kokoro:jm_kumo"})  # of the voices that ask
CHANGES = {"fast": (0.55, 0.65), "slow": (1.5, 1.8)}  # factors on a question's length
NUMBERS = ("zero", "one", "two", "three")
IN_ORDER = ("order", "last")  # which of two sounds came first, and which last


@dataclass(frozen=True)
class Wording:
    """A way to ask.

    Attributes:
        ask: for what: see `ASKED`.
        kind: "what", "when", "how many", "who" or "how".
        question: as it is said.
    """

    ask: str
    kind: str
    question: str


@dataclass(frozen=True)
class SoundQuestion:
    """A recording with a question in it.

    Attributes:
        id: names it.
        wording: what is asked.
        audio: 16 kHz.
        accept: answers of which any will do.
        reject: words that a right answer doesn't hold: the other choice; where one of two sounds is asked for, that it
            doesn't name first ("the sea began before the dog").
        about: what is there, for people.
    """

    id: str
    wording: Wording
    audio: Audio
    accept: tuple[str, ...]
    reject: tuple[str, ...] = ()
    about: str = ""

    def right(self, reply: str) -> bool:
        """Whether a reply answers it."""
        if self.wording.ask not in IN_ORDER:
            return is_right(reply, self.accept, self.wording.question) and not is_right(reply, self.reject)
        words = reply.split()
        beginnings = (" ".join(words[: said + 1]) for said in range(len(words)))
        first = next((each for each in beginnings if is_right(each, (*self.accept, *self.reject))), "")
        return is_right(first, self.accept, self.wording.question)


def sound_questions(evaluation: HearingEvaluation, n: int) -> list[Figure]:
    """Spoken questions about what else is in the recording; reference: the same typed."""
    asked = questions(evaluation, n)
    model = evaluation.model

    def answer(question: SoundQuestion) -> tuple[str, str, str]:
        heard = model.hear(question.audio, scene=True)
        return heard.text, str(getattr(heard, "scene", None) or ""), model.think(heard)

    words, scenes, replies = zip(*evaluation.each("sound questions", asked, answer))
    wordings = list(dict.fromkeys(question.wording.question for question in asked))
    typed = dict(zip(wordings, evaluation.each("the same, typed", wordings, model.reply_text), strict=True))
    right = [question.right(reply) for question, reply in zip(asked, replies, strict=True)]
    guessed = [question.right(typed[question.wording.question]) for question in asked]
    columns = {"id": [q.id for q in asked], "ask": [q.wording.ask for q in asked], "about": [q.about for q in asked]}
    columns |= {"question": [q.wording.question for q in asked], "heard": words, "scene": scenes, "reply": replies}
    columns |= {"right": right, "accept": [list(q.accept) for q in asked], "reject": [list(q.reject) for q in asked]}
    evaluation.save_items("sound-questions-right", rows_of(columns))
    for question in asked:
        evaluation.save_sound(question.id, question.audio)
    figures = [_share("sound-questions-right", right, guessed, ">= 0.75")]
    for kind in KINDS:
        mine = [place for place, question in enumerate(asked) if question.wording.kind == kind]
        if mine:
            name = f"sound-questions-right-{kind.replace(' ', '-')}"
            figures.append(_share(name, [right[i] for i in mine], [guessed[i] for i in mine], None))
    return figures


def _share(name: str, right: Sequence[bool], guessed: Sequence[bool], bar: str | None) -> Figure:
    return Figure(name, sum(right) / len(right), "share", bar, sum(guessed) / len(guessed), len(right))


def read_wordings(path: Path = QUESTIONS) -> list[Wording]:
    """The ways to ask.

    Raises:
        DataError: the file can't be read.
    """
    try:
        return [Wording(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} has no questions about sounds that can be read: {error}.") from error


def questions(evaluation: HearingEvaluation, n: int) -> list[SoundQuestion]:
    """`n` of the 300 questions, always the same ones, of every kind."""
    wordings: dict[str, list[Wording]] = {}
    for wording in read_wordings():
        wordings.setdefault(wording.ask, []).append(wording)
    plan = [(wordings[ask][i % len(wordings[ask])], i) for ask, count in ASKED.items() for i in range(count)]
    plan = spread(plan, n)
    clips = spoken_material.spoken([wording.question for wording, _ in plan], evaluation.cached("sound-questions"))
    maker = Maker(evaluation.recordings(), json.loads(ANSWERS.read_text(encoding="utf-8")), evaluation.config.seed)
    pairs = zip(plan, clips, strict=True)
    return evaluation.each("recordings with questions", pairs, lambda pair: maker.make(*pair[0], pair[1]))


class Maker:
    """Puts questions into recordings.

    Args:
        material: with test recordings.
        answers: what counts, by "group/label".
        seed: of all that is drawn.
    """

    def __init__(self, material: Material, answers: dict[str, list[str]], seed: int = 0) -> None:
        self.material, self.answers, self.seed = material, answers, seed
        self._scenes: dict[str, Callable[[Wording, Clip, str, Generator], SoundQuestion]] = {
            "sound": self._sound, "instrument": self._instrument, "order": self._order, "last": self._order,
            "side": self._side, "sounds": self._sounds, "people": self._people, "sex": self._sex, "who": self._baby,
            "manner": self._manner, "pace": self._pace, "volume": self._volume, "tempo": self._tempo,
        }  # fmt: skip

    def make(self, wording: Wording, number: int, spoken: spoken_material.Clip) -> SoundQuestion:
        """A recording in which a voice asks.

        Args:
            wording: what.
            number: of the question among those that ask for the same: what is drawn follows from both.
            spoken: the question, said.
        """
        name = f"{wording.ask}-{number:03d}"
        draw = np.random.default_rng([self.seed, int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)])
        samples = spoken.audio.mono().resample(RATE).samples.float().numpy()
        made = self._scenes[wording.ask](wording, Clip(samples, ()), spoken.voice, draw)
        return SoundQuestion(name, wording, made.audio, made.accept, made.reject, f"{spoken.voice}: {made.about}")

    # What can be asked for

    def _sound(self, wording: Wording, said: Clip, voice: str, draw: Generator) -> SoundQuestion:
        label, sound = self._event(draw)
        place = str(draw.choice(["before", "before", "after", "under"]))
        return self._asked(wording, self._placed(said, sound, place, draw), f"event/{label}", f"{label} {place}")

    def _instrument(self, wording: Wording, said: Clip, voice: str, draw: Generator) -> SoundQuestion:
        name = str(draw.choice([each for each in INSTRUMENTS if each in RENDERED or each == "drums"]))
        music = excerpt(instrument_alone(name, draw), 4.0, draw)
        return self._asked(wording, self._placed(said, music, "before", draw), f"instrument/{name}", name)

    def _order(self, wording: Wording, said: Clip, voice: str, draw: Generator) -> SoundQuestion:
        (first, a), (second, b) = self._event(draw), self._event(draw)
        while second == first:
            second, b = self._event(draw)
        wanted, other = (first, second) if wording.ask == "order" else (second, first)
        samples = self._in_a_row([a, b, said], draw)
        accept, reject = (tuple(self.answers[f"event/{each}"]) for each in (wanted, other))
        return SoundQuestion("", wording, samples, accept, reject, f"{first}, then {second}")

    def _side(self, wording: Wording, said: Clip, voice: str, draw: Generator) -> SoundQuestion:
        label, sound = self._event(draw)
        before = bool(draw.random() < 0.5)
        audio = self._placed(said, sound, "before" if before else "after", draw)
        sides = ("before", "ahead", "preceding", "earlier"), ("after", "following", "afterwards", "later")
        accept, reject = sides if before else sides[::-1]
        return SoundQuestion("", wording, audio, accept, reject, f"{label} {'before' if before else 'after'}")

    def _sounds(self, wording: Wording, said: Clip, voice: str, draw: Generator) -> SoundQuestion:
        count, found = int(draw.integers(1, 4)), {}
        while len(found) < count:
            label, sound = self._event(draw)
            found.setdefault(label, sound)
        audio = self._in_a_row([*found.values(), said], draw)
        return self._number(wording, audio, count, ", ".join(found))

    def _people(self, wording: Wording, said: Clip, voice: str, draw: Generator) -> SoundQuestion:
        if draw.random() < 0.5:
            return self._number(wording, self._in_a_row([said], draw), 1, "nobody else")
        other = self.material.speech("test", draw, clean=True)
        return self._number(wording, self._in_a_row([other, said], draw), 2, other.source)

    def _sex(self, wording: Wording, said: Clip, voice: str, draw: Generator) -> SoundQuestion:
        label, other = ("male", "female") if voice in MALE else ("female", "male")
        accept, reject = (tuple(self.answers[f"sex/{each}"]) for each in (label, other))
        return SoundQuestion("", wording, self._in_a_row([said], draw), accept, reject, label)

    def _baby(self, wording: Wording, said: Clip, voice: str, draw: Generator) -> SoundQuestion:
        _, sound = self._event(draw, "crying_baby")
        return self._asked(wording, self._placed(said, sound, "before", draw), "event/crying_baby", "crying_baby")

    def _manner(self, wording: Wording, said: Clip, voice: str, draw: Generator) -> SoundQuestion:
        return self._changed(wording, said, str(draw.choice(["whispered", "shouted", "fast", "slow"])), "", draw)

    def _pace(self, wording: Wording, said: Clip, voice: str, draw: Generator) -> SoundQuestion:
        label, other = draw.permutation(["fast", "slow"])
        return self._changed(wording, said, str(label), str(other), draw)

    def _volume(self, wording: Wording, said: Clip, voice: str, draw: Generator) -> SoundQuestion:
        label, other = draw.permutation(["whispered", "shouted"])
        return self._changed(wording, said, str(label), str(other), draw)

    def _tempo(self, wording: Wording, said: Clip, voice: str, draw: Generator) -> SoundQuestion:
        example = piece("test", draw, seconds=8.0)
        tempo = float(next(span.label for span in example.spans if span.group == TEMPO))
        audio = self._placed(said, _whole(example), "before", draw)
        near = range(int(np.ceil(tempo * (1 - TOLERANCE))), int(tempo * (1 + TOLERANCE)) + 1)
        return SoundQuestion("", wording, audio, tuple(map(str, near)), (), f"{tempo:.1f} beats a minute")

    # How it is put together

    def _event(self, draw: Generator, label: str = "") -> tuple[str, Clip]:
        """A sound of the test split, whose name can be asked for."""
        while True:
            each = self.material.drawn("test", "sound", draw, group="event")
            name = each.label("event")
            if f"event/{name}" in self.answers and label in ("", name):
                return name, excerpt(self.material.load(each), float(draw.uniform(1.0, 3.0)), draw)

    def _placed(self, said: Clip, other: Clip, place: str, draw: Generator) -> Audio:
        if place != "under":
            return self._in_a_row([other, said] if place == "before" else [said, other], draw)
        canvas = Canvas.empty(max(said.seconds, other.seconds) + 0.6)
        canvas.put(said, 0.3, LEVEL)
        canvas.put(other, 0.3, LEVEL - 6.0)
        return as_sound(canvas.samples)

    def _in_a_row(self, clips: Sequence[Clip], draw: Generator) -> Audio:
        canvas, at = Canvas.empty(0.6 + sum(clip.seconds + GAP for clip in clips)), 0.3
        for clip in clips:
            canvas.put(clip, at, LEVEL + float(draw.uniform(-3.0, 3.0)))
            at += clip.seconds + GAP
        return as_sound(canvas.samples)

    def _changed(self, wording: Wording, said: Clip, label: str, other: str, draw: Generator) -> SoundQuestion:
        """The question itself, said in a manner."""
        samples = changed(said.samples, label, draw)
        accept = tuple(self.answers[f"manner/{label}"])
        reject = tuple(self.answers[f"manner/{other}"]) if other else ()
        return SoundQuestion("", wording, as_sound(np.pad(samples, int(0.3 * RATE))), accept, reject, label)

    def _asked(self, wording: Wording, audio: Audio, label: str, about: str) -> SoundQuestion:
        return SoundQuestion("", wording, audio, tuple(self.answers[label]), (), about)

    def _number(self, wording: Wording, audio: Audio, count: int, about: str) -> SoundQuestion:
        others = tuple(number for number in NUMBERS if number != NUMBERS[count])
        accept = (NUMBERS[count], "only", "just you", "alone") if count == 1 else (NUMBERS[count],)
        return SoundQuestion("", wording, audio, accept, others, about)


def changed(samples: Samples, label: str, draw: Generator) -> Samples:
    """Speech said in another manner, taken apart and put together again (`antiphon.data.scene.manner`)."""
    voice = analyse(samples)
    if label in CHANGES:
        return levelled(synthesize(stretched(voice, draw.uniform(*CHANGES[label]))), LEVEL)
    change = {"whispered": whispered, "shouted": shouted, "loud": loud, "soft": soft}[label]
    return levelled(synthesize(change(voice, draw)), float(draw.uniform(*EFFORTS[label])))


def _whole(example: Example) -> Clip:
    return Clip(example.samples, example.spans, example.source, example.known)


def as_sound(samples: Samples) -> Audio:
    """Samples at 16 kHz, scaled down where they pass full scale."""
    peak = float(np.abs(samples).max()) if len(samples) else 0.0
    return Audio(torch.from_numpy((samples / max(1.0, peak / 0.99)).astype(np.float32)), RATE)
