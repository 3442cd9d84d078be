"""Sound files in and out: what is read is what was written, and bad files give an error that helps."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.audio.io import Audio, is_silent, load, save, stream
from antiphon.errors import AudioError


def tone(seconds: float = 1.0, rate: int = 16000, hertz: float = 440.0, gain: float = 0.5) -> np.ndarray:
    return (gain * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def encode(path: Path, codec: str, samples: np.ndarray, rate: int) -> Path:
    """Writes a file with FFmpeg, in a format that libsndfile may not know."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = "mono"
        for start in range(0, len(samples), 1024):
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = rate, start
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return path


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "deep/er/a.wav", "A.WAV"])
def test_saved_and_loaded_is_the_same_to_16_bits(tmp_path: Path, name: str) -> None:
    samples = torch.from_numpy(tone())
    path = Audio(samples, 16000).save(tmp_path / name)
    back = load(path)
    assert back.sample_rate == 16000
    assert back.samples.dtype == torch.float32
    assert back.samples.shape == samples.shape
    assert (back.samples - samples).abs().max() <= 1.01 / 2**15


def test_channels_are_kept_or_mixed(tmp_path: Path) -> None:
    left, right = tone(gain=0.6), tone(gain=0.2)
    soundfile.write(tmp_path / "s.wav", np.stack([left, right], 1), 16000, subtype="FLOAT")
    both = load(tmp_path / "s.wav", mono=False)
    assert both.samples.shape == (2, 16000)
    np.testing.assert_allclose(both.samples[1], right, atol=1e-6)
    np.testing.assert_allclose(load(tmp_path / "s.wav").samples, (left + right) / 2, atol=1e-6)
    np.testing.assert_allclose(both.mono().samples, (left + right) / 2, atol=1e-6)
    again = load(save(both, tmp_path / "again.wav"), mono=False)
    assert again.samples.shape == (2, 16000)


