"""Adapters of Moshi: what they add, that only they learn, and that the `moshi` package reads and writes the same."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from antiphon.errors import HubError, ModelError
from antiphon.models.lora import Lora, LoraConfig
from antiphon.models.moshi.config import DepthConfig
from antiphon.models.moshi.model import Moshi, MoshiConfig
from antiphon.models.moshi.weights import LORA_FILE as FILE
from antiphon.models.moshi.weights import load_lora, read_lora, save_lora


def make(seed: int = 0, schedule: list[int] | None = None) -> Moshi:
    torch.manual_seed(seed)
    depth = DepthConfig(dim=16, heads=2, layers=2, inner=24, codebooks=3, schedule=schedule)
    sizes = MoshiConfig(
        dim=32, heads=4, layers=2, inner=48, context=20, text_card=20, codebooks=3, user_codebooks=3, card=12,
        depth=depth,
    )  # fmt: skip
    return Moshi(sizes).eval()


def a_grid() -> torch.Tensor:
    return torch.randint(12, (2, 7, 10), generator=torch.Generator().manual_seed(1))


def filled(model: Moshi, scaling: float = 2.0, linears: tuple[str, ...] = ("*",)) -> Lora:
    lora = Lora(model, LoraConfig(4, 4 * scaling, linears))
    for _, pair in lora.named_pairs():
        nn.init.normal_(pair.lora_B, std=0.3)
    return lora


def logits(model: Moshi) -> torch.Tensor:
    with torch.no_grad():
        out = model(a_grid())
    return torch.cat([out.text.flatten(), out.codes.flatten()])


def test_untrained_pairs_change_nothing_and_trained_ones_the_same_attached_or_merged():
    model = make()
    before = logits(model)
    lora = Lora(model, LoraConfig(4))
    assert len(list(lora.named_pairs())) == 2 * 4 + 1 + 2 * 4 + 2  # layers, text head, depth's, its input and heads
    lora.attach(model)
    assert torch.equal(logits(model), before)
    lora.detach(model)
    lora = filled(model)
    lora.attach(model)
    attached = logits(model)
    lora.detach(model)
    assert torch.equal(logits(model), before)
    lora.merge(model)
    assert (attached - before).abs().max() > 0.01
    torch.testing.assert_close(logits(model), attached, atol=1e-5, rtol=0)


def test_only_the_pairs_learn():
    model = make()
    names = list(dict(model.named_parameters()))
    lora = filled(model, linears=("temporal.layers.1.*", "depth.heads"))
    lora.attach(model)
    out = model(a_grid())
    (out.text.square().sum() + out.codes.square().sum()).backward()
    learns = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert all(name.endswith(("lora_A", "lora_B")) for name in learns) and len(learns) == 2 * 5
    assert all(parameter.grad.abs().max() > 0 for parameter in lora.parameters())
    lora.detach(model)
    assert list(dict(model.named_parameters())) == names
    with pytest.raises(ModelError, match="no linear layer"):
        filled(model, linears=("temporal.norm",))


def test_checkpoints_of_our_own_round_trip_and_wrong_ones_are_refused(tmp_path):
    model = make()
    lora = filled(model, linears=("temporal.*", "depth.layers.0.project"))
    save_lora(lora, model.config, tmp_path / "a", dtype=torch.float32)
    again = load_lora(tmp_path / "a" / FILE, model)
    assert again.state_dict().keys() == lora.state_dict().keys() and again.config.alpha == 8.0
    for key, value in lora.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])
    weights = load_file(tmp_path / "a" / FILE)
    some = {key: value for key, value in weights.items() if "in_projs.1" not in key}  # one codebook without
    save_file(some, tmp_path / "some.safetensors")
    pair = read_lora(tmp_path / "some.safetensors", model.config)["depth.layers.0.project"]
    assert pair[0][1].abs().max() == 0 and pair[0][2].abs().max() > 0
    save_file({**weights, "blocks.7.lora_A.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(HubError, match=r"unknown: blocks\.\*"):
        read_lora(tmp_path / "other.safetensors", model.config)
    half = {
        key: value for key, value in weights.items() if key != "transformer.layers.0.gating.linear_in.lora_B.weight"
    }
    save_file(half, tmp_path / "half.safetensors")
    with pytest.raises(HubError, match="is missing"):
        read_lora(tmp_path / "half.safetensors", model.config)
    with pytest.raises(HubError, match="cannot be read"):
        load_lora(tmp_path / "none.safetensors", model)
    torch.manual_seed(0)
    wider = Moshi(MoshiConfig(**{**model.config.to_dict(), "inner": 50}))
    with pytest.raises(HubError, match="another model"):
        load_lora(tmp_path / "a", wider)
