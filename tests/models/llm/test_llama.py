"""The fast decoder computes what `transformers` computes, of every family that it knows; and packed, nearly so."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from antiphon.errors import HubError, ModelError
from antiphon.hub.pack import pack_folder
from antiphon.models.llm.llama import Llama, LlamaConfig, own_key, published_key
from antiphon.models.llm.load import load_causal_lm
from antiphon.models.lora import Lora, LoraConfig

SIZES: dict[str, Any] = dict(
    hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=50, max_position_embeddings=512, initializer_range=0.3,
)  # fmt: skip
LLAMA3 = dict(
    rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=64,
)  # fmt: skip
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=128)
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, untied": ("Llama", dict(tie_word_embeddings=False)),
    "llama with biases": ("Llama", dict(attention_bias=True, tie_word_embeddings=True)),
    "llama 3's positions": ("Llama", dict(rope_parameters=LLAMA3)),
    "linear positions": ("Llama", dict(rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=2.0))),
    "yarn": ("Qwen2", dict(rope_parameters=YARN)),
    "mistral": ("Mistral", dict(sliding_window=None)),
    "qwen2": ("Qwen2", dict(tie_word_embeddings=True)),
    "qwen2, untied": ("Qwen2", dict(tie_word_embeddings=False)),
    "qwen3": ("Qwen3", dict(head_dim=24, tie_word_embeddings=True)),
}
EXPERTS: dict[str, dict[str, Any]] = {
    "all": dict(norm_topk_prob=True),
    "some": dict(mlp_only_layers=[0]),
    "every other": dict(decoder_sparse_step=2, num_hidden_layers=4, tie_word_embeddings=True),
}


def make(family: str, folder: Path, how: dict[str, Any]) -> torch.nn.Module:
    """A tiny random model as `transformers` saves it, no weight at its initial zero or one."""
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SIZES | how)
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".bias") or "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    model.save_pretrained(folder)
    return model


@pytest.fixture(params=FAMILIES, scope="module")
def theirs(request, tmp_path_factory) -> tuple[torch.nn.Module, Path]:
    family, how = FAMILIES[request.param]
    folder = tmp_path_factory.mktemp("model")
    return make(family, folder, how), folder


def test_logits_and_hidden_states_are_those_of_transformers(theirs) -> None:
    model, folder = theirs
    ours = load_causal_lm(folder)
    tokens = torch.randint(50, (2, 150), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        want = model(tokens, output_hidden_states=True)
        x = ours.embed(tokens)
        torch.testing.assert_close(ours(x, last=1), want.hidden_states[1], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(ours.logits(ours(x)), want.logits, atol=1e-4, rtol=1e-4)
        cache = ours.init_cache(2)
        pieces = [ours(piece, cache) for piece in x.split((100, 1, 49), dim=1)]
        torch.testing.assert_close(ours.logits(torch.cat(pieces, 1)), want.logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("packed", [False, True])
def test_what_a_layer_gave_can_be_added_to(theirs, tmp_path: Path, packed: bool) -> None:
    _, folder = theirs
    if packed:
        pack_folder(folder, tmp_path)
    ours = Llama.from_pretrained(tmp_path if packed else folder)
    x, added = torch.randn(2, 2, 7, ours.width, generator=torch.Generator().manual_seed(1))
    told: dict[int, torch.Tensor] = {}
    with torch.no_grad():
        whole = ours(x, between=lambda number, y: told.setdefault(number, y))
        assert list(told) == list(range(len(ours.layers)))
        torch.testing.assert_close(whole, ours(x), atol=1e-4, rtol=1e-4)
        wanted = ours(ours(x, last=1) + added, first=1)
        found = ours(x, between=lambda number, y: y if number else y + added)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_packed_weights_give_nearly_the_same(theirs, tmp_path: Path) -> None:
    model, folder = theirs
    pack_folder(folder, tmp_path)
    ours = Llama.from_pretrained(tmp_path)
    assert ours.config.packed and not any(parameter.dim() > 1 for parameter in ours.parameters())
    tokens = torch.randint(50, (2, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        want, got = model(tokens).logits, ours.logits(ours(ours.embed(tokens)))
        assert (got - want).norm() < 0.15 * want.norm()
        cache = ours.init_cache(2)
        pieces = [ours(ours.embed(piece), cache) for piece in tokens.split((7, 1, 12), dim=1)]
        torch.testing.assert_close(ours.logits(torch.cat(pieces, 1)), got, atol=1e-4, rtol=1e-4)
        ours.open_products()  # one by one, as adapters need them
        apart = ours.logits(ours(ours.embed(tokens)))
        assert (apart - got).norm() < 0.02 * got.norm()  # a number may be rounded the other way
        plain = Llama.from_pretrained(tmp_path, torch.float32)  # the same weights, for training
        assert (plain.logits(plain(plain.embed(tokens))) - want).norm() < 0.15 * want.norm()
        weight = model.state_dict()["model.layers.1.self_attn.k_proj.weight"]
        assert (plain.layers[1].k_proj.weight - weight).abs().max() <= weight.abs().max() / 250


@pytest.mark.parametrize("how", EXPERTS.values(), ids=EXPERTS)
def test_experts_give_what_transformers_gives(how: dict[str, Any], tmp_path: Path) -> None:
    few = dict(head_dim=16, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=24)
    model = make("Qwen3Moe", tmp_path, few | how)
    ours = load_causal_lm(tmp_path)
    assert isinstance(ours, Llama) and ours.config.num_experts == 6
    tokens = torch.randint(50, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        want = model(tokens).logits
        torch.testing.assert_close(ours.logits(ours(ours.embed(tokens))), want, atol=1e-4, rtol=1e-4)
        cache = ours.init_cache(2)
        pieces = [ours(ours.embed(piece), cache) for piece in tokens.split((20, 1, 19), dim=1)]
        torch.testing.assert_close(ours.logits(torch.cat(pieces, 1)), want, atol=1e-4, rtol=1e-4)
    names = {published_key(key) for key in ours.state_dict()}
    assert {own_key(name) for name in names} == set(ours.state_dict())
    with safe_open(tmp_path / "model.safetensors", "pt") as saved:
        assert names == set(saved.keys()) - ({"lm_head.weight"} if ours.config.tie_word_embeddings else set())
    with pytest.raises(HubError, match="without experts"):
        pack_folder(tmp_path, tmp_path / "packed")


def test_experts_learn_and_adapters_stay_out_of_them(tmp_path: Path) -> None:
    make("Qwen3Moe", tmp_path, dict(head_dim=16, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24))
    ours = Llama.from_pretrained(tmp_path).train().requires_grad_(True)
    x = ours.embed(torch.randint(50, (2, 60), generator=torch.Generator().manual_seed(1)))
    ours.logits(ours(x)).logsumexp(-1).sum().backward()
    assert all(one.grad is not None and one.grad.isfinite().all() and one.grad.any() for one in ours.parameters())
    names = ours.linear_shapes()
    assert names and not any("mlp" in name or "gate" in name for name in names)


def test_four_bits_are_computed_as_what_they_stand_for(tmp_path: Path) -> None:
    make("Qwen2", tmp_path / "whole", {})
    pack_folder(tmp_path / "whole", tmp_path / "packed", bits=4)
    packed = Llama.from_pretrained(tmp_path / "packed")
    plain = Llama.from_pretrained(tmp_path / "packed", torch.float32)
    assert packed.config.bits == 4 and not plain.config.packed
    x = packed.embed(torch.randint(50, (2, 20), generator=torch.Generator().manual_seed(1)))
    with torch.no_grad():
        want, got = plain.logits(plain(x)), packed.logits(packed(x))
    assert (got - want).norm() < 0.1 * want.norm()


def test_adapters_correct_packed_products(tmp_path: Path) -> None:
    make("Qwen2", tmp_path / "whole", {})
    pack_folder(tmp_path / "whole", tmp_path / "packed")
    packed, plain = Llama.from_pretrained(tmp_path / "packed"), Llama.from_pretrained(tmp_path / "whole")
    torch.manual_seed(3)
    lora = Lora(plain, LoraConfig(rank=2))
    with torch.no_grad():
        for parameter in lora.parameters():
            parameter.normal_(std=0.3)
        lora.save(tmp_path / "lora")
        again = Lora.from_pretrained(tmp_path / "lora", packed)
        x = plain.embed(torch.arange(12)[None])
        want, bare = plain(x, lora=lora), plain(x)
        got = packed(x, lora=again)
    assert (got - want).norm() < 0.15 * want.norm() < 0.5 * (want - bare).norm()


@torch.no_grad()
@pytest.mark.parametrize("packed", [False, True])
def test_what_fills_up_a_row_is_never_computed(tmp_path: Path, packed: bool) -> None:
    make("Qwen2", tmp_path / "plain", {})
    if packed:
        pack_folder(tmp_path / "plain", tmp_path / "packed")
    model = load_causal_lm(tmp_path / ("packed" if packed else "plain"))
    x = model.embed(torch.randint(50, (3, 9), generator=torch.Generator().manual_seed(1)))
    counts = [9, 0, 4]
    for row, count in enumerate(counts):
        x[row, count:] = float("nan")  # would spread
    cache = model.init_cache(3)
    hidden = model(x, cache, None, torch.tensor(counts))
    assert cache.length.tolist() == counts
    for row, count in enumerate(counts):
        torch.testing.assert_close(hidden[row, count:], torch.zeros(9 - count, model.width))
        if count:
            alone = model(x[row : row + 1, :count], model.init_cache(1))
            torch.testing.assert_close(hidden[row, :count], alone[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("family", ["qwen2", "yarn", "llama 3's positions"])
def test_what_is_forgotten_moves_the_rest_up(tmp_path: Path, family: str) -> None:
    """In a model of one layer nothing that was read later knows of it, so that it is as if it had never been."""
    kind, how = FAMILIES[family]
    make(kind, tmp_path, {**how, "num_hidden_layers": 1})
    model = Llama.from_pretrained(tmp_path)
    x = model.embed(torch.randint(50, (1, 40), generator=torch.Generator().manual_seed(1)))
    cache, never = model.init_cache(), model.init_cache()
    model(x[:, :30], cache)
    model.forget(cache, 5, 12)
    model(torch.cat((x[:, :5], x[:, 17:30]), 1), never)
    assert cache.length.tolist() == never.length.tolist() == [18]
    torch.testing.assert_close(model(x[:, 30:], cache), model(x[:, 30:], never), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "values, why",
    [
        ({"model_type": "gemma"}, "gemma"),
        ({"model_type": "llama", "mlp_bias": True}, "biases"),
        ({"model_type": "llama", "hidden_act": "gelu"}, "SwiGLU"),
        ({"model_type": "mistral", "sliding_window": 4096}, "sliding"),
        ({"model_type": "qwen2", "quantization_config": {"quant_method": "gptq"}}, "gptq"),
    ],
)
def test_what_it_does_not_compute_is_said(values: dict[str, Any], why: str) -> None:
    assert why in LlamaConfig.unfit(values)


def test_a_folder_without_weights_is_told(tmp_path: Path) -> None:
    make("Llama", tmp_path, {})
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        Llama.from_pretrained(tmp_path)
