"""Presets, and from the name of a part to its folder."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from antiphon import hub
from antiphon.errors import HubError, ModelError
from antiphon.hub import cache as cache_module
from antiphon.hub.fetch import cached_folder
from antiphon.hub.folders import weights_dir
from antiphon.hub.parts import QWEN_CODER_1_5B, SMOLLM2_135M_INSTRUCT, WHISPER_BASE
from antiphon.hub.presets import PRESETS
from antiphon.models.llm.load import load_causal_lm
from tests.hub.test_convert_gguf import theirs, write  # noqa: F401


def model_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"width": 4}))
    return path


def test_every_part_of_every_preset_says_what_it_is() -> None:
    for preset in hub.PRESETS:
        for role, part in preset.parts.items():
            assert part.title and part.source and part.licence, role
            for wheel in part.wheels:
                assert re.fullmatch("[0-9a-f]{64}", wheel.sha256)
                assert wheel.size > 0
                assert wheel.members or wheel.piece
                assert part.disk >= part.size
            assert part.shipped == (part.build is None)
            assert part.memory > 0
            assert (part.joined is not None) == any(wheel.piece for wheel in part.wheels)
    assert set(hub.preset("mini").parts) == {
        *("asr", "judge", "turns", "turn-taking", "thinker", "adapter", "lora", "codec", "talker")
    }
    assert (
        set(hub.preset("base").parts)
        == set(hub.preset("small").parts)
        == {"asr", "scene", "judge", "turns", "turn-taking", "thinker", "codec", "talker"}
    )
    assert hub.preset("mini").memory < hub.preset("small").memory < hub.preset("base").memory


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(HubError, match="'maxi'.*mini"):
        hub.preset("maxi")


def test_the_cache_is_the_users_unless_the_environment_names_one(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ANTIPHON_CACHE", str(tmp_path / "mine"))
    assert hub.cache_dir() == tmp_path / "mine"
    monkeypatch.setenv("ANTIPHON_CACHE", "~/mine")
    assert hub.cache_dir() == Path.home() / "mine"
    monkeypatch.delenv("ANTIPHON_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert hub.cache_dir().name == "antiphon"
    assert cache_module.cache_dir() == hub.cache_dir()


def test_roles_and_names_lead_to_the_same_folder(cache: Path) -> None:
    made = {part: model_folder(cached_folder(part)) for part in (WHISPER_BASE, SMOLLM2_135M_INSTRUCT, QWEN_CODER_1_5B)}
    assert hub.folder("asr") == hub.folder("judge") == hub.folder("whisper-base") == made[WHISPER_BASE]
    assert hub.folder(QWEN_CODER_1_5B.name) == made[QWEN_CODER_1_5B]  # a name of one's own needs no preset
    assert hub.folder("thinker") == hub.folder(SMOLLM2_135M_INSTRUCT) == made[SMOLLM2_135M_INSTRUCT]
    assert hub.folder("ears") == hub.folder("asr") and hub.folder("brain") == hub.folder("llm") == hub.folder("thinker")
    assert hub.present(WHISPER_BASE) == made[WHISPER_BASE]


def test_present_never_fetches(cache: Path) -> None:
    assert hub.present(WHISPER_BASE) is None
    assert not cache.exists()


def test_another_version_of_a_part_has_another_folder(cache: Path) -> None:
    from dataclasses import replace

    wheel = SMOLLM2_135M_INSTRUCT.wheels[0]
    newer = replace(SMOLLM2_135M_INSTRUCT, wheels=(replace(wheel, sha256="0" * 64),))
    assert cached_folder(newer) != cached_folder(SMOLLM2_135M_INSTRUCT)


def test_a_folder_of_ones_own(tmp_path: Path, cache: Path) -> None:
    mine = model_folder(tmp_path / "mine")
    assert hub.folder(mine) == mine
    assert hub.folder(str(mine)) == mine
    (tmp_path / "empty").mkdir()
    with pytest.raises(HubError, match="no config.json"):
        hub.folder(tmp_path / "empty")
    with pytest.raises(HubError, match="no such folder or file.*adapter"):
        hub.folder("no-such-part")
    with pytest.raises(HubError, match="no such folder"):
        hub.folder(tmp_path / "missing" / "folder")


def test_a_hub_that_cannot_be_reached(cache: Path, monkeypatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    with pytest.raises(HubError, match="someone/their-model.*could not be had from the model hub.*give its folder"):
        hub.folder("someone/their-model")


@pytest.fixture(scope="module")
def gguf_file(theirs, tmp_path_factory) -> Path:  # noqa: F811
    return write(tmp_path_factory.mktemp("gguf") / "mine.gguf", theirs)


def test_a_gguf_file_is_converted_once_wherever_it_lies(gguf_file: Path, cache: Path, tmp_path: Path, capsys) -> None:
    folder = hub.folder(gguf_file)
    assert folder.is_relative_to(cache / "gguf") and load_causal_lm(folder).width == 32
    assert "mine.gguf: converting, once" in capsys.readouterr().err
    (tmp_path / "moved").mkdir()
    moved = Path(shutil.copy2(gguf_file, tmp_path / "moved" / "mine.gguf"))
    assert hub.folder(str(moved)) == folder and capsys.readouterr().err == ""
    os.utime(moved, (0, 0))  # another file for all one knows
    assert hub.folder(moved) != folder


def test_the_gguf_file_of_a_folder_is_meant(gguf_file: Path, cache: Path) -> None:
    assert hub.folder(gguf_file.parent) == hub.folder(gguf_file)


def test_of_several_gguf_files_one_is_to_be_named(cache: Path, tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(HubError, match=r"no config.json, and more than one GGUF file: name one, .*/a.gguf"):
        hub.folder(tmp_path)


def test_a_gguf_file_that_is_too_large_is_not_converted(gguf_file: Path, cache: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("antiphon.hub.memory.free_memory", lambda: 1000)
    with pytest.raises(ModelError, match="mine.gguf takes 0.0 GB of memory"):
        hub.folder(gguf_file)
    assert not list(cache.glob("gguf/*/")) and capsys.readouterr().err == ""


def test_a_broken_gguf_file_leaves_nothing(gguf_file: Path, cache: Path, tmp_path: Path) -> None:
    whole = gguf_file.read_bytes()
    for size in (0, 3, 100, len(whole) // 2, len(whole) - 10):
        (tmp_path / "cut.gguf").write_bytes(whole[:size])
        with pytest.raises(HubError, match=r"cut.gguf .*(cut short|is it whole)"):
            hub.folder(tmp_path / "cut.gguf")
    (tmp_path / "model.onnx").write_bytes(whole)
    with pytest.raises(HubError, match=r"model.onnx is no model: .*\.gguf"):
        hub.folder(tmp_path / "model.onnx")
    assert not list(cache.glob("gguf/*/"))


def test_a_gguf_file_of_a_hub(gguf_file: Path, cache: Path, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *what: asked.append(what) or str(gguf_file))
    assert hub.folder("someone/their-model/q4/mine.gguf") == hub.folder(gguf_file)
    assert asked == [("someone/their-model", "q4/mine.gguf")]
    with pytest.raises(HubError, match="no such folder or file"):
        hub.folder("someone/their-model/mine.bin")


def test_shipped_parts_lie_in_the_checkout_and_a_missing_one_says_how_to_get_it(monkeypatch, tmp_path: Path) -> None:
    assert hub.weights_dir("mini").parent.name == "weights"
    monkeypatch.setattr("antiphon.hub.folders.weights_dir", lambda name: tmp_path / name)
    with pytest.raises(HubError, match="antiphon train recipes/mini/codec.yaml"):
        hub.folder("codec")
    made = model_folder(tmp_path / "mini" / "codec")
    assert hub.folder("codec") == made


def test_what_ships_is_what_the_preset_names():
    for part in [part for preset in PRESETS for part in preset.parts.values()]:
        if part.shipped:
            data = (weights_dir(part.home) / part.name / "model.safetensors").read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (part.shipped_size, part.sha256), part.name
