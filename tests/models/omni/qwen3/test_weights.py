"""Folders: as `transformers` writes them, whole or in parts, and as it reads them."""

from __future__ import annotations

import json

import pytest
import torch

from antiphon.errors import ConfigError, HubError, ModelError
from antiphon.models.omni import packing, weights
from antiphon.models.omni.model import Written
from antiphon.train.omni.start import OmniStart, build
from tests.models.omni.qwen3.test_model import GREEDY
from tests.models.omni.qwen3.tiny import conversation, ours, theirs, values


@pytest.fixture(scope="module")
def model():
    return theirs()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("omni")
    model.save_pretrained(folder)
    return folder


def test_what_was_loaded_is_saved_as_it_was_published(folder, model, tmp_path):
    from transformers import Qwen3OmniMoeForConditionalGeneration

    loaded = weights.load(folder)
    assert loaded.voices == {"anna": 1090, "bert": 1091} and loaded.sample_rate == 600
    weights.save(loaded, tmp_path)
    again = Qwen3OmniMoeForConditionalGeneration.from_pretrained(tmp_path)
    wanted, found = model.state_dict(), again.state_dict()
    assert wanted.keys() == found.keys()
    assert all(torch.equal(found[key], value) for key, value in wanted.items())


def test_shards_are_read_and_ours_are_written(model, folder, tmp_path):
    model.save_pretrained(tmp_path / "shards", max_shard_size="100KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 3
    made = ours()
    weights.save(made, tmp_path / "own")
    for wanted, place in ((weights.load(folder), "shards"), (made, "own")):
        found = weights.load(tmp_path / place).state_dict()
        assert wanted.state_dict().keys() == found.keys()
        assert all(torch.equal(found[key], value) for key, value in wanted.state_dict().items())


@torch.no_grad()
def test_a_thinker_loads_alone_and_without_a_voice(model, folder, tmp_path):
    model.thinker.save_pretrained(tmp_path / "alone")
    given = json.loads((folder / "config.json").read_text()) | {"enable_audio_output": False}
    (tmp_path / "mute").mkdir()
    (tmp_path / "mute" / "config.json").write_text(json.dumps(given))
    (tmp_path / "mute" / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    parts, _ = conversation(10)
    said = []
    for place in (tmp_path / "alone", tmp_path / "mute", folder):
        loaded = weights.load(place)
        state = loaded.init_state()
        loaded.read(state, parts)
        said.append([event.token for event in loaded.reply(state, None, GREEDY) if isinstance(event, Written)])
        if place != folder:
            assert loaded.talker is None and loaded.token2wav is None and not loaded.voices
            with pytest.raises(ModelError, match="no talker"):
                loaded.reply(state, "anna", GREEDY)
        if place == tmp_path / "alone":
            weights.save(loaded, tmp_path / "again")
            wanted, found = loaded.state_dict(), weights.load(tmp_path / "again").state_dict()
            assert all(torch.equal(found[key], value) for key, value in wanted.items())
    assert said[0] == said[1] == said[2]


def test_a_model_in_bfloat16_is_nearly_the_same(folder):
    whole, halved = weights.load(folder), weights.load(folder, torch.bfloat16)
    assert halved.thinker.language_model.norm.dtype == halved.talker.lm.norm.dtype == torch.bfloat16
    assert halved.token2wav.code_embedding.weight.dtype == torch.float32
    read, wanted = (each.thinker.read(conversation(10)[0]) for each in (halved, whole))
    assert (read.x - wanted.x).abs().mean() < 0.05 * wanted.x.abs().mean()
    state = halved.init_state()
    halved.read(state, conversation(10)[0])
    assert list(halved.reply(state, "anna", GREEDY)) and state.codes


def refused(folder, tmp_path, change, told):
    given = json.loads((folder / "config.json").read_text())
    for path, value in change.items():
        *places, name = path.split(".")
        inside = given
        for place in places:
            inside = inside[place]
        inside[name] = value
    (tmp_path / "config.json").write_text(json.dumps(given))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises((ModelError, HubError), match=told):
        weights.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"quantization_config": {"quant_method": "awq"}}, "quantized .AWQ."),
        ({"model_type": "qwen3_omni_moe_talker"}, "'qwen3_omni_moe_talker'; known here are qwen3_omni_moe,"),
        ({"thinker_config.text_config.rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "'yarn'"),
        ({"thinker_config.vision_config.hidden_act": "relu"}, "'relu' of the vision tower"),
        ({"thinker_config.audio_config.activation_function": "relu"}, "activation_function 'relu'"),
        ({"talker_config.code_predictor_config.num_code_groups": 7}, "5 codebooks, and its code predictor another"),
        ({"talker_config.code_predictor_config.hidden_size": 32}, "of different widths"),
        ({"talker_config.accept_hidden_layer": 9}, "reads layer 9 of a thinker 32 wide, but its thinker has 4 layers"),
        ({"code2wav_config.num_quantizers": 4}, "5 codebooks, and its code2wav 4"),
        ({"code2wav_config.attention_bias": True}, "attention_bias"),
        ({"code2wav_config.head_dim": 16}, "of another width"),
        ({"talker_config.text_config.intermediate_size": 40}, "do not fit"),
    ],
)
def test_what_is_not_computed_here_is_refused(folder, tmp_path, change, told):
    refused(folder, tmp_path, change, told)


def test_what_is_not_done_with_it_is_told(folder, tmp_path):
    with pytest.raises(ModelError, match="no other language model"):
        weights.load(folder, language_model=folder)
    with pytest.raises(ConfigError, match="isn't trained here"):
        build(OmniStart(folder=str(folder)))
    with pytest.raises(ModelError, match="'qwen3_omni_moe'; known here are qwen2_5_omni"):
        packing.pack(folder, tmp_path / "packed")


def test_sizes_that_a_config_leaves_out_are_those_of_transformers():
    from transformers import Qwen3OmniMoeConfig

    from antiphon.models.omni.qwen3.config import Qwen3OmniConfig

    given = values()
    for part, name in (("thinker_config", "num_experts_per_tok"), ("talker_config", "num_experts_per_tok")):
        del given[part]["text_config"][name]
        given[part]["text_config"]["rope_parameters"] = {"rope_type": "default", "mrope_section": [2, 1, 1]}
    config, published = Qwen3OmniConfig.from_dict(given), Qwen3OmniMoeConfig(**given)
    for own, other in (
        (config.thinker.text, published.thinker_config.text_config),
        (config.talker.text, published.talker_config.text_config),
        (config.talker.predictor, published.talker_config.code_predictor_config),
    ):
        for name in ("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "rms_norm_eps"):
            assert getattr(own, name) == getattr(other, name), name
        assert own.rope_theta == other.rope_parameters["rope_theta"]
    for own, other in (
        (config.thinker.text, published.thinker_config.text_config),
        (config.talker.text, published.talker_config.text_config),
    ):
        assert own.norm_topk_prob == other.norm_topk_prob and own.num_experts_per_tok == other.num_experts_per_tok
        assert own.num_experts == other.num_experts and own.moe_intermediate_size == other.moe_intermediate_size
