"""Sets by name, split, number and seed: the same again, nothing of another split in them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from antiphon.data.scene import make as making
from antiphon.data.scene.example import RATE
from antiphon.data.scene.make import MAKERS, Material, SceneSets, Sources, make
from antiphon.data.scene.splits import split_of
from antiphon.errors import DataError


def write_set(folder: Path, rows: list[dict]) -> str:
    """A set whose sounds differ, each 2 s of a tone with pauses."""
    folder.mkdir()
    for number, row in enumerate(rows):
        time = np.arange(2 * RATE) / RATE
        wave = sum(np.sin(2 * np.pi * (110 + 7 * number) * n * time) / n for n in range(1, 12))
        soundfile.write(folder / row["path"], 0.05 * wave * (np.sin(2 * np.pi * 1.2 * time) > -0.4), RATE)
    (folder / "manifest.jsonl").write_text("\n".join(json.dumps({"licence": "CC0", **row}) for row in rows))
    return str(folder)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    root = tmp_path_factory.mktemp("sets")
    speakers = [f"s{number}" for number in range(24)]
    speech = [
        {"path": f"{who}.wav", "speaker": who, "emotion": ("sad", "angry")[n % 2], "text": "Hello."}
        for n, who in enumerate(speakers)
    ]
    sounds = [
        {"path": f"d{n}.wav", "events": [("dog", "rain")[n % 2]], "freesound_id": n, "fold": 1 + n % 5}
        for n in range(20)
    ]
    sounds.append({"path": "x.wav", "events": ["siren"], "licence": "GPL-2"})
    places = [write_set(root / "voices", speech), write_set(root / "sounds", sounds)]
    return Material(Sources(recordings=places, clean=["voices"], sex_by_pitch=["voices"], signals=0.2))


needs_music = {"mixture", "piece", "instrument", "note"}


@pytest.mark.parametrize("maker", sorted(MAKERS))
def test_a_maker_makes_the_same_again_of_its_own_split(maker: str, material: Material) -> None:
    if maker in needs_music and shutil.which("fluidsynth") is None:
        pytest.skip("needs fluidsynth")
    for split in ("train", "test"):
        found = [make(maker, material, split, number) for number in range(3)]
        again = make(maker, material, split, 1)
        assert np.array_equal(found[1].samples, again.samples) and found[1].spans == again.spans
        assert not np.array_equal(found[0].samples[: RATE // 2], found[1].samples[: RATE // 2])
        assert not np.array_equal(make(maker, material, split, 1, seed=1).samples, again.samples)
        for example in found:
            assert example.known and example.spans and example.seconds > 0.2
            for source in example.source.split(" + "):
                place, _, name = source.partition("/")
                if place == "voices":
                    assert split_of(name.removesuffix(".wav")) == split
                elif place == "sounds":
                    assert material_split(material, name) == split


def material_split(material: Material, name: str) -> str:
    return next(each.split for each in material.found if each.recording.id == name)


def test_what_may_not_train_is_measured_only(material: Material) -> None:
    licences = {each.licence for some in material.of("train", "sound").values() for each in some}
    assert licences == {"CC0"}
    assert all(
        name != "siren" for s in ("train", "dev") for e in material.of(s, "sound")["sounds"] for _, name in e.labels
    )


def test_every_label_of_a_group_is_drawn_as_often_as_any_other(material: Material) -> None:
    generator = np.random.default_rng(0)
    drawn = [material.drawn("train", "speech", generator, "feeling").label("feeling") for _ in range(200)]
    assert 70 < drawn.count("sad") < 130 and set(drawn) == {"sad", "angry"}


def test_an_unknown_maker_and_nothing_to_make_it_of_are_told(material: Material) -> None:
    with pytest.raises(DataError, match="no maker 'noise'; there are mixture"):
        make("noise", material, "train", 0)
    with pytest.raises(DataError, match="no recordings of sound with event in train"):
        make("event", Material(Sources()), "train", 0)


def test_sets_come_in_rounds_with_a_tenth_each_for_dev_and_test(material: Material) -> None:
    sets = SceneSets(whole=["voices"], made={"feeling": 20, "event": 30})
    jobs = list(sets.examples(material, rounds=5))
    assert [name for name, _ in jobs[:3]] == ["voices", "feeling", "event"]
    assert len(jobs[0][1]) == 24
    ids = [(identity, split) for name, some in jobs if name == "event" for identity, _, split in some]
    assert [identity for identity, _ in ids] == [f"event-{number}" for number in range(30)]
    assert [split for _, split in ids].count("dev") == [split for _, split in ids].count("test") == 3
    identity, job, split = jobs[1][1][0]
    assert identity == "feeling-0" and np.array_equal(job().samples, make("feeling", material, split, 0).samples)


def test_what_may_not_train_is_not_in_a_whole_set_either(material: Material) -> None:
    ((_, jobs),) = SceneSets(whole=["sounds"]).examples(material)
    siren = next(each for each in material.found if each.label("event") == "siren")
    assert ("x.wav" in [identity for identity, _, _ in jobs]) == (siren.split == "test") and len(jobs) >= 20


def test_voices_speak_the_sentences_of_their_split(monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = {"train": "A sentence to learn from.", "dev": "A sentence kept apart."}

    class Said:
        def __init__(self, text: str) -> None:
            self.text = text

    monkeypatch.setattr(making, "read_sentences", lambda texts, role, split, words: [Said(sentences[split])] * 4)
    material = Material(Sources(texts="texts", voices=["hibari", "joe"]))
    assert material.voices("train") == ["hibari"] and material.voices("test") == ["joe"]
    assert material._sentences["train"][0] == sentences["train"]
    assert material._sentences["test"][0] == sentences["dev"]
