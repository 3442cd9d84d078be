"""Moshi's published formats: parity with `transformers`, random weights, and sizes."""

import pytest
import torch

from antiphon.errors import ConfigError
from antiphon.models.moshi.config import DepthConfig, moshi_7b
from antiphon.models.moshi.model import Moshi, MoshiConfig
from antiphon.models.moshi.weights import for_transformers, from_kyutai, from_transformers, load, ours, to_kyutai
from antiphon.nn.delays import delay

KYUTAI = {  # as in moshiko's config.json, small
    "dim": 64, "text_card": 50, "existing_text_padding_id": 3, "n_q": 8, "dep_q": 4, "card": 30, "num_heads": 4,
    "num_layers": 3, "hidden_scale": 4.125, "causal": True, "layer_scale": None, "context": 48, "max_period": 10000,
    "gating": "silu", "norm": "rms_norm_f32", "positional_embedding": "rope", "depformer_dim": 32,
    "depformer_dim_feedforward": 132, "depformer_num_heads": 2, "depformer_num_layers": 2,
    "depformer_layer_scale": None, "depformer_multi_linear": True, "depformer_context": 4,
    "depformer_max_period": 10000, "depformer_gating": "silu", "depformer_pos_emb": "none",
    "depformer_weights_per_step": True, "delays": [0, 0, 1, 1, 1, 0, 1, 1, 1],
}  # fmt: skip


def a_grid(frames: int, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    codes = torch.randint(30, (batch, 8, frames), generator=generator)
    return torch.cat([torch.randint(50, (batch, 1, frames), generator=generator), codes], dim=1)


def transformers_model(**given):
    import transformers

    mimi = transformers.MimiConfig(
        num_filters=4, hidden_size=64, upsample_groups=64, intermediate_size=64, num_hidden_layers=1,
        vector_quantization_hidden_dimension=16, codebook_dim=16, codebook_size=32, num_quantizers=4,
        num_attention_heads=4, num_key_value_heads=4, head_dim=16,
    )  # fmt: skip
    depth = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 88, "num_codebooks": 4}
    sizes = {
        "vocab_size": 50, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 176,
        "num_codebooks": 4, "audio_vocab_size": 30, "max_position_embeddings": 100, "sliding_window": 100,
    }  # fmt: skip
    fields = {**sizes, "depth_decoder_config": depth, "audio_encoder_config": mimi.to_dict(), **given}
    torch.manual_seed(0)
    model = transformers.MoshiForConditionalGeneration(transformers.MoshiConfig(**fields)).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        elif not name.startswith("audio_encoder"):
            torch.nn.init.normal_(parameter, std=1 / parameter.shape[-1] ** 0.5)
    return model


@pytest.mark.parametrize("given", [
    {}, {"num_key_value_heads": 2, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}
])  # fmt: skip
@torch.no_grad()
def test_logits_are_those_of_transformers(given, tmp_path):
    theirs = transformers_model(**given)
    theirs.save_pretrained(tmp_path / "m", max_shard_size="200KB")  # in several files
    assert (tmp_path / "m" / "model.safetensors.index.json").is_file()
    mine = load(tmp_path / "m")
    assert mine.config.delays == [0, 0, 1, 1, 1, 0, 1, 1, 1] and mine.config.kv_heads == given.get(
        "num_key_value_heads", 4
    )
    grid = delay(a_grid(30), mine.config.delays, -1)[:, :, :30]
    late = torch.arange(31) <= torch.tensor(mine.config.delays)[:, None]
    columns = torch.where(late, torch.tensor(mine.config.initial)[:, None], torch.nn.functional.pad(grid, (1, 0)))
    inputs = columns[:, :, :-1]
    text = theirs(input_ids=inputs[:, 0], moshi_audio_codes=inputs[:, 1:5], user_audio_codes=inputs[:, 5:])
    known = columns[:, :4, 1:].transpose(1, 2).reshape(60, 4)
    hidden = text.last_hidden_state.reshape(60, 1, -1)
    codes = theirs.depth_decoder(input_ids=known, last_hidden_state=hidden)
    out = mine(grid)
    torch.testing.assert_close(out.text, text.logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(out.codes, codes.logits, atol=1e-4, rtol=0)
    assert out.text.std() > 0.1 and out.codes.std() > 0.1


def test_sizes_of_the_published_7b():
    published_fields = {
        **KYUTAI, "dim": 4096, "text_card": 32000, "n_q": 16, "dep_q": 8, "card": 2048, "num_heads": 32,
        "num_layers": 32, "context": 3000, "depformer_dim": 1024, "depformer_dim_feedforward": 4224,
        "depformer_num_heads": 16, "depformer_num_layers": 6, "depformer_context": 8,
        "delays": [0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1],
    }  # fmt: skip
    assert from_kyutai(published_fields, "") == moshi_7b()
    theirs = {"model_type": "moshi", "hidden_size": 4096, "audio_vocab_size": 2048, "depth_decoder_config": {}}
    assert from_transformers(theirs, "") == moshi_7b()
    assert from_kyutai(to_kyutai(moshi_7b()), "") == moshi_7b()


@pytest.mark.parametrize("inner", [95, 96, 97, 168, 256])
def test_sizes_go_to_kyutais_form_and_back(inner):
    config = MoshiConfig(dim=64, heads=4, inner=inner, eps=1e-5, depth=DepthConfig(dim=64, heads=4, inner=inner))
    assert from_kyutai(to_kyutai(config), "") == config
    with pytest.raises(ConfigError, match="kv_heads"):
        to_kyutai(MoshiConfig(kv_heads=2))


def test_our_weights_under_the_names_of_transformers_come_back():
    torch.manual_seed(0)
    sizes = {"dim": 32, "heads": 4, "kv_heads": 2, "layers": 2, "inner": 40, "text_card": 20, "card": 10}
    depth = DepthConfig(dim=16, heads=2, layers=1, inner=24, codebooks=3)
    config = MoshiConfig(**sizes, codebooks=3, user_codebooks=3, depth=depth)
    weights = Moshi(config).state_dict()
    again = ours(for_transformers(weights, config), config, 2)
    assert again.keys() == weights.keys() and all(torch.equal(again[key], weights[key]) for key in weights)
