"""The task that trains the network of turns: what it draws, measures and writes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from antiphon.data.dialogue.format import MODEL, USER, Dialogue, DialogueWriter, Event
from antiphon.errors import ConfigError
from antiphon.models.turns.network import TurnNetwork
from antiphon.train import load_recipe
from antiphon.train.turns.task import TurnsTask, area
from tests.train.tiny import RECIPES, run_recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    place = tmp_path_factory.mktemp("turns") / "set"
    generator = np.random.default_rng(0)
    with DialogueWriter(place, ".flac") as writer:
        for number in range(3):
            model, user = np.zeros(24000 * 6, np.float32), np.zeros(24000 * 6, np.float32)
            user[12000:48000] = 0.1 * generator.standard_normal(36000)
            model[60000:110000] = 0.1 * generator.standard_normal(50000)
            events = [
                Event("turn", 0.5, 2.0, USER), Event("pause", 1.0, 1.4, USER), Event("turn", 2.5, 4.58, MODEL),
                Event("backchannel", 3.0, 3.3, USER), Event("turn", 4.0, 5.0, USER),
            ]  # fmt: skip
            writer.add(f"talk-{number}", Dialogue(model, user, 24000, [], events))
    return str(place)


def task(folder: str, *more: str) -> TurnsTask:
    given = [f"data.sets=[{folder}]", f"data.dev=[{folder}]", "batch=4", "data.seconds=2.4", *more]
    return TurnsTask(load_recipe(RECIPES / "turns/network.yaml", given))


def test_a_batch_follows_from_its_number_and_short_talks_weigh_nothing_where_they_end(folder):
    one, two = task(folder).batch(3), task(folder).batch(3)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert one["hops"].shape == (4, 30, 640) and not torch.equal(one["hops"], task(folder).batch(4)["hops"])
    long = task(folder, "data.seconds=8").batch(0)
    assert long["weights"].shape == (4, 100) and not long["weights"][:, 75:].any() and long["weights"][:, :74].all()


def test_the_first_second_of_silences_and_sounds_counts_for_more(folder):
    weights = task(folder).train[0].weights
    assert weights[:11].eq(1).all() and weights[13] == 3 and weights[26] == 3


def test_what_is_measured(folder):
    found = task(folder)
    talk = found.train[0]
    assert sorted(talk.ends) == [(15, 0), (28, 1), (65, 1)] and sorted(talk.sounds) == [(40, 0), (53, 1)]
    measured = found.measure(0, {})
    assert set(measured) == {"frames-right", "ends-auc", "sounds-auc"} and all(0 <= v <= 1 for v in measured.values())


def test_area_under_the_curve_by_hand():
    assert area([(0.9, 1), (0.4, 1), (0.5, 0), (0.1, 0)]) == 0.75
    assert area([(0.5, 1), (0.5, 0)]) == 0.5 and np.isnan(area([(0.5, 1)]))


def test_the_shipped_recipe_takes_two_steps_and_what_it_writes_can_be_read(folder, tmp_path):
    out = run_recipe("turns/network", tmp_path, data__sets=[folder], data__dev=[folder], batch=2, data__seconds=1.6,
                     model__width=8, model__hidden=8)  # fmt: skip
    assert TurnNetwork.from_pretrained(out).config.hidden == 8


def test_nothing_to_learn_from_is_said():
    with pytest.raises(ConfigError, match="antiphon data turns"):
        TurnsTask(load_recipe(RECIPES / "turns/network.yaml", ["data.sets=[]"]))
