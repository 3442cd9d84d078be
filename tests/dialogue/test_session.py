"""The end of a turn by its silence, and the session's thread around a model."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from antiphon.audio.endpoint import Endpointer
from antiphon.audio.io import load
from antiphon.audio.speech import LoudnessActivity, SpeechDetector
from antiphon.dialogue.backend import Hearing
from antiphon.dialogue.events import AudioEvent, EndEvent, Event, HeardEvent, Sampling, TextEvent
from antiphon.dialogue.half_duplex import HalfDuplexBackend
from antiphon.dialogue.session import TurnSession
from antiphon.errors import SessionError
from antiphon.models.scene.reading import SceneNotes
from tests.conftest import ROOT
from tests.dialogue.pretended import pretended_backend

FRAME = 0.08


def by_loudness(silence: float) -> SpeechDetector:
    return SpeechDetector(LoudnessActivity(), silence)


def feed(endpointer: SpeechDetector, levels: list[float]) -> list[int]:
    """Indices of the frames that end a turn, for noise at the given amplitudes."""
    generator = torch.Generator().manual_seed(0)
    frames = [level * torch.randn(1920, generator=generator) for level in levels]
    return [i for i, frame in enumerate(frames) if endpointer.ends(frame.numpy())]


def test_a_turn_ends_after_its_silence():
    ends = feed(by_loudness(0.4), [0.0005] * 10 + [0.1] * 10 + [0.0005] * 10)
    assert ends[0] == 10 + 10 + 4  # 0.4 s are five frames


def test_silence_alone_is_no_turn():
    assert feed(by_loudness(0.4), [0.0005] * 60) == []


def test_a_short_pause_does_not_end_the_turn():
    ends = feed(by_loudness(0.7), [0.1] * 10 + [0.0005] * 5 + [0.1] * 10)
    assert ends == []


def test_a_steady_noise_becomes_quiet():
    ends = feed(by_loudness(0.4), [0.01] * 150 + [0.2] * 10 + [0.01] * 20)
    assert any(160 <= end < 170 for end in ends)


@pytest.fixture
def session():
    with TurnSession(pretended_backend(), sampling=Sampling(max_tokens=2000)) as session:
        yield session


def until(session: TurnSession, seen: Callable[[Event], bool]) -> list[Event]:
    """Events up to and with the first that is wanted; fails after ten seconds without it."""
    events, deadline = [], time.monotonic() + 10
    while not any(map(seen, events)):
        assert time.monotonic() < deadline, f"not seen among {len(events)} events"
        events += session.poll()
        time.sleep(0.002)
    return events


def ask(session: TurnSession, frames: int = 5) -> None:
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
    # Words were thought that nobody heard: what was heard of the answer is read anew.
    assert session.backend.thinker.roles == ["user", "assistant", "assistant", "user"]


@pytest.mark.parametrize("late", [False, True])
def test_of_an_interrupted_answer_what_was_not_heard_is_forgotten(session, late):
    session.sampling = Sampling(max_tokens=20 if late else 2000)
    ask(session)
    until(session, lambda event: isinstance(event, EndEvent if late else AudioEvent))
    session.interrupt(heard=0.0)
    if not late:
        until(session, lambda event: isinstance(event, EndEvent))
    time.sleep(0.05)
    ask(session, 3)
    until(session, lambda event: isinstance(event, EndEvent))
    assert session._past[1].text == "" and session._past[3].text
    assert session.backend.thinker.roles == ["user", "assistant", "user", "assistant"]  # thought, and read no more


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
    with TurnSession(pretended_backend(), endpointer=SpeechDetector(silence=0.7)) as session:
        events = [event for frame in [*sound.split(1920), *torch.zeros(20, 1920)] for event in session.step(frame)]
        time.sleep(0.3)
        assert events + session.poll() == []


def test_a_spoken_question_is_a_turn(session):
    said = load(ROOT / "examples" / "question.wav", sample_rate=24000).mono().samples
    session.endpointer = SpeechDetector(silence=0.7)
    for frame in [*said.split(1920), *torch.zeros(20, 1920)]:
        session.step(frame)
    assert until(session, lambda event: isinstance(event, HeardEvent))


@dataclass
class Chances:
    """A turn detector that says what it is told to, one pause after the other; after those that it's over."""

    left: list[float]

    def probability(self, samples: torch.Tensor) -> float:
        return self.left.pop(0) if self.left else 1.0


def by_sound(*chances: float) -> Endpointer:
    return Endpointer(Chances(list(chances)), speech=by_loudness(4.0))


def say(session: TurnSession, *levels: float) -> list[Event]:
    """Frames of noise at these amplitudes, each after the one before was worked on; what came meanwhile."""
    generator, events = torch.Generator().manual_seed(0), []
    for level in levels:
        events += session.step(level * torch.randn(1920, generator=generator))
        wait_for(session._incoming.empty)
    return events


LOUD, QUIET = [0.1] * 8, [0.0005] * 3


