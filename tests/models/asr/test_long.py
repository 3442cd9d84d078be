"""A long recording, for real: nothing of it is lost or doubled where windows meet, and memory stays flat."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from antiphon import hub
from antiphon.audio.io import Audio
from antiphon.data.speech.voices.base import HibariVoice
from antiphon.evals.metrics.text import normalize, word_error_rate
from antiphon.models.asr.recognizer import RATE, Recognizer

MINUTES = 1.7
SENTENCES = [
    "The old lighthouse keeper counted seventeen ships before breakfast.",
    "Nobody expected the library to open on a Sunday morning.",
    "My neighbour grows tomatoes, cucumbers and very large pumpkins.",
    "Please remember to bring an umbrella, because it will rain tomorrow.",
    "The train to the mountains leaves from the second platform.",
    "She painted the kitchen walls yellow and the ceiling white.",
    "After the concert, we walked home along the quiet river.",
    "Every winter the children build a snowman in front of the school.",
    "The doctor told him to drink more water and to sleep longer.",
    "A small brown dog waited patiently outside the bakery.",
]


def recording(minutes: float) -> Iterator[tuple[str, torch.Tensor]]:
    """Sentences one after the other, with pauses, noise and chords between them: (text or "", samples).

    None comes twice in a window: of what is said twice in a row Whisper writes one now and then.
    """
    voice, draw, total = HibariVoice(), np.random.default_rng(0), 0.0
    for number in itertools.count():
        text = SENTENCES[number % len(SENTENCES)]
        spoken = voice.speak(text, number, speed=draw.uniform(0.9, 1.15))
        samples = Audio(torch.from_numpy(spoken.samples), spoken.sample_rate).resample(RATE).samples
        yield text, samples
        seconds = draw.choice([0.2, 0.5, 1.0, 4.0])
        time = np.arange(int(seconds * RATE)) / RATE
        chord = sum(0.03 * np.sin(2 * np.pi * hertz * time) for hertz in (220, 277, 330))
        between = chord if seconds > 2 else 0.002 * draw.standard_normal(len(time))
        yield "", torch.from_numpy(between.astype(np.float32))
        total += (len(samples) + len(time)) / RATE
        if total > minutes * 60:
            return


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_where_windows_meet() -> None:
    recognizer, said = Recognizer.from_pretrained(hub.folder("asr")), []

    def sound() -> Iterator[torch.Tensor]:
        for text, samples in recording(MINUTES):
            said.append(text)
            yield samples

    heard = recognizer.hear(sound(), recognizer.options(words=True))
    text = " ".join(filter(None, said))
    assert heard.language == "en" and word_error_rate([text], [heard.text]) <= 0.06
    true, found = normalize(text).split(), normalize(heard.text).split()
    for _, start, end, to, at in difflib.SequenceMatcher(a=true, b=found, autojunk=False).get_opcodes():
        assert true[start:end] == found[to:at] or max(end - start, at - to) <= 3
    assert " ".join(word.text for word in heard.words) == heard.text
    starts = [word.start for word in heard.words]
    assert starts == sorted(starts) and heard.words[-1].end <= heard.duration
