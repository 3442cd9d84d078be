"""What manifests say of recordings, in our words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from antiphon.data.scene.example import RATE
from antiphon.data.scene.labelled import Labelled, example_of, named, pause, spans_of, spans_of_turns
from antiphon.data.scene.published import labelled
from antiphon.models.scene.labels import GROUPS


def burst(*stretches: tuple[float, float], seconds: float = 2.0) -> np.ndarray:
    """Noise at these times, digital silence between."""
    samples, generator = np.zeros(int(seconds * RATE), np.float32), np.random.default_rng(0)
    for start, end in stretches:
        part = samples[int(start * RATE) : int(end * RATE)]
        part += 0.1 * generator.standard_normal(len(part)).astype(np.float32)
    return samples


def only(folder: Path, place: str = "set", **row: Any) -> Labelled:
    """The one recording of a folder whose manifest says this."""
    (folder / place).mkdir(exist_ok=True)
    soundfile.write(folder / place / "a.wav", burst((0.5, 1.0), (1.2, 1.6)), RATE)
    (folder / place / "manifest.jsonl").write_text(json.dumps({"path": "a.wav", "duration": 2.0, **row}))
    (found,) = labelled(folder / place)
    return found


def test_every_name_that_we_translate_to_is_one_of_ours() -> None:
    from antiphon.data.scene.labelled import _SAME

    assert all(name in GROUPS[group].names for group, same in _SAME.items() for name in same.values())


def test_acted_feeling(tmp_path: Path) -> None:
    row = {"speaker": "emodb_11", "emotion": "fearful", "gender": "m", "text": "Ja.", "licence": "CC0-1.0"}
    found = only(tmp_path, "emodb", **row)
    assert found.labels == (("kind", "speech"), ("sex", "male"), ("feeling", "afraid"), ("speakers", "one"))
    assert {"kind", "sex", "feeling", "speakers", "event"} <= found.known and "manner" not in found.known
    assert found.split == "test" and not found.trains and found.original == "emodb_11"
    example = example_of(found)
    assert [span.label for span in example.spans if span.group == "kind"] == ["speech", "silence", "silence"]
    (feeling,) = [span for span in example.spans if span.group == "feeling"]
    assert feeling.start == pytest.approx(0.5, abs=0.05) and feeling.end == pytest.approx(1.6, abs=0.05)
    assert example.text == "Ja."


def test_a_sound_with_a_name_and_a_fold(tmp_path: Path) -> None:
    found = only(tmp_path, "esc10", events=["dog bark"], fold=4, freesound_id="99", licence="CC-BY 3.0")
    assert found.labels == (("kind", "sound"), ("event", "dog")) and found.split == "test" and found.original == "99"
    assert "event" in found.known and "surroundings" not in found.known


def test_a_sound_that_we_have_no_name_for_says_nothing_of_events(tmp_path: Path) -> None:
    found = only(tmp_path, events=["vuvuzela"])
    assert found.labels == (("kind", "sound"),) and found.known == {"kind"}


def test_a_burst_that_was_asked_for_by_a_feeling(tmp_path: Path) -> None:
    laugh = only(tmp_path, events=["vocal burst"], emotion="amusement", speaker="x")
    assert ("event", "laughing") in laugh.labels and ("feeling", "happy") in laugh.labels and "event" in laugh.known
    growl = only(tmp_path, events=["vocal burst"], emotion="anger", speaker="x")
    assert growl.label("event") == "" and "event/laughing" in growl.known and "event" not in growl.known


def test_music_by_tempo_instrument_or_as_an_event(tmp_path: Path) -> None:
    loop = only(tmp_path, instrument="loop", tempo=136.9)
    assert loop.labels == (("kind", "music"), ("tempo", "136.9")) and "instrument" not in loop.known
    assert only(tmp_path, instrument="soprano singing voice").label("instrument") == "voice"
    assert only(tmp_path, events=["cello"]).labels == (("kind", "music"), ("instrument", "cello"))
    assert only(tmp_path, events=["music"], title="one").labels == (("kind", "music"),)


def test_who_speaks_when_becomes_spans_of_the_part_that_is_taken() -> None:
    turns = [(0.0, 2.0, "a"), (1.5, 4.0, "b"), (9.0, 10.0, "c")]
    spans = spans_of_turns(turns, seconds=4.0, first=1.0)
    assert [(s.start, s.end) for s in spans if s.group == "kind"] == [(0.0, 1.0), (0.5, 3.0)]
    assert [(s.label, s.start, s.end) for s in spans if s.group == "speakers"] == [
        ("in_turn", 0.0, 3.0),
        ("at_once", 0.5, 1.0),
    ]
    assert [s.label for s in spans_of_turns([(0.0, 2.0, "a"), (2.5, 3.0, "a")], 4.0)][-1] == "one"


def test_timed_labels_end_with_each_stretch_but_a_clock_ticks_on() -> None:
    samples = burst((0.1, 0.3), (1.0, 1.2))
    barks = [span for span in spans_of(samples, (("kind", "sound"), ("event", "dog"))) if span.group == "event"]
    ticks = [span for span in spans_of(samples, (("kind", "sound"), ("event", "clock_tick"))) if span.group == "event"]
    assert len(barks) == 2 and len(ticks) == 1


def test_others_names_are_taken_with_their_spaces_and_capitals() -> None:
    assert named("event", "Vacuum cleaner") == "vacuum_cleaner"
    assert named("event", "Crowing, cock-a-doodle-doo") == "rooster"
    assert named("instrument", "Bass guitar") == "bass" and named("feeling", "contempt") == ""


def test_waves_have_no_pauses() -> None:
    waves = 0.1 * np.random.default_rng(0).standard_normal(5 * RATE).astype(np.float32)
    waves *= 0.04 + np.abs(np.sin(np.pi * np.arange(len(waves)) / RATE)) ** 4
    (event,) = [s for s in spans_of(waves, (("kind", "sound"), ("event", "sea_waves"))) if s.group == "event"]
    assert (event.start, event.end) == (0.0, 5.0)
    assert pause([("kind", "sound"), ("event", "rain")]) > pause([("kind", "sound"), ("event", "dog")])
