"""What of a scene is worth telling, in words: of plain speech nothing; to who asks, everything."""

from __future__ import annotations

from dataclasses import replace

import pytest

from antiphon.models.llm.prompts import ASKED, MINDED
from antiphon.models.scene.labels import GROUPS
from antiphon.models.scene.notes import PLAIN as PLAIN_LABELS
from antiphon.models.scene.notes import Named, everything, noted, notes, noteworthy_parts
from antiphon.models.scene.scene import Scene, SoundEvent

PLAIN = (
    ("kind", "speech"), ("sex", "female"), ("age", "adult"), ("feeling", "neutral"), ("manner", "question"),
    ("speakers", "one"), ("surroundings", "quiet"), ("surroundings", "room"),
)  # fmt: skip


def scene(*labels: tuple[str, str]) -> Scene:
    return Scene(tuple(SoundEvent(group, label, 0.9, 0.0, 3.0) for group, label in labels), 3.0)


def test_plain_speech_is_nothing_to_speak_of() -> None:
    assert notes(None) == [] and notes(Scene()) == [] and notes(scene(*PLAIN)) == []


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ([("event", "dog")], "[sound: a dog barks]"),
        ([("kind", "music")], "[music: music]"),
        ([("kind", "music"), ("instrument", "piano"), ("tempo", "119.7")], "[music: piano, 120 beats per minute]"),
        ([("kind", "speech"), ("feeling", "angry"), ("manner", "fast")], "[the user sounds angry, speaks fast]"),
        ([("kind", "speech"), ("feeling", "angry"), ("manner", "shouted")], "[the user shouts]"),
        ([("kind", "speech"), ("event", "laughing")], "[the user laughs]"),  # the voice's own sound
        ([("event", "laughing")], "[sound: someone laughs]"),
        ([("feeling", "angry")], ""),  # nobody speaks
        ([("kind", "speech"), ("event", "rain"), ("sex", "male")], "[sound: it rains]"),
    ],
)
def test_what_is_noteworthy_is_noted_in_words(labels: list[tuple[str, str]], wanted: str) -> None:
    assert noted(scene(*labels)) == wanted


def test_what_is_doubtful_is_not_noted() -> None:
    doubtful = (("feeling", "sad", 0.8), ("manner", "slow", 0.8), ("event", "dog", 0.5))
    for group, name, chance in (*doubtful, ("manner", "hesitating", 1.0)):  # who lists anything pauses
        heard = (SoundEvent("kind", "speech", 0.9, 0.0, 3.0), SoundEvent(group, name, chance, 0.0, 3.0))
        assert notes(Scene(heard, 3.0)) == []
        assert (group, name) in {
            (each.group, each.name) for each in everything(Scene(heard, 3.0)) if isinstance(each, Named)
        }


def test_a_network_says_from_where_on_its_labels_are_worth_a_note() -> None:
    heard = scene(("kind", "speech"), ("feeling", "sad"), ("manner", "soft"), ("event", "rain"))
    wanted = {"feeling/sad": 0.95, "manner/soft": 0.85}
    assert noted(replace(heard, noteworthy=wanted)) == "[sound: it rains] [the user speaks softly]"


def test_of_many_sounds_the_likeliest_are_noted_as_they_came_and_old_ones_are_not() -> None:
    sounds = [
        ("rain", 0.6, 0, 2),
        ("dog", 0.9, 60, 61),
        ("cow", 0.7, 70, 71),
        ("cat", 0.8, 65, 66),
        ("siren", 0.95, 69, 71),
    ]
    events = tuple(SoundEvent("event", *each) for each in sounds)
    assert noted(Scene(events, 80.0)) == "[sound: a dog barks, a cat meows, a siren wails]"
    assert noted(Scene(events[:1], 80.0)) == ""


