"""Full duplex around a model that takes turns: who decides is scripted, what is heard and said costs nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.dialogue.answering import NUDGE, UNCLEAR, Player
from antiphon.dialogue.events import (
    AudioEvent,
    CallEvent,
    EndEvent,
    Event,
    HeardEvent,
    ResultEvent,
    Sampling,
    SpeakingEvent,
    TextEvent,
)
from antiphon.dialogue.full_duplex import FullDuplexSession
from antiphon.dialogue.half_duplex import HalfDuplexBackend
from antiphon.dialogue.tools import Tool, as_tool
from antiphon.dialogue.turn_taking.decision import TurnDecision
from antiphon.errors import SessionError
from antiphon.models.asr.heard import Heard, Passage
from antiphon.models.tts.synthesizer import Timing
from tests.dialogue.pretended import CountingRecognizer, Hum, ScriptedThinker
from tests.serve.scripted import Scripted as Backend

VOICE, LIKELY = TurnDecision(voiced=True), TurnDecision(likely=True)
TAKE, YIELD, QUIET = TurnDecision("take", likely=True), TurnDecision("yield", voiced=True), TurnDecision()
FRAME = 1920


@pytest.fixture(autouse=True)
def judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripted thinker, which has no model, says itself what is likelier."""
    monkeypatch.setattr("antiphon.dialogue.half_duplex.likelier", lambda thinker, *said: thinker.likelier(*said))


@dataclass
class Scripted:
    """Decides what it is told to, frame by frame, then nothing."""

    script: list[TurnDecision] = field(default_factory=list)
    sample_rate: int = 24000
    own: list[bool] = field(default_factory=list)
    ended: int = 0

    def step(self, user: torch.Tensor, own: bool) -> TurnDecision:
        self.own.append(own)
        return self.script.pop(0) if self.script else QUIET

    def judge_words(self, chance: float) -> None:
        self.worded = chance

    def over(self) -> None:
        self.ended += 1


class Loud(Hum):
    """Sounds, and says a word every 80 ms."""

    def step(self, state) -> torch.Tensor | None:
        samples = super().step(state)
        return None if samples is None else samples + 0.5

    def timing(self, state) -> Timing:
        ends = 0.08 * torch.arange(1, 101)
        text = " ".join(map(str, range(100)))
        at = [(len(" ".join(map(str, range(n + 1)))), n + 1) for n in range(100)]
        return Timing(text, ends, tuple(at))


class Unhurried(Backend):
    """Calls functions; its own words are audible."""

    def say(self, text: str, sampling: Sampling | None = None) -> Iterator[Audio]:
        yield from (Audio(torch.full((FRAME,), 0.5), 24000) for _ in text.split())


class Saying(CountingRecognizer):
    """Hears what it is told to."""

    says, confidence = "stop it", 1.0

    def finish(self, state: list[int]) -> Heard:
        return Heard.of([Passage(self.says, confidence=self.confidence)])


def made(script: list[TurnDecision], recognizer: CountingRecognizer | None = None, **how) -> FullDuplexSession:
    thinker = ScriptedThinker([f" {number}" for number in range(40)])
    backend = HalfDuplexBackend(recognizer or CountingRecognizer(), thinker, Loud())
    return FullDuplexSession(backend, Scripted(script), Sampling(max_tokens=100), pace=0.0, **how)


def played(session: FullDuplexSession, frames: int, seconds: float = 5.0) -> list[Event]:
    events: list[Event] = []
    for _ in range(frames):
        events += session.step(torch.zeros(FRAME))
        session.work(seconds)
    return events


def kinds(events: list[Event], kind: type) -> list[Event]:
    return [event for event in events if isinstance(event, kind)]


def loud(events: list[Event]) -> list[bool]:
    return [bool(event.audio.samples.any()) for event in kinds(events, AudioEvent)]


TURN = [VOICE] * 5 + [LIKELY] * 2 + [TAKE]


