"""What `hear` and `reply` take for a sound."""

from pathlib import Path

import numpy as np
import pytest
import torch

import antiphon
from antiphon.audio.io import Audio
from antiphon.errors import AudioError, ConfigError, HubError
from antiphon.model import as_audio


def test_arrays_tensors_and_files_are_the_same_sound(tmp_path):
    samples = (0.5 * np.sin(np.arange(1600) / 7)).astype(np.float32)
    whole = Audio(torch.from_numpy(samples), 16000)
    path = whole.save(tmp_path / "a.wav")
    integers = (samples * 2**15).round().astype(np.int16)
    for source in (samples, torch.from_numpy(samples), samples.astype(np.float64), integers, torch.tensor(integers)):
        found = as_audio(source, 16000)
        assert found.sample_rate == 16000 and found.samples.dtype == torch.float32
        torch.testing.assert_close(found.samples, whole.samples, atol=1e-4, rtol=0)
    for source in (path, str(path), Path(path)):
        torch.testing.assert_close(as_audio(source).samples, whole.samples, atol=1e-4, rtol=0)
    assert as_audio(whole) is whole and as_audio(np.stack([samples, samples]), 8000).samples.shape == (2, 1600)


@pytest.mark.parametrize(
    ("source", "rate", "told"),
    [
        (np.zeros(10, np.float32), None, "sample_rate="),
        (torch.zeros(10), 0, "above 0"),
        (np.full(10, np.nan), 16000, "finite"),
        (np.zeros(10, np.int64), 16000, "16-bit integers"),
        (np.zeros((1, 1, 10), np.float32), 16000, "shape"),
        ("https://example.com/a.wav", None, "a URL"),
        (b"RIFF", None, "not bytes"),
        ("none.wav", None, "no such file"),
    ],
)
def test_what_is_no_sound_is_told(source, rate, told):
    with pytest.raises(AudioError, match=told):
        as_audio(source, rate)


def test_a_device_that_models_do_not_talk_on_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="talk on the CPU, not on cuda"):
        antiphon.load("mini", device="cuda")
    with pytest.raises(HubError, match="has no part 'dtype'"):
        antiphon.load("mini", dtype="bfloat16")
