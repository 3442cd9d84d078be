"""The end of a turn by loudness, and the session's thread around a model."""

import pytest
import torch

from antiphon.dialogue.session import Endpointer

FRAME = 0.08


def feed(endpointer: Endpointer, levels: list[float]) -> list[int]:
    """Indices of the frames that end a turn, for noise at the given amplitudes."""
    generator = torch.Generator().manual_seed(0)
    frames = [level * torch.randn(1920, generator=generator) for level in levels]
    return [i for i, frame in enumerate(frames) if endpointer.step(frame, FRAME)]


def test_a_turn_ends_after_its_silence():
    ends = feed(Endpointer(silence=0.4), [0.0005] * 10 + [0.1] * 10 + [0.0005] * 10)
    assert ends[0] == 10 + 10 + 4  # 0.4 s are five frames


def test_silence_alone_is_no_turn():
    assert feed(Endpointer(silence=0.4), [0.0005] * 60) == []


def test_a_short_pause_does_not_end_the_turn():
    ends = feed(Endpointer(silence=0.7), [0.1] * 10 + [0.0005] * 5 + [0.1] * 10)
    assert ends == []


def test_a_steady_noise_becomes_quiet():
    ends = feed(Endpointer(silence=0.4), [0.01] * 150 + [0.2] * 10 + [0.01] * 20)
    assert any(160 <= end < 170 for end in ends)


@pytest.mark.slow
def test_a_question_fed_in_frames_is_answered_aloud(mini, question):
    import time

    from antiphon.audio.io import load
    from antiphon.dialogue.session import SessionError
    from antiphon.dialogue.turn import AudioEvent, EndEvent, HeardEvent

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