def test_a_turn_is_heard_and_answered_and_every_frame_has_its_sound():
    session = made([*TURN])
    events = played(session, 60)
    assert len(loud(events)) == 60
    assert not any(loud(events)[: len(TURN)]) and any(loud(events)[len(TURN) :])
    (heard,) = kinds(events, HeardEvent)
    assert heard.heard.split() == ["a"] * 6  # up to where the answer was begun, which is what is answered
    assert [event.speaking for event in kinds(events, SpeakingEvent)] == [True, False]
    assert session.turns.own.count(True) == loud(events).count(True)  # what it knows of the model's voice
    assert len(kinds(events, EndEvent)) == 1 and not kinds(events, EndEvent)[0].interrupted


def test_the_answer_begun_on_a_likely_end_sounds_in_the_frame_after():
    events = played(made([*TURN]), 20)
    assert loud(events).index(True) == len(TURN)


def test_who_goes_on_is_not_answered_and_the_whole_turn_is_heard():
    session = made([VOICE] * 5 + [LIKELY] * 3 + [VOICE] * 5 + [LIKELY, TAKE])
    events = played(session, 14)
    assert not any(loud(events)) and not kinds(events, HeardEvent)
    (heard,) = kinds(played(session, 10), HeardEvent)
    assert len(heard.heard.split()) == 14


def test_an_interruption_stops_at_once_and_the_past_holds_what_was_heard():
    session = made([*TURN, *[QUIET] * 10, YIELD, *[VOICE] * 14, LIKELY, TAKE])
    events = played(session, len(TURN) + 10)
    assert loud(events)[-1]
    events = played(session, 14)
    assert not any(loud(events))
    (end,) = kinds(events, EndEvent)
    assert end.interrupted and end.text == " ".join(map(str, range(10)))
    events = played(session, 20)
    assert len(kinds(events, HeardEvent)) == 1 and any(loud(events))
    past = session._answering.past
    assert [message.role for message in past[:3]] == ["user", "assistant", "user"] and past[1].text == end.text


@pytest.mark.parametrize("says", ["Mhm.", "", "Yeah, right."])
def test_after_a_sign_of_listening_the_answer_goes_on_where_it_was_held(says):
    recognizer = Saying()
    recognizer.says = "hello"
    session = made([*TURN, *[QUIET] * 10, YIELD, VOICE, VOICE], recognizer)
    before = played(session, len(TURN) + 10)
    recognizer.says = says
    events = played(session, 40)
    assert not kinds(events, HeardEvent) and not any(event.interrupted for event in kinds(events, EndEvent))
    assert not any(loud(events)[:4]) and any(loud(events)[4:])
    words = "".join(event.text for event in kinds(before + events, TextEvent)).split()
    assert words == list(map(str, range(len(words))))  # none is lost, none said twice


def test_a_short_word_that_is_no_sign_of_listening_ends_the_answer():
    session = made([*TURN, *[QUIET] * 10, YIELD, VOICE, VOICE, QUIET, QUIET, QUIET, TAKE], Saying())
    played(session, len(TURN) + 10)
    events = played(session, 10)
    assert kinds(events, EndEvent)[0].interrupted and kinds(events, HeardEvent)[0].heard == "stop it"


def test_what_takes_no_turn_leaves_the_answer_alone():
    ignored = TurnDecision("ignore", voiced=True)
    session = made([*TURN, *[QUIET] * 5, *[ignored] * 4])
    events = played(session, 40)
    sound = loud(events)
    assert all(sound[len(TURN) : len(TURN) + 20]) and len(kinds(events, HeardEvent)) == 1


def test_who_goes_on_before_the_answer_sounds_withdraws_it():
    thinker = ScriptedThinker([" a"] * 40)
    backend = HalfDuplexBackend(CountingRecognizer(), thinker, Loud())
    script = [VOICE] * 5 + [TAKE] + [VOICE] * 6 + [TAKE]
    session = FullDuplexSession(backend, Scripted(script), pace=0.0)
    for _ in range(6):
        session.step(torch.zeros(FRAME))
    while session._answering.reply is None:
        session._answering.work()  # the answer is due, and nothing of it made
    events = played(session, 6, 0.0)
    assert not any(loud(events))
    events += played(session, 20)
    assert kinds(events, EndEvent)[0] == EndEvent("", interrupted=True)
    assert len(kinds(events, HeardEvent)) == 2
    assert any(loud(events))


