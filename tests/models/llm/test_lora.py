"""Adapters: nothing at the start, something after a step, gone when not handed over, and saved alone."""
import pytest
import torch
from safetensors.torch import load_file

from antiphon.errors import ModelError
from antiphon.models.llm.llama import Llama, LlamaConfig
from antiphon.models.llm.lora import Lora, LoraConfig, Pair, apply, shapes_of

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
    return Lora(LoraConfig(rank=2, alpha=4.0, first=1, last=3), shapes_of(model.layers[0]))


def shake(lora: Lora) -> None:
    """Give every pair something to say."""
    with torch.no_grad():
        for name, parameter in lora.named_parameters():
            if name.endswith("up"):
                parameter.normal_(std=0.3)


def test_a_pair_by_hand() -> None:
    pair = Pair(2, 3, rank=1, alpha=2.0)
    with torch.no_grad():
        pair.down.copy_(torch.tensor([[1.0, -1.0]]))
        pair.up.copy_(torch.tensor([[1.0], [0.0], [3.0]]))
    # down: 5 - 2 = 3; scaled by alpha / rank = 2: 6; up: 6, 0, 18
    torch.testing.assert_close(pair(torch.tensor([5.0, 2.0])), torch.tensor([6.0, 0.0, 18.0]))
    torch.testing.assert_close(pair.delta() @ torch.tensor([5.0, 2.0]), torch.tensor([6.0, 0.0, 18.0]))


def test_untrained_adapters_change_nothing(model: Llama, lora: Lora) -> None:
    x = model.embed(torch.randint(0, 40, (2, 7)))
    assert torch.equal(model(x, lora=lora), model(x))


def test_off_is_the_untouched_model(model: Llama, lora: Lora) -> None:
    x = model.embed(torch.randint(0, 40, (2, 7)))
    before = model(x)
    shake(lora)
    assert not torch.allclose(model(x, lora=lora), before, atol=1e-3)
    assert torch.equal(model(x), before)


def test_adapters_equal_a_changed_weight(model: Llama, lora: Lora) -> None:
    shake(lora)
    x = model.embed(torch.randint(0, 40, (1, 5)))
    adapted = model(x, lora=lora)
    for number in (1, 2):
        for name, pair in lora.layer(number).items():
            getattr(model.layers[number], name).weight.add_(pair.delta())
    torch.testing.assert_close(model(x), adapted, atol=1e-5, rtol=1e-4)


def test_only_chosen_layers_and_linears(model: Llama) -> None:
    lora = Lora(LoraConfig(rank=1, first=1, last=2, linears=("q_proj", "down_proj")), shapes_of(model.layers[0]))
    assert lora.layer(0) is None and lora.layer(2) is None
    assert set(lora.layer(1)) == {"q_proj", "down_proj"}
    x = torch.randn(3, 16)
    shake(lora)
    linear = model.layers[1].k_proj
    assert torch.equal(apply(linear, x, lora.layer(1), "k_proj"), linear(x))
    assert not torch.equal(apply(model.layers[1].q_proj, x, lora.layer(1), "q_proj"), model.layers[1].q_proj(x))


def test_save_and_load_only_the_adapters(model: Llama, lora: Lora, tmp_path) -> None:
    shake(lora)
    lora.save(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert set(stored) == set(lora.state_dict()) and all(value.dtype == torch.float16 for value in stored.values())
    again = Lora.from_pretrained(tmp_path, shapes_of(model.layers[0]))
    assert again.config == lora.config
    x = model.embed(torch.randint(0, 40, (1, 6)))
    torch.testing.assert_close(model(x, lora=again), model(x, lora=lora), atol=5e-3, rtol=5e-3)


def test_errors_say_what_is_wrong(model: Llama, lora: Lora, tmp_path) -> None:
    with pytest.raises(ModelError, match="cannot read"):
        Lora.from_pretrained(tmp_path, shapes_of(model.layers[0]))
    lora.save(tmp_path)
    with pytest.raises(ModelError, match="another model"):
        Lora.from_pretrained(tmp_path, {name: (8, 8) for name in shapes_of(model.layers[0])})
    with pytest.raises(ModelError, match="rank"):
        LoraConfig(rank=0)
    with pytest.raises(ModelError, match="nose_proj"):
        LoraConfig(linears=("nose_proj",))