def test_who_asks_is_told_everything_in_its_order() -> None:
    times = [
        ("kind", "speech", 2.0, 4.0),
        ("event", "dog", 0.2, 0.6),
        ("event", "dog", 0.9, 1.4),
        ("event", "cow", 3.0, 3.5),
    ]
    whole = [SoundEvent(group, label, 0.9, 0.0, 4.0) for group, label in PLAIN[1:]]
    heard = Scene((*(SoundEvent(group, label, 0.9, *when) for group, label, *when in times), *whole), 4.0)
    told = "".join(map(str, everything(heard)))
    assert told == (
        "The user asks about what you hear. Besides the user's voice you hear two sounds. First sound: a dog barks, 2 "
        "times, before the user's words. Second sound: a cow moos, during the user's words."
        f"{ASKED.alone} Man or woman: the user is a woman. How old: the user is of age adult. How the user sounds and "
        "speaks, and at what pace: the user speaks neither fast nor slowly, neither loudly nor softly. The place: "
        f"quiet, echo.{ASKED.answer}"
    )
    assert everything(Scene()) == [] and everything(None) == []


def test_who_asks_is_told_what_is_played_and_how_they_speak() -> None:
    events = [("kind", "music", 0.0, 4.0), ("instrument", "piano", 0.0, 9.0), ("tempo", "120", 0.0, 9.0)]
    events += [("kind", "speech", 5.0, 7.0), ("manner", "whispered", 0.0, 9.0), ("manner", "soft", 0.0, 9.0)]
    events += [("feeling", "sad", 0.0, 9.0), ("speakers", "in_turn", 0.0, 9.0), ("kind", "music", 8.0, 9.0)]
    heard = Scene(tuple(SoundEvent(group, label, 0.9, *when) for group, label, *when in events), 9.0)
    told = "".join(map(str, everything(heard)))
    assert "First sound: music, before the user's words. Second sound: music, after the user's words." in told
    assert "The music: piano, 120 beats per minute." in told and ASKED.several in told
    assert "the user speaks softly and whispers and sounds sad." in told
    sounds = [("kind", "sound", 0.0, 1.0), ("event", "dog", 0.2, 0.8), ("kind", "sound", 2.0, 3.0)]
    noisy = Scene(tuple(SoundEvent(group, label, 0.9, *when) for group, label, *when in sounds), 3.0)
    assert "two sounds. First sound: a dog barks. Second sound: sound." in "".join(map(str, everything(noisy)))
    silent = "".join(map(str, everything(Scene((SoundEvent("event", "rain", 0.9, 0.0, 9.0),), 9.0))))
    assert "The sound: it rains." in silent and ASKED.alone not in silent  # nobody speaks


def told(*events: SoundEvent) -> str:
    speech = SoundEvent("kind", "speech", 0.9, 0.0, 3.0)
    return "".join(map(str, noteworthy_parts(notes(Scene((speech, *events), 3.0)))))


def test_what_is_noteworthy_is_told_with_what_to_make_of_it() -> None:
    sad, rain = SoundEvent("feeling", "sad", 0.9, 0.0, 3.0), SoundEvent("event", "rain", 0.9, 0.0, 3.0)
    assert "you hear it rains." in told(sad, rain) and told(sad).startswith("The user sounds sad. ")
    assert MINDED["sad"][0] in told(sad, rain) and MINDED["sad"][0] not in told(rain)


def test_of_several_things_in_a_voice_one_is_minded_first() -> None:
    def labels(*chances: float) -> list[SoundEvent]:
        names = (("manner", "fast"), ("feeling", "happy"), ("manner", "crying"), ("manner", "laughing"))
        return [SoundEvent(*name, chance, 0.0, 3.0) for name, chance in zip(names, chances)]

    for chances, minded in (
        ((1.0,), "fast"),
        ((0.95, 1.0), "happy"),
        ((1.0, 0.95), "fast"),
        ((1.0, 1.0, 0.91, 0.9), "crying"),
        ((1.0, 1.0, 0.9, 0.91), "laughing"),
    ):
        assert MINDED[minded][0] in told(*labels(*chances))
        assert sum(said in told(*labels(*chances)) for said, _ in MINDED.values()) == 1


def test_there_is_something_to_say_to_each_way_of_speaking() -> None:
    for group in ("feeling", "manner"):
        assert set(GROUPS[group].names) - {name for of, name in PLAIN_LABELS if of == group} <= set(MINDED)