def test_a_voice_without_words_is_not_answered():
    recognizer = Saying()
    recognizer.says = ""
    events = played(made([*TURN], recognizer), 30)
    assert not any(loud(events)) and not kinds(events, HeardEvent)


def test_signs_of_listening_are_given_where_asked_for():
    script = [VOICE] * 5 + [QUIET] * 3 + [TurnDecision("backchannel")] + [QUIET] * 5
    assert not any(loud(played(made([*script]), 14)))
    session = made([*script], backchannels=True)
    sound = loud(played(session, 14))
    assert any(sound) and not any(sound[:8]) and not any(session.turns.own)


def test_on_its_thread_it_answers_too_and_step_does_not_wait():
    thinker = ScriptedThinker([" a"] * 40, pace=0.01)
    backend = HalfDuplexBackend(CountingRecognizer(), thinker, Loud())
    with FullDuplexSession(backend, Scripted([*TURN])) as session:
        events, deadline = [], time.monotonic() + 10
        while not any(isinstance(event, HeardEvent) for event in events) or not any(loud(events)):
            assert time.monotonic() < deadline
            events += session.step(torch.zeros(FRAME))
            time.sleep(0.002)
        with pytest.raises(SessionError, match="thread"):
            session.work(1.0)


def test_an_error_of_the_model_is_raised_where_the_session_is_driven():
    class Broken(CountingRecognizer):
        def step(self, *_: object, **__: object) -> None:
            raise RuntimeError("broken")

    session = FullDuplexSession(HalfDuplexBackend(Broken(), ScriptedThinker(), Loud()), Scripted([*TURN]))
    with session, pytest.raises(RuntimeError, match="broken"):
        for _ in range(2000):
            session.step(torch.zeros(FRAME))
            time.sleep(0.002)


def test_an_answer_that_is_stopped_by_the_caller_keeps_what_was_heard():
    session = made([*TURN])
    played(session, len(TURN) + 5)
    session.interrupt(0.16)
    events = played(session, 5)
    assert not any(loud(events)) and kinds(events, EndEvent) == [EndEvent("0 1", interrupted=True)]


@pytest.mark.parametrize(
    ("says", "level", "answered"), [("play music", 0.2, 2), ("mother, come here", 0.2, 1), ("play music", 0.01, 1)]
)
def test_who_speaks_to_somebody_else_or_far_away_is_not_answered_where_that_is_wanted(says, level, answered):
    backend = Unhurried(hears="play music")
    session = FullDuplexSession(backend, Scripted([*TURN, *[QUIET] * 40, *TURN]), pace=0.0, selective=True)
    heard = []
    for number in range(2 * len(TURN) + 80):
        if number == len(TURN) + 20:
            backend.hears = says
        sound = torch.full((FRAME,), 0.2 if number < len(TURN) + 20 else level)
        heard += kinds(session.step(sound), HeardEvent)
        session.work(1.0)
    assert len(heard) == answered


def past(session: FullDuplexSession) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in session._answering.past]


def test_who_was_hardly_understood_is_asked_to_say_it_again():
    recognizer = Saying()
    recognizer.confidence = 0.1
    session = made([*TURN], recognizer)
    events = played(session, 40)
    assert any(loud(events)) and past(session) == [("user", "stop it"), ("assistant", UNCLEAR)]
    assert session._answering.backend.thinker.thought == 0  # no answer was begun for nothing
    recognizer.confidence = 0.9
    session = made([*TURN], recognizer)
    played(session, 60)
    assert past(session)[1][1].split()[:2] == ["0", "1"]


def test_who_is_silent_for_long_is_asked_once_where_that_is_wanted():
    session = made([*TURN], nudge=1.0)
    events = played(session, 140)
    assert [role for role, _ in past(session)] == ["user", "assistant", "assistant"] and past(session)[2][1] == NUDGE
    assert [event.text for event in kinds(events, EndEvent)][1:] == [NUDGE]
    session = made([*TURN])
    played(session, 140)
    assert len(past(session)) == 2
    session = made([], nudge=1.0)  # nobody has spoken yet
    assert not any(loud(played(session, 30)))


