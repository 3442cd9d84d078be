"""`antiphon bench conversations`: what many conversations with one loaded model cost, and whether all are kept in time.

Three measures, on questions that the model's own voice asks:

- batch: replies a minute (heard, thought and spoken) where several are made at once, over one after the other;
- late: conversations at once in which the model speaks a third of the time. As the server does it, answers are worked
  off by what is due first; sound that isn't there when it is to be played is late;
- long: one conversation of many turns; what a frame of its sound takes, and memory, at its end over its beginning.

The clock is the wall's, or counts computing time: as long as this process computes it goes on by the seconds of the
processor that this takes, and where everybody only waits it jumps. That is one core with nothing else to do, also where
the machine has.
"""

from __future__ import annotations

import itertools
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from antiphon.bench.serve import median
from antiphon.dialogue.backend import Backend
from antiphon.dialogue.events import AudioEvent, Sampling
from antiphon.dialogue.tool_calls import Message
from antiphon.errors import ConfigError
from antiphon.evals.machine import environment, memory_bytes
from antiphon.evals.report import Figure, Report
from antiphon.serve.work.scheduler import Scheduler, Work

if TYPE_CHECKING:
    from antiphon.model import HalfDuplexModel

MEASURES = ("batch", "late", "long")
QUESTIONS = (
    "What is the capital of Italy?", "How do I boil an egg?", "Why is the sky blue?", "What does a beaver eat?",
    "Tell me something about the moon.", "How many days does a year have?", "What is bread made from?",
    "Who wrote Romeo and Juliet?",
)  # fmt: skip
FRAME_SECONDS = 0.08
BUFFER_SECONDS = 0.2  # of sound that a listener gathers before it is played
START_SECONDS = 0.4  # in which an answer is due to begin
SPEAKING_SHARE = 1 / 3  # of the time that the model speaks in each conversation


@dataclass(frozen=True)
class ConversationsBenchConfig:
    """What is measured.

    Attributes:
        model: a preset or a folder of a model that takes turns; `parts` of it to replace.
        only: of `MEASURES`.
        batch: replies at once.
        rounds: how many times so many replies are made.
        at_once: conversations of "late", one run each.
        seconds: of each of those.
        turns: of the long conversation.
        clock: "wall" or "computing".
        max_tokens: of an answer.
        seed: of pauses.
    """

    model: str = "base"
    parts: dict[str, str] = field(default_factory=dict)
    only: tuple[str, ...] = MEASURES
    batch: int = 4
    rounds: int = 3
    at_once: tuple[int, ...] = (1, 2, 3, 4, 6)
    seconds: float = 60.0
    turns: int = 60
    clock: str = "wall"
    max_tokens: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if unknown := set(self.only) - set(MEASURES):
            raise ConfigError(f"There is no measure {min(unknown)!r}; there are {', '.join(MEASURES)}.")
        if self.clock not in CLOCKS:
            raise ConfigError(f"There is no clock {self.clock!r}; there are {', '.join(CLOCKS)}.")
        if min(self.batch, self.rounds, *self.at_once) < 1 or self.turns < 8:
            raise ConfigError("At least one of everything, and eight turns of a long conversation.")


class Clock(Protocol):
    """Time in seconds, of so many `people`, each with a thread."""

    def __init__(self, people: int): ...

    def now(self) -> float: ...

    def sleep_until(self, when: float) -> None: ...

    def leave(self) -> None:
        """One of the people waits for nothing any more."""


class WallClock:
    """The machine's."""

    def __init__(self, people: int):
        pass

    def now(self) -> float:
        return time.monotonic()

    def sleep_until(self, when: float) -> None:
        time.sleep(max(0.0, when - time.monotonic()))

    def leave(self) -> None:
        pass


class ComputingClock:
    """See the module."""

    def __init__(self, people: int):
        self._people, self._skipped = people, 0.0
        self._lock, self._numbers = threading.Lock(), itertools.count()
        self._waiting: dict[int, float] = {}

    def now(self) -> float:
        return time.process_time() + self._skipped

    def sleep_until(self, when: float) -> None:
        number = next(self._numbers)
        with self._lock:
            self._waiting[number] = when
        while True:
            with self._lock:
                if len(self._waiting) == self._people:  # nobody has anything to do before the first of them wakes up
                    self._skipped += max(0.0, min(self._waiting.values()) - self.now())
                if self.now() >= when:
                    del self._waiting[number]
                    return
            time.sleep(0.002)

    def leave(self) -> None:
        with self._lock:
            self._people -= 1


CLOCKS: dict[str, type[Clock]] = {"wall": WallClock, "computing": ComputingClock}


