"""The end of a turn by loudness, and the session's thread around a model."""
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch

from antiphon.audio.io import load
from antiphon.audio.speech import LoudnessActivity
from antiphon.dialogue.events import AudioEvent, EndEvent, Event, HeardEvent, TextEvent
from antiphon.dialogue.session import Endpointer, HalfDuplexSession
from antiphon.dialogue.simplex import ListeningSession, SpeakingSession
from antiphon.errors import SessionError
from antiphon.models.tts.synthesizer import Timing
from tests.conftest import ROOT

FRAME = 0.08


def feed(endpointer: Endpointer, levels: list[float]) -> list[int]:
    """Indices of the frames that end a turn, for noise at the given amplitudes."""
    generator = torch.Generator().manual_seed(0)
    frames = [level * torch.randn(1920, generator=generator) for level in levels]
    return [i for i, frame in enumerate(frames) if endpointer.step(frame)]


def test_a_turn_ends_after_its_silence():
    ends = feed(Endpointer(0.4, activity=LoudnessActivity()), [0.0005] * 10 + [0.1] * 10 + [0.0005] * 10)
    assert ends[0] == 10 + 10 + 4  # 0.4 s are five frames


def test_silence_alone_is_no_turn():
    assert feed(Endpointer(0.4, activity=LoudnessActivity()), [0.0005] * 60) == []


def test_a_short_pause_does_not_end_the_turn():
    ends = feed(Endpointer(0.7, activity=LoudnessActivity()), [0.1] * 10 + [0.0005] * 5 + [0.1] * 10)
    assert ends == []


def test_a_steady_noise_becomes_quiet():
    ends = feed(Endpointer(0.4, activity=LoudnessActivity()), [0.01] * 150 + [0.2] * 10 + [0.01] * 20)
    assert any(160 <= end < 170 for end in ends)


@dataclass
class CountingEars:
    """Hears how many samples were said (at 16 kHz), as a number in words of one letter."""

    def init_state(self) -> list[int]:
        return []

    def step(self, samples: torch.Tensor, state: list[int]) -> None:
        state.append(len(samples))

    def finish(self, state: list[int]) -> SimpleNamespace:
        return SimpleNamespace(text="a " * round(sum(state) / 1280), embeddings=torch.zeros(1, 4))


@dataclass
class EndlessThinker:
    """Counts as long as it is let."""

    turns: list[str] = field(default_factory=list)

    def init_state(self, voice: bool) -> list[str]:
        return self.turns

    def add_user(self, state: list[str], said: torch.Tensor) -> None:
        state.append("user")

    def stream(self, state: list[str], max_tokens: int, sampling: object):
        try:
            for number in range(max_tokens):
                time.sleep(0.001)
                yield SimpleNamespace(token=number, text=f" {number}", hidden=torch.zeros(4))
        finally:
            state.append("assistant")


class Hum:
    """A voice that makes one frame for every piece of text."""

    sample_rate = 24000

    def init_state(self, *_: object) -> SimpleNamespace:
        return SimpleNamespace(due=0)

    def add(self, text: str, state: SimpleNamespace, hidden: torch.Tensor | None = None) -> None:
        state.due += 1

    def end(self, state: SimpleNamespace) -> None: ...

    def step(self, state: SimpleNamespace) -> torch.Tensor | None:
        if not state.due:
            return None
        state.due -= 1
        return torch.zeros(1920)

    def timing(self, state: SimpleNamespace) -> Timing:
        return Timing("", None, ())


@pytest.fixture
def session():
    from antiphon.dialogue.events import Sampling

    model = SimpleNamespace(ears=CountingEars(), thinker=EndlessThinker(), voice=Hum())
    with HalfDuplexSession(model, Sampling(max_tokens=2000)) as session:
        yield session


def until(session: HalfDuplexSession, seen: Callable[[Event], bool]) -> list[Event]:
    """Events up to and with the first that is wanted; fails after ten seconds without it."""
    events, deadline = [], time.monotonic() + 10
    while not any(map(seen, events)):
        assert time.monotonic() < deadline, f"not seen among {len(events)} events"
        events += session.poll()
        time.sleep(0.002)
    return events


def ask(session: HalfDuplexSession, frames: int = 5) -> None:
    for _ in range(frames):
        session.step(torch.zeros(1920))
    session.end_of_turn()


@pytest.mark.parametrize("moment", [HeardEvent, TextEvent, AudioEvent])
def test_an_interrupted_answer_ends_at_once_and_the_next_turn_is_heard(session, moment):
    ask(session)
    events = until(session, lambda event: isinstance(event, moment))
    session.interrupt()
    if not isinstance(events[-1], EndEvent):
        events += until(session, lambda event: isinstance(event, EndEvent))
    assert events[-1].interrupted and len(events) < 1000
    session.step(torch.zeros(1920))
    time.sleep(0.05)
    assert session.poll() == []  # nothing of the answer comes late

    ask(session, 3)
    events = until(session, lambda event: isinstance(event, HeardEvent))
    assert events[0].heard.split() in (["a"] * 3, ["a"] * 4)  # the frame before may have met the end of the answer
    assert session.model.thinker.turns == ["user", "assistant", "user"]