def test_while_a_tool_runs_hearing_goes_on_and_its_result_is_answered():
    runs = threading.Event()

    def clock() -> str:
        """Tells the time."""
        assert runs.wait(20)
        return "noon"

    backend = Unhurried(hears="say Well. call clock {}", calls_functions=True)
    script = [*TURN, *[QUIET] * 3, *[TurnDecision("ignore", voiced=True)] * 5]
    events: list[Event] = []
    with FullDuplexSession(backend, Scripted(script), tools=[as_tool(clock)], filler="One moment.") as session:

        def until(kind: type) -> None:
            deadline = time.monotonic() + 30
            while not kinds(events, kind):
                assert time.monotonic() < deadline, kind
                events.extend(session.step(torch.full((FRAME,), 0.2)))
                time.sleep(0.005)

        until(CallEvent)
        listener = session._answering._listener
        deadline = time.monotonic() + 30
        while listener is None or len(listener.parts) < 5:  # what is said meanwhile
            assert time.monotonic() < deadline
            events += session.step(torch.full((FRAME,), 0.2))
            listener = session._answering._listener
            time.sleep(0.005)
        assert not kinds(events, ResultEvent) and any(loud(events))  # the filler
        runs.set()
        until(ResultEvent)
    assert kinds(events, ResultEvent)[0].text == "noon"
    past = session._answering.past
    assert [message.role for message in past[:3]] == ["user", "assistant", "function"]


def test_of_an_answer_that_is_stopped_while_a_tool_runs_nothing_is_left_but_the_question():
    runs = threading.Event()
    backend = Unhurried(hears="call clock {}", calls_functions=True)
    tool = Tool("clock", "", {"type": "object", "properties": {}}, lambda _: runs.wait(20))
    session = FullDuplexSession(backend, Scripted([*TURN]), tools=[tool], pace=0.0)
    for _ in TURN:
        session.step(torch.full((FRAME,), 0.2))
    while session._answering.reply is None or session._answering.reply.message is None:
        session._answering.work()
    session.interrupt()
    while session._answering.work():
        pass
    runs.set()
    assert [message.role for message in session._answering.past] == ["user"]


def test_turns_at_another_rate_are_refused():
    with pytest.raises(SessionError, match="16000"):
        backend = HalfDuplexBackend(CountingRecognizer(), ScriptedThinker(), Loud())
        FullDuplexSession(backend, Scripted(sample_rate=16000), pace=0.0)


def test_a_player_gives_out_what_it_got_in_pieces_of_any_size():
    player = Player(100)
    player.begin()
    player.put(torch.arange(5.0))
    player.put(torch.arange(5.0, 12.0))
    assert player.take(3).tolist() == [0, 1, 2] and player.take(6).tolist() == [3, 4, 5, 6, 7, 8]
    assert player.playing and player.played == pytest.approx(0.09)
    player.end()
    assert player.take(10).tolist() == [9, 10, 11] and not player.playing
    player.put(torch.ones(3))
    assert len(player.take(3)) == 0  # nothing comes late


def test_instructions_are_read_before_anybody_speaks_and_once():
    session = made([QUIET] * 3 + [*TURN])
    drafts = session._answering.backend.thinker.drafts
    played(session, 2)
    assert drafts == [""]
    events = played(session, 40)
    assert kinds(events, HeardEvent) and drafts.count("") == 1


def test_what_was_said_is_read_when_the_next_turn_begins():
    session = made([QUIET] * 3 + [*TURN] + [QUIET] * 40 + [*TURN])
    drafts = session._answering.backend.thinker.drafts
    events = played(session, len(TURN) + 43)
    assert len(kinds(events, HeardEvent)) == 1 and not session._answering.player.playing
    del drafts[:]
    played(session, 2)
    assert drafts[:1] == [""]


def test_who_speaks_at_once_is_heard_before_the_instructions_are_read():
    session = made([*TURN])
    order: list[str] = []
    answering = session._answering
    hear, read = answering._hear, answering._read
    answering._hear = lambda frame: (order.append("hear"), hear(frame))[1]
    answering._read = lambda words: (order.append("read"), read(words))[1]
    played(session, 3, seconds=0.0)  # as of a machine that has no time yet
    played(session, 1)
    assert order[0] == "hear"