def bench_conversations(config: ConversationsBenchConfig, progress: Callable[[str], None] = print) -> Report:
    """Measures; see the module."""
    import antiphon

    progress(f"Loading {config.model} ...")
    model = antiphon.load(config.model, **config.parts)
    questions = [model.say(text).samples for text in QUESTIONS]
    report = Report(environment=environment() | {"clock": config.clock})
    _reply(model.backend, questions[0], config)  # warms up
    measures = {"batch": _batch, "late": _late, "long": _long}
    for name in config.only:
        measures[name](report, model, questions, config, progress)
    return report


def _reply(backend: Backend, question: Tensor, config: ConversationsBenchConfig) -> float:
    """Hears a question and answers it; gives the seconds of the answer's sound."""
    listener, spoken = backend.listen(), 0.0
    for frame in question.split(round(FRAME_SECONDS * backend.sample_rate)):
        listener.step(frame)
    message = listener.finish().message()
    for event in backend.chat().answer([message], Sampling(max_tokens=config.max_tokens)).events():
        spoken += event.audio.duration if isinstance(event, AudioEvent) else 0.0
    return spoken


def _batch(
    report: Report,
    model: HalfDuplexModel,
    questions: Sequence[Tensor],
    config: ConversationsBenchConfig,
    progress: Callable[[str], None],
) -> None:
    """The same replies one after the other and, each thread taking the next question, so many at once; then both again
    in the other order, as a machine's pace changes."""
    n = config.rounds * config.batch
    asked = [questions[number % len(questions)] for number in range(n)]
    took: dict[int, list[tuple[float, float]]] = {1: [], config.batch: []}
    for threads in (1, config.batch, config.batch, 1):
        wall, computing = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda question: _reply(model.backend, question, config), asked))
        took[threads].append((time.perf_counter() - wall, time.process_time() - computing))
        progress(f"{n} replies, {threads} at once: {took[threads][-1][0]:.1f} s")
    n *= 2
    wall, computing = ([[sum(own) for own in zip(*times)][at] for times in took.values()] for at in (0, 1))
    name, bar = f"conversations-batch-of-{config.batch}", ">= 2" if config.batch >= 4 else None
    for what, (alone, together) in (("", wall), ("-computing", computing)):
        unit = "replies a minute" if not what else "replies a minute of the processor's time"
        report.add(Figure(f"{name}{what}", 60 * n / together, unit, None, 60 * n / alone, n))
        report.add(Figure(f"{name}{what}-over-one-at-a-time", alone / together, "times as many", bar, None, n))


# Conversations at once


@dataclass
class _Seen:
    """What people saw.

    Attributes:
        waits: seconds from the end of speech to the first sound.
        frames, late: of sound, and how many of them came after they were to be played.
        spoken: seconds of sound.
    """

    waits: list[float] = field(default_factory=list)
    frames: int = 0
    late: int = 0
    spoken: float = 0.0


class _Person:
    """Asks, listens, and is silent long enough for the model to have spoken a third of the time.

    Args:
        backend, scheduler, clock: of all.
        config: of the bench.
    """

    def __init__(self, backend: Backend, scheduler: Scheduler, clock: Clock, config: ConversationsBenchConfig):
        self.backend, self.scheduler, self.clock, self.config = backend, scheduler, clock, config
        self.seen, self.chat, self.past = _Seen(), backend.chat(), list[Message]()
        self._plays_until = 0.0
        self._current: Work | None = None

    def converse(self, questions: Sequence[Tensor], begins: float, ends: float) -> _Seen:
        """Talks until a time."""
        self.clock.sleep_until(begins)
        for question in itertools.cycle(questions):
            if self.clock.now() >= ends:
                return self.seen
            began, spoken = self.clock.now(), self.seen.spoken
            asked = began + len(question) / self.backend.sample_rate
            self._listen(question, began)
            self._answer(asked)
            pause = began + (self.seen.spoken - spoken) / SPEAKING_SHARE
            self.clock.sleep_until(max(self._plays_until + FRAME_SECONDS, pause))
        raise AssertionError("questions go round")

    def _work(self, steps: Callable[[], Iterator[Any]], due: float, give: Callable[[Any], None]) -> None:
        over, failed = threading.Event(), list[BaseException]()

        def end(error: BaseException | None) -> None:
            failed.extend([error] if error is not None else [])
            over.set()

        self._current = self.scheduler.start(steps, due, give, end)
        over.wait()
        if failed:
            raise failed[0]

    def _listen(self, question: Tensor, began: float) -> None:
        listener = self.backend.listen()
        for number, frame in enumerate(question.split(round(FRAME_SECONDS * self.backend.sample_rate)), 1):
            self.clock.sleep_until(began + number * FRAME_SECONDS)
            self._work(lambda frame=frame: iter([listener.step(frame)]), self.clock.now() + START_SECONDS, _nothing)
        heard: list[Message] = []

        def finish() -> Iterator[None]:
            heard.append(listener.finish().message())
            yield None

        self._work(finish, self.clock.now() + START_SECONDS, _nothing)
        self.past += heard

    def _answer(self, asked: float) -> None:
        answer = self.chat.answer(self.past, Sampling(max_tokens=self.config.max_tokens))
        self._plays_until = 0.0

        def give(event: object) -> None:
            if not isinstance(event, AudioEvent):
                return
            now, seen = self.clock.now(), self.seen
            if not self._plays_until:
                seen.waits.append(now - asked)
                self._plays_until = now + BUFFER_SECONDS
            elif now > self._plays_until:
                seen.late += 1
                self._plays_until = now + BUFFER_SECONDS  # it waits, and gathers some before it goes on, as players do
            seen.frames += 1
            seen.spoken += event.audio.duration
            self._plays_until += event.audio.duration
            if self._current is not None:
                self._current.due = self._plays_until - BUFFER_SECONDS

        self._work(answer.events, asked + START_SECONDS, give)
        if answer.message is not None:
            self.past.append(answer.message)