def test_an_answer_is_begun_before_the_turn_is_over_and_heard_after_it():
    with TurnSession(pretended_backend(), endpointer=by_sound(), sampling=Sampling(max_tokens=5)) as session:
        thinker = session.backend.thinker
        assert say(session, *LOUD, *QUIET) == []
        wait_for(lambda: thinker.thought > 0)
        assert session.poll() == []  # thought already, and nothing of it is told
        events = say(session, 0.0005) + until(session, lambda event: isinstance(event, EndEvent))
        assert [type(event) for event in events].count(HeardEvent) == 1 and thinker.thought == 5
        assert events[-1].text == " 0 1 2 3 4" and thinker.roles == ["user", "assistant"]


def test_who_goes_on_drops_the_answer_and_nothing_of_it_is_heard():
    with TurnSession(pretended_backend(), endpointer=by_sound(), sampling=Sampling(max_tokens=5)) as session:
        say(session, *LOUD, *QUIET)
        wait_for(lambda: session.backend.thinker.thought > 0)
        assert say(session, *LOUD) == [] and session._past == []
        events = say(session, *QUIET, 0.0005) + until(session, lambda event: isinstance(event, EndEvent))
        (heard,) = [event.heard for event in events if isinstance(event, HeardEvent)]
        assert heard.count("a") > 18
        assert [message.role for message in session._past] == ["user", "assistant"]
        assert events[-1].text == " 0 1 2 3 4"


def test_a_pause_that_does_not_sound_over_is_waited_for():
    with TurnSession(pretended_backend(), endpointer=by_sound(*[0.1] * 100)) as session:
        assert say(session, *LOUD, *QUIET * 4) == [] and session.backend.thinker.thought == 0


def test_what_is_known_of_the_words_is_read_ahead():
    with TurnSession(pretended_backend(), endpointer=by_sound()) as session:
        say(session, *LOUD)
        wait_for(lambda: len(session.backend.thinker.drafts) > 1)
        assert session.backend.thinker.drafts[0] == "" and set(session.backend.thinker.drafts[1].split()) == {"a"}


def wait_for(seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_an_error_in_the_model_reaches_the_caller(session):
    session.backend.thinker.stream = lambda *_, **__: 1 / 0
    ask(session)
    with pytest.raises(ZeroDivisionError):
        until(session, lambda event: isinstance(event, EndEvent))


def test_a_listening_session_writes_down_turns_and_does_not_answer():
    with TurnSession(pretended_backend(), "simplex", endpointer=by_loudness(0.4)) as session:
        levels = [0.0] * 5 + [0.1] * 5 + [0.0] * 8 + [0.1] * 4
        early = [event for level in levels for event in session.step(level * torch.randn(1920))]
        assert early or until(session, lambda event: isinstance(event, HeardEvent))
        session.end_of_turn()
        events = until(session, lambda event: isinstance(event, HeardEvent))
        time.sleep(0.05)
        assert session.poll() == [] and len(events) == 1  # nothing but what was heard


def test_a_speaking_session_reads_aloud_what_it_is_given():
    with TurnSession(pretended_backend(), "simplex", "speak") as session:
        session.step(torch.zeros(1920))  # nobody listens
        session.say("Good morning.")
        session.say("And good night.")
        events = until(session, lambda event: event == EndEvent("And good night."))
    sound = [event for event in events if isinstance(event, AudioEvent)]
    assert [type(event) for event in events] == [TextEvent, AudioEvent, EndEvent] * 2 and len(sound) == 2
    with pytest.raises(SessionError, match="closed"):
        session.say("More.")


def test_who_answers_does_not_read_aloud(session):
    with pytest.raises(SessionError, match="reads aloud"):
        session.say("More.")


@pytest.mark.slow
def test_a_question_fed_in_frames_is_answered_aloud(mini, question):
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


@dataclass
class Noises:
    """Listens for words, of which there are none, and to what else there is: a number of notes, one a frame heard."""

    owner: HalfDuplexBackend
    frames: int = 0

    def step(self, samples: torch.Tensor) -> None:
        self.frames += 1

    def draft(self) -> str:
        return ""

    def finish(self) -> Hearing:
        return Hearing("", notes=SceneNotes(torch.zeros(self.frames, 4)))

    peek = finish


def test_what_is_heard_while_nobody_speaks_is_kept_for_the_next_turn_and_the_last_of_it_alone():
    backend = pretended_backend()
    backend.listen = lambda *_: Noises(backend)
    with TurnSession(backend, endpointer=by_sound()) as session:
        say(session, *[0.0005] * (2 * 375 + 10))  # 30 s are 375 frames
        wait_for(lambda: session._incoming.empty() and session._past)
        (kept,) = session._past
        assert (
            not kept.text and len(kept.notes.noteworthy) == 375 + 12
        )  # with the second before, in which one may have begun
        session.end_of_turn()
        assert until(session, lambda event: isinstance(event, EndEvent))[-1].text == ""  # and isn't answered
        (kept,) = session._past
        assert len(kept.notes.noteworthy) == 10 + 12
        assert backend.thinker.thought == 0
