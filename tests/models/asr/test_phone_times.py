"""Alignment of phones: the path is the best of all, and what is told covers each phoneme once."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import antiphon
from antiphon.audio.io import load
from antiphon.errors import ModelError
from antiphon.hub import folder
from antiphon.hub.parts import PHONE_TIMES
from antiphon.models.asr.phone_times import PhoneAligner, likeliest_path, stretches
from antiphon.models.tts.phonemes import Phonemizer
from tests.models.asr.tones import Tones, aligner, sound


@pytest.mark.parametrize("seed", range(6))
def test_the_path_is_the_likeliest_of_all(seed):
    rng = np.random.default_rng(seed)
    optional = [True, False, True, False, False, True][: 4 + seed % 3]
    scores = rng.normal(size=(6, len(optional)))
    must = {at for at, each in enumerate(optional) if not each}

    def allowed(path: tuple[int, ...]) -> bool:
        steps = zip(path, path[1:])
        ordered = all(0 <= b - a <= 2 and (b - a < 2 or optional[a + 1]) for a, b in steps)
        ends = path[0] <= (1 if optional[0] else 0) and path[-1] >= len(optional) - (2 if optional[-1] else 1)
        return ordered and ends and must <= set(path)

    paths = [path for path in itertools.product(range(len(optional)), repeat=6) if allowed(path)]
    best = max(paths, key=lambda path: scores[range(6), path].sum())
    assert tuple(likeliest_path(scores, optional).tolist()) == best


def test_every_phoneme_is_told_from_where_the_one_before_it_ends():
    found = aligner().align(sound(0, 0, 1, 1, 1, 2, 0, 0, 3, 3, 1, 0), "ˈab, kˈa.")
    assert [(phone, round(start, 2), round(end, 2)) for phone, start, end in found] == [
        ("ˈ", 0.04, 0.04), ("a", 0.04, 0.1), ("b", 0.1, 0.12), (",", 0.12, 0.16), (" ", 0.16, 0.16),
        ("k", 0.16, 0.2), ("ˈ", 0.2, 0.2), ("a", 0.2, 0.22), (".", 0.22, 0.22),
    ]  # fmt: skip


def test_words_without_a_silence_touch_and_ends_may_be_without_one():
    found = aligner().align(sound(1, 2, 3, 3), "ab k")
    assert [(phone, round(start, 2), round(end, 2)) for phone, start, end in found] == [
        ("a", 0.0, 0.02), ("b", 0.02, 0.04), (" ", 0.04, 0.04), ("k", 0.04, 0.08),
    ]  # fmt: skip


def test_a_phone_that_was_not_learnt_gets_what_fits_no_other():
    found = aligner().align(sound(1, 1, 0, 2, 2), "aʒb")
    assert [round(end, 2) for _, _, end in found] == [0.04, 0.06, 0.1]


def test_what_cannot_be_aligned_is_said():
    with pytest.raises(ModelError, match="3 phones don't fit into 2 frames"):
        aligner().align(sound(1, 2), "abk")
    with pytest.raises(ModelError, match="no phone"):
        aligner().align(sound(1, 2), ", .")


def test_it_is_saved_and_read(tmp_path):
    made = aligner()
    made.save_pretrained(tmp_path)
    read = PhoneAligner.from_pretrained(tmp_path, Tones())
    assert read.config == made.config
    assert read.align(sound(0, 1, 2), "ab") == made.align(sound(0, 1, 2), "ab")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="no aligner"):
        PhoneAligner.from_pretrained(tmp_path, Tones())


def test_the_first_frame_of_each_state_and_the_one_behind_its_last():
    starts, ends = stretches(np.array([0, 0, 2, 3, 3]), 5)
    assert starts.tolist() == [0, 0, 2, 3, 0] and ends.tolist() == [2, 0, 3, 5, 0]


@pytest.mark.slow
def test_the_aligner_that_ships_finds_the_words_of_a_recording():
    phonemes = Phonemizer()(text := "What is the capital of Italy?")
    aligner = PhoneAligner.from_pretrained(folder(PHONE_TIMES))
    audio = load("examples/question.wav").resample(aligner.features.sample_rate)
    found = aligner.align(audio.samples, phonemes)
    assert "".join(phone for phone, _, _ in found) == phonemes
    starts = [found[0][1], *(end for phone, _, end in found if phone == " ")]
    heard = antiphon.load("mini").hear("examples/question.wav", words=True)
    spoken = [word.start for passage in heard.passages for word in passage.words]
    assert len(starts) == len(spoken) == len(text.split())
    assert max(abs(mine - theirs) for mine, theirs in zip(starts, spoken)) < 0.2
