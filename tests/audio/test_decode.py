"""All of a file's sound is read, whatever the format, joined or not, and in whatever channel it is."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.audio import encode as sound
from antiphon.audio.downmix import Downmix
from antiphon.audio.io import Audio, load
from antiphon.data.recordings import Recording
from antiphon.errors import AudioError

FORMATS = {  # name's ending: encoder, rate, container options
    "cbr.mp3": ("libmp3lame", 16000, {}),
    "vbr.mp3": ("libmp3lame", 16000, {"write_xing": "0"}),
    "ogg": ("libvorbis", 16000, {}),
    "opus": ("libopus", 48000, {}),
    "oga": ("flac", 16000, {}),
    "m4a": ("aac", 16000, {}),
    "aac": ("aac", 16000, {}),
    "webm": ("libopus", 48000, {}),
    "mkv": ("aac", 16000, {}),
    "amr": ("libopencore_amrnb", 8000, {}),
    "wma": ("wmav2", 16000, {}),
}
PLAIN = {"wav": "PCM_16", "24.wav": "PCM_24", "f.wav": "FLOAT", "u.wav": "ULAW", "8.wav": "PCM_U8", "aiff": "PCM_16"}
PLAIN |= {"flac": "PCM_16", "au": "PCM_16"}
JOINED = [*FORMATS, *(name for name in PLAIN if name != "au")]


def tone(hertz: float, seconds: float, rate: int = 16000, gain: float = 0.5) -> np.ndarray:
    return (gain * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write(path: Path, hertz: float, seconds: float, rate: int | None = None, channels: int = 1) -> Path:
    """A tone in the format that the name ends in."""
    ending = path.name.split(".", 1)[1]
    if ending in PLAIN:
        samples = np.stack([tone(hertz, seconds, rate or 16000)] * channels, 1)
        soundfile.write(path, samples, rate or 16000, PLAIN[ending])
        return path
    encoder, usual, options = FORMATS[ending]
    rate = rate or usual
    name = "vorbis" if encoder == "libvorbis" and encoder not in av.codecs_available else encoder
    with av.open(str(path), "w", container_options=options) as out:
        # FFmpeg's own Vorbis encoder knows stereo only.
        layout = "stereo" if name == "vorbis" or channels == 2 else "mono"
        stream = out.add_stream(name, rate=rate, layout=layout)
        if ending == "vbr.mp3":
            stream.codec_context.qscale = True
            stream.codec_context.global_quality = 2 * 118
        elif name == "vorbis":
            stream.codec_context.options = {"strict": "experimental"}
        elif ending in ("amr", "wma"):
            stream.bit_rate = {"amr": 12200, "wma": 32000}[ending]
        encode(out, stream, np.stack([tone(hertz, seconds, rate)] * (2 if layout == "stereo" else 1)), rate)
    return path


def encode(out, stream, samples: np.ndarray, rate: int) -> None:
    resampler = av.AudioResampler(format=stream.codec_context.format, layout=stream.layout, rate=rate)
    layout = "stereo" if len(samples) == 2 else "mono"
    for start in range(0, samples.shape[1], 1024):
        piece = np.ascontiguousarray(samples[:, start : start + 1024])
        frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate, start
        for ready in resampler.resample(frame):
            out.mux(stream.encode(ready))
    for ready in resampler.resample(None):
        out.mux(stream.encode(ready))
    out.mux(stream.encode(None))


def seconds_of(audio: Audio, hertz: float) -> float:
    """For how long that tone is heard."""
    samples = audio.samples.numpy()
    size = audio.sample_rate // 20
    blocks = samples[: len(samples) // size * size].reshape(-1, size) * np.hanning(size)
    loud = np.sqrt((blocks**2).mean(1)) > 0.05
    return float((loud & (abs(np.abs(np.fft.rfft(blocks)).argmax(1) * 20 - hertz) <= 20)).sum() / 20)


@pytest.mark.parametrize("ending", [*FORMATS, *PLAIN])
def test_a_file_is_read_to_its_end(tmp_path: Path, ending: str) -> None:
    audio = load(write(tmp_path / f"a.{ending}", 300, 3.0))
    assert audio.duration == pytest.approx(3.0, abs=0.15)
    assert seconds_of(audio, 300) == pytest.approx(3.0, abs=0.15)


@pytest.mark.parametrize("ending", JOINED)
def test_joined_files_are_all_read(tmp_path: Path, ending: str) -> None:
    parts = [write(tmp_path / f"{i}.{ending}", hertz, i) for i, hertz in ((2, 300), (3, 900), (1, 1500))]
    path = tmp_path / f"joined.{ending}"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    for audio in (load(path), Recording("a", str(path)).load()):
        # Formats that don't say how much of their first and last frame is filling keep it: 0.1 s a part.
        assert audio.duration == pytest.approx(6.0, abs=0.4 if ending in ("vbr.mp3", "aac") else 0.2)
        for hertz, seconds in ((300, 2), (900, 3), (1500, 1)):
            assert seconds_of(audio, hertz) == pytest.approx(seconds, abs=0.25)
    served = Audio(sound.read(path.read_bytes(), 60), 24000)
    assert seconds_of(served, 900) == pytest.approx(3, abs=0.25)
    with pytest.raises(AudioError, match="too long"):
        load(path, max_seconds=4.0)


@pytest.mark.parametrize("ending", ["wav", "flac", "cbr.mp3", "aac", "opus", "m4a", "mkv"])
def test_parts_of_other_rates_and_channels_come_in_those_of_the_first(tmp_path: Path, ending: str) -> None:
    rates = (48000, 24000) if ending == "opus" else (16000, 32000)
    parts = [write(tmp_path / f"1.{ending}", 300, 2, rates[0]), write(tmp_path / f"2.{ending}", 900, 3, rates[1], 2)]
    path = tmp_path / f"joined.{ending}"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    audio = load(path)
    assert audio.sample_rate == rates[0]
    assert audio.duration == pytest.approx(5.0, abs=0.25)
    assert seconds_of(audio, 900) == pytest.approx(3, abs=0.25)
    assert load(path, mono=False).samples.shape[0] == 1


@pytest.mark.parametrize("size", [0, 2**31, 2**32 - 1])
def test_streamed_wav_headers_that_do_not_know_the_length(tmp_path: Path, size: int) -> None:
    whole = bytearray(write(tmp_path / "a.wav", 300, 2).read_bytes())
    whole[4:8] = whole[40:44] = size.to_bytes(4, "little")
    (tmp_path / "b.wav").write_bytes(whole)
    assert load(tmp_path / "b.wav").duration == pytest.approx(2.0, abs=0.01)
    (tmp_path / "c.wav").write_bytes(whole * 2)
    if size:
        assert load(tmp_path / "c.wav").duration == pytest.approx(4.0, abs=0.01)


@pytest.mark.parametrize("default", [0, 1])
def test_the_default_track_is_read(tmp_path: Path, default: int) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        streams = [out.add_stream("aac", rate=16000, layout="mono") for _ in range(2)]
        for i, stream in enumerate(streams):
            stream.disposition = av.stream.Disposition.default if i == default else av.stream.Disposition(0)
        for stream, hertz in zip(streams, (300, 900)):
            encode(out, stream, tone(hertz, 2.0)[None], 16000)
    assert seconds_of(load(tmp_path / "a.mp4"), (300, 900)[default]) == pytest.approx(2.0, abs=0.15)


def test_broken_packets_are_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path / "a.aac", 300, 4.0)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 300] = bytes(300)
    path.write_bytes(data)
    assert seconds_of(load(path), 300) > 3.0
    path.write_bytes(data[: len(data) // 3])
    assert 0.8 < load(path).duration < 1.8


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    write(tmp_path / "secret.aac", 300, 1.0)
    (tmp_path / "list.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{tmp_path}/secret.aac\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(AudioError):
        load(tmp_path / "list.m3u8")


@pytest.mark.parametrize("gain", [-1.0, -0.9])
def test_opposite_channels_are_heard(tmp_path: Path, gain: float) -> None:
    said = tone(300, 3.0)
    noise = 0.02 * np.random.default_rng(0).standard_normal((2, len(said))).astype(np.float32)
    both = np.stack([said, gain * said]) + noise
    both[1, 16000:32000] = both[0, 16000:32000]  # a second of it is as it should be
    soundfile.write(tmp_path / "a.wav", both.T, 16000, "FLOAT")
    for audio in (load(tmp_path / "a.wav"), Audio(torch.from_numpy(both), 16000).mono()):
        assert seconds_of(audio, 300) == pytest.approx(3.0, abs=0.1)
    served = Audio(sound.read((tmp_path / "a.wav").read_bytes(), 60), 24000)
    assert seconds_of(served, 300) == pytest.approx(3.0, abs=0.1)


def test_other_channels_are_mixed_as_ever() -> None:
    random = np.random.default_rng(0)
    for both in (random.standard_normal((2, 40000)), np.stack([tone(300, 2), np.zeros(32000)])):
        samples = torch.from_numpy(both.astype(np.float32))
        torch.testing.assert_close(Audio(samples, 16000).mono().samples, samples.mean(0))


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, 9000), max_size=6), seed=st.integers(0, 99), channels=st.integers(1, 3))
def test_downmix_of_pieces_is_that_of_the_whole(cuts: list[int], seed: int, channels: int) -> None:
    random = np.random.default_rng(seed)
    signs = np.repeat(random.choice([-1.0, 1.0], (channels, 9)), 1000, axis=1)
    samples = (random.standard_normal(9000) * signs).astype(np.float32)

    def mixed(pieces: list[np.ndarray]) -> np.ndarray:
        mixer = Downmix(channels, 1000)
        return np.concatenate([*(mixer.step(piece) for piece in pieces), mixer.flush()])

    np.testing.assert_allclose(mixed(np.split(samples, sorted(cuts), axis=1)), mixed([samples]), atol=1e-6)
