"""Kokoro's long texts: in parts that the network takes."""

import random

import numpy as np
import pytest

from antiphon.data.speech.voices.kokoro import MAX_PHONEMES, KokoroVoice, in_parts


@pytest.mark.parametrize(
    ("phonemes", "parts"),
    [
        ("", []),
        ("wʌn.", ["wʌn."]),
        ("wʌn, tuː. θɹiː fɔːɹ", ["wʌn, tuː.", "θɹiː fɔːɹ"]),
        ("wʌn tuː, θɹiː fɔːɹ", ["wʌn tuː,", "θɹiː fɔːɹ"]),
        ("wʌn tuː θɹiː fɔːɹ", ["wʌn tuː", "θɹiː fɔːɹ"]),
        ("abcdefghijklmnop", ["abcdefghijkl", "mnop"]),
    ],
)
def test_cut_where_a_reader_would_breathe(phonemes: str, parts: list[str]) -> None:
    assert in_parts(phonemes, 12) == parts


def test_nothing_is_lost_and_no_part_is_too_long() -> None:
    draw = random.Random(0)
    for _ in range(200):
        phonemes = "".join(draw.choice("abc ,.?") for _ in range(draw.randint(0, 200)))
        parts = in_parts(phonemes, 17)
        assert all(0 < len(part) <= 17 for part in parts)
        assert "".join(parts).replace(" ", "") == phonemes.replace(" ", "")


def test_a_long_text_is_said_in_one_sound() -> None:
    class Session:
        asked: list[int] = []

        def run(self, _, values):
            self.asked.append(values["tokens"].shape[1] - 2)
            return [np.ones((1, 10 * self.asked[-1]), np.float32)]

    voice = object.__new__(KokoroVoice)
    voice.vocab, voice.style, voice.session = dict.fromkeys("ab .", 1), np.zeros((510, 256)), Session()
    voice.phonemizer = lambda text: text
    text = " ".join(["ab ab ab."] * 120)
    spoken = voice.speak(text)
    assert len(voice.session.asked) == 3 and max(voice.session.asked) <= MAX_PHONEMES
    assert spoken.samples.shape == (10 * sum(voice.session.asked),) and spoken.sample_rate == 24000
    assert len(voice.speak("").samples) == 0
