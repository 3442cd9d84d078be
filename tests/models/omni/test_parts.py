"""A folder whose language model and encoder lie elsewhere, with adapters beside it."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from antiphon.errors import ModelError
from antiphon.models.lora import Lora, LoraConfig
from antiphon.models.omni import weights
from antiphon.models.omni.config import OmniConfig
from antiphon.models.omni.model import Omni
from antiphon.models.omni.parts import ADAPTERS, part_weights
from antiphon.models.omni.processor import OmniProcessor
from tests.models.omni.tiny import ours, talking


@pytest.fixture
def parts(tmp_path):
    """A model, and its language model and encoder as folders of their own."""
    model = ours()
    weights.save_language_model(model, tmp_path / "lm")
    (tmp_path / "whisper").mkdir()
    tower = {
        f"model.encoder.{key.replace('ln_post.', 'layer_norm.')}": value.contiguous()
        for key, value in model.thinker.audio_tower.state_dict().items()
        if not key.startswith(("proj.", "audio_bos_eos_token."))
    }
    save_file(tower, tmp_path / "whisper" / "model.safetensors")
    (tmp_path / "whisper" / "config.json").write_text("{}")
    named = {"thinker.model": str(tmp_path / "lm"), "thinker.audio_tower": str(tmp_path / "whisper")}
    return model, named, tmp_path


def test_what_is_in_a_part_is_not_written_and_is_there_when_loaded(parts):
    model, named, folder = parts
    model.published = {**model.published, "parts": named}
    weights.save(model, folder / "whole")
    written = load_file(folder / "whole" / "model.safetensors")
    assert not [key for key in written if key.startswith("thinker.model.layers")]
    assert "thinker.audio_tower.proj.weight" in written and "thinker.audio_tower.conv1.weight" not in written
    loaded = weights.load(folder / "whole")
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name


def test_what_was_trained_goes_before_the_part(parts):
    model, named, folder = parts
    model.published = {**model.published, "parts": named}
    with torch.no_grad():
        model.thinker.language_model.layers[0].q_proj.weight.add_(1.0)
    weights.save(model, folder / "whole")
    loaded = weights.load(folder / "whole")
    trained = model.thinker.language_model.layers[0].q_proj.weight
    assert torch.equal(loaded.thinker.language_model.layers[0].q_proj.weight, trained)


def test_adapters_beside_the_model_are_added_to_its_language_model(parts):
    model, named, folder = parts
    lora = Lora(model.thinker.language_model, LoraConfig(rank=2, linears=("q_proj",)))
    for _, pair in lora.named_pairs():
        pair.lora_B.data.normal_()
    model.published = {**model.published, "parts": named}
    weights.save(model, folder / "whole")
    lora.save(folder / "whole" / ADAPTERS)
    lora = Lora.from_pretrained(folder / "whole" / ADAPTERS, model.thinker.language_model)  # as float16 kept it
    loaded = weights.load(folder / "whole")
    x, places = torch.randn(1, 5, 32), torch.arange(5).expand(3, 1, 5)
    assert torch.allclose(loaded.thinker(x, places), model.thinker(x, places, lora=lora), atol=1e-4)
    assert not torch.allclose(loaded.thinker(x, places), model.thinker(x, places), atol=1e-2)


def test_a_language_model_without_biases_gets_none_of_weight(parts):
    model, named, folder = parts
    file = folder / "lm" / "model.safetensors"
    save_file({key: value for key, value in load_file(file).items() if not key.endswith(".bias")}, file)
    found = part_weights({"thinker.model": named["thinker.model"]}, model.config)
    bias = found["thinker.language_model.layers.1.k_proj.bias"]
    assert bias.shape == model.thinker.language_model.layers[1].k_proj.bias.shape and not bias.any()


def test_another_place_is_refused(parts):
    model, _, _ = parts
    with pytest.raises(ModelError, match=r"'talker\.model' can't be taken from elsewhere"):
        part_weights({"talker.model": "lm"}, model.config)


def test_a_config_says_how_large_pictures_are(parts):
    model, _, _ = parts
    values = json.loads(json.dumps(model.published))
    values["thinker_config"] |= {"pixels": [3136, 12544], "video_pixels": [784, 12544]}
    config = OmniConfig.from_dict(values).thinker
    assert (config.pixels, config.video_pixels) == ((3136, 12544), (784, 12544))
    assert isinstance(Omni(OmniConfig.from_dict(values), values), Omni)


def test_the_tokenizer_is_the_folders_own_or_that_of_the_language_model_that_it_names(parts):
    model, named, folder = parts
    model.published = {**model.published, "parts": named}
    weights.save(model, folder / "whole")
    talking().processor.tokenizer.save(str(folder / "lm" / "tokenizer.json"))
    assert OmniProcessor.from_pretrained(folder / "whole", model.config.thinker).ends
    (folder / "whole" / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"whole/tokenizer\.json"):
        OmniProcessor.from_pretrained(folder / "whole", model.config.thinker)
