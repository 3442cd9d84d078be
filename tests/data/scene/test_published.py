"""Published sets in the layout in which they are published, a few rows of each."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from antiphon.data.scene.published import labelled
from antiphon.errors import DataError


def sound(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(1600), 16000)


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_meld(tmp_path: Path) -> None:
    header = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
    times = '"00:16:16,059","00:16:21,731"'
    write(tmp_path / "train_sent_emo.csv", header, f'1,"Oh, my God!",Chandler,surprise,negative,0,0,8,21,{times}')
    write(tmp_path / "dev_sent_emo.csv", header, f"1,Me.,Ross,joy,positive,3,1,8,21,{times}")
    write(
        tmp_path / "test_sent_emo.csv",
        header,
        f"1,No.,Joey,anger,negative,7,2,8,21,{times}",
        f"2,Gone.,Joey,fear,negative,7,3,8,21,{times}",
    )
    sound(tmp_path / "train_splits" / "dia0_utt0.wav")
    sound(tmp_path / "dev_splits_complete" / "dia3_utt1.wav")
    sound(tmp_path / "output_repeated_splits_test" / "dia7_utt2.wav")
    found = {each.recording.id: each for each in labelled(tmp_path)}
    assert {name: each.split for name, each in found.items()} == {
        "train/dia0_utt0": "train", "dev/dia3_utt1": "dev", "test/dia7_utt2": "test",
    }  # fmt: skip
    first = found["train/dia0_utt0"]
    assert first.label("feeling") == "surprised" and first.recording.text == "Oh, my God!" and not first.trains


def test_vocalsound_with_its_lists_or_without(tmp_path: Path) -> None:
    for name in ("f0003_0_laughter", "m0010_0_throatclearing", "f0011_0_sniff"):
        sound(tmp_path / "audio_16k" / f"{name}.wav")
    for short, name in (("tr", "f0003_0_laughter"), ("te", "m0010_0_throatclearing")):
        rows = {"data": [{"wav": f"/data/audio_16k/{name}.wav", "labels": "/m/01j3sz"}]}
        write(tmp_path / "datafiles" / f"{short}.json", json.dumps(rows))
    write(tmp_path / "meta" / "val_meta.csv", "f0011,female,30,United States,English,no")
    found = {each.original: each for each in labelled(tmp_path)}
    assert [found[who].split for who in ("f0003", "f0011", "m0010")] == ["train", "dev", "test"]
    assert found["f0003"].labels == (
        ("kind", "sound"), ("event", "laughing"), ("sex", "female"), ("manner", "laughing"),
    )  # fmt: skip
    assert found["m0010"].labels == (("kind", "sound"), ("event", "throat_clearing"), ("sex", "male"))


def test_every_class_of_esc50_has_a_name_here(tmp_path: Path) -> None:
    classes = (
        "dog rooster pig cow frog cat hen insects sheep crow rain sea_waves crackling_fire crickets chirping_birds "
        "water_drops wind pouring_water toilet_flush thunderstorm crying_baby sneezing clapping breathing coughing "
        "footsteps laughing brushing_teeth snoring drinking_sipping door_wood_knock mouse_click keyboard_typing "
        "door_wood_creaks can_opening washing_machine vacuum_cleaner clock_alarm clock_tick glass_breaking helicopter "
        "chainsaw siren car_horn engine train church_bells airplane fireworks hand_saw"
    ).split()
    rows = [f"{1 + n % 5}-{n}-A-{n}.wav,{1 + n % 5},{n},{name},{name == 'dog'},{n},A" for n, name in enumerate(classes)]
    write(tmp_path / "meta" / "esc50.csv", "filename,fold,target,category,esc10,src_file,take", *rows)
    for row in rows:
        sound(tmp_path / "audio" / row.split(",")[0])
    found = labelled(tmp_path)
    assert len(found) == 50 and all(each.label("event") for each in found)
    assert len({each.label("event") for each in found}) == 50
    assert all((each.split == "test") == each.recording.id.startswith("4-") for each in found)
    assert [each.label("event") for each in found if each.trains] in ([], ["dog"])


def test_giantsteps_tempo_takes_the_newer_annotations(tmp_path: Path) -> None:
    for folder, tempo in (("annotations/giantsteps", "70"), ("annotations_v2/tempo", "139.98")):
        write(tmp_path / folder / "1092771.LOFI.bpm", tempo)
    write(tmp_path / "annotations_v2/tempo/3041381.LOFI.bpm", "0")
    for name in ("1092771.LOFI.wav", "3041381.LOFI.wav"):
        sound(tmp_path / "audio" / name)
    (found,) = labelled(tmp_path)
    assert found.labels == (("kind", "music"), ("tempo", "139.98")) and found.split == "test"
    write(tmp_path / "annotations_v2/tempo/9.LOFI.bpm", "fast")
    with pytest.raises(DataError, match=r"9\.LOFI\.bpm holds no tempo"):
        labelled(tmp_path)


def test_musiccaps_reads_instruments_and_genres_from_the_aspects(tmp_path: Path) -> None:
    header = (
        "ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,is_balanced_subset,is_audioset_eval"
    )
    write(
        tmp_path / "musiccaps-public.csv",
        header,
        "-0Gj8-vB1q4,30,40,\"/m/0140xf\",\"['acoustic guitars', 'a jazz ballad', 'pianist']\",Slow.,4,False,True",
        'Zs-0SHMKBOZ,0,10,"/m/0140xf","[\'rock\']",Fast.,4,False,False',
    )
    sound(tmp_path / "wav" / "[-0Gj8-vB1q4]-[30-40].wav")
    (found,) = labelled(tmp_path)
    assert found.labels == (("kind", "music"), ("instrument", "guitar"), ("genre", "jazz"))
    assert found.split == "test" and found.known == {"kind", "instrument/guitar", "genre"}
    assert found.recording.about["caption"] == "Slow."


def test_audioset_counts_a_label_as_the_nearest_that_we_have_a_name_for(tmp_path: Path) -> None:
    def node(mark: str, name: str, *children: str) -> dict:
        return {"id": mark, "name": name, "child_ids": list(children), "restrictions": []}

    nodes = [
        node("/m/1", "Animal", "/m/2"), node("/m/2", "Dog", "/m/3"), node("/m/3", "Yip"),
        node("/m/4", "Human voice", "/m/5"), node("/m/5", "Speech", "/m/6"), node("/m/6", "Narration, monologue"),
        node("/m/7", "Music", "/m/8"), node("/m/8", "Musical instrument", "/m/9"), node("/m/9", "Bass guitar"),
    ]  # fmt: skip
    write(tmp_path / "ontology.json", json.dumps(nodes))
    header = "# Segments csv created Sun Mar  5 10:54:31 2017", "# YTID, start_seconds, end_seconds, positive_labels"
    write(tmp_path / "balanced_train_segments.csv", *header, 'abcdefghij0, 0.000, 10.000, "/m/3,/m/6"')
    write(tmp_path / "eval_segments.csv", *header, '-bcdefghi_1, 30.000, 40.000, "/m/9"', 'gone0000000, 0, 10, "/m/9"')
    sound(tmp_path / "audio" / "Yabcdefghij0.wav")
    sound(tmp_path / "audio" / "-bcdefghi_1_30.wav")
    first, second = labelled(tmp_path)
    assert first.labels == (("kind", "sound"), ("event", "dog"), ("kind", "speech"))
    assert "event/dog" in first.known and "event" not in first.known
    assert second.labels == (("kind", "music"), ("instrument", "bass")) and second.split == "test"


def test_librispeech_with_its_table_of_speakers(tmp_path: Path) -> None:
    sound(tmp_path / "train" / "103" / "1240" / "103-1240-0000.wav")
    write(tmp_path / "train" / "SPEAKERS.TXT", ";ID  |SEX| SUBSET", "103 | F | train-clean-100 | 25.2 | Karen Savage")
    (found,) = labelled(tmp_path / "train")
    assert (
        found.label("sex") == "female"
        and found.original == "librispeech_103"
        and found.trains == (found.split != "test")
    )


def test_a_set_whose_recordings_are_not_there_is_told(tmp_path: Path) -> None:
    write(
        tmp_path / "meta" / "esc50.csv",
        "filename,fold,target,category,esc10,src_file,take",
        "1-1-A-0.wav,1,0,dog,True,1,A",
    )
    with pytest.raises(DataError, match="laid out as esc50, but none of its recordings"):
        labelled(tmp_path)
