"""Rendered music: its tempo is the one it is played at, its patterns keep to their split."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from antiphon.data.scene import music
from antiphon.data.scene.example import RATE
from antiphon.models.scene.labels import GROUPS

plays = pytest.mark.skipif(shutil.which("fluidsynth") is None, reason="needs fluidsynth and a sound font")


def test_every_instrument_is_one_of_ours_and_general_midi_has_its_sounds() -> None:
    assert set(music.INSTRUMENTS) | {"drums"} == set(GROUPS["instrument"].names)
    assert {*music.MELODIC, *music.ACCOMPANYING} <= set(music.INSTRUMENTS)
    for programs, (low, high) in music.INSTRUMENTS.values():
        assert all(0 <= program < 128 for program in programs) and 0 <= low < high - 12 < 128


def test_no_pattern_is_in_two_splits() -> None:
    found = {split: set(music.patterns(split)) for split in ("train", "dev", "test")}
    assert sum(map(len, found.values())) == music.PATTERNS == len(set.union(*found.values()))
    assert all(len(numbers) > 50 for numbers in found.values())


@pytest.mark.parametrize("pattern", range(12))
def test_notes_fall_on_the_grid_of_the_beat(pattern: int) -> None:
    score = music.compose(pattern, 120.0, 10.0, np.random.default_rng(0))
    assert score.notes and score.instruments and all(name in GROUPS["instrument"].names for name in score.instruments)
    assert {note.channel for note in score.notes} == set(score.programs)
    starts = np.array([note.start for note in score.notes])
    grid = np.concatenate([np.arange(0, 30, 0.25), np.arange(0, 30, 0.25) + 0.17])  # straight, or in swing
    assert np.abs(starts[:, None] - grid).min(1).max() < 0.05
    assert max(starts) * 60 / 120 > 7.0
    again = music.compose(pattern, 120.0, 10.0, np.random.default_rng(0))
    assert again == score
    other = music.compose(pattern, 90.0, 10.0, np.random.default_rng(1))
    assert other.instruments == score.instruments and other.notes != score.notes


def test_the_file_says_when_each_note_starts_and_ends(tmp_path: Path) -> None:
    import mido

    score = music.Score(
        150.0, (music.Note(0.0, 1.0, 60, 90, 0), music.Note(1.0, 0.5, 38, 100, 9)), {0: 24}, ("guitar",)
    )
    music.to_midi(score, tmp_path / "a.mid")
    found = [(m.type, round(at, 3)) for at, m in _timed(mido.MidiFile(tmp_path / "a.mid")) if "note" in m.type]
    assert found == [("note_on", 0.0), ("note_off", 0.4), ("note_on", 0.4), ("note_off", 0.6)]


def _timed(file):
    at = 0.0
    for message in file:
        at += message.time
        yield at, message


@plays
@pytest.mark.parametrize("tempo", [70.0, 150.0])
def test_strokes_are_heard_at_the_tempo(tempo: float) -> None:
    beats = tuple(music.Note(float(beat), 0.2, music.SNARE, 110, 9) for beat in range(8))
    samples = music.played(music.Score(tempo, beats, {}, ("drums",)))
    power = np.square(samples[: len(samples) // 80 * 80]).reshape(-1, 80).sum(1)
    onsets = np.flatnonzero((power[1:] > 0.2 * power.max()) & (power[:-1] < 0.1 * power.max())) * 80 / RATE
    gaps = np.diff(onsets)
    assert np.median(gaps[gaps > 0.1]) == pytest.approx(60.0 / tempo, rel=0.03)


@plays
def test_a_piece_and_a_phrase_know_what_they_are() -> None:
    piece = music.piece("test", np.random.default_rng(0), seconds=4.0, tempo=100.0)
    assert piece.seconds == pytest.approx(4.0) and "tempo" in piece.known
    assert {span.label for span in piece.spans if span.group == "tempo"} == {"100.00"}
    assert int(piece.source.split()[1]) in music.patterns("test")
    again = music.piece("test", np.random.default_rng(0), seconds=4.0, tempo=100.0)
    assert np.array_equal(piece.samples, again.samples)
    for name, score in (("flute", music.phrase), ("drums", music.phrase), ("cello", music.note), ("drums", music.note)):
        alone = music.instrument_alone(name, np.random.default_rng(1), score)
        assert {span.label for span in alone.spans if span.group == "instrument"} == {name}
        assert np.abs(alone.samples).max() > 0.05 and "tempo" not in alone.known
