"""`antiphon duplex` as a user meets it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.dialogue.duplex.tiny_duplex import noise, save_tiny_duplex


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_tiny_duplex(tmp_path_factory.mktemp("duplex"))


def test_a_recording_becomes_two_channels_a_transcript_and_a_picture(antiphon, model, tmp_path):
    pytest.importorskip("matplotlib")
    soundfile.write(tmp_path / "user.wav", noise(10).flatten().numpy(), 2400)
    soundfile.write(tmp_path / "voice.wav", noise(4).flatten().numpy(), 2400)
    done = antiphon(
        "duplex", tmp_path / "user.wav", "-o", tmp_path / "both.wav", "--model", model, "--after", "0.4", "--prompt",
        "be brief", "--voice", tmp_path / "voice.wav", "--seed", "3", "--json", tmp_path / "result.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    sound, rate = soundfile.read(tmp_path / "both.wav")
    assert sound.shape == (15 * 192, 2) and rate == 2400
    assert np.allclose(sound[: 10 * 192, 1], noise(10).flatten().clamp(-1, 1), atol=1e-4) and sound[:, 0].any()
    assert (tmp_path / "both.png").read_bytes()[:4] == b"\x89PNG" and (tmp_path / "both.txt").is_file()
    notes, result = (json.loads((tmp_path / name).read_text()) for name in ("both.json", "result.json"))
    assert notes["alignments"] == result["alignments"] and {label for *_, label in notes["alignments"]} <= {
        "SPEAKER_MAIN"
    }
    assert result["seed"] == 3 and result["frame_ms"]["p50"] > 0 and str(tmp_path / "both.wav") in done.stdout


def test_what_cannot_be_done_is_one_line(antiphon, assert_one_line_error, model, tmp_path):
    assert_one_line_error(antiphon("duplex", tmp_path / "no.wav", "--model", model), "no.wav", "no such file")
    assert_one_line_error(antiphon("duplex", tmp_path / "no.wav", "-o", tmp_path / "a.mp3"), ".wav or .flac")


def test_without_a_recording_it_needs_a_microphone(monkeypatch):
    from antiphon.cli.duplex import duplex
    from antiphon.errors import AudioError

    monkeypatch.setitem(sys.modules, "sounddevice", None)  # what an import of a missing package meets
    with pytest.raises(AudioError, match=r"antiphon\[mic\].*antiphon duplex USER.wav"):
        duplex(model="no-such-model")  # told before anything is loaded
