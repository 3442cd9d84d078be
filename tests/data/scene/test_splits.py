"""Who trains and who is measured: one rule that new recordings don't change."""

from __future__ import annotations

import pytest

from antiphon.data.scene.splits import MEASURED, TEST_VOICES, split_of, trains


def test_the_written_list_holds_two_speakers_of_emodb_for_measuring_and_looks_at_one() -> None:
    found = {
        number: split_of(f"emodb_{number}", "emodb") for number in ("03", "08", "09", "10", "11", "12", "13", "14")
    }
    assert sorted(found.values()) == ["dev", "test", "test", "train", "train", "train", "train", "train"]
    assert found["11"] == found["13"] == "test"


def test_speakers_fall_into_splits_by_their_name_alone() -> None:
    names = [f"speaker_{number}" for number in range(1000)]
    found = [split_of(name) for name in names]
    assert found == [split_of(name, "another set") for name in names]
    assert 160 <= found.count("test") <= 240 and 70 <= found.count("dev") <= 130


def test_folds_voices_and_sets_for_measuring_are_test() -> None:
    assert split_of("211527", "esc10", fold=4) == "test"
    assert {split_of(str(number), "esc10", fold=1) for number in range(100)} == {"train", "dev"}
    assert all(split_of("whoever", place) == "test" for place in MEASURED)
    assert all(split_of(voice) == "test" for voice in TEST_VOICES)


@pytest.mark.parametrize(
    ("licence", "free"),
    [
        ("CC0 1.0", True),
        ("CC-BY 3.0", True),
        ("CC BY 4.0 (README)", True),
        ("Apache-2.0 (repo LICENSE)", True),
        ("public domain (LJSpeech)", True),
        ("CC BY-SA 3.0 (Debian copyright)", False),
        ("CC BY-NC 3.0", False),
        ("GPL-2 (Debian copyright)", False),
        ("ODbL 1.0 / DbCL 1.0", False),
        ("research only", False),
        ("", False),
    ],
)
def test_only_what_asks_for_nothing_or_a_name_trains(licence: str, free: bool) -> None:
    assert trains(licence) is free
