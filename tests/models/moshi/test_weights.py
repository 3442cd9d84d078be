"""Moshi's published formats: parity with the `moshi` package and with `transformers`, random weights."""
import json
import os

import pytest
import torch
from safetensors.torch import save_file

from antiphon.errors import ConfigError, HubError
from antiphon.models.moshi.config import DepthConfig, moshi_7b
from antiphon.models.moshi.model import GREEDY, Moshi, MoshiConfig
from antiphon.models.moshi.weights import (
    for_kyutai,
    for_transformers,
    from_kyutai,
    from_transformers,
    load,
    ours,
    published,
    read,
    to_kyutai,
)
from antiphon.nn.delays import delay

os.environ.setdefault("NO_TORCH_COMPILE", "1")

KYUTAI = {  # as in moshiko's config.json, small
    "dim": 64, "text_card": 50, "existing_text_padding_id": 3, "n_q": 8, "dep_q": 4, "card": 30, "num_heads": 4,
    "num_layers": 3, "hidden_scale": 4.125, "causal": True, "layer_scale": None, "context": 48, "max_period": 10000,
    "gating": "silu", "norm": "rms_norm_f32", "positional_embedding": "rope", "depformer_dim": 32,
    "depformer_dim_feedforward": 132, "depformer_num_heads": 2, "depformer_num_layers": 2,
    "depformer_layer_scale": None, "depformer_multi_linear": True, "depformer_context": 4,
    "depformer_max_period": 10000, "depformer_gating": "silu", "depformer_pos_emb": "none",
    "depformer_weights_per_step": True, "delays": [0, 0, 1, 1, 1, 0, 1, 1, 1],
}  # fmt: skip


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


def a_grid(frames: int, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    codes = torch.randint(30, (batch, 8, frames), generator=generator)
    return torch.cat([torch.randint(50, (batch, 1, frames), generator=generator), codes], dim=1)


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


def test_our_weights_under_the_names_of_transformers_come_back():
    torch.manual_seed(0)
    sizes = {"dim": 32, "heads": 4, "kv_heads": 2, "layers": 2, "inner": 40, "text_card": 20, "card": 10}
    depth = DepthConfig(dim=16, heads=2, layers=1, inner=24, codebooks=3)
    config = MoshiConfig(**sizes, codebooks=3, user_codebooks=3, depth=depth)
    weights = Moshi(config).state_dict()
    again = ours(for_transformers(weights, config), config, 2)
    assert again.keys() == weights.keys() and all(torch.equal(again[key], weights[key]) for key in weights)
