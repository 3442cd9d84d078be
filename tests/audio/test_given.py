"""Sound in every form that a caller may have it in."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from antiphon.audio.given import as_audio, as_stream
from antiphon.audio.io import Audio
from antiphon.errors import AudioError
from tests.audio.test_places import served

WAVE = np.sin(np.arange(800) / 8).astype(np.float32) / 2


def test_arrays_and_tensors_of_any_type_are_the_same_sound() -> None:
    for source in (
        WAVE,
        WAVE.astype(np.float64),
        WAVE.astype(">f4"),
        (WAVE * 2**15).astype(np.int16),
        (WAVE * 2**31).astype(np.int32),
        (WAVE * 128 + 128).astype(np.uint8),
        torch.from_numpy(WAVE).double().requires_grad_(),
        np.flip(np.flip(WAVE)),
    ):
        audio = as_audio(source, 8000)
        assert audio.sample_rate == 8000
        assert audio.samples.dtype == torch.float32 and not audio.samples.requires_grad
        assert (audio.samples - torch.from_numpy(WAVE)).abs().max() < 0.01


def test_the_longer_dimension_is_time() -> None:
    stereo = np.stack([WAVE, -WAVE])
    for source in (stereo, stereo.T, torch.from_numpy(stereo)):
        assert torch.equal(as_audio(source, 8000).samples, torch.from_numpy(stereo))


def test_what_was_given_is_not_changed_and_full_scale_is_kept_to() -> None:
    loud = WAVE * 6
    assert as_audio(loud, 8000).samples.abs().max() == 1.0
    audio = as_audio(loud, 8000)
    audio.samples.zero_()
    assert np.array_equal(loud, WAVE * 6)


def test_files_and_audio_know_their_rate(tmp_path: Path) -> None:
    audio = Audio(torch.from_numpy(WAVE), 8000)
    audio.save(tmp_path / "a.wav")
    assert as_audio(audio) is audio
    for place in (tmp_path / "a.wav", str(tmp_path / "a.wav")):
        assert as_audio(place).sample_rate == 8000
        with pytest.raises(AudioError, match="leave out sample_rate="):
            as_audio(place, 16000)


@pytest.mark.parametrize(
    ("source", "rate", "told"),
    [
        (WAVE, None, "give sample_rate="),
        (torch.from_numpy(WAVE), None, "give sample_rate="),
        (WAVE, 0, "sample rate above 0"),
        (np.zeros(0, np.float32), 8000, r"not \[0\]"),
        (np.zeros((2, 2, 2)), 8000, r"not \[2, 2, 2\]"),
        (np.array([0.0, np.nan]), 8000, "NaN"),
        (np.array(["a"]), 8000, "not <U1"),
        (np.ones(9, bool), 8000, "not bool"),
        (torch.ones(9, dtype=torch.complex64), 8000, "not torch.complex64"),
        (b"RIFF", None, "What was given"),
        (b"", None, "What was given is empty"),
        (b"RIFF", 8000, "leave out sample_rate="),
        (io.StringIO("RIFF"), None, "to read bytes"),
        (None, None, "not NoneType"),
        ([0.0, 0.1], 8000, "not list"),
    ],
)
def test_what_is_no_sound_is_told_in_a_line(source: object, rate: int | None, told: str) -> None:
    with pytest.raises(AudioError, match=told) as error:
        as_audio(source, rate)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("address", ["s3://bucket/a.wav", Path("https://example.org/a.wav")])
def test_an_address_is_not_taken_for_a_file(address: str | Path) -> None:
    with pytest.raises(AudioError, match="an address, not a file. Download it first"):
        as_audio(address)


def test_a_file_may_be_bytes_an_open_file_or_an_address(tmp_path: Path) -> None:
    Audio(torch.from_numpy(WAVE), 8000).save(tmp_path / "a.wav")
    want, data = as_audio(tmp_path / "a.wav").samples, (tmp_path / "a.wav").read_bytes()
    with served(tmp_path) as address, (tmp_path / "a.wav").open("rb") as opened:
        for source in (data, bytearray(data), memoryview(data), io.BytesIO(data), opened, f"{address}/a.wav"):
            audio = as_audio(source)
            assert audio.sample_rate == 8000 and torch.equal(audio.samples, want)
        with pytest.raises(AudioError, match="b.wav can't be had"):
            as_audio(f"{address}/b.wav")


def test_a_file_in_any_form_is_streamed_and_samples_are_not(tmp_path: Path) -> None:
    Audio(torch.from_numpy(WAVE), 8000).save(tmp_path / "a.wav")
    want = as_audio(tmp_path / "a.wav").samples
    for source in (tmp_path / "a.wav", (tmp_path / "a.wav").read_bytes()):
        pieces = as_stream(source, 8000)
        assert not isinstance(pieces, Audio) and torch.allclose(torch.cat(list(pieces)), want, atol=1e-4)
    audio = as_stream(WAVE, 16000, 8000)
    assert isinstance(audio, Audio) and audio.sample_rate == 8000
