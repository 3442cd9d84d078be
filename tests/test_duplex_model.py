"""The duplex model as one object, and how `antiphon.load` finds it."""
import pytest
import torch

import antiphon
from antiphon import hub
from antiphon.audio.io import Audio
from antiphon.errors import AntiphonError, HubError, ModelError
from antiphon.models.moshi.bundle import Duplex, codec_name
from antiphon.models.moshi.model import MoshiSampling
from tests.dialogue.duplex.tiny_duplex import LIVELY, noise, save_tiny_duplex


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_duplex(tmp_path_factory.mktemp("duplex"))


def test_a_folder_is_a_model(folder):
    model = antiphon.load(str(folder))
    assert model.duplex.sampling == LIVELY and model.duplex.sample_rate == 2400
    replay = model.replay(Audio(noise(6).flatten(), 2400), after=0.0, seed=3)
    again = antiphon.load("mini-duplex", duplex=folder).replay(Audio(noise(6).flatten(), 2400), after=0.0, seed=3)
    assert torch.equal(replay.model, again.model) and replay.model.abs().max() > 0


def test_every_mode_has_a_session(folder):
    model = antiphon.load(folder)
    for mode in ("full-duplex", "half-duplex", "simplex"):
        with model.session(mode) as session:
            session.step(noise(1)[0])
    with pytest.raises(AntiphonError, match="triplex"):
        model.session("triplex")
    assert len(model.engine(capacity=4).conversations) == 0
    start = model.prompt("be brief", Audio(noise(3).flatten(), 2400))
    assert model.stream(start=start).step(noise(1)[0])


def test_the_folder_says_which_codec_and_how_to_draw(folder, tmp_path):
    assert codec_name(folder).endswith("codec")
    duplex = Duplex.from_pretrained(folder)
    duplex.sampling = MoshiSampling(temperature=0.5)
    duplex.save_pretrained(tmp_path / "again", codec_name(folder))
    assert Duplex.from_pretrained(tmp_path / "again").sampling == MoshiSampling(temperature=0.5)
    (tmp_path / "again" / "generation_config.json").write_text('{"temperature": -1}')
    with pytest.raises(AntiphonError, match="0 or more"):
        Duplex.from_pretrained(tmp_path / "again")
    with pytest.raises(ModelError, match="no duplex model"):
        codec_name(tmp_path)


def test_wrong_names_say_what_there_is(tmp_path):
    with pytest.raises(HubError, match="'maxi'.*mini, mini-duplex"):
        antiphon.load("maxi")
    with pytest.raises(HubError, match="no part 'talker'; its parts are duplex, codec"):
        antiphon.load("mini-duplex", talker=tmp_path)
    with pytest.raises(HubError, match=r"no config\.json"):
        antiphon.load(str(tmp_path))


def test_a_missing_part_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr("antiphon.hub.folders.weights_dir", lambda name: tmp_path / name)
    with pytest.raises(HubError, match="antiphon train recipes/duplex/instruct.yaml"):
        hub.folder("duplex", "mini-duplex")
    assert hub.present(hub.MINI_DUPLEX.parts["duplex"]) is None
