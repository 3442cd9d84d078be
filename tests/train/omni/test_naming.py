"""Towers that learn names: what is true where, what a token is to be, and that only the tower learns."""

import json

import numpy as np
import pytest
import torch

from antiphon.data.omni.names import HEARD, SEEN
from antiphon.data.omni.pictures import Named
from antiphon.models.omni import weights
from antiphon.train import load_recipe
from antiphon.train.config import with_sections
from antiphon.train.omni.naming import LETTERS, Namer, VisionNamesTask, in_cells, while_heard
from antiphon.train.task import build_task, freeze
from tests.models.omni.tiny import ours
from tests.models.speech_lm.tiny import tokenizer
from tests.train.tiny import RECIPES, run_recipe


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("omni")
    weights.save(ours(scale=0.1), folder / "model")
    tokenizer().save(str(folder / "model" / "tokenizer.json"))
    return folder


def test_names_stand_in_the_cell_of_their_middle():
    true = in_cells([Named(0.1, 0.9, ("red", "circle")), Named(1.0, 0.0, ("blue",))], 4, 4)
    assert {SEEN[name] for name in true[3, 0].nonzero().flatten()} == {"red", "circle"}
    assert {SEEN[name] for name in true[0, 3].nonzero().flatten()} == {"blue"}
    assert int(true.sum()) == 3
    assert int(in_cells([Named(0.5, 0.5, ("b",))], 2, 2, LETTERS)[1, 1].argmax()) == 1


def test_a_sounds_name_lasts_as_long_as_it_does():
    true = while_heard([("dog", 0.4, 1.0)], 50)
    assert true[:, HEARD.index("dog")].nonzero().flatten().tolist() == list(range(10, 25))
    assert true[:, HEARD.index("start")].nonzero().flatten().tolist() == [10, 11, 12]


def test_a_token_that_is_what_it_is_to_be_is_named_rightly():
    torch.manual_seed(0)
    namer = Namer(ours(), torch.randn(6, 32), torch.randn(32))
    true = torch.zeros(3, 6)
    true[0, 2] = true[1, 1] = true[1, 4] = 1.0
    target = namer.target(true)
    assert torch.allclose(target[1], (namer.table[1] + namer.table[4]) / 2**0.5)
    assert torch.equal(target[2], namer.nothing)
    assert float(namer.losses(target, true)["near"]) == 0.0
    with torch.no_grad():
        namer.scale.fill_(20.0)
        namer.bias.fill_(-8.0)
    assert namer.right(target, true, {"all": range(6)})["all"] == 1.0
    assert float(namer.losses(target, true)["names"]) < float(namer.losses(target.roll(1, 0), true)["names"])


def test_the_tower_learns_and_nothing_else(place):
    given = {"model": {"folder": str(place / "model")}, "batch": 4, "out": str(place / "run")}
    config = with_sections(
        load_recipe(RECIPES / "omni-small/vision.yaml", [f"{key}={json.dumps(value)}" for key, value in given.items()])
    )
    config.model.tokenizer = None
    task = build_task(config)
    assert isinstance(task, VisionNamesTask)
    trained = freeze(task.model, config.trainable, config.frozen)
    sum(task.losses(task.batch(0)).values()).backward()
    for name, parameter in task.model.named_parameters():
        assert (parameter.grad is not None) == (name in trained), name
        assert name not in trained or bool(parameter.grad.isfinite().all())
    batch, again = task.batch(3), task.batch(3)
    assert all(torch.equal(one, other) for one, other in zip(batch, again))
    optimizer = torch.optim.Adam([each for each in task.model.parameters() if each.requires_grad], 3e-3)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = sum(task.losses(batch).values())
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.7 * losses[0]


def test_the_recipe_writes_a_model_that_loads(place, tmp_path):
    settings = {"model__folder": str(place / "model"), "model__tokenizer": None, "batch": 2, "measure_every": 0}
    folder = run_recipe("omni-small/vision", tmp_path / "run", **settings)
    before, after = weights.load(place / "model"), weights.load(folder)
    changed = {name for name, value in before.state_dict().items() if not torch.equal(value, after.state_dict()[name])}
    assert changed and all(name.startswith("thinker.visual.") for name in changed)
    assert np.isfinite([float(value.sum()) for value in after.state_dict().values()]).all()
