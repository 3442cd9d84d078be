"""From samples to a scene, live: what is heard of any pieces is what is heard of the whole recording."""

from __future__ import annotations

import random

import pytest
import torch

from antiphon.encoders.whisper.encoder import EncoderConfig, WhisperBlockEncoder
from antiphon.hub.folders import weights_dir
from antiphon.models.scene.hearing import SceneHearing
from antiphon.models.scene.listener import SceneListener
from antiphon.models.scene.network import NetworkConfig, SceneNetwork
from antiphon.models.scene.scene import Scene

ENCODER = EncoderConfig(width=16, layers=2, heads=2, inner=24, bands=8, positions=60, block=20, right=4)
LABELS = {"feeling": ("sad", "happy"), "kind": ("speech", "music"), "event": ("dog", "rain", "cow")}
NETWORK = dict(layers=3, features=16, bands=8, mixes=2, mixed=5, width=16, heads=2, inner=24, depth=1, window=3)


@pytest.fixture(scope="module")
def scenes() -> SceneHearing:
    torch.manual_seed(0)
    network = SceneNetwork(NetworkConfig(labels=LABELS, **NETWORK))
    return SceneHearing(WhisperBlockEncoder(ENCODER).eval(), SceneListener(network.eval()))


def same(one: Scene, other: Scene) -> None:
    assert one.duration == pytest.approx(other.duration) and one.chances.keys() == other.chances.keys()
    for group in one.chances:
        assert one.chances[group] == pytest.approx(other.chances[group], abs=1e-4)
    assert one.vector == pytest.approx(other.vector, abs=1e-4)
    assert [event.label for event in one.events] == [event.label for event in other.events]


@pytest.mark.parametrize("seconds", [0.05, 0.33, 1.61, 4.0])  # the encoder starts afresh after 1.2
def test_pieces_give_what_the_whole_gives(scenes: SceneHearing, seconds: float) -> None:
    torch.manual_seed(1)
    samples, draw = 0.1 * torch.randn(int(seconds * 16000)), random.Random(2)
    whole = scenes.listener.hear(samples, scenes.encoder)
    state, left = scenes.init_state(), samples
    while len(left):
        size = draw.randint(0, 5000)
        scenes.step(left[:size], state)
        left = left[size:]
        scenes.finish(state)  # a look at what was heard changes nothing
    same(scenes.finish(state), whole)


def test_nothing_was_heard_of_nothing(scenes: SceneHearing) -> None:
    found = scenes.finish(scenes.init_state())
    assert found.duration == 0.0 and not found.events


def test_the_network_that_ships_is_loaded() -> None:
    assert SceneListener.from_pretrained(weights_dir("scene")).network.config.labels["event"]