@settings(max_examples=25, deadline=None)
@given(
    source=st.sampled_from([8000, 16000, 22050, 24000, 44100, 48000]),
    target=st.sampled_from([8000, 16000, 24000, 44100]),
    seconds=st.floats(0.05, 0.5),
    channels=st.integers(0, 2),
)
def test_resampling_keeps_duration_and_pitch(source: int, target: int, seconds: float, channels: int) -> None:
    samples = torch.from_numpy(tone(seconds, source, hertz=1000.0))
    if channels:
        samples = samples.repeat(channels, 1)
    out = Audio(samples, source).resample(target)
    assert out.sample_rate == target
    assert out.samples.shape[:-1] == samples.shape[:-1]
    assert abs(out.samples.shape[-1] - samples.shape[-1] * target / source) <= 1
    middle = out.samples.reshape(-1, out.samples.shape[-1])[0][out.samples.shape[-1] // 4 :][: target // 50]
    expected = np.sin(2 * np.pi * 1000.0 * np.arange(len(middle)) / target)
    phase = 2 * np.pi * 1000.0 * (out.samples.shape[-1] // 4) / target
    expected = 0.5 * np.sin(2 * np.pi * 1000.0 * np.arange(len(middle)) / target + phase)
    np.testing.assert_allclose(middle, expected, atol=0.02)


@pytest.mark.parametrize(("name", "codec"), [("a.m4a", "aac"), ("a.mka", "ac3")])
def test_formats_that_only_ffmpeg_reads(tmp_path: Path, name: str, codec: str) -> None:
    path = encode(tmp_path / name, codec, tone(rate=32000), 32000)
    audio = load(path, sample_rate=16000)
    assert audio.sample_rate == 16000
    assert audio.duration == pytest.approx(1.0, abs=0.15)
    spectrum = torch.fft.rfft(audio.samples).abs()
    assert spectrum.argmax().item() / audio.duration == pytest.approx(440, abs=3)


def test_samples_beyond_full_scale_are_scaled(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "loud.wav", tone() * 60000, 16000, subtype="FLOAT")
    audio = load(tmp_path / "loud.wav")
    assert audio.peak == pytest.approx(1.0)
    np.testing.assert_allclose(audio.samples, tone() / np.abs(tone()).max(), atol=1e-4)


def test_silence_is_a_sound_and_is_known_as_such(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(1600), 16000)
    assert load(tmp_path / "silent.wav").silent
    assert not Audio(torch.from_numpy(tone()), 16000).silent
    assert Audio(torch.zeros(0), 16000).silent


@pytest.mark.parametrize("name", ["cut.wav", "cut.flac"])
def test_a_file_that_breaks_off_gives_what_is_there(tmp_path: Path, name: str) -> None:
    whole = save(Audio(torch.from_numpy(tone(3.0)), 16000), tmp_path / f"whole{Path(name).suffix}")
    (tmp_path / name).write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    audio = load(tmp_path / name)
    assert 0.5 < audio.duration < 2.5
    np.testing.assert_allclose(audio.samples[:8000], tone(3.0)[:8000], atol=1e-4)


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Each bad file and a word that its error must say."""
    whole = save(Audio(torch.from_numpy(tone()), 16000), folder / "whole.wav").read_bytes()
    nan = tone()
    nan[100] = np.nan
    infinite = tone()
    infinite[100] = np.inf
    files = {
        "missing": (folder / "missing.wav", "no such file"),
        "folder": (folder, "folder"),
        "empty": (folder / "empty.wav", "empty"),
        "text": (folder / "text.wav", "not a sound file"),
        "header only": (folder / "header.wav", "not a sound file"),
        "zero length": (folder / "zero.wav", "zero"),
        "nan": (folder / "nan.wav", "not numbers"),
        "infinite": (folder / "inf.wav", "not numbers"),
        "picture": (folder / "picture.wav", "no sound"),
        "noise": (folder / "noise.mp3", "not a sound file"),
        "playlist": (folder / "playlist.wav", "not a sound file"),
    }
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("This is not a sound.\n" * 100)
    (folder / "header.wav").write_bytes(whole[:30])
    soundfile.write(folder / "zero.wav", tone(0.0), 16000)
    soundfile.write(folder / "nan.wav", nan, 16000, subtype="FLOAT")
    soundfile.write(folder / "inf.wav", infinite, 16000, subtype="FLOAT")
    (folder / "picture.wav").write_bytes(
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 58, 0, 0, 54, 40, 1, 1, 1, 24, 0, 4, 0, 0, 0, 0) + b"\0\0\xff\0"
    )
    (folder / "noise.mp3").write_bytes(np.random.default_rng(0).bytes(20000))
    (folder / "playlist.wav").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n")
    return files


@pytest.mark.parametrize(
    "kind",
    [
        "missing",
        "folder",
        "empty",
        "text",
        "header only",
        "zero length",
        "nan",
        "infinite",
        "picture",
        "noise",
        "playlist",
    ],
)
def test_a_bad_file_gets_an_error_that_names_it_and_says_why(tmp_path: Path, kind: str) -> None:
    path, word = bad_files(tmp_path)[kind]
    with pytest.raises(AudioError) as caught:
        load(path, sample_rate=16000)
    assert str(path) in str(caught.value)
    assert word in str(caught.value)


def test_three_hours_are_refused_before_they_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 8000, 1, "PCM_U8") as file:
        for _ in range(180):
            file.write(np.zeros(8000 * 60))
    read = 0
    original = soundfile.SoundFile.read

    def counting(self, *args, **options):
        nonlocal read
        out = original(self, *args, **options)
        read += len(out)
        return out

    monkeypatch.setattr(soundfile.SoundFile, "read", counting)
    with pytest.raises(AudioError, match="too long: at least 3:00:00, where 10:00 is the most"):
        load(path)
    assert read == 0


def test_a_header_that_hides_the_length_does_not_get_past_the_limit(tmp_path: Path) -> None:
    raw = encode(tmp_path / "a.aac", "aac", tone(30.0, 8000), 8000)  # a bare stream: no length in any header
    with pytest.raises(AudioError, match="too long"):
        load(raw, max_seconds=12.0)
    assert load(raw, max_seconds=None).duration == pytest.approx(30, abs=0.5)


def test_saving_refuses_what_cannot_be_written(tmp_path: Path) -> None:
    good = Audio(torch.from_numpy(tone(0.1)), 16000)
    (tmp_path / "file").touch()
    with pytest.raises(AudioError, match=r"\.wav or \.flac"):
        good.save(tmp_path / "a.mp3")
    with pytest.raises(AudioError, match="could not be written"):
        good.save(tmp_path / "file" / "a.wav")
    (tmp_path / "d.wav").mkdir()
    with pytest.raises(AudioError, match="folder"):
        good.save(tmp_path / "d.wav")
    with pytest.raises(AudioError, match="not numbers"):
        Audio(torch.tensor([0.0, torch.nan]), 16000).save(tmp_path / "nan.wav")
    assert not (tmp_path / "nan.wav").exists()
    assert load(Audio(torch.tensor([2.0, -2.0]), 16000).save(tmp_path / "clip.wav")).peak == pytest.approx(1.0)


def test_audio_checks_its_shape_and_rate() -> None:
    with pytest.raises(AudioError, match="shape"):
        Audio(torch.zeros(1, 1, 5), 16000)
    with pytest.raises(AudioError, match="rate"):
        Audio(torch.zeros(5), 0)
    assert Audio(torch.zeros(2, 8000), 16000).duration == 0.5


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_a_stream_is_what_is_loaded(tmp_path: Path, rate: int) -> None:
    left, right = tone(25.0, rate), tone(25.0, rate, hertz=300.0, gain=0.2)
    soundfile.write(tmp_path / "s.wav", np.stack([left, right], 1), rate, subtype="FLOAT")
    pieces = list(stream(tmp_path / "s.wav", 16000))
    whole = load(tmp_path / "s.wav", sample_rate=16000).samples
    assert len(pieces) > 2 and max(map(len, pieces)) < 11 * 16000
    streamed = torch.cat(pieces)
    assert abs(len(streamed) - len(whole)) <= 1
    np.testing.assert_allclose(streamed[200 : len(whole) - 200], whole[200:-200], atol=2e-3)
    with pytest.raises(AudioError, match="too long"):
        list(stream(tmp_path / "s.wav", 16000, max_seconds=20.0))


def test_a_stream_stays_within_full_scale_and_refuses_what_is_no_sound(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "loud.wav", 300 * tone(), 16000, subtype="FLOAT")
    loud = torch.cat(list(stream(tmp_path / "loud.wav", 16000)))
    assert 0.9 < float(loud.abs().max()) <= 1.0
    broken = tone()
    broken[100] = np.nan
    soundfile.write(tmp_path / "nan.wav", broken, 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match="not numbers"):
        list(stream(tmp_path / "nan.wav", 16000))
    soundfile.write(tmp_path / "none.wav", np.zeros(0, np.float32), 16000)
    with pytest.raises(AudioError, match="length is zero"):
        list(stream(tmp_path / "none.wav", 16000))


def test_what_is_silent(tmp_path: Path) -> None:
    quiet = np.zeros(16000 * 12, np.float32)
    soundfile.write(tmp_path / "quiet.wav", quiet, 16000)
    quiet[-8000:] = tone(0.5)
    soundfile.write(tmp_path / "loud.wav", quiet, 16000)
    assert is_silent(tmp_path / "quiet.wav") and not is_silent(tmp_path / "loud.wav")
