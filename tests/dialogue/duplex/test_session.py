"""The live session: events as the engine makes them, never blocking, whatever comes late, is lost or fails."""

import threading
import time

import pytest
import torch

from antiphon.audio.speech import LoudnessActivity, SpeechDetector
from antiphon.dialogue.duplex.engine import DuplexEngine
from antiphon.dialogue.duplex.session import DuplexSession
from antiphon.dialogue.duplex.stream import ANSWER_OVER_SECONDS, DuplexStream, TurnTaking
from antiphon.dialogue.events import AudioEvent, HeardEvent, LostEvent, SpeakingEvent, TextEvent
from antiphon.dialogue.transcriber import LEAD_FRAMES, Transcriber
from antiphon.errors import SessionError
from antiphon.models.moshi.bundle import Duplex
from tests.dialogue.duplex.tiny_duplex import CONFIG, LIVELY, SAMPLES, noise, tiny_duplex
from tests.dialogue.pretended import CountingRecognizer

FRAME = 0.08


@pytest.fixture(scope="module")
def duplex() -> Duplex:
    return tiny_duplex()


def wait(session: DuplexSession, frames: int, events: list | None = None) -> list:
    """Events until there is sound for so many frames; fails after twenty seconds without it."""
    events, deadline = [] if events is None else events, time.monotonic() + 20
    while sum(isinstance(event, AudioEvent) for event in events) < frames:
        assert time.monotonic() < deadline, events
        events += session.poll()
        time.sleep(0.002)
    return events


def talk(session: DuplexSession, frames) -> list:
    """Gives frames one at a time, each after the sound of the one before."""
    events = []
    for count, frame in enumerate(frames, 1):
        wait(session, count, events.__iadd__(session.step(frame)))
    return events


def sound(events: list) -> torch.Tensor:
    return torch.cat([event.audio.samples for event in events if isinstance(event, AudioEvent)])


def of(kind: type, events: list) -> list:
    return [event for event in events if isinstance(event, kind)]


def test_it_gives_what_the_engine_gives(duplex):
    engine, frames = DuplexEngine(duplex, LIVELY), noise(12)
    handle = engine.join(seed=3)
    made = [engine.step({handle: frame})[handle] for frame in frames]
    with DuplexSession(DuplexStream(duplex, sampling=LIVELY, seed=3)) as session:
        assert (session.sample_rate, session.frame_samples) == (duplex.sample_rate, SAMPLES)
        # Pieces of any size: what is no frame yet waits.
        events = [event for piece in frames.flatten().split(151) for event in session.step(piece)]
        wait(session, 12, events)
    assert torch.allclose(sound(events), torch.cat([frame.audio for frame in made]), atol=1e-4)
    texts = of(TextEvent, events)
    assert [event.text for event in texts] == [frame.text for frame in made if frame.text]
    spoken = [(number + 1) * FRAME for number, frame in enumerate(made) if frame.text]
    assert [event.time for event in texts] == pytest.approx(spoken)


def test_step_returns_while_the_model_is_at_work(duplex, monkeypatch):
    gate = threading.Event()
    slow = duplex.moshi.step
    monkeypatch.setattr(duplex.moshi, "step", lambda *a, **k: (gate.wait(20), slow(*a, **k))[1])
    with DuplexSession(DuplexStream(duplex)) as session:
        for frame in noise(3):
            assert session.step(frame) == []  # would hang here
        assert session.waiting >= 2
        gate.set()
        wait(session, 3)


def test_a_session_that_falls_behind_leaves_out_the_oldest_and_says_so(duplex, monkeypatch):
    gate, begun, lost = threading.Event(), threading.Event(), []
    slow = duplex.moshi.step

    def step(user, *rest, **named):
        begun.set()
        gate.wait(20)
        lost.append(bool((user < 0).all()))
        return slow(user, *rest, **named)

    monkeypatch.setattr(duplex.moshi, "step", step)
    with DuplexSession(DuplexStream(duplex), max_waiting=4) as session:
        for number, frame in enumerate(noise(20)):
            session.step(frame)
            assert number or begun.wait(20)
        gate.set()
        events = wait(session, 3)
        time.sleep(0.05)
        events += session.poll()
    assert of(LostEvent, events) == [LostEvent(18, FRAME, "behind")]
    assert len(of(AudioEvent, events)) == 3 and lost == [False, True, False]  # one lost frame stands for all


