"""Generated pictures, videos and sounds: what is drawn is what is said of it."""

import json
from pathlib import Path

import numpy as np
import pytest

from antiphon.data.omni import pictures, videos
from antiphon.data.omni.make import MAKERS, OmniSet, conversation, make, usual, write_set
from antiphon.data.omni.names import COLOURS, HEARD, SEEN
from antiphon.data.omni.pictures import Ask, Thing, ask
from antiphon.data.omni.questions import worded, wordings
from antiphon.data.omni.sounds import Bank, beeps
from antiphon.data.scene.example import RATE
from antiphon.encoders.vision.video import has_sound, load_video
from antiphon.errors import DataError


def draws(kind, count=40):
    return [pictures.draw(kind, np.random.default_rng(number)) for number in range(count)]


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    """A bank of short noises for each sound that isn't made."""
    import soundfile

    from antiphon.data.omni.names import SOUNDS
    from antiphon.data.scene.signals import SIGNALS

    folder, lines = tmp_path_factory.mktemp("esc"), []
    generator = np.random.default_rng(0)
    for name, (_, label) in SOUNDS.items():
        if label in SIGNALS:
            continue
        for fold in (1, 4):
            file = f"{name}-{fold}.flac"
            soundfile.write(folder / file, generator.normal(0, 0.1, 2 * RATE).astype(np.float32), RATE)
            about = {"path": file, "duration": 2.0, "events": [label], "licence": "CC0", "fold": fold}
            lines.append(json.dumps(about | {"freesound_id": file}))
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    return Bank(folder)


def test_a_shape_is_drawn_where_it_is_said_to_be():
    for drawn in draws("shapes"):
        for named in drawn.named:
            colour, shape = named.names[:2]
            if shape == "ring":  # nothing is in its middle
                continue
            pixel = drawn.image[int(named.y * pictures.SIDE), int(named.x * pictures.SIDE)].astype(int)
            nearest = min(COLOURS, key=lambda name: np.abs(pixel - COLOURS[name]).sum())
            assert nearest == colour


def test_names_stand_in_cells_of_their_own_so_that_they_can_be_counted():
    for kind in pictures.KINDS:
        for drawn in draws(kind):
            cells = [(int(4 * each.x), int(4 * each.y)) for each in drawn.named]
            assert len(set(cells)) == len(cells)
            assert {name for each in drawn.named for name in each.names} <= set(SEEN)


def test_places_and_counts_by_hand():
    found = [Thing("circle", "red", 18, 18, 10), Thing("circle", "blue", 56, 56, 10), Thing("star", "red", 94, 60, 10)]
    asks = pictures.about_shapes(found, np.random.default_rng(0))
    told = {(each.kind, *each.slots.values()): each.keys for each in asks}
    assert told["count",] == ("three",)
    assert told["where", "red circle"] == ("top", "left")
    assert told["where", "blue circle"] == ("middle",)
    assert told["where", "red star"] == ("right",)
    assert told["colour-of", "star"] == ("red",)
    assert ("colour-of", "circle") not in told  # there are two
    assert told["what-at", "at the right"] == ("red", "star")


def test_a_fifth_of_the_wordings_is_kept_for_measuring():
    train, test = wordings("train"), wordings("test")
    assert train.keys() == test.keys()
    for kind, some in test.items():
        assert some and not set(some) & set(train[kind])
        assert len(some) * 4 == len(train[kind])


def test_every_question_has_a_wording_and_a_right_reply(bank):
    for maker in MAKERS:
        for number in range(30):
            item = make(maker, bank, "train", number)
            assert item.asks
            for each in item.asks:
                assert "{" not in worded(each, "train", np.random.default_rng(0)) + worded(
                    each, "test", np.random.default_rng(0)
                )
                said = {word.strip(".,").lower() for word in each.reply.split()}
                assert {word for word in said if word in each.among} == set(each.keys), each


