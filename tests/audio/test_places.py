"""Recordings as a person names them."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from antiphon.audio import places
from antiphon.audio.places import Named, fetched, named
from antiphon.errors import AudioError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.wav", "b.mp3", "notes.txt", "deep/a.flac", "deep/.hidden.wav"):
        (tmp_path / "talks" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "talks" / name).write_bytes(b"sound of " + name.encode())
    return tmp_path / "talks"


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    with served(folder) as address:
        yield address


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """An address under which the files of a folder can be had."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_folder_means_its_sounds_and_those_of_folders_in_it(folder: Path) -> None:
    assert [each.name for each in named([str(folder)])] == ["a", "b", "deep/a"]


def test_patterns_files_and_addresses_each_once(folder: Path) -> None:
    found = named(
        [f"{folder}/*.wav", str(folder / "a.wav"), "https://example.org/x/my%20talk.ogg?key=1", "https://b.org"]
    )
    assert found[1:] == [Named("https://example.org/x/my%20talk.ogg?key=1", "my talk"), Named("https://b.org", "b.org")]
    assert found[0] == Named(str(folder / "a.wav"), "a")
    assert named([str(folder / "missing.wav")])[0].name == "missing", "told when it is heard"


def test_no_two_have_the_same_name(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    found = named(
        [str(folder / "a.wav"), str(folder / "deep" / "a.flac"), str(tmp_path / "a.wav"), str(folder / "b.mp3")]
    )
    assert [each.name for each in found] == ["a.wav-1", "a.flac", "a.wav-3", "b"]


def test_what_names_nothing_is_told(folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(AudioError, match="holds no sound files"):
        named([str(folder / "empty")])
    with pytest.raises(AudioError, match="No file is called"):
        named([f"{folder}/*.ogg"])


def test_an_address_is_downloaded_and_gone_afterwards(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = Named(f"{server}/a.wav", "a")
    with fetched(recording) as file:
        assert file.read_bytes() == b"sound of a.wav" and file.suffix == ".wav"
    assert not file.exists()
    with pytest.raises(AudioError, match=f"{server}/a.wav is no sound"), fetched(recording) as file:
        raise AudioError(f"{file} is no sound")
    with (
        pytest.raises(AudioError, match=r"c\.wav can't be had: File not found"),
        fetched(Named(f"{server}/c.wav", "c")),
    ):
        pass
    monkeypatch.setattr(places, "MAX_BYTES", 5)
    with pytest.raises(AudioError, match="is larger than"), fetched(recording):
        pass
