"""The optional voices without their weights: noise from outside, and how their packages are put together."""

import hashlib
import zipfile

import numpy as np
import pytest

from antiphon.data.speech.voices.kokoro import KOKORO, KokoroVoice
from antiphon.data.speech.voices.piper import JOE, noise_as_input
from antiphon.errors import DataError
from antiphon.hub import Part, Wheel, fetch

onnx = pytest.importorskip("onnx")


def test_noise_comes_from_outside():
    import onnxruntime
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["first"]),
        helper.make_node("RandomNormalLike", ["x"], ["second"]),
        helper.make_node("Sub", ["first", "second"], ["y"]),
    ]
    shape = ["batch", 2, "frames"]
    graph = helper.make_graph(
        nodes,
        "noisy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    noise_as_input(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    noises = [np.random.default_rng(seed).standard_normal(100, dtype=np.float32) for seed in (0, 1)]
    for frames in (3, 7):
        x = np.zeros((1, 2, frames), np.float32)
        (y,) = session.run(None, {"x": x, "noise_0": noises[0], "noise_1": noises[1]})
        np.testing.assert_array_equal(y, (noises[0] - noises[1])[: 2 * frames].reshape(1, 2, frames))


def test_members_of_one_name_do_not_overwrite_each_other(tmp_path, monkeypatch):
    wheels = []
    for number in (1, 2):
        path = tmp_path / f"piece_{number}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"piece_{number}/part.bin", f"part {number}")
            archive.writestr(f"piece_{number}/own{number}.txt", "own")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        members = (f"piece_{number}/part.bin", f"piece_{number}/own{number}.txt")
        wheels.append(Wheel(f"piece-{number}", "1.0", path.stat().st_size, digest, members))

    def build(unpacked, folder):
        folder.mkdir()
        both = [(unpacked / f"piece-{number}" / "part.bin").read_text() for number in (1, 2)]
        assert (unpacked / "own1.txt").is_file() and (unpacked / "own2.txt").is_file()
        (folder / "config.json").write_text(" and ".join(both))

    monkeypatch.setenv("ANTIPHON_WHEELS", str(tmp_path))
    monkeypatch.setenv("ANTIPHON_CACHE", str(tmp_path / "cache"))
    part = Part("pieces", "Two pieces", "tests", "MIT", tuple(wheels), build=build, disk=1000)
    assert (fetch(part) / "config.json").read_text() == "part 1 and part 2"


def test_unknown_styles_are_named():
    with pytest.raises(DataError, match="jf_alpha"):
        KokoroVoice("nobody")
    with pytest.raises(DataError, match="jf_alpha"):
        KokoroVoice("jf_alpha+nobody")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["joe", "kokoro:jf_alpha"])
def test_the_real_voices_speak_and_repeat_themselves(name):
    from antiphon.data.speech.speak import Speaker

    speaker = Speaker(name)
    plain = {"speed": 1.0, "pitch": 1.0, "formant": 1.0}
    once, again = (speaker.speak("What time is it?", 5, plain) for _ in range(2))
    np.testing.assert_array_equal(once.samples, again.samples)
    assert 0.7 < len(once.samples) / once.sample_rate < 3.0 and 0.05 < np.abs(once.samples).max() <= 1.0
    slow = speaker.speak("What time is it?", 5, {**plain, "speed": 0.7})
    assert len(slow.samples) > 1.15 * len(once.samples)
    assert speaker.made({**plain, "pitch": 0.5}) == {}
    assert {wheel.sha256 for wheel in (JOE if name == "joe" else KOKORO).wheels}


@pytest.mark.slow
def test_when_phones_sound_is_found_where_the_voice_does_not_tell(tmp_path):
    from antiphon.data.dialogue.phrases import sounding
    from antiphon.data.speech.speak import SpeakConfig, speak
    from antiphon.data.speech.utterances import SpeechSet
    from antiphon.data.text.corpora import Sentence, text_id

    text = "What time is it?"
    sentence = Sentence(text_id(text), text, "user", "tests", "train")
    speak([sentence], SpeakConfig(tmp_path / "plain", ("joe",)), bar=False)
    speak([sentence], SpeakConfig(tmp_path / "timed", ("joe",), times=True), bar=False)
    (plain,), (timed,) = (SpeechSet(tmp_path / name).utterances for name in ("plain", "timed"))
    assert not plain.phonemes and timed.phonemes == "wˌʌt tˈIm ɪz ɪt?"
    ends = [timed.phonemes_start, *timed.phoneme_ends]
    first, last = (at / 24000 for at in sounding(SpeechSet(tmp_path / "timed").samples(0)))
    assert ends == sorted(ends) and abs(ends[0] - first) < 0.15 and abs(ends[-1] - last) < 0.25
    assert len(timed.words) == 4 and timed.voice == "joe"
