"""What a notebook shows of a sound can be played, and says what it is."""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import soundfile
import torch

from antiphon.audio.io import Audio
from antiphon.audio.notebook import MAX_SECONDS, wave_path

WAVE = torch.sin(torch.arange(24000) / 8) / 2


def shown(samples: torch.Tensor, rate: int = 24000) -> ElementTree.Element:
    return ElementTree.fromstring(Audio(samples, rate)._repr_html_().replace(" controls ", ' controls="" '))


def test_the_player_has_the_sound_and_the_picture_its_wave() -> None:
    for samples in (WAVE, torch.stack([WAVE, -WAVE])):
        page = shown(samples)
        data = base64.b64decode(page.find("audio").get("src").partition("base64,")[2])
        read, rate = soundfile.read(io.BytesIO(data))
        assert rate == 24000 and np.abs(read.T - samples.numpy()).max() < 1e-4
        assert "1.00 s at 24000 Hz" in page.find("svg").get("aria-label")
    assert "2 channels" in "".join(page.itertext())


def test_a_wave_is_drawn_as_high_as_it_is_loud() -> None:
    loud = np.zeros(4800, np.float32)
    loud[2400:] = np.tile([0.5, -0.5], 1200)
    spans = re.findall(r"M[0-9.]+ ([0-9.]+)V([0-9.]+)", wave_path(loud))
    assert len(spans) == 480 and spans[0] == ("30.0", "30.5") and spans[-1] == ("15.0", "45.5")


def test_nothing_a_single_sample_what_is_no_number_and_what_is_long() -> None:
    assert shown(torch.zeros(0)).find("audio") is not None and wave_path(np.zeros(0, np.float32)).startswith("M0 30")
    assert shown(torch.ones(1)).find("audio") is not None
    assert "nan" not in Audio(torch.tensor([float("nan"), 9.0]), 8000)._repr_html_()
    long = shown(torch.zeros(int(MAX_SECONDS) * 10 + 10), 10)
    assert long.find("audio") is None and "save it" in "".join(long.itertext())
