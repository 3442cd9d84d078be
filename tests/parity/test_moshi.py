"""Moshi beside the `moshi` package: the same logits, steps and files with the same random weights."""

import json

import pytest
import torch
from safetensors.torch import save_file

from antiphon.errors import HubError
from antiphon.models.moshi.model import GREEDY, MoshiConfig
from antiphon.models.moshi.weights import for_kyutai, from_kyutai, load, ours, published, read
from antiphon.nn.delays import delay
from tests.models.moshi.test_weights import KYUTAI, a_grid


def kyutai(**given):
    """A model of the `moshi` package, random weights."""
    loaders = pytest.importorskip("moshi.models.loaders")
    torch.manual_seed(0)
    model = loaders.get_moshi_lm(None, lm_kwargs={**KYUTAI, **given}, dtype=torch.float32)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model.eval()


def folder_of(model, path, fields: dict = KYUTAI, name: str = "model.safetensors"):
    path.mkdir()
    (path / "config.json").write_text(json.dumps({**fields, "moshi_name": name, "model_type": "moshi"}))
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path / name)
    return path


@pytest.mark.parametrize("given", [
    {}, {"delays": [0, 0, 2, 2, 2, 0, 2, 2, 2], "depformer_weights_per_step_schedule": [0, 1, 2, 2]},
    {"norm": "rms_norm", "hidden_scale": 4, "depformer_dim_feedforward": None, "max_period": 500},
    {"depformer_multi_linear": False}, {"dep_q": 8},
])  # fmt: skip
def test_logits_are_those_of_the_moshi_package(given, tmp_path):
    theirs = kyutai(**given)
    mine = load(folder_of(theirs, tmp_path / "m", {**KYUTAI, **given}))
    grid = a_grid(70)  # the context is 48
    grid[0, 3:6, 20:25] = -1
    with torch.no_grad():
        expected = theirs(grid)
        lag = mine.config.max_delay
        out = mine(delay(grid, mine.config.delays, -1)[:, :, :70])
    torch.testing.assert_close(out.text, expected.text_logits[:, 0], atol=1e-4, rtol=0)
    codes = out.codes.view(2, 70, mine.config.predicted, 30)
    for k in range(mine.config.predicted):
        first = mine.config.delays[1 + k]
        torch.testing.assert_close(
            codes[:, first:, k], expected.logits[:, k, : 70 - first], atol=1e-4, rtol=0, equal_nan=False
        )
    assert lag > 0 and out.text.std() > 0.1 and codes.std() > 0.1  # not all the same


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("delays", [KYUTAI["delays"], [0, 0, 2, 2, 2, 0, 2, 2, 2], [0] * 9])
def test_greedy_steps_are_those_of_the_moshi_package(delays, packed, tmp_path):
    given = {"delays": delays, "num_layers": 2, "depformer_num_layers": 1}
    theirs = kyutai(**given).half().float()
    lm = pytest.importorskip("moshi.models.lm")
    mine = load(folder_of(theirs, tmp_path / "m", {**KYUTAI, **given}))
    if packed:
        mine.pack()
    user = torch.randint(30, (2, 4, 200), generator=torch.Generator().manual_seed(1))
    user[0, :, 60:70] = -1
    generator, state, heard = lm.LMGen(theirs, use_sampling=False), mine.init_state(2), set()
    with generator.streaming(2):
        for t in range(200):
            expected = generator.step(user[:, :, t : t + 1])
            found = mine.step(user[:, :, t], state, GREEDY)
            if expected is None:
                assert t < max(delays) and (found == -1).all()
            else:
                assert torch.equal(found, expected[:, :, 0]), f"frame {t}"
                heard.update(found.flatten().tolist())
    assert len(heard) > 10


def test_older_files_hold_the_weights_of_all_codebooks_in_one(tmp_path):
    theirs = kyutai()
    weights = theirs.state_dict()
    old = {key: value for key, value in weights.items() if "_projs" not in key}
    for name in ("transformer.layers.{}", "depformer.layers.{}"):
        for layer in range(3 if name.startswith("t") else 2):
            stem, count = f"{name.format(layer)}.self_attn", 1 if name.startswith("t") else 4
            for kind, end in (("in", "_weight"), ("out", ".weight")):
                parts = [weights[f"{stem}.{kind}_projs.{k}.weight"] for k in range(count)]
                old[f"{stem}.{kind}_proj{end}"] = torch.cat(parts)
    config = from_kyutai(KYUTAI, tmp_path)
    new, again = ours(weights, config, 1), ours(old, config, 1)
    assert new.keys() == again.keys() and all(torch.equal(new[key], again[key]) for key in new)


def test_our_weights_under_kyutais_names_are_the_same_model():
    theirs = kyutai()
    config = from_kyutai(KYUTAI, "")
    mine = ours(theirs.state_dict(), config, 1)
    back = for_kyutai(mine, config)
    expected = theirs.state_dict()
    assert back.keys() == expected.keys()
    assert all(torch.equal(back[key], expected[key]) for key in back)


def test_what_is_wrong_is_said(tmp_path):
    theirs = kyutai()
    path = folder_of(theirs, tmp_path / "a")
    for wrong, said in (
        ({"depformer_gating": "none"}, "depformer_gating"), ({"quantize": True}, "quantize"), ({"dep_q": 0}, "depth"),
        ({"conditioners": {"description": {"type": "lut"}}}, "conditioners"), ({"norm": "layer_norm"}, "RMS"),
        ({"extra_heads_num_heads": 4}, "extra_heads"), ({"text_card_out": 5}, "vocabulary"), ({"n_q": 5}, "delays"),
    ):  # fmt: skip
        (path / "config.json").write_text(json.dumps({**KYUTAI, **wrong}))
        with pytest.raises(HubError, match=said):
            read(path)
    (path / "config.json").write_text(json.dumps({**KYUTAI, "num_layers": 4}))
    with pytest.raises(HubError, match=r"lack 'transformer\.layers\.3"):
        read(path)
    (path / "config.json").write_text("{}")
    with pytest.raises(HubError, match="holds no Moshi"):
        read(path)
    (path / "config.json").write_text(json.dumps(KYUTAI))
    (path / "model.safetensors").unlink()
    with pytest.raises(HubError, match="no weights"):
        read(path)
    with pytest.raises(KeyError):
        published("temporal.nothing", MoshiConfig(), 1)
