"""A recording played to a duplex model: both channels on one clock, words with times, and the picture."""

import json

import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.data.dialogue.format import MODEL, USER, Word, read_sidecar
from antiphon.dialogue.duplex.replay import (
    collect,
    quietest,
    replay_recording,
    speech_spans,
    spoken_words,
    spread_words,
)
from antiphon.dialogue.duplex.stream import DuplexStream
from antiphon.dialogue.events import AudioEvent, HeardEvent, SpeakingEvent, TextEvent
from antiphon.errors import EvalError
from antiphon.evals.plots import draw_timeline
from antiphon.models.moshi.bundle import Duplex
from tests.dialogue.duplex.tiny_duplex import LIVELY, SAMPLES, noise, tiny_duplex

FRAME = 0.08


@pytest.fixture(scope="module")
def duplex() -> Duplex:
    return tiny_duplex()


def test_what_the_model_says_to_a_frame_sounds_in_the_next(duplex):
    sound = noise(8).flatten()
    replay = replay_recording(
        DuplexStream(duplex, sampling=LIVELY, seed=2), Audio(sound, duplex.sample_rate), after=2.5 * FRAME
    )
    assert len(replay.model) == len(replay.user) == 11 * SAMPLES and len(replay.work) == 11  # a whole frame at the end
    assert torch.equal(replay.user[: 8 * SAMPLES], sound) and not replay.user[8 * SAMPLES :].any()
    stream = DuplexStream(duplex, sampling=LIVELY, seed=2)
    frames = [*noise(8), *torch.zeros(3, SAMPLES)]
    events = [event for frame in frames for event in stream.step(frame)]
    made = [event.audio.samples for event in events if isinstance(event, AudioEvent)]
    assert not replay.model[:SAMPLES].any()
    assert torch.allclose(replay.model[SAMPLES:], torch.cat(made[:-1]))


def test_events_are_told_as_they_come_and_a_stream_may_have_a_past(duplex):
    stream, told = DuplexStream(duplex, sampling=LIVELY), []
    for frame in noise(5):
        stream.step(frame)
    replay = replay_recording(stream, Audio(noise(10).flatten(), duplex.sample_rate), after=0.0, tell=told.append)
    assert sum(isinstance(event, AudioEvent) for event in told) == 10
    texts = [event for event in told if isinstance(event, TextEvent)]
    assert texts and min(event.time for event in texts) > 5 * FRAME  # on the stream's clock
    assert all(0 <= word.start <= word.end <= replay.seconds + 0.8 for word in replay.words)


def test_words_begin_with_spaces_and_end_with_the_next_or_the_speech():
    texts = [TextEvent(" Good", 1.0), TextEvent(" mor", 1.4), TextEvent("ning.", 1.48), TextEvent(" So", 5.0)]
    words = spoken_words(texts, [(0.9, 1.9), (5.0, 5.3)])
    assert [(w.text, w.start, round(w.end, 2), w.speaker) for w in words] == [
        ("Good", 1.0, 1.4, MODEL),
        ("morning.", 1.4, 1.9, MODEL),
        ("So", 5.0, 5.3, MODEL),
    ]
    assert spoken_words([], []) == []


def test_a_turn_spreads_over_its_words():
    words = spread_words(HeardEvent("to be ore", 1.0, 2.0))
    assert [(w.text, round(w.start, 2), round(w.end, 2)) for w in words] == [
        ("to", 1.0, 1.3), ("be", 1.3, 1.6), ("ore", 1.6, 2.0)
    ]  # fmt: skip
    assert {w.speaker for w in words} == {USER}


def test_speech_is_found_above_the_noise():
    generator = torch.Generator().manual_seed(0)
    levels = [0.02] * 20 + [0.3] * 10 + [0.02] * 20
    sound = torch.cat([level * torch.randn(1920, generator=generator) for level in levels])
    assert quietest(sound, 1920) == pytest.approx(-34, abs=1)
    ((start, end),) = speech_spans(sound, 1920, 24000, threshold=quietest(sound, 1920) + 12)
    assert (start, end) == (pytest.approx(1.6), pytest.approx(2.4))
    assert quietest(torch.zeros(100), 10) == quietest(torch.zeros(0), 10) == -100.0
    assert speech_spans(torch.ones(3840), 1920, 24000) == [(0.0, 0.16)]  # it goes on to the end


def test_the_transcript_for_people_and_for_programs(tmp_path):
    loud = [AudioEvent(Audio(level * torch.ones(1920), 24000)) for level in [0.5] * 5 + [0.0] * 20]
    events = [TextEvent(" Hi", 0.08), TextEvent(" you", 0.24), *loud, HeardEvent("good day", 1.0, 1.6)]
    replay = collect(torch.zeros(25 * 1920), events, 1920, 24000)
    assert replay.transcript().splitlines() == ["   0.08    0.48  model  Hi you", "   1.00    1.60  user   good day"]
    (tmp_path / "x.json").write_text(json.dumps(replay.notes()))
    words, _, info = read_sidecar(tmp_path / "x.json")
    assert [word.text for word in words] == ["Hi", "you", "good", "day"]
    assert info["speech"] == {"model": [[0.08, 0.48]], "user": []}
    assert replay.stereo.samples.shape == (2, 25 * 1920)


def test_the_picture(tmp_path):
    pytest.importorskip("matplotlib")
    words = [Word("Hello", 1.0, 1.4), Word("you", 1.1, 1.6), Word("Yes", 22.0, 22.4, USER)]
    sounds = {MODEL: noise(50).flatten().numpy(), USER: noise(50, 1).flatten().numpy()}
    path = draw_timeline(tmp_path / "deep" / "t.png", {MODEL: [(1, 3)], USER: [(19, 23)]}, 45.0, words, sounds, "both")
    assert path.read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(EvalError, match="no time"):
        draw_timeline(tmp_path / "t.png", {}, 0.0)
    (tmp_path / "file").touch()
    with pytest.raises(EvalError, match="could not be written"):
        draw_timeline(tmp_path / "file" / "t.png", {MODEL: [(0, 1)]}, 2.0)


def test_a_speaking_model_is_told_of(duplex):
    stream = DuplexStream(duplex, sampling=LIVELY)
    events = [event for frame in noise(3) for event in stream.step(frame)]
    assert [e for e in events if isinstance(e, SpeakingEvent)][:1] == [SpeakingEvent(True, FRAME)]