def test_a_lost_frame_is_a_frame_too(duplex):
    with DuplexSession(DuplexStream(duplex, sampling=LIVELY)) as session:
        events = talk(session, [*noise(3), None, *noise(2)])
    assert len(sound(events)) == 6 * SAMPLES and not of(LostEvent, events)  # the caller knows


def test_a_late_frame_is_not_waited_for_and_then_passed_over(duplex):
    with DuplexSession(DuplexStream(duplex), patience=0.1) as session:
        events = wait(session, 2)  # nothing was given
        late = of(LostEvent, events)
        assert len(late) >= 2 and {(event.frames, event.reason) for event in late} == {(1, "late")}
        assert [event.time for event in late[:2]] == pytest.approx([0.0, FRAME])


def test_an_error_in_the_model_reaches_the_caller(duplex, monkeypatch):
    monkeypatch.setattr(duplex.moshi, "step", lambda *_, **__: 1 / 0)
    with DuplexSession(DuplexStream(duplex)) as session, pytest.raises(ZeroDivisionError):
        session.step(noise(1)[0])
        wait(session, 1)
    with pytest.raises(SessionError, match="closed"):
        session.step(noise(1)[0])


def test_modes_frames_and_directions_that_there_are_not(duplex):
    with pytest.raises(SessionError, match="'full-duplex', 'half-duplex', 'simplex'"):
        DuplexSession(DuplexStream(duplex, "triplex"))
    with pytest.raises(SessionError, match="listens or speaks"):
        DuplexSession(DuplexStream(duplex, "simplex", direction="sing"))
    with DuplexSession(DuplexStream(duplex)) as session, pytest.raises(SessionError, match=r"\[2, 192\]"):
        session.step(torch.zeros(2, SAMPLES))


def test_a_simplex_session_listens_or_speaks(duplex):
    codes, users = [], []
    step = duplex.moshi.step

    def watched(user, *rest, **named):
        users.append(user[0].tolist())
        tokens = step(user, *rest, **named)
        codes.append(tokens[0].tolist())
        return tokens

    silence = duplex.silence.tolist()
    duplex.moshi.step = watched
    try:
        with DuplexSession(DuplexStream(duplex, "simplex", "listen", sampling=LIVELY)) as session:
            talk(session, noise(6))
        assert all(made == [CONFIG.pad, *silence] for made in codes[1:]) and any(user != silence for user in users)
        codes.clear(), users.clear()
        with DuplexSession(DuplexStream(duplex, "simplex", "speak", sampling=LIVELY)) as session:
            session.say("good day")
            text = "".join(event.text for event in of(TextEvent, talk(session, noise(14))))
        assert text.startswith(" good day") and all(user == silence for user in users)
    finally:
        duplex.moshi.step = step


def test_half_duplex_is_silent_until_the_turn_ends(duplex):
    with DuplexSession(DuplexStream(duplex, "half-duplex", sampling=LIVELY)) as session:
        before = talk(session, noise(8))
        session.end_of_turn()
        after = talk(session, noise(8))
        session.interrupt()
        again = talk(session, noise(8))
    assert not of(TextEvent, before) and of(TextEvent, after)
    assert not of(TextEvent, again[3:])


