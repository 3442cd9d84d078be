"""What the assistant is measured on: samples of sets, shares of voices, frames of questions."""

import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.errors import EvalError
from antiphon.evals.assistant import speed
from antiphon.evals.assistant.material import HELD_OUT, shares, spread
from antiphon.evals.assistant.speed import in_frames, seconds_until_ready, trim_end


def test_spread_takes_from_everywhere():
    assert spread(range(10), 5) == [0, 2, 4, 6, 8]
    assert spread(range(3), 5) == [0, 1, 2]
    assert len(set(spread(range(300), 200))) == 200


def test_shares_add_up():
    for count in (1, 7, 300):
        assert sum(n for _, n in shares(count)) == count
    assert dict(shares(300)) == {"joe": 150, "kokoro:jm_kumo": 100, "kokoro:jf_tebukuro": 50}
    assert {voice for voice, _ in HELD_OUT} == {voice for voice, _ in shares(6)}


def test_frames_lose_nothing():
    samples = torch.arange(2500.0)
    frames = list(in_frames(samples, 1280))
    assert [len(f) for f in frames] == [1280, 1280]
    assert torch.equal(torch.cat(frames)[:2500], samples) and not torch.cat(frames)[2500:].any()


def test_trim_end_cuts_only_the_end():
    samples = torch.cat(
        [torch.zeros(100), torch.full((50,), 0.5), torch.zeros(10), torch.full((5,), -0.5), torch.full((99,), 1e-3)]
    )
    assert torch.equal(trim_end(Audio(samples, 16000)).samples, samples[:165])
    assert len(trim_end(Audio(torch.zeros(7), 16000)).samples) == 7


def test_being_ready_takes_what_the_process_takes_until_it_says_so(monkeypatch):
    with pytest.raises(EvalError, match="nobody could not be loaded: .*no preset 'nobody'"):
        seconds_until_ready("nobody", {})
    monkeypatch.setattr(speed, "_READY", "import time; time.sleep(0.3); print('ready', flush=True)")
    assert seconds_until_ready("anybody", {}) >= 0.3
