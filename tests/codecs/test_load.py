"""`antiphon.codecs.load`: names, folders, published formats; and what is said when it cannot be."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from antiphon import codecs
from antiphon.codecs import families
from antiphon.codecs.mimi.model import Mimi
from antiphon.codecs.mimi.weights import for_kyutai
from antiphon.codecs.mini.model import MiniCodec
from antiphon.errors import AntiphonError
from tests.codecs.mimi.test_model import TINY as TINY_MIMI
from tests.codecs.mini.test_model import TINY as TINY_MINI


def test_our_own_folders_load_by_family(tmp_path):
    MiniCodec(TINY_MINI).save_pretrained(tmp_path / "mini")
    Mimi(TINY_MIMI).save_pretrained(tmp_path / "b")
    assert isinstance(codecs.load(tmp_path / "mini"), MiniCodec)
    loaded = codecs.load(str(tmp_path / "b"))
    assert isinstance(loaded, Mimi) and not loaded.training


def test_kyutais_file_and_a_folder_of_it_load(tmp_path):
    torch.manual_seed(0)
    codec = Mimi(replace(TINY_MIMI, dim=64, heads=8)).eval()
    save_file(for_kyutai(codec), tmp_path / "tokenizer-e351c8d8.safetensors")
    audio = torch.randn(1, 1, 200)
    for place in (tmp_path, tmp_path / "tokenizer-e351c8d8.safetensors"):
        assert torch.equal(codecs.load(place).encode(audio), codec.encode(audio))


def test_every_family_has_its_class():
    found = families.families()
    assert {"mini-codec", "mimi", "encodec", "dac", "speechtokenizer", "semantic", "supervised"} <= {
        family.name for family in found
    }
    for family in found:
        cls = families.codec_class(family.name)
        assert callable(cls.from_pretrained) and hasattr(cls, "encode")


def test_two_families_of_one_name_are_refused(monkeypatch):
    class Point:
        def load(self):
            return families.Family("mimi", "elsewhere:Mimi")

    monkeypatch.setattr(families, "entry_points", lambda group: [Point()])
    with pytest.raises(families.ModelError, match="two codec families are called 'mimi'.*elsewhere:Mimi"):
        families.families()


def test_names_go_to_the_hub(monkeypatch):
    from antiphon import hub

    asked = []

    def folder(name):
        asked.append(name)
        raise hub.HubError("no network")

    monkeypatch.setattr(hub, "folder", folder)
    for name in ("mimi", "encodec_24khz", "dac_44khz", "mini", "kyutai/mimi"):
        with pytest.raises(AntiphonError, match="no network"):
            codecs.load(name)
    assert asked == ["kyutai/mimi", "facebook/encodec_24khz", "descript/dac_44khz", "codec", "kyutai/mimi"]


def test_a_published_config_without_a_type_is_known_by_what_it_says():
    config = {"strides": [8, 5, 4, 2], "semantic_dimension": 768, "n_q": 8}
    assert families.family_of(config, "x") == "speechtokenizer"
    assert families.family_of({"model_type": "encodec"}, "x") == "encodec"


def test_what_is_unknown_is_refused_with_what_is_known(tmp_path):
    with pytest.raises(families.ModelError, match="encodec_48khz, mimi"):
        codecs.load("mimmi")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(families.ModelError, match="'bert'.*Families: dac, encodec, mimi"):
        codecs.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(families.ModelError, match="neither family nor model_type"):
        codecs.load(tmp_path)
    with pytest.raises(AntiphonError):
        codecs.load(tmp_path / "nowhere")
