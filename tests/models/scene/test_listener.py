"""From frames to scenes: gathering what comes at different times, stretches of time, what is told and how."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from antiphon.audio import mel
from antiphon.encoders.whisper.encoder import EncoderConfig, WhisperBlockEncoder
from antiphon.errors import ModelError
from antiphon.models.scene.features import FRAME, GatherState, extract, gather, level
from antiphon.models.scene.listener import SceneListener, Thresholds, likelihoods, spans
from antiphon.models.scene.network import NetworkConfig, SceneNetwork
from antiphon.models.scene.scene import Scene, SoundEvent

LABELS = {"kind": ("speech", "music"), "event": ("dog",), "sex": ("female", "male"), "instrument": ("piano",)}


def encoder() -> WhisperBlockEncoder:
    torch.manual_seed(0)
    config = EncoderConfig(width=12, layers=2, heads=2, inner=24, bands=8, positions=120, block=40, right=8)
    return WhisperBlockEncoder(config).eval()


def listener() -> SceneListener:
    torch.manual_seed(0)
    sizes = dict(layers=3, features=12, bands=8, mixes=2, mixed=5, width=16, heads=2, inner=24, depth=1, window=3)
    return SceneListener(
        SceneNetwork(NetworkConfig(labels=LABELS, **sizes)),
        Thresholds(times={"kind/speech": 0.45}, noteworthy={"sex/male": 0.7}),
    )


def test_the_level_is_that_of_each_80_ms() -> None:
    samples = torch.cat([torch.full((1, FRAME), 0.1), torch.zeros(1, FRAME), torch.full((1, 100), 1.0)], 1)
    assert torch.allclose(level(samples), torch.tensor([[-20.0, -90.0, 0.0]]), atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("size", [500, 16000, 41234])
def test_gathered_as_it_comes_it_is_what_is_extracted_of_the_whole(size: int) -> None:
    whisper, samples, draw = encoder(), 0.1 * torch.randn(1, size), random.Random(size)
    whole = extract(samples, whisper)
    spectrogram, blocks = mel.init_state(1), whisper.init_state(1)
    state, parts, at = GatherState.empty(whisper.config), [], 0
    while True:
        piece, last = samples[:, at : at + draw.randint(0, 5000)], False
        at += piece.shape[1]
        last = at == size
        new, spectrogram = mel.step(piece, spectrogram, last=last, bands=8)
        parts.append(gather(piece, new, whisper.step_layers(new, blocks, last=last)[2], state, last=last))
        if last:
            break
    for name in ("layers", "level", "mel"):
        together = torch.cat([getattr(part, name) for part in parts], 1 if name == "level" else 2)
        assert torch.allclose(together, getattr(whole, name), atol=1e-4), name
    assert not state.samples.numel() and not state.early.level.numel()


def test_a_stretch_begins_and_ends_by_two_thresholds_and_short_gaps_are_closed() -> None:
    thresholds = Thresholds(release=0.5, max_gap=0.24, min_seconds=0.16)
    likely = torch.tensor([0.1, 0.3, 0.6, 0.3, 0.2, 0.7, 0.2, 0.0, 0.0, 0.0, 0.9, 0.0, 0.3, 0.3, 0.3])
    assert spans(likely, 0.6, thresholds) == [
        (1, 6)
    ]  # the short one and those that never are likely enough aren't told
    assert spans(torch.tensor([0.9, 0.9]), 0.5, thresholds) == [(0, 2)] and spans(torch.zeros(0), 0.5, thresholds) == []


def test_pieces_give_the_scene_of_the_whole(tmp_path: Path) -> None:
    each, whisper, samples = listener(), encoder(), 0.1 * torch.randn(40000)
    whole = each.hear(samples, whisper)
    features, state, at = extract(samples[None], whisper), each.init_state(), 0
    for size in (3, 0, 17, 5, 40):
        each.step(features.cut(at, at + size), state)
        at += size
        each.finish(state)  # changes nothing
    again = each.finish(state)
    assert again.duration == whole.duration == pytest.approx(2.56)
    assert [event.label for event in again.events] == [event.label for event in whole.events]
    assert again.chances["event"]["dog"] == pytest.approx(whole.chances["event"]["dog"], abs=1e-4)
    each.save(tmp_path)
    read = SceneListener.from_pretrained(tmp_path)
    assert whole.noteworthy == {"sex/male": 0.7}
    assert read.thresholds == each.thresholds and read.hear(samples, whisper).duration == whole.duration
    tree = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**tree, "thresholds": {"loudly": 1}}))
    with pytest.raises(ModelError, match="thresholds that are unknown"):
        SceneListener.from_pretrained(tmp_path)
    assert each.hear(torch.zeros(0), whisper) == Scene()


def test_a_laugh_is_a_manner_of_speaking_as_much_as_an_event() -> None:
    names = {"manner": ("loud", "laughing"), "event": ("dog", "laughing"), "feeling": ("happy", "sad")}
    logits = {"manner": [-3.0, -2.0], "event": [4.0, 3.0], "feeling": [0.0, 0.0]}
    likely = likelihoods({group: torch.tensor([each]) for group, each in logits.items()}, names)
    torch.testing.assert_close(likely["manner"], torch.tensor([[-3.0, 3.0]]).sigmoid())
    torch.testing.assert_close(likely["event"], torch.tensor([[4.0, 3.0]]).sigmoid())
    assert likely["feeling"].tolist() == [[0.5, 0.5]]
    assert set(likelihoods({"event": torch.zeros(1, 2)}, names)) == {"event"}


def test_of_voices_and_music_is_told_where_there_are_any() -> None:
    each = listener()
    state = each.init_state()
    loud = torch.full((50, 2), 0.9)
    for kinds in ((0,), (1,), (0, 1), ()):
        state.likely = {"kind": torch.zeros(50, 2), "event": torch.zeros(50, 1)}
        for column in kinds:
            state.likely["kind"][:, column] = loud[:, column]
        groups = {event.group for event in each.finish(state).events}
        assert ("sex" in groups) == (0 in kinds)
        assert "instrument" not in groups or 1 in kinds


def test_a_scene_in_words_and_as_json() -> None:
    scene = Scene(
        (
            SoundEvent("kind", "speech", 0.99, 0.0, 3.2), SoundEvent("sex", "female", 0.9, 0.0, 4.0),
            SoundEvent("feeling", "angry", 0.8, 0.0, 4.0), SoundEvent("kind", "sound", 0.9, 1.4, 2.0),
            SoundEvent("event", "dog", 0.7, 1.4, 2.0), SoundEvent("kind", "silence", 0.9, 3.2, 4.0),
        ),
        4.0,
        {"sex": {"female": 0.9, "male": 0.1}},
        (1.0, 2.0),
    )  # fmt: skip
    assert str(scene) == "0.0-3.2 s speech (woman, angry); 1.4-2.0 s a dog barks"
    tree = json.loads(json.dumps(scene.to_json()))
    assert tree["events"][4] == {"group": "event", "label": "dog", "probability": 0.7, "start": 1.4, "end": 2.0}
    assert tree["chances"] == {"sex": {"female": 0.9, "male": 0.1}} and "vector" not in tree
    assert [event.label for event in scene.of("kind")] == ["speech", "sound", "silence"] and str(Scene()) == ""