def test_turns_go_back_and_forth():
    turns = TurnTaking(SpeechDetector(LoudnessActivity(), 0.4))
    loud, quiet = 0.1 * torch.randn(1920), torch.zeros(1920)
    for frame in [quiet] * 5 + [loud] * 5 + [quiet] * 5:
        turns.step(frame, False, FRAME)
    assert turns.answering
    for speaking in [False] * 5 + [True] * 10:
        turns.step(loud, speaking, FRAME)  # it doesn't listen
    assert turns.answering
    for _ in range(int(ANSWER_OVER_SECONDS / FRAME)):
        turns.step(quiet, False, FRAME)
    assert not turns.answering
    turns.end_of_turn()
    for _ in range(40):
        turns.step(quiet, False, FRAME)
    assert not turns.answering  # nothing was answered


def test_snapshot_and_rewind(duplex):
    frames = noise(16)
    with DuplexSession(DuplexStream(duplex, sampling=LIVELY)) as session:
        talk(session, frames[:8])
        snapshot = session.snapshot()
        onward = talk(session, frames[8:])
        session.rewind(snapshot)
        again = talk(session, frames[8:])
        assert torch.allclose(sound(onward), sound(again), atol=1e-4)
        assert [e for e in onward if isinstance(e, TextEvent)] == [e for e in again if isinstance(e, TextEvent)]
    with DuplexSession(DuplexStream(duplex, sampling=LIVELY, start=snapshot.conversation)) as other:  # a fork
        assert torch.allclose(sound(talk(other, frames[8:])), sound(onward), atol=1e-4)


def test_another_sample_rate(duplex):
    rate = 2 * duplex.sample_rate
    with DuplexSession(DuplexStream(duplex), sample_rate=rate, max_waiting=None) as session:
        assert session.frame_samples == 2 * SAMPLES
        for frame in noise(20):
            session.step(frame.repeat_interleave(2))
        events, deadline = wait(session, 1), time.monotonic() + 10
        while len(sound(events)) < 10 * 2 * SAMPLES and time.monotonic() < deadline:  # both resamplers hold some back
            events += session.poll()
            time.sleep(0.002)
    assert {event.audio.sample_rate for event in of(AudioEvent, events)} == {rate}
    assert 10 * 2 * SAMPLES <= len(sound(events)) <= 20 * 2 * SAMPLES


def test_a_model_that_speaks_says_so(duplex):
    stream = DuplexStream(duplex, sampling=LIVELY)
    with DuplexSession(stream) as session:
        stream.progress.speech.activity.threshold = -200.0
        assert of(SpeakingEvent, talk(session, noise(3)))[0].speaking


def test_the_transcriber_writes_down_turns_with_their_times():
    transcriber = Transcriber(CountingRecognizer(), 24000, SpeechDetector(LoudnessActivity(), 0.4))
    generator = torch.Generator().manual_seed(0)
    levels = [0] * 10 + [0.1] * 10 + [0] * 10 + [0.1] + [0] * 10 + [0.1] * 5
    frames = [level * torch.randn(1920, generator=generator) for level in levels]
    frames[30][960:] = 0.0  # 40 ms alone are no turn
    heard = [(n, transcriber.step(frame)) for n, frame in enumerate(frames)]
    ((number, event),) = [(n, event) for n, event in heard if event is not None]
    assert number == 24 and (event.start, event.end) == (pytest.approx(0.8), pytest.approx(1.6))
    # With what came just before, and the silence that ends it.
    assert event.heard.split() == ["a"] * (LEAD_FRAMES - 1 + 10 + 5)
    last = transcriber.finish()
    assert last.start == pytest.approx(3.28) and last.end == pytest.approx(3.68)
    assert transcriber.finish() is None


def test_what_the_user_says_is_an_event_if_there_are_ears(duplex):
    with DuplexSession(DuplexStream(duplex), recognizer=CountingRecognizer()) as session:
        session._transcriber._transcriber.detector = SpeechDetector(LoudnessActivity(duplex.sample_rate), 0.16)
        events = talk(session, [*noise(6), *torch.zeros(6, SAMPLES)])
        deadline = time.monotonic() + 10
        while not of(HeardEvent, events) and time.monotonic() < deadline:
            events += session.poll()
            time.sleep(0.01)
    assert of(HeardEvent, events)[0].end == pytest.approx(6 * FRAME)
