"""Who speaks when: what a voice is, and what isn't one."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch

from antiphon.audio.io import load
from antiphon.audio.pauses import quietest
from antiphon.audio.speech import LevelActivity, LoudnessActivity, SileroActivity, SpeechDetector, activity
from antiphon.audio.vad import CHUNK, SileroVad
from tests.conftest import ROOT

# Of examples/question.wav at 16 kHz, every tenth chunk, by silero_vad_16k_op15.onnx in onnxruntime.
PUBLISHED = [0.013, 0.9508, 0.9994, 0.9998, 1.0, 1.0, 0.0254, 0.0205]


def question(rate: int) -> np.ndarray:
    return load(ROOT / "examples" / "question.wav", sample_rate=rate).mono().samples.float().numpy()


def test_it_is_the_published_network() -> None:
    vad = SileroVad.shipped()
    state = vad.init_state()
    state.peak = torch.ones(1)  # as if it had been loud before, so that nothing is raised
    chances = vad.step(torch.from_numpy(question(16000))[None], state)[0]
    assert torch.allclose(chances[::10], torch.tensor(PUBLISHED), atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_pieces_are_heard_as_the_whole(seed: int) -> None:
    vad, draw = SileroVad.shipped(), random.Random(seed)
    signal = torch.from_numpy(question(16000))[None] * 0.02  # so faint that it has to be raised
    whole = vad.step(signal, vad.init_state())
    state, pieces, at = vad.init_state(), [], 0
    while at < signal.shape[1]:
        size = draw.randint(0, 3000)
        pieces.append(vad.step(signal[:, at : at + size], state))
        at += size
    assert whole.shape[1] == signal.shape[1] // CHUNK
    assert torch.allclose(torch.cat(pieces, 1), whole, atol=1e-5)


def test_rows_of_a_batch_and_snapshots_are_apart() -> None:
    vad, signal = SileroVad.shipped(), torch.from_numpy(question(16000))
    both = torch.stack([signal, 0.1 * torch.randn(len(signal), generator=torch.Generator().manual_seed(0))])
    together = vad.step(both, vad.init_state(2))
    assert torch.allclose(together[1:], vad.step(both[1:], vad.init_state()), atol=1e-5)
    state = vad.init_state()
    vad.step(signal[None, :8000], state)
    fork = state.clone()
    vad.step(both[1:], fork)
    assert torch.allclose(vad.step(signal[None, 8000:], state)[0, -1], together[0, -1], atol=1e-5)


def test_a_question_begins_and_ends_and_noise_does_neither() -> None:
    generator = np.random.default_rng(0)
    noise = 0.02 * generator.standard_normal(48000).astype(np.float32)
    said = question(24000)
    detector = SpeechDetector(SileroActivity(24000), silence=0.5)
    assert detector.step(noise) == []
    events = detector.step(np.concatenate([said, 0.001 * noise]))
    kinds = [event.kind for event in events]
    assert kinds == ["start", "stop"] * (len(kinds) // 2) and kinds
    assert 48000 <= events[0].at < 48000 + 12000
    assert detector.step(noise) == []


def test_a_snapshot_goes_its_own_way_on_the_same_network() -> None:
    said, detector = question(24000), SpeechDetector(SileroActivity(24000))
    detector.step(said[:20000])
    twin = copy.deepcopy(detector)
    assert twin.activity._vad is detector.activity._vad
    detector.step(np.zeros(9600, np.float32))
    alone = SpeechDetector(SileroActivity(24000))
    alone.step(said[:20000])
    assert twin.step(said[20000:]) == alone.step(said[20000:])


def test_a_pause_is_told_once_and_the_turn_goes_on() -> None:
    said, gap = question(24000), np.zeros(9600, np.float32)
    detector = SpeechDetector(SileroActivity(24000), silence=2.0, pause=0.3)
    kinds = [event.kind for event in detector.step(np.concatenate([said, gap, said]))]
    assert kinds.count("start") == 1 and "pause" in kinds and "stop" not in kinds


def test_loudness_takes_a_steady_noise_for_quiet_and_no_click_for_speech() -> None:
    noise = np.random.default_rng(0).standard_normal(24000 * 8).astype(np.float32)
    detector = SpeechDetector(LoudnessActivity(24000))
    events = detector.step(0.01 * noise[: 24000 * 6])  # a fan, which becomes quiet
    assert [event.kind for event in events][-1:] in ([], ["stop"])
    loud = 0.01 * noise
    loud[24000 * 7 : 24000 * 7 + 240] = 0.9  # a click of 10 ms
    assert detector.step(loud[24000 * 6 :]) == []
    talk = 0.01 * noise[:24000] + 0.3 * noise[24000:48000]
    assert [event.kind for event in detector.step(np.concatenate([talk, loud[:24000]]))] == ["start", "stop"]


def test_an_unknown_activity_is_refused() -> None:
    with pytest.raises(ValueError, match="silero, loudness"):
        activity("energy", 24000)


def test_a_recording_is_cut_where_it_is_quietest() -> None:
    signal = 0.3 * torch.randn(16000 * 20, generator=torch.Generator().manual_seed(0))
    signal[16000 * 12 : 16000 * 12 + 6400] *= 0.001  # 0.4 s
    signal[16000 * 17 : 16000 * 17 + 1600] *= 0.001  # a stop consonant is as quiet, but short
    cut = quietest(signal, 16000, 10.0, 19.0)
    assert 16000 * 12.1 < cut < 16000 * 12.3 and cut % 320 == 0
    assert quietest(signal, 16000, 13.0, 14.0) <= 16000 * 14
    assert quietest(signal[:8000], 16000, 10.0, 19.0) == 8000


def test_a_fixed_level_finds_speech_at_once_and_bridges_short_pauses() -> None:
    frame = 1920
    levels = np.repeat(np.array([0] * 3 + [0.1] * 5 + [0] * 3 + [0.1] * 4 + [0] * 10, np.float32), frame)
    detector, found = SpeechDetector(LevelActivity(24000, frame), silence=0.4), []
    for number, piece in enumerate(np.split(levels, len(levels) // frame)):
        found += [(number, event.kind, event.at, event.quiet_from) for event in detector.step(piece)]
    assert found == [(3, "start", 3 * frame, 0), (19, "stop", 20 * frame, 15 * frame)]
