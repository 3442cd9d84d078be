"""Dialogues on a simulated clock: a user who was recorded beforehand, and a model that hears and answers now.

    system, at_once = system_under_test(model)                   # antiphon.evals.duplex.systems
    for dialogue in simulate(system, scenarios, at_once):        # both channels, what happened, the model's words
        outcome = dialogue.outcome()

The clock counts frames. While the user's frame i is heard, nothing of it can be answered yet; what `step` returns for
it sounds during frame i + 1. So a latency measured here is what a listener would measure in real time, if each step
takes no longer than a frame. An interrupting user listens, too: they start a given time after the model began to speak.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antiphon.data.dialogue.format import MODEL, USER, Event, Word
from antiphon.errors import EvalError
from antiphon.evals.duplex.metrics import ASIDE_SECONDS, ASIDES, Case, Outcome, Segment, Vad, cases, measure, speech
from antiphon.evals.duplex.systems import System

AUDIBLE_DB = -45.0  # of full scale: above it a listener hears the model in a frame
MIN_AUDIBLE_FRAMES = 2  # in a row, after which it has begun
MAX_PAUSE_SECONDS = 1.6  # in an answer: after more silence it is over


@dataclass(frozen=True)
class Scenario:
    """A test case: the user's side of a dialogue.

    Attributes:
        id: its name.
        task: see `antiphon.evals.duplex.metrics.Case`.
        user: float32 [samples], the user's channel from the start to the end of what they say first.
        events: what happens in it; backchannels of the model are places where one would be fitting.
        sample_rate: Hz.
        second: what the user interrupts with, float32 [samples].
        delay: seconds after the start of the model's speech at which the interruption starts.
        patience: seconds after the end of the first request at which it starts if the model never spoke.
        after: min. and max. seconds of silence at the end; it ends when the model has answered and is silent again.
        texts: what the user asks for, in words.
        intents: and what kind of thing that is.
        voice: whose.
    """

    id: str
    task: str
    user: NDArray[np.float32]
    events: tuple[Event, ...]
    sample_rate: int = 24000
    second: NDArray[np.float32] | None = None
    delay: float = 1.0
    patience: float = 4.0
    after: tuple[float, float] = (5.0, 10.0)
    texts: tuple[str, ...] = ()
    intents: tuple[str, ...] = ()
    voice: str = ""


@dataclass
class RecordedDialogue:
    """What came of a scenario.

    Attributes:
        scenario: the user's part as planned.
        user, model: float32 [samples], as many in both.
        events: what the user did, at the times at which they did it.
        words: of the model.
        broken_off: seconds at which the model ended an answer before it was over; None where the system doesn't tell.
    """

    scenario: Scenario
    user: NDArray[np.float32]
    model: NDArray[np.float32]
    events: list[Event]
    words: list[Word]
    broken_off: list[float] | None = None

    @property
    def seconds(self) -> float:
        return len(self.user) / self.scenario.sample_rate

    @property
    def case(self) -> Case:
        """What is measured: the last thing that the user does."""
        if self.scenario.task in (*ASIDES, "sound"):
            last = [event for event in self.events if event.kind in ("noise", "backchannel") and event.speaker == USER][
                -1
            ]
            return Case(self.scenario.task, last.start, last.end, self.seconds)
        case = cases(self.events, self.seconds)[-1]
        return Case(self.scenario.task, case.start, case.end, case.until, case.places)

    def speech(self, speaker: str = MODEL, vad: Vad = Vad()) -> list[Segment]:
        """A speaker's stretches of speech."""
        return speech(self.model if speaker == MODEL else self.user, self.scenario.sample_rate, vad)

    def outcome(self, vad: Vad = Vad()) -> Outcome:
        """What the model did, measured."""
        case = self.case
        outcome = measure(case, self.speech(MODEL, vad), self.words)
        if case.task in ASIDES and self.broken_off is not None:
            broken = any(case.start <= at <= case.end + ASIDE_SECONDS for at in self.broken_off)
            outcome = replace(outcome, takeover=broken)
        return outcome


