"""The scene network: pieces equal the whole, rows don't see each other, folders, what loudness may change."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor

from antiphon.errors import ModelError
from antiphon.models.scene.features import SceneFeatures
from antiphon.models.scene.labels import GROUPS, checked, label
from antiphon.models.scene.network import NetworkConfig, Readings, SceneNetwork, Summary
from antiphon.nn.state import fork, join, select

LABELS = {"feeling": ("sad", "happy"), "kind": ("speech", "music"), "event": ("dog", "rain", "cow")}
TINY = dict(layers=3, features=12, bands=6, mixes=2, mixed=5, width=16, heads=2, inner=24, depth=2, window=3)


def tiny(seed: int = 0) -> SceneNetwork:
    torch.manual_seed(seed)
    network = SceneNetwork(NetworkConfig(labels=LABELS, **TINY)).eval()
    network.mean.normal_()
    return network


def noise(frames: int, batch: int = 2) -> SceneFeatures:
    return SceneFeatures(
        torch.randn(batch, 3, frames, 12), -40 + 10 * torch.randn(batch, frames), torch.randn(batch, 6, 8 * frames)
    )


def same(one: Summary, other: Summary) -> bool:
    pairs: list[tuple[Tensor, Tensor]] = [(one.logits[name], other.logits[name]) for name in one.logits]
    assert one.tempo is not None and other.tempo is not None
    pairs += [(one.vector, other.vector), (one.tempo, other.tempo)]
    return all(torch.allclose(*pair, atol=1e-4) for pair in pairs)


def whole_of(parts: list[Readings]) -> Readings:
    frames = {name: torch.cat([part.frames[name] for part in parts], 1) for name in parts[0].frames}
    return Readings(frames, torch.cat([part.vectors for part in parts], 1))


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 8, 45, 64])
def test_pieces_give_what_the_whole_gives(frames: int) -> None:
    network, features, draw = tiny(), noise(frames), random.Random(frames)
    readings, summary = network(features)
    state, parts, at = network.init_state(2), [], 0
    while at < frames:
        size = draw.randint(0, 13)
        parts.append(network.step(features.cut(at, min(frames, at + size)), state))
        at += size
    assert same(network.summary(state), summary)
    parts.append(network.step(features.cut(frames), state, last=True))
    assert same(network.summary(state), summary)
    stepped = whole_of(parts)
    assert torch.allclose(stepped.vectors, readings.vectors, atol=1e-5)
    for name in ("kind", "event"):
        assert torch.allclose(stepped.frames[name], readings.frames[name], atol=1e-5)


@torch.no_grad()
def test_a_summary_leaves_the_state_as_it_is() -> None:
    network, features = tiny(), noise(45)
    state = network.init_state(2)
    network.step(features.cut(0, 21), state)
    network.summary(state)
    network.step(features.cut(21), state)
    assert same(network.summary(state), network(features)[1])


@torch.no_grad()
def test_rows_are_what_they_are_alone() -> None:
    network, features = tiny(), noise(45)
    short = SceneFeatures(features.layers[1:, :, :19], features.level[1:, :19], features.mel[1:, :, :152])
    summary = network(features, torch.tensor([45, 19]))[1]
    alone = network(short)[1]
    assert torch.allclose(summary.logits["event"][1:], alone.logits["event"], atol=1e-4)
    assert torch.allclose(summary.tempo[1:], alone.tempo, atol=1e-4)


@torch.no_grad()
def test_states_are_forked_selected_and_joined() -> None:
    network, features = tiny(), noise(30)
    state = network.init_state(2)
    network.step(features.cut(0, 11), state)
    swapped = join([select(state, [1]), select(fork(state), [0])])
    rest = features.cut(11)
    network.step(SceneFeatures(rest.layers.flip(0), rest.level.flip(0), rest.mel.flip(0)), swapped)
    summary, expected = network.summary(swapped), network(features)[1]
    assert torch.allclose(summary.logits["event"].flip(0), expected.logits["event"], atol=1e-4)
    assert torch.allclose(summary.tempo.flip(0), expected.tempo, atol=1e-4)


@torch.no_grad()
def test_loudness_changes_manner_and_kind_alone() -> None:
    network, features = tiny(), noise(20)
    louder = SceneFeatures(features.layers, features.level + 12, features.mel)
    quiet, loud = network(features)[1], network(louder)[1]
    assert torch.equal(quiet.logits["feeling"], loud.logits["feeling"])
    assert not torch.allclose(quiet.logits["kind"], loud.logits["kind"])


def test_every_parameter_learns() -> None:
    network, features = tiny(), noise(20)
    readings, summary = network(features)
    assert summary.tempo is not None
    outputs = [*readings.frames.values(), *summary.logits.values(), summary.tempo]
    sum(output.square().mean() for output in outputs).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_a_folder_holds_all_of_it(tmp_path: Path) -> None:
    network = tiny()
    network.save(tmp_path)
    again = SceneNetwork.from_pretrained(tmp_path)
    assert again.config == network.config and again.config.labels["feeling"] == ("happy", "sad")
    for name, value in network.state_dict().items():
        assert torch.allclose(again.state_dict()[name], value, atol=1e-2), name
    with pytest.raises(ModelError, match="holds no scene network"):
        SceneNetwork.from_pretrained(tmp_path / "none")


def test_training_goes_on_with_the_labels_that_both_know(tmp_path: Path) -> None:
    old = tiny()
    old.save(tmp_path)
    torch.manual_seed(1)
    more = {**LABELS, "event": ("cow", "pig", "dog"), "sex": ("male",)}
    network = SceneNetwork(NetworkConfig(labels=more, **TINY))
    fresh = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(network.read_weights(tmp_path), strict=False)
    assert network.config.labels["event"] == ("dog", "cow", "pig") and old.config.labels["event"] == (
        "dog",
        "cow",
        "rain",
    )
    for name, row, other in (("whole.event", 1, 1), ("times.event", 0, 0), ("attention", 2, 1), ("attention", 3, 2)):
        mine, theirs = network.state_dict()[f"{name}.weight"], old.state_dict()[f"{name}.weight"]
        assert torch.allclose(mine[row], theirs[other], atol=1e-3), name
    for name, row in (("whole.event", 2), ("whole.sex", 0), ("attention", 1)):
        assert torch.equal(network.state_dict()[f"{name}.weight"][row], fresh[f"{name}.weight"][row]), name
    assert torch.allclose(network.project, old.project, atol=1e-3)


def test_labels_are_in_the_vocabularys_order_and_known() -> None:
    assert checked({"event": ["rain", "dog", "rain"], "sex": []}) == {"sex": (), "event": ("dog", "rain")}
    assert label("tempo", "120.2").words == "120 beats per minute" and label("event", "dog").phrase == "a dog barks"
    with pytest.raises(ModelError, match="no label 'hat'"):
        checked({"event": ["hat"]})
    with pytest.raises(ModelError, match="no group of labels 'mood'"):
        checked({"mood": ["sad"]})
    for each in GROUPS.values():
        assert len(set(each.names)) == len(each.names)