def test_what_is_said_during_an_answer_is_not_heard(session):
    ask(session)
    until(session, lambda event: isinstance(event, AudioEvent))
    for _ in range(20):
        session.step(torch.ones(1920))
    time.sleep(0.02)
    session.interrupt()
    until(session, lambda event: isinstance(event, EndEvent))
    time.sleep(0.05)
    ask(session, 2)
    events = until(session, lambda event: isinstance(event, HeardEvent))
    assert events[0].heard.split() == ["a"] * 2


def test_closing_during_an_answer_stops_it(session):
    ask(session)
    until(session, lambda event: isinstance(event, AudioEvent))
    session.close()
    with pytest.raises(SessionError, match="closed"):
        session.step(torch.zeros(1920))


@pytest.mark.parametrize("kind", ["white", "hum", "clicks"])
def test_noise_is_no_turn_and_is_not_answered(kind):
    generator = torch.Generator().manual_seed(0)
    sound = {
        "white": 0.05 * torch.randn(24000 * 3, generator=generator),
        "hum": 0.3 * torch.sin(torch.arange(24000 * 3) * 2 * torch.pi * 100 / 24000),
        "clicks": 0.9 * (torch.arange(24000 * 3) % 12000 == 0),
    }[kind]
    model = SimpleNamespace(ears=CountingEars(), thinker=EndlessThinker(), voice=Hum())
    with HalfDuplexSession(model, endpointer=Endpointer()) as session:
        events = [event for frame in [*sound.split(1920), *torch.zeros(20, 1920)] for event in session.step(frame)]
        time.sleep(0.3)
        assert events + session.poll() == []


def test_a_spoken_question_is_a_turn(session):
    said = load(ROOT / "examples" / "question.wav", sample_rate=24000).mono().samples
    session.endpointer = Endpointer()
    for frame in [*said.split(1920), *torch.zeros(20, 1920)]:
        session.step(frame)
    assert until(session, lambda event: isinstance(event, HeardEvent))


def test_an_error_in_the_model_reaches_the_caller(session):
    session.model.thinker.stream = lambda *_, **__: 1 / 0
    ask(session)
    with pytest.raises(ZeroDivisionError):
        until(session, lambda event: isinstance(event, EndEvent))


def test_a_listening_session_writes_down_turns_and_does_not_answer():
    model = SimpleNamespace(ears=CountingEars())
    with ListeningSession(model, Endpointer(0.4, activity=LoudnessActivity())) as session:
        for level in [0.0] * 5 + [0.1] * 5 + [0.0] * 8 + [0.1] * 4:
            session.step(level * torch.randn(1920))
        until(session, lambda event: isinstance(event, HeardEvent))
        session.end_of_turn()
        events = until(session, lambda event: isinstance(event, HeardEvent))
        time.sleep(0.05)
        assert session.poll() == [] and len(events) == 1  # nothing but what was heard


def test_a_speaking_session_reads_aloud_what_it_is_given():
    with SpeakingSession(SimpleNamespace(voice=Hum())) as session:
        session.step(torch.zeros(1920))  # nobody listens
        session.say("Good morning.")
        session.say("And good night.")
        events = until(session, lambda event: event == EndEvent("And good night."))
    sound = [event for event in events if isinstance(event, AudioEvent)]
    assert [type(event) for event in events] == [TextEvent, AudioEvent, EndEvent] * 2 and len(sound) == 2
    with pytest.raises(SessionError, match="closed"):
        session.say("More.")


@pytest.mark.slow
def test_a_question_fed_in_frames_is_answered_aloud(mini, question):
    from antiphon.audio.io import load

    audio = load(question, sample_rate=24000)
    with mini.session("half-duplex") as session:
        events = []
        for start in range(0, audio.samples.shape[-1], 1920):
            began = time.perf_counter()
            events += session.step(audio.samples[start : start + 1920])
            assert time.perf_counter() - began < 0.5  # it hands over and takes; it doesn't wait for the model
        session.end_of_turn()
        deadline = time.monotonic() + 60
        while not any(isinstance(e, EndEvent) for e in events) and time.monotonic() < deadline:
            events += session.poll()
            time.sleep(0.02)
    heard = [e.heard for e in events if isinstance(e, HeardEvent)]
    assert "italy" in heard[0].lower()
    assert sum(e.audio.samples.shape[-1] for e in events if isinstance(e, AudioEvent)) > 12000
    with pytest.raises(SessionError, match="closed"):
        session.step(torch.zeros(1920))
