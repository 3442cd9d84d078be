"""All of the sound of a file is read, whatever its header says: joined files, several tracks, channels that cancel."""

from __future__ import annotations

import logging
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch

from antiphon.audio.downmix import Downmix
from antiphon.audio.io import Audio, load
from antiphon.errors import AudioError

CODECS = {"mp3": ("mp3", "libmp3lame"), "aac": ("adts", "aac"), "m4a": ("ipod", "aac"), "opus": ("ogg", "libopus"),
          "mkv": ("matroska", "aac"), "webm": ("webm", "libopus")}  # fmt: skip
EXACT = ("wav", "flac", "ogg", "aiff")


def tone(seconds: float, hertz: float, rate: int, channels: int = 1) -> np.ndarray:
    """[channels, samples]."""
    time = np.arange(int(seconds * rate)) / rate
    return np.repeat(0.5 * np.sin(2 * np.pi * hertz * time)[None], channels, axis=0).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int, options: dict[str, str] | None = None) -> Path:
    """A file of the kind that its name says."""
    kind = path.suffix[1:]
    if kind in EXACT:
        soundfile.write(path, samples.T, rate)
        return path
    container, codec = CODECS[kind]
    with av.open(str(path), "w", format=container, options=options or {}) as out:
        add_track(out, codec, samples, rate)
    return path


def add_track(out, codec: str, samples: np.ndarray, rate: int):
    layout = "mono" if len(samples) == 1 else "stereo"
    stream = out.add_stream(codec, rate=rate, layout=layout)
    fifo = av.AudioResampler(format=stream.format.name, layout=layout, rate=stream.rate, frame_size=1024)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
    frame.sample_rate = rate
    for piece in [*fifo.resample(frame), *fifo.resample(None)]:
        piece.pts = None
        out.mux(stream.encode(piece))
    out.mux(stream.encode(None))
    return stream


def pitch(audio: Audio, start: float) -> float:
    """The loudest frequency in a second from `start` on."""
    first = int(start * audio.sample_rate)
    part = audio.samples.numpy()[first : first + audio.sample_rate]
    return float(np.abs(np.fft.rfft(part * np.hanning(len(part)))).argmax() * audio.sample_rate / len(part))


@pytest.mark.parametrize("kind", [*EXACT, *CODECS])
def test_files_joined_into_one_are_read_to_the_end(tmp_path: Path, kind: str) -> None:
    rate = 48000 if kind in ("webm", "opus") else 16000
    first = write(tmp_path / f"a.{kind}", tone(2, 300, rate), rate)
    second = write(tmp_path / f"b.{kind}", tone(3, 900, rate), rate)
    both = tmp_path / f"both.{kind}"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    assert load(first).duration == pytest.approx(2, abs=0.15)
    audio = load(both)
    assert audio.duration == pytest.approx(5, abs=0.25)
    assert pitch(audio, 0.4) == pytest.approx(300, abs=3) and pitch(audio, 3.5) == pytest.approx(900, abs=3)


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "aac"])
@pytest.mark.parametrize("mono", [True, False])
def test_a_part_of_another_rate_and_other_channels_is_brought_to_the_firsts(tmp_path: Path, kind: str, mono: bool):
    first = write(tmp_path / f"a.{kind}", tone(2, 300, 16000), 16000)
    second = write(tmp_path / f"b.{kind}", tone(3, 900, 44100, channels=2), 44100)
    both = tmp_path / f"both.{kind}"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    audio = load(both, mono=mono)
    assert audio.sample_rate == 16000 and audio.samples.ndim == (1 if mono else 2)
    assert audio.duration == pytest.approx(5, abs=0.25)
    assert pitch(audio.mono(), 3.5) == pytest.approx(900, abs=3)


def test_an_mp3_of_variable_bit_rate_without_a_length_is_read_to_the_end(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    quiet, loud = 0.001 * generator.standard_normal(16000 * 6), 0.3 * generator.standard_normal(16000 * 6)
    samples = np.concatenate([loud, quiet])[None].astype(np.float32)
    container = tmp_path / "vbr.mp3"
    with av.open(str(container), "w", format="mp3", options={"write_xing": "0"}) as out:
        stream = add_track(out, "libmp3lame", samples, 16000)
    assert stream is not None
    assert load(container).duration == pytest.approx(12, abs=0.15)


def test_the_track_that_players_choose_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w", format="matroska") as out:
        tracks = [(out.add_stream("aac", rate=16000, layout="mono"), tone(1, hertz, 16000)) for hertz in (300, 900)]
        tracks[0][0].disposition = av.stream.Disposition(0)
        tracks[1][0].disposition = av.stream.Disposition.default
        for stream, samples in tracks:
            for at in range(0, samples.shape[1], 1024):
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[:, at : at + 1024]), "fltp", "mono")
                frame.sample_rate, frame.pts = 16000, at
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    assert pitch(load(path), 0.0) == pytest.approx(900, abs=5)


def test_junk_between_frames_costs_no_more_than_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = write(tmp_path / "a.mp3", tone(4, 300, 16000), 16000).read_bytes()
    (tmp_path / "b.mp3").write_bytes(data[: len(data) // 2] + bytes(range(256)) * 8 + data[len(data) // 2 :])
    with caplog.at_level(logging.WARNING):
        assert load(tmp_path / "b.mp3").duration == pytest.approx(4, abs=0.3)


def test_a_joined_file_is_too_long_as_a_whole(tmp_path: Path) -> None:
    part = write(tmp_path / "a.flac", tone(2, 300, 16000), 16000).read_bytes()
    (tmp_path / "b.flac").write_bytes(part * 4)
    with pytest.raises(AudioError, match="too long"):
        load(tmp_path / "b.flac", max_seconds=5.0)
    assert load(tmp_path / "b.flac", max_seconds=9.0).duration == pytest.approx(8)


@pytest.mark.parametrize("kind", ["wav", "flac", "m4a"])
def test_opposite_phases_do_not_cancel(tmp_path: Path, kind: str) -> None:
    one = tone(2, 440, 48000)
    path = write(tmp_path / f"a.{kind}", np.concatenate([one, -one]), 48000)
    assert load(path).peak > 0.4 and load(path, mono=False).mono().peak > 0.4
    assert load(write(tmp_path / f"b.{kind}", np.concatenate([one, one]), 48000)).peak == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_pieces_are_mixed_as_the_whole(seed: int) -> None:
    generator = np.random.default_rng(seed)
    one = generator.standard_normal(40000).astype(np.float32)
    one[10000:20000] *= 0.001
    stereo = np.stack([one, np.where(np.arange(40000) < 25000, -one, one)])
    whole = Downmix(2, 8000)
    expected = np.concatenate([whole.step(stereo), whole.flush()])
    mix, made, at = Downmix(2, 8000), [], 0
    while at < 40000:
        size = int(generator.integers(0, 9000))
        made.append(mix.step(stereo[:, at : at + size]))
        at += size
    assert np.allclose(np.concatenate([*made, mix.flush()]), expected, atol=1e-6)
    assert len(expected) == 40000 and np.square(expected[:8000]).mean() > 0.5


def test_channels_that_have_nothing_to_do_with_each_other_are_averaged() -> None:
    samples = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(Audio(samples, 16000).mono().samples, samples.mean(0), atol=1e-6)