def test_an_item_follows_from_its_number_and_splits_differ():
    first, again, other = (make("picture", None, split, 3) for split in ("train", "train", "test"))
    assert np.array_equal(first.media[0].image, again.media[0].image)
    assert not np.array_equal(first.media[0].image, other.media[0].image)


def test_a_blink_is_seen_once_in_each_second_it_is_in():
    for seed in range(12):
        film = videos.make_film("blink", np.random.default_rng(seed))
        events = [
            name
            for first in np.arange(0, videos.SECONDS, 1.0)
            for named in film.named(first, first + videos.STEP)
            for name in named.names
            if name in ("new", "gone")
        ]
        (times,) = [each.keys[0] for each in film.asks if each.kind == "blinks"]
        assert len(events) == {"once": 1, "two": 2, "three": 3, "four": 4}[times]


def test_a_written_video_shows_what_was_drawn_and_sounds(tmp_path, bank):
    item = make("video", bank, "train", 0)
    film = videos.sounding(bank, "train", np.random.default_rng(1))
    videos.write(film, tmp_path / "a.mp4")
    seen, seconds = load_video(tmp_path / "a.mp4")
    assert (len(seen), seconds, has_sound(tmp_path / "a.mp4")) == (8, 0.5, True)
    drawn = film.picture(2.5).astype(int)
    assert np.abs(seen[5].permute(1, 2, 0).numpy() - drawn).mean() < 6
    assert item.contents(tmp_path, "b")[0] == {"type": "video", "video": "b.mp4"}


def test_as_many_beeps_are_heard_as_are_told(bank):
    for seed in range(8):
        heard = beeps(bank, "train", np.random.default_rng(seed))
        (asked,) = heard.asks
        assert len(heard.named) == {"once": 1, "two": 2, "three": 3, "four": 4}[asked.keys[0]]
        assert {name for name, _, _ in heard.named} <= set(HEARD)
        loud = [np.abs(heard.samples[int(start * RATE) : int(end * RATE)]).mean() for _, start, end in heard.named]
        assert min(loud) > 2 * np.abs(heard.samples[: int(heard.named[0][1] * RATE)]).mean()


def test_a_conversation_has_its_media_once(bank):
    item = make("both", bank, "train", 0)
    contents = [{"type": "image", "image": "a.png"}, {"type": "audio", "audio": "a.flac"}]
    asked = conversation(item, contents, np.random.default_rng(0), most=6)["messages"]
    kinds = [each["type"] for message in asked if message["role"] == "user" for each in message["content"]]
    assert kinds[:3] == ["image", "audio", "text"] and set(kinds[3:]) <= {"text"}
    assert [message["role"] for message in asked[:2]] == ["user", "assistant"]


def test_a_set_is_written_with_its_files(tmp_path, bank, monkeypatch):
    monkeypatch.setattr("antiphon.data.omni.make.Bank", lambda place: bank)
    made = {"picture": 2, "sound": 1}
    files = write_set(tmp_path, OmniSet("esc", made), lambda line: None)
    assert [file.name for file in files] == ["picture.jsonl", "sound.jsonl"]
    lines = [json.loads(line) for line in files[0].read_text().splitlines()]
    assert len(lines) == 2 and (tmp_path / lines[1]["messages"][0]["content"][0]["image"]).is_file()


def test_recordings_are_needed_for_what_is_heard(tmp_path: Path):
    with pytest.raises(DataError, match="ESC-10"):
        make("sound", None, "train", 0)
    (tmp_path / "manifest.jsonl").write_text("")
    with pytest.raises(DataError):
        Bank(tmp_path)


def test_who_sees_nothing_gives_the_most_frequent_answer_of_each_kind():
    def one(kind: str, key: str) -> Ask:
        return ask(kind, key, [key], ("a", "b"))

    assert usual([one("x", "a"), one("x", "b"), one("x", "b"), one("y", "a")]) == {"x": ("b",), "y": ("a",)}
