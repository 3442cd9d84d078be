"""Adapters: nothing at the start, something when trained, gone when not handed over, and saved alone as peft does."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from antiphon.errors import ModelError
from antiphon.models.llm.llama import Llama, LlamaConfig, corrected
from antiphon.models.lora import CONFIG, WEIGHTS, Lora, LoraConfig, Pair, linears_of

TINY = LlamaConfig(
    hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=4,
    vocab_size=40, max_position_embeddings=128,
)  # fmt: skip


@pytest.fixture
def model() -> Llama:
    torch.manual_seed(0)
    return Llama(TINY).eval().requires_grad_(False)


@pytest.fixture
def lora(model: Llama) -> Lora:
    torch.manual_seed(1)
    return Lora(model, LoraConfig(rank=2, alpha=4.0, first=1, last=3))


def shake(lora: Lora) -> None:
    """Give every pair something to say."""
    with torch.no_grad():
        for _, pair in lora.named_pairs():
            pair.lora_B.normal_(std=0.3)


def test_a_pair_by_hand() -> None:
    pair = Pair(torch.zeros(3, 2), rank=1, scaling=2.0)
    with torch.no_grad():
        pair.lora_A.copy_(torch.tensor([[1.0, -1.0]]))
        pair.lora_B.copy_(torch.tensor([[1.0], [0.0], [3.0]]))
    # A: 5 - 2 = 3; scaled by 2: 6; B: 6, 0, 18
    torch.testing.assert_close(pair.correction(torch.tensor([5.0, 2.0])), torch.tensor([6.0, 0.0, 18.0]))
    torch.testing.assert_close(pair(torch.ones(3, 2)) @ torch.tensor([5.0, 2.0]), torch.tensor([13.0, 7.0, 25.0]))


def test_untrained_adapters_change_nothing(model: Llama, lora: Lora) -> None:
    x = model.embed(torch.randint(0, 40, (2, 7)))
    assert torch.equal(model(x, lora=lora), model(x))


def test_off_is_the_untouched_model(model: Llama, lora: Lora) -> None:
    x = model.embed(torch.randint(0, 40, (2, 7)))
    before = model(x)
    shake(lora)
    assert not torch.allclose(model(x, lora=lora), before, atol=1e-3)
    assert torch.equal(model(x), before)


def test_handed_over_attached_and_merged_they_are_the_same(model: Llama, lora: Lora) -> None:
    shake(lora)
    x = model.embed(torch.randint(0, 40, (1, 5)))
    before, adapted = model(x), model(x, lora=lora)
    lora.attach(model)
    attached = model(x)
    attached.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in lora.parameters())
    assert {name.rpartition(".")[2] for name, p in model.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}
    lora.detach(model)
    assert torch.equal(model(x), before)
    lora.merge(model)
    for other in (attached, model(x)):
        torch.testing.assert_close(other, adapted, atol=1e-5, rtol=1e-4)


def test_only_chosen_layers_and_linears(model: Llama) -> None:
    lora = Lora(model, LoraConfig(rank=1, first=1, last=2, linears=("q_proj", "down_proj")))
    assert not lora.inside("layers.0") and not lora.inside("layers.2") and lora.first_layer == 1
    assert set(lora.inside("layers.1")) == {"q_proj", "down_proj"}
    assert {name for name, _ in Lora(model, LoraConfig(linears=("layers.*.k_proj",))).named_pairs()} == {
        f"layers.{n}.k_proj" for n in range(3)
    }
    assert len(linears_of(model)) == 3 * 7  # embeddings are none
    x = torch.randn(3, 16)
    shake(lora)
    layer, pairs = model.layers[1], lora.inside("layers.1")
    k, q = layer.k_proj(x), layer.q_proj(x)
    assert torch.equal(corrected(k, x, pairs, "k_proj"), k)
    assert not torch.equal(corrected(q, x, pairs, "q_proj"), q)


def test_any_module_has_them() -> None:
    """Linear layers wherever they stand, and those that are one a codebook."""
    model = nn.Sequential(nn.Embedding(9, 4), nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6)), nn.Linear(6, 2))
    model.heads = nn.Parameter(torch.randn(3, 5, 2))
    lora = Lora(model, LoraConfig(rank=1))
    assert [name for name, _ in lora.named_pairs()] == ["heads", "1.0", "2"]
    shake(lora)
    before = [model.heads.clone(), model[2].weight.clone()]
    lora.merge(model)
    assert all(not torch.equal(*pair) for pair in zip(before, [model.heads, model[2].weight]))
    with pytest.raises(ModelError, match="codebook"):
        lora.save("nowhere")


def test_saved_as_peft_saves_and_read_again(model: Llama, lora: Lora, tmp_path: Path) -> None:
    """The names, shapes and fields are those that peft 0.19 writes for the same model of `transformers`."""
    shake(lora)
    lora.save(tmp_path)
    stored, fields = load_file(tmp_path / WEIGHTS), json.loads((tmp_path / CONFIG).read_text())
    key = "base_model.model.model.layers.{}.{}.{}.weight"
    assert set(stored) == {
        key.format(n, where, f"{part}")
        for n in (1, 2)
        for where, names in (("self_attn", "qkvo"), ("mlp", ("gate", "up", "down")))
        for name in names
        for part in (f"{name}_proj.lora_A", f"{name}_proj.lora_B")
    }
    assert stored[key.format(1, "mlp", "down_proj.lora_A")].shape == (2, 24)
    assert stored[key.format(1, "mlp", "down_proj.lora_B")].shape == (16, 2)
    assert (fields["peft_type"], fields["r"], fields["lora_alpha"]) == ("LORA", 2, 4.0)
    assert fields["layers_to_transform"] == [1, 2] and "q_proj" in fields["target_modules"]
    x = model.embed(torch.randint(0, 40, (1, 6)))
    again = Lora.from_pretrained(tmp_path, model)
    torch.testing.assert_close(model(x, lora=again), model(x, lora=lora), atol=5e-3, rtol=5e-3)
    for name in (CONFIG, WEIGHTS):  # as peft's own: without our config.json, and in float32
        assert (tmp_path / name).is_file()
    (tmp_path / "config.json").unlink()
    save_file({name: value.float() for name, value in stored.items()}, tmp_path / WEIGHTS)
    (tmp_path / CONFIG).write_text(json.dumps(fields | {"use_rslora": True}))
    scaled = Lora.from_pretrained(tmp_path, model)
    assert dict(scaled.named_pairs())["layers.1.q_proj"].scaling == pytest.approx(4.0 / 2**0.5)


def test_adapters_saved_before_0_2_are_read(model: Llama, lora: Lora, tmp_path: Path) -> None:
    shake(lora)
    parts = {"lora_A": "down", "lora_B": "up"}
    old = {name.replace(last, parts[last]): value for name, value in lora.state_dict().items()
           for last in [name.rpartition(".")[2]]}  # fmt: skip
    save_file(old, tmp_path / "model.safetensors")
    config = {"rank": 2, "alpha": 4.0, "first": 1, "last": 3, "linears": ["q_proj"], "system": "Be brief."}
    (tmp_path / "config.json").write_text(json.dumps(config))
    again = Lora.from_pretrained(tmp_path, model)
    assert again.config.system == "Be brief."
    x = model.embed(torch.randint(0, 40, (1, 6)))
    assert torch.equal(model(x, lora=again), model(x, lora=lora))


def test_errors_say_what_is_wrong(model: Llama, lora: Lora, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot read"):
        Lora.from_pretrained(tmp_path, model)
    lora.save(tmp_path)
    with pytest.raises(ModelError, match="another model"):
        Lora.from_pretrained(tmp_path, Llama(LlamaConfig(hidden_size=8)))
    with pytest.raises(ModelError, match="none of its layers has any"):
        Lora.from_pretrained(tmp_path, nn.Sequential(nn.Linear(2, 2)))
    fields = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(fields | {"use_dora": True}))
    with pytest.raises(ModelError, match="use_dora"):
        Lora.from_pretrained(tmp_path, model)
    with pytest.raises(ModelError, match="rank"):
        LoraConfig(rank=0)
    with pytest.raises(ModelError, match="nose_proj"):
        Lora(model, LoraConfig(linears=("nose_proj",)))
