"""Moshi from a text model: the temporal transformer gives what the text model gives."""

import json

import pytest
import torch
from safetensors.torch import save_file

from antiphon.errors import HubError
from antiphon.models.llm.llama import Llama, LlamaConfig
from antiphon.models.moshi.config import DepthConfig
from antiphon.models.moshi.from_llm import language_model_sizes, take_language_model
from antiphon.models.moshi.model import Moshi, MoshiConfig

DEPTH = DepthConfig(dim=16, heads=2, layers=1, inner=24, codebooks=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Llama model in transformers' format, random weights."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=40, hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=2, rms_norm_eps=1e-5, tie_word_embeddings=True, max_position_embeddings=64,
        initializer_range=0.2,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("llama")
    model = transformers.LlamaForCausalLM(config)
    model.save_pretrained(path)
    fields = json.loads((path / "config.json").read_text())
    fields["rope_theta"] = fields.get("rope_parameters", {}).get("rope_theta", 10000.0)
    (path / "config.json").write_text(json.dumps(fields))
    weights = {key: value.contiguous() for key, value in model.state_dict().items() if key != "lm_head.weight"}
    save_file(weights, path / "model.safetensors")
    return path


@pytest.mark.parametrize("kv_heads", [2, 6])
@pytest.mark.parametrize("layers", [2, 3])
@torch.no_grad()
def test_the_temporal_transformer_is_the_text_model(folder, layers, kv_heads):
    sizes = {**language_model_sizes(folder, layers), "kv_heads": kv_heads}
    model = Moshi(MoshiConfig(**sizes, text_card=40, codebooks=2, user_codebooks=2, card=12, context=64, depth=DEPTH))
    take_language_model(model, folder)
    llama = Llama.from_pretrained(folder)
    tokens = torch.randint(40, (2, 30))
    expected = llama.forward(llama.embed(tokens), last=layers)
    if layers < 3:  # no norm follows there
        expected = torch.nn.functional.rms_norm(expected, (48,), eps=1e-5)
    nothing = torch.full((2, 4, 30), -1)
    columns = torch.cat([tokens[:, None], nothing], dim=1).transpose(1, 2).reshape(60, 5)
    found = model.temporal(model._embed(columns).view(2, 30, -1))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    if layers == 3:
        torch.testing.assert_close(model.text_head(found), llama.logits(expected), atol=1e-4, rtol=0)


def test_other_vocabularies_stay_and_other_sizes_are_refused(folder):
    sizes = language_model_sizes(folder)
    assert sizes["layers"] == 3 and LlamaConfig.from_file(folder / "config.json").num_key_value_heads == 2
    rest = {"text_card": 30, "codebooks": 2, "user_codebooks": 2, "card": 12, "depth": DEPTH}
    model = Moshi(MoshiConfig(**sizes, **rest))
    before = model.text_head.weight.clone()
    take_language_model(model, folder)
    assert torch.equal(model.text_head.weight, before)
    with pytest.raises(HubError, match="its inner is 80"):
        take_language_model(Moshi(MoshiConfig(**{**sizes, "inner": 64}, **rest)), folder)
    with pytest.raises(HubError, match="3 layers, not 9"):
        language_model_sizes(folder, 9)


def test_attention_with_biases_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps(
            {"model_type": "qwen2", "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1,
             "intermediate_size": 16, "vocab_size": 9}
        )
    )  # fmt: skip
    with pytest.raises(HubError, match="biases"):
        language_model_sizes(tmp_path)