def _nothing(_: object) -> None:
    pass


def _at_once(
    backend: Backend, count: int, questions: Sequence[Tensor], config: ConversationsBenchConfig
) -> tuple[list[_Seen], float]:
    """What so many people see, and the seconds that it took."""
    clock, drawn = CLOCKS[config.clock](count), random.Random(config.seed)
    scheduler, began = Scheduler(count), clock.now() + 0.1
    people = [
        (number, drawn.uniform(0, config.seconds / 10), _Person(backend, scheduler, clock, config))
        for number in range(count)
    ]

    def one(number: int, start: float, person: _Person) -> _Seen:
        first = number % len(questions)
        try:
            return person.converse([*questions[first:], *questions[:first]], began + start, began + config.seconds)
        finally:
            clock.leave()

    with ThreadPoolExecutor(count) as pool:
        seen = list(pool.map(lambda each: one(*each), people))
    took = clock.now() - began
    scheduler.close()
    return seen, took


def _late(
    report: Report,
    model: HalfDuplexModel,
    questions: Sequence[Tensor],
    config: ConversationsBenchConfig,
    progress: Callable[[str], None],
) -> None:
    kept = 0
    for count in config.at_once:
        seen, took = _at_once(model.backend, count, questions, config)
        late, frames = sum(each.late for each in seen), sum(each.frames for each in seen)
        waits = [wait for each in seen for wait in each.waits]
        share = sum(each.spoken for each in seen) / took / count
        progress(f"{count} at once: {late} of {frames} frames late, first sound after {median(waits):.2f} s")
        name = f"conversations-{count}-at-once"
        report.add(Figure(f"{name}-late-frames", late, "frames of 80 ms", None, None, frames))
        report.add(Figure(f"{name}-first-audio", median(waits), "s at the median", None, None, len(waits)))
        report.add(Figure(f"{name}-speaking", share, "share of the time of each", None, None, len(waits)))
        if late:
            break
        kept = count
    report.add(Figure("conversations-in-time", kept, "conversations at once", ">= 3", None, len(config.at_once)))


# A long conversation


def _long(
    report: Report,
    model: HalfDuplexModel,
    questions: Sequence[Tensor],
    config: ConversationsBenchConfig,
    progress: Callable[[str], None],
) -> None:
    """Frames are compared by the processor's time, as the answers' lengths differ: that of all of a quarter of the
    turns over their sound."""
    chat, past = model.backend.chat(), list[Message]()
    took: list[float] = []
    made: list[float] = []
    sizes: list[float] = []
    for turn in range(config.turns):
        past.append(Message("user", QUESTIONS[turn % len(QUESTIONS)]))
        began, spoken = time.process_time(), 0.0
        answer = chat.answer(past, Sampling(seed=turn, max_tokens=config.max_tokens))
        for event in answer.events():
            spoken += event.audio.duration if isinstance(event, AudioEvent) else 0.0
        past += [answer.message] if answer.message is not None else []
        took.append(time.process_time() - began)
        made.append(spoken)
        sizes.append(memory_bytes() / 2**20)
        if (turn + 1) % 10 == 0:
            progress(f"turn {turn + 1}: {sum(made):.0f} s of sound, {sizes[-1]:.0f} MB")
    quarter = config.turns // 4
    frame = [
        1000 * FRAME_SECONDS * sum(took[part]) / max(sum(made[part]), 1e-9)
        for part in (slice(0, quarter), slice(-quarter, None))
    ]
    unit = "ms of the processor for a frame"
    report.add(Figure("conversations-long-minutes-spoken", sum(made) / 60, "min", None, None, config.turns))
    report.add(Figure("conversations-long-frame", frame[1], unit, None, frame[0], quarter))
    report.add(
        Figure("conversations-long-frame-end-over-beginning", frame[1] / frame[0], "times", "<= 1.05", None, quarter)
    )
    memory = statistics.fmean(sizes[-quarter:]) / statistics.fmean(sizes[:quarter])
    report.add(Figure("conversations-long-memory-end-over-beginning", memory, "times", "<= 1.05", None, quarter))
