"""How much memory is free, what is taken where it is short, and what doesn't fit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from antiphon import hub
from antiphon.errors import ModelError
from antiphon.hub import memory


def with_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: free)


@pytest.mark.parametrize(("free", "name"), [(4_000_000_000, "base"), (3_999_999_999, "small"), (0, "small")])
def test_what_is_taken_where_nothing_is_named(free: int, name: str, monkeypatch, capsys) -> None:
    with_free(monkeypatch, free)
    assert hub.default_preset() == name
    said = capsys.readouterr()
    assert said.out == "" and ("Taking small" in said.err) is (name == "small")
    assert f"{free / 1e9:.1f} GB of memory are free" in said.err or name == "base"


def test_a_container_has_what_its_limit_leaves(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=8_000_000_000))
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert hub.free_memory() == 8_000_000_000  # there is none
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 300\n")
    for limit, free in (("max", 8_000_000_000), ("1000", 400), ("100", 0), (str(10**12), 8_000_000_000)):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        assert hub.free_memory() == free


def test_weights_that_do_not_fit_are_told_before_they_are_read(monkeypatch, tmp_path: Path) -> None:
    kinds = {"half": torch.float16, "brain": torch.bfloat16, "whole": torch.float32, "packed": torch.int8}
    for name, kind in kinds.items():
        save_file({"x": torch.zeros(3, 1000, dtype=kind)}, tmp_path / f"{name}.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"short")  # told by who reads it
    assert hub.weight_bytes(tmp_path) == 3 * 12_000 + 3_000
    assert hub.weight_bytes(tmp_path, 2) == 4 * 6_000
    (tmp_path / "config.json").write_text('{"quantization_config": {"bits": 4}}')  # two weights in a byte
    assert hub.weight_bytes(tmp_path, 2) == 3 * 6_000 + 12_000
    with_free(monkeypatch, 39_000)
    hub.check_memory(tmp_path, hub.weight_bytes(tmp_path))
    with_free(monkeypatch, 38_999)
    with pytest.raises(ModelError, match="takes 0.0 GB of memory, and 0.0 GB are free.*none of the presets"):
        hub.check_memory(tmp_path, hub.weight_bytes(tmp_path))
    assert memory.fitting(2_000_000_000).startswith("small (1.") and "base" not in memory.fitting(2_000_000_000)
