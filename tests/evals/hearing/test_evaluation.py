"""Recordings by split, encoded once; what is known of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from antiphon.data.scene.encoded import EncodedExample
from antiphon.data.scene.example import Span
from antiphon.errors import DataError
from antiphon.evals.hearing.evaluation import Recorded, likeliest
from antiphon.models.lora import Lora, LoraConfig
from antiphon.models.scene.hearing import scene_encoder
from antiphon.models.scene.scene import Scene


def test_test_speakers_are_not_those_to_learn_from(evaluation):
    test, train = (evaluation.whole("emodb", split, "feeling") for split in ("test", "train"))
    assert len(test) == len(train) == 6
    assert not {each.example.id for each in test} & {each.example.id for each in train}
    assert {each.label("sex") for each in test} == {"male"} and {each.label("sex") for each in train} == {"female"}
    assert all(each.features.frames == each.example.length for each in test)


def test_what_is_encoded_is_not_encoded_again(evaluation, monkeypatch):
    first = evaluation.whole("esc10", "test", "event")
    monkeypatch.setattr("antiphon.evals.hearing.evaluation.encode", None)  # a second call would fail
    assert [each.example for each in evaluation.whole("esc10", "test", "event")] == [each.example for each in first]


def test_at_most_so_many_are_taken_from_everywhere(evaluation):
    ids = [each.example.id for each in evaluation.whole("emodb", "train")]
    assert [each.example.id for each in evaluation.whole("emodb", "train", most=2)] == [ids[0], ids[3]]


def test_sets_made_for_training_are_read_as_they_are(evaluation, tmp_path):
    made = evaluation.whole("emodb", "train")
    other = type(evaluation)(replace(evaluation.config, sets=evaluation.folder, audio=None))
    assert [each.example for each in other.whole("emodb", "train")] == [each.example for each in made]


def test_what_another_encoder_gives_is_kept_apart(evaluation, tmp_path):
    pairs = Lora(evaluation.encoder, LoraConfig(2, 4.0, ("v_proj", "fc2")))
    for _, pair in pairs.named_pairs():
        torch.nn.init.normal_(pair.lora_B)
    evaluation.listener.save(tmp_path / "scene")
    pairs.save(tmp_path / "scene" / "encoder")
    config = replace(evaluation.config, parts={"scene": tmp_path / "scene"}, sets=evaluation.folder)
    other = type(evaluation)(config)
    other.encoder, other.listener = scene_encoder(other.scene, evaluation.encoder), evaluation.listener
    assert other.sets is None and evaluation.folder in other.folder.parents and evaluation.sets is None
    plain, heard = (each.whole("esc10", "test", "event", most=1)[0].features.layers for each in (evaluation, other))
    assert plain.shape == heard.shape and float((plain - heard).abs().max()) > 0.01


def test_missing_recordings_are_named(evaluation):
    with pytest.raises(DataError, match="--audio FOLDER .with sonic-pi"):
        evaluation.place("sonic-pi")
    with pytest.raises(DataError, match="--speech"):
        evaluation.place("librispeech")
    assert evaluation.has("emodb") and not evaluation.has("librispeech")


def test_what_is_known():
    spans = (Span("manner", "fast", 0, 1), Span("event", "dog", 0, 1), Span("event", "rooster", 1, 2))
    each = Recorded(None, EncodedExample("a", "test", spans, frozenset({"manner/fast", "manner/slow", "event"}), 2.0))
    assert each.label("manner", ("fast", "slow")) == "fast"
    assert each.label("event") == "" and each.label("event", ("dog",)) == "dog"
    assert (each.has("manner", "fast"), each.has("manner", "slow"), each.has("manner", "loud")) == (True, False, None)


def test_the_likeliest_of_some_labels():
    scene = Scene(chances={"feeling": {"happy": 0.2, "sad": 0.3, "angry": 0.5}})
    assert likeliest(("happy", "sad"), "feeling")(scene) == "sad"
    assert likeliest(("bored",), "feeling")(scene) == "" and likeliest(("female",), "sex")(scene) == ""
