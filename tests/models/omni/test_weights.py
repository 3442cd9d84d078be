"""Folders: as `transformers` writes them, whole or in parts, and as it reads them."""

from __future__ import annotations

import json
import random

import pytest
import torch

from antiphon.errors import HubError, ModelError
from antiphon.hub.pack import pack_folder
from antiphon.models.lora import Lora, LoraConfig
from antiphon.models.omni import packing, weights
from antiphon.models.omni.thinker import batched
from tests.models.omni.tiny import ours, random_parts, save, theirs


@pytest.fixture(scope="module")
def model():
    return theirs()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    return save(model, tmp_path_factory.mktemp("omni"))


def test_what_was_loaded_is_saved_as_it_was_published(folder, model, tmp_path):
    from transformers import Qwen2_5OmniForConditionalGeneration

    loaded = weights.load(folder)
    assert sorted(loaded.voices) == ["anna", "bert"] and loaded.sample_rate == 3000
    weights.save(loaded, tmp_path)
    again = Qwen2_5OmniForConditionalGeneration.from_pretrained(tmp_path)
    wanted, found = model.state_dict(), again.state_dict()
    assert wanted.keys() == found.keys()
    assert all(torch.equal(found[key], value) for key, value in wanted.items())
    assert torch.equal(again.speaker_map["anna"]["ref_mel"], model.speaker_map["anna"]["ref_mel"])


def test_shards_are_read(model, folder, tmp_path):
    model.save_pretrained(tmp_path, max_shard_size="200KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 3
    wanted, found = weights.load(folder).state_dict(), weights.load(tmp_path).state_dict()
    assert wanted.keys() == found.keys() and all(torch.equal(found[key], value) for key, value in wanted.items())


def test_ours_is_one_that_transformers_loads(tmp_path):
    from transformers import Qwen2_5OmniForConditionalGeneration

    made = ours()
    weights.save(made, tmp_path)
    loaded = Qwen2_5OmniForConditionalGeneration.from_pretrained(tmp_path)
    again = weights.load(tmp_path)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in made.state_dict().items())
    assert torch.equal(loaded.talker.codec_head.weight, made.talker.lm.lm_head.weight)


def test_thinker_and_talker_load_alone(model, folder, tmp_path):
    model.thinker.save_pretrained(tmp_path / "thinker")
    model.talker.save_pretrained(tmp_path / "talker")
    thinker, talker, whole = (weights.load(each) for each in (tmp_path / "thinker", tmp_path / "talker", folder))
    assert thinker.talker is None and thinker.token2wav is None and talker.thinker is None
    for part, alone in (("thinker.", thinker), ("talker.", talker)):
        kept = {key: value for key, value in whole.state_dict().items() if key.startswith(part)}
        assert kept.keys() == alone.state_dict().keys()
        assert all(torch.equal(value, alone.state_dict()[key]) for key, value in kept.items())
    weights.save(thinker, tmp_path / "again")
    assert weights.load(tmp_path / "again").state_dict().keys() == thinker.state_dict().keys()
    with pytest.raises(ModelError, match="no thinker"):
        talker.init_state()
    with pytest.raises(ModelError, match="can only write"):
        thinker.voice("anna")


def test_a_whole_model_without_a_voice_is_its_thinker(model, folder, tmp_path):
    values = json.loads((folder / "config.json").read_text()) | {"enable_audio_output": False}
    (tmp_path / "config.json").write_text(json.dumps(values))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    assert weights.load(tmp_path).talker is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"quantization_config": {"quant_method": "gptq"}}, "quantized .GPTQ."),
        ({"quantization_config": {"quant_method": "awq"}}, "quantized .AWQ."),
        ({"model_type": "qwen4_omni"}, "'qwen4_omni'"),
    ],
)
def test_other_models_are_refused(folder, tmp_path, change, told):
    values = json.loads((folder / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ModelError, match=told):
        weights.load(tmp_path)


def test_weights_of_other_sizes_are_refused(folder, tmp_path):
    values = json.loads((folder / "config.json").read_text())
    values["talker_config"]["intermediate_size"] = 40
    (tmp_path / "config.json").write_text(json.dumps(values))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(HubError, match="do not fit"):
        weights.load(tmp_path)
    (tmp_path / "spk_dict.pt").write_bytes(b"no")
    with pytest.raises(HubError, match="holds no speakers"):
        weights.read_voices(tmp_path / "spk_dict.pt")


@torch.no_grad()
@pytest.mark.parametrize("shards", ["5GB", "200KB"])
def test_a_packed_folder_is_nearly_the_same_and_smaller(model, folder, tmp_path, shards):
    save(model, tmp_path / "shards", max_shard_size=shards)
    packed = packing.pack(tmp_path / "shards", tmp_path / "packed", bits={"language_model": 8, "talker_model": 8})
    whole, small = weights.load(folder), weights.load(packed)
    assert small.thinker.language_model.config.packed and small.talker.lm.config.packed and small.voices
    assert small.thinker.audio_tower.conv1.weight.dtype == torch.bfloat16
    assert all(part.dtype == torch.float32 for part in small.token2wav.parameters())
    read = whole.thinker.read(random_parts(random.Random(3)))
    wanted, found = (each.thinker(*batched([read])) for each in (whole, small))
    assert 1e-5 < (found - wanted).abs().mean() < 0.1 * wanted.abs().mean()
    x, places = torch.randn(1, 9, 32), torch.arange(9).expand(3, 1, 9)
    wanted, found = (each.talker.logits(each.talker(x, places)) for each in (whole, small))
    assert (found - wanted).abs().mean() < 0.1 * wanted.abs().mean()
    codes = torch.tensor([3, 40])
    torch.testing.assert_close(small.talker.lm.embed(codes), whole.talker.lm.embed(codes), atol=0.01, rtol=0.02)
    assert weights.memory(packed) < weights.memory(folder)
    with pytest.raises(ModelError, match="packed model isn't written"):
        weights.save(small, tmp_path / "again")
    with pytest.raises(ModelError, match="packed already"):
        packing.pack(packed, tmp_path / "twice")


@torch.no_grad()
def test_the_language_model_can_be_packed_and_put_back_and_adapted(folder, tmp_path):
    whole = weights.load(folder)
    weights.save_language_model(whole, tmp_path / "lm")
    pack_folder(tmp_path / "lm", tmp_path / "packed")
    packed = weights.load(folder, language_model=tmp_path / "packed")
    assert packed.thinker.language_model.config.packed
    read = whole.thinker.read(random_parts(random.Random(3)))
    wanted, found = (each.thinker(*batched([read])) for each in (whole, packed))
    assert 1e-5 < (found - wanted).abs().mean() < 0.1 * wanted.abs().mean()
    lora = Lora(packed.thinker.language_model, LoraConfig(rank=4))
    for parameter in lora.parameters():
        parameter.data.normal_(0, 0.1)
    adapted = [each.thinker(*batched([read]), lora=lora) for each in (whole, packed)]
    assert (adapted[0] - wanted).abs().mean() > 0.05 * wanted.abs().mean()
    assert (adapted[0] - adapted[1]).abs().mean() < 0.1 * wanted.abs().mean()