@dataclass
class _User:
    """The user of one scenario, who speaks and listens by frames."""

    scenario: Scenario
    size: int
    heard: list[NDArray[np.float32]] = field(default_factory=list)
    said: list[NDArray[np.float32]] = field(default_factory=list)
    plan: NDArray[np.float32] = field(init=False)
    events: list[Event] = field(init=False)
    loud: int = 0  # frames in a row in which the model was heard
    quiet: int = 0
    began: float | None = None  # when the model began to speak, after the user's last words
    cut_in: bool = False

    def __post_init__(self) -> None:
        self.plan, self.events = self.scenario.user, list(self.scenario.events)
        self.seconds = self.size / self.scenario.sample_rate

    def frame(self) -> Tensor | None:
        """What they say next; None when the conversation is over."""
        i = len(self.said)
        if self._over(i):
            return None
        if self.scenario.second is not None and not self.cut_in and self._may_cut_in(i):
            start = i * self.seconds
            self.plan = np.concatenate((np.pad(self.plan, (0, max(0, i * self.size - len(self.plan))))[: i * self.size],
                                        self.scenario.second))  # fmt: skip
            end = start + len(self.scenario.second) / self.scenario.sample_rate
            kinds = ("interruption", "turn")
            if self.scenario.task in ASIDES:
                kinds = ("backchannel",) if self.scenario.task == "mhm" else ("noise",)
            self.events += [Event(kind, start, end, USER) for kind in kinds]
            self.cut_in, self.began = True, None
        piece = self.plan[i * self.size : (i + 1) * self.size]
        piece = np.pad(piece, (0, self.size - len(piece)))
        self.said.append(piece)
        return torch.from_numpy(piece)

    def hear(self, sound: Tensor) -> None:
        """What the model says during the next frame."""
        samples = sound.detach().float().cpu().numpy()
        self.heard.append(samples)
        level = 10 * np.log10(float(np.mean(np.square(samples, dtype=np.float64))) + 1e-12)
        self.loud, self.quiet = (self.loud + 1, 0) if level > AUDIBLE_DB else (0, self.quiet + 1)
        now, end = len(self.heard) * self.seconds, len(self.plan) / self.scenario.sample_rate
        if self.began is None and self.loud >= MIN_AUDIBLE_FRAMES and now >= end:
            # Who spoke before the user was done counts from then on.
            self.began = max(now - (self.loud - 1) * self.seconds, end)

    def _may_cut_in(self, frame: int) -> bool:
        end = len(self.plan) / self.scenario.sample_rate
        start = end + self.scenario.patience if self.began is None else self.began + self.scenario.delay
        return frame * self.seconds >= start - 1e-6

    def _over(self, frame: int) -> bool:
        if self.scenario.second is not None and not self.cut_in:
            return False
        silent = frame * self.seconds - len(self.plan) / self.scenario.sample_rate
        shortest, longest = self.scenario.after
        return silent >= longest or (
            silent >= shortest and self.began is not None and self.quiet * self.seconds >= MAX_PAUSE_SECONDS
        )

    def recorded(self, words: list[Word], broken_off: list[float] | None = None) -> RecordedDialogue:
        """Both channels: what the model says for frame i sounds in frame i + 1."""
        silence = np.zeros(self.size, np.float32)
        model = np.concatenate([silence, *self.heard[:-1]]) if self.heard else silence[:0]
        user = np.concatenate(self.said) if self.said else silence[:0]
        user, model = user.astype(np.float32), model.astype(np.float32)
        return RecordedDialogue(self.scenario, user, model, self.events, words, broken_off)


def simulate(
    system: System,
    scenarios: Iterable[Scenario],
    at_once: int = 8,
    seed: int = 0,
    progress: Callable[[], Any] = lambda: None,
) -> Iterator[RecordedDialogue]:
    """Holds the dialogues; as one ends, the next joins.

    Args:
        system: under test.
        scenarios: their sample rate must be the system's.
        at_once: dialogues in a batch.
        seed: of scenario i it is `seed + i`.
        progress: called whenever one is done.

    Yields:
        Dialogues, in the order in which they end.

    Raises:
        EvalError: a scenario of another sample rate.
    """
    waiting = enumerate(scenarios)
    live: dict[int, _User] = {}
    while True:
        while len(live) < at_once and (item := next(waiting, None)) is not None:
            number, scenario = item
            if scenario.sample_rate != system.sample_rate:
                raise EvalError(
                    f"Scenario {scenario.id} has {scenario.sample_rate} Hz, the model {system.sample_rate}; resample."
                )
            live[system.join(seed + number)] = _User(scenario, system.frame_samples)
        if not live:
            return
        frames = {}
        for handle, user in list(live.items()):
            if (frame := user.frame()) is None:
                del live[handle]
                words = system.leave(handle)
                yield user.recorded(words, getattr(system, "broken_off", None))
                progress()
            else:
                frames[handle] = frame
        if frames:
            for handle, sound in system.step(frames).items():
                live[handle].hear(sound)
