"""The codec evaluation: measures against cases computed by hand, and runs on codecs whose answers are known."""

import io
import json
import math
import sys
import types

import numpy as np
import pytest
import soundfile
import torch

from antiphon.audio.io import Audio
from antiphon.data.shards import ShardWriter, Utterance
from antiphon.errors import AntiphonError, ConfigError, DataError, EvalError
from antiphon.evals.cache import pack_codes, unpack_codes
from antiphon.evals.codec import measures
from antiphon.evals.codec import run as module
from antiphon.evals.codec.measures import CodebookUse, bitrates, codebook_use, score, si_snr
from antiphon.evals.codec.phones import PHONE_MEASURES
from antiphon.evals.codec.report import CodecReport, Point, labels
from antiphon.evals.codec.run import CodecConfig, rate_points, run
from antiphon.evals.plots import draw_rate_distortion
from tests.codecs.simple import Bytes, Semantic
from tests.data import fragile


def noise(seconds=1.0, rate=8000, seed=0):
    return Audio(torch.rand(int(seconds * rate), generator=torch.Generator().manual_seed(seed)) - 0.5, rate)


def test_si_snr_by_hand():
    t = torch.arange(8000) / 8000 * 2 * math.pi
    clean, other = torch.sin(100 * t), torch.cos(100 * t)  # of one power, and orthogonal
    assert si_snr(Audio(clean, 8000), Audio(3 * clean + 0.1, 8000)) == 100.0
    assert si_snr(Audio(clean, 8000), Audio(clean + 0.1 * other, 8000)) == pytest.approx(20.0, abs=1e-3)
    assert si_snr(Audio(clean, 8000), Audio(-5 * (clean + other), 8000)) == pytest.approx(0.0, abs=1e-3)
    apart = (torch.tensor(turn).repeat(2000) for turn in ((1.0, -1.0, 0.0, 0.0), (0.0, 0.0, 1.0, -1.0)))
    assert si_snr(*(Audio(samples, 8000) for samples in apart)) == -100.0
    for wrong in (Audio(torch.zeros(8000), 8000), Audio(clean, 16000), Audio(clean[:3000], 8000)):
        with pytest.raises(EvalError):
            si_snr(Audio(clean, 8000), wrong)


def test_silence_has_no_score_but_making_silence_has_the_worst():
    sound, silence = noise(), Audio(torch.zeros(8000), 8000)
    assert score("si-snr", silence, sound) is None and score("stoi", silence, silence) is None
    assert score("si-snr", sound, silence) == -100.0
    assert score("pesq", sound, silence) == 1.04 and score("visqol", sound, silence) == 1.0
    assert score("si-snr", noise(0.3), noise(0.3)) is None  # too short


@pytest.mark.parametrize(("name", "least"), [("pesq", 4.6), pytest.param("visqol", 4.9, marks=pytest.mark.slow)])
def test_optional_measures_know_the_same_sound(name, least, question):
    pytest.importorskip(name)
    from antiphon.audio.io import load

    whole = load(question)
    clean = Audio(whole.samples[: whole.sample_rate], whole.sample_rate)
    heard = Audio(clean.samples + 0.02 * noise(clean.duration, clean.sample_rate).samples, clean.sample_rate)
    assert score(name, clean, clean) >= least > score(name, clean, heard) > 1.0


def test_use_and_entropy_by_hand():
    even = np.tile(np.arange(4), 5000)[None]
    lone = np.zeros((1, 20000), np.int64)
    first, second = codebook_use([np.concatenate([even, lone])[:, :9000], np.concatenate([even, lone])[:, 9000:]], 8)
    assert (first.used, second.used) == (0.5, 0.125)
    assert first.entropy == pytest.approx(2.0, abs=1e-3) and first.perplexity == pytest.approx(4.0, abs=1e-2)
    assert second.entropy == 0.0 and second.perplexity == 1.0
    # 3 of one code and 1 of another: 0.8113 bits, and Miller's (2 - 1) / (2 * 4 * ln 2)
    assert codebook_use([np.array([[0, 0, 0, 1]])], 8)[0].entropy == pytest.approx(0.8113 + 0.1803, abs=1e-3)
    assert codebook_use([np.array([[0, 1]])], 2)[0].entropy == 1.0  # never more than nominal
    for wrong in ([np.array([[8]])], [np.array([[-1]])], [np.zeros((2, 0), np.int64)]):
        with pytest.raises(ValueError):
            codebook_use(wrong, 8)
    codec = types.SimpleNamespace(frame_rate=12.5, codebook_size=2048)
    assert bitrates(codec, [CodebookUse(1.0, 10.0)] * 8) == (1100.0, 1000.0)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pesq", None)
    with pytest.raises(EvalError, match="pip install pesq"):
        measures.pesq(noise(), noise())
    measure = measures.Measure("t", "u", "high", None, needs=("json", "no_such_module"))
    assert measures.missing_package(measure) == "no_such_module"


def test_rates_and_labels():
    assert rate_points(8) == [1, 2, 4, 8] and rate_points(9) == [1, 2, 4, 8, 9] and rate_points(1) == [1]
    assert rate_points(8, (4, 1, 9)) == [1, 4]
    with pytest.raises(ConfigError):
        rate_points(2, (4,))
    names = ["kyutai/mimi", "facebook/encodec_24khz", "./weights/mini/codec", "runs/a/export", "runs/b/export", "x=y/z"]
    assert [label for label, _ in labels(names)] == ["mimi", "encodec-24khz", "mini-codec", "a-export", "b-export", "x"]
    assert labels(names)[-1] == ("x", "y/z")
    with pytest.raises(ConfigError, match="name them"):
        labels(["mimi", "mimi"])
    codes = np.array([[1, 2], [3, 4]])
    assert np.array_equal(unpack_codes(json.loads(json.dumps(pack_codes(codes)))), codes)


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for i in range(3):
        soundfile.write(folder / f"{i}.wav", noise(1.0 + i / 2, 16000, i).samples.numpy(), 16000)
    return folder


@pytest.fixture
def codecs(monkeypatch):
    made = {"bytes": Bytes(), "semantic": Semantic()}

    def open_codec(name, device):
        if name not in made:
            raise AntiphonError(f"There is no codec {name!r}.")
        return made[name]

    monkeypatch.setattr(module, "open_codec", open_codec)
    return made


QUICK = ("stoi", "si-snr", "mel-distance")


def test_a_run_measures_every_rate_and_says_what_it_could_not(corpus, codecs, tmp_path, capsys):
    (corpus / "x.wav").write_text("no sound")
    out = tmp_path / "deep" / "figures.json"
    report = run(CodecConfig(("bytes", "semantic", "nothing"), corpus, only=QUICK, keep=tmp_path / "kept"), out)
    assert [(p.codec, p.codebooks, p.n) for p in report.points] == [
        ("bytes", 1, 3), ("bytes", 2, 3), ("semantic", 2, 3),
    ]  # fmt: skip
    coarse, fine, codes_alone = report.points
    assert coarse.bitrate == 64000 and fine.bitrate == 128000 > fine.coded_bitrate > 1.9 * 64000 * 0.9
    assert coarse.values["si-snr"].mean < fine.values["si-snr"].mean
    assert coarse.values["mel-distance"].mean > fine.values["mel-distance"].mean > 0  # 8 kHz lack the upper half
    assert fine.values["stoi"].reference == 1.0 and fine.values["stoi"].n == 3
    assert codes_alone.values == {} and codes_alone.use == fine.use
    written = {f["name"]: f for f in json.loads(out.read_text())["figures"]}
    assert written["bytes-1-bitrate"]["value"] == 64000 and written["bytes-2-stoi"]["n"] == 3
    assert written["semantic-codebook-2-entropy"]["value"] == fine.use[1].entropy
    environment = json.loads(out.read_text())["environment"]
    assert list(environment["not-measured"]) == ["nothing"] and list(environment["left-out"]) == ["x.wav"]
    assert environment["codecs"]["bytes"]["name"] == "bytes"
    assert "nothing: not measured: There is no codec" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "kept" / "bytes-1").iterdir()) == ["0.wav", "1.wav", "2.wav"]
    assert soundfile.info(tmp_path / "kept" / "bytes-2" / "2.wav").frames == 32000


def test_nothing_is_measured_twice(corpus, codecs, tmp_path, monkeypatch):
    first = run(CodecConfig(("bytes",), corpus, codebooks=(2,), only=("stoi",), n=2), tmp_path / "f.json")
    assert (codecs["bytes"].encoded, codecs["bytes"].decoded) == (2, 2)
    # more recordings and one more measure: only those
    run(CodecConfig(("bytes",), corpus, codebooks=(2,), only=("stoi",)), tmp_path / "f.json")
    assert (codecs["bytes"].encoded, codecs["bytes"].decoded) == (3, 3)
    run(CodecConfig(("bytes",), corpus, codebooks=(2,), only=("stoi", "si-snr")), tmp_path / "f.json")
    assert (codecs["bytes"].encoded, codecs["bytes"].decoded) == (3, 6)
    # a run that was killed while writing a line
    with (tmp_path / "f.items.jsonl").open("a") as file:
        file.write('{"key": "cut')
    monkeypatch.setattr(module, "scores", lambda *_: pytest.fail("measured again"))
    again = run(CodecConfig(("bytes",), corpus, codebooks=(2,), only=("stoi",), n=2), tmp_path / "f.json")
    assert again.points == first.points
    # other weights are another codec
    monkeypatch.setattr(module, "fingerprint", lambda codec: "other")
    monkeypatch.setattr(module, "scores", lambda names, *_: dict.fromkeys(names, 0.25))
    changed = run(CodecConfig(("bytes",), corpus, (2,), ("stoi",)), tmp_path / "f.json")
    assert changed.points[0].values["stoi"].mean == 0.25


def test_words_are_judged_before_and_after(tmp_path, codecs, monkeypatch):
    for i in range(3):
        soundfile.write(tmp_path / f"{i}.wav", noise(1.0, 8000, i).samples.numpy(), 8000)
    rows = [{"path": "0.wav", "text": "the red cat sleeps"}, {"path": "1.wav"}, {"path": "2.wav", "text": "good night"}]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))

    class Judge:
        """Hears the clips that it is given in turn; those of one codebook come last."""

        turns = [["the red cat", "hello you", "good night"], ["the red", "hello", "good night"]]

        @classmethod
        def from_pretrained(cls):
            return cls()

        def transcribe(self, clips):
            return self.turns.pop(0)

    monkeypatch.setattr("antiphon.evals.codec.run.AsrJudge", Judge)
    report = run(CodecConfig(("bytes",), tmp_path / "m.jsonl", codebooks=(1,), only=("wer",)))
    # what nobody wrote down counts as it was heard before: of 4 + 2 + 2 words 1 wrong before, 2 + 1 after
    value = report.points[0].values["wer"]
    assert (value.mean, value.reference, value.n) == (pytest.approx(3 / 8), pytest.approx(1 / 8), 3)


class Scaled(Bytes):
    """Brings chunks of 1,000 samples to full scale; decoded without the scales, a sound is as loud throughout."""

    def encode_chunks(self, audio):
        chunks = audio.split(1000, dim=-1)
        scales = torch.stack([chunk.abs().amax(dim=(1, 2)) for chunk in chunks], dim=1)
        loud = [chunk / scale for chunk, scale in zip(chunks, scales[0])]
        return Bytes.encode(self, torch.cat(loud, dim=-1)), scales

    def encode(self, audio, codebooks=None):
        return self.encode_chunks(audio)[0][:, :codebooks]

    def decode(self, codes, scales=None):
        chunks = Bytes.decode(self, codes).split(1000, dim=-1)
        return torch.cat(
            [chunk * scale for chunk, scale in zip(chunks, torch.ones(99) if scales is None else scales[0])], -1
        )


def test_a_codec_gets_its_scales_back_and_they_cost_bits(corpus, codecs, tmp_path):
    for i in range(3):
        louder = noise(1.0 + i / 2, 8000, i).samples
        soundfile.write(corpus / f"{i}.wav", (louder * torch.linspace(0.01, 1, len(louder))).numpy(), 8000)
    codecs["scaled"] = Scaled()
    for only in (("si-snr",), ("si-snr", "mel-distance")):  # measured later, with the codes that were kept
        report = run(CodecConfig(("scaled",), corpus, (2,), only), tmp_path / "f.json")
    (point,) = report.points
    assert codecs["scaled"].encoded == 3
    assert point.values["si-snr"].mean > 60 and point.values["mel-distance"].mean < 0.1
    assert point.bitrate == pytest.approx(128000 + 8 * 32)  # 8 chunks a second
    assert bitrates(codecs["scaled"], point.use)[1] + 8 * 32 == pytest.approx(point.coded_bitrate)


def test_a_killed_process_costs_one_codec_alone(corpus, codecs, monkeypatch):
    codecs["silent"] = Bytes()
    codecs["silent"].decode = lambda codes: torch.zeros(1, 1, codes.shape[-1])
    monkeypatch.setattr(module, "scores", fragile.dies_of_silence)
    report = run(CodecConfig(("silent", "bytes"), corpus, (2,), ("si-snr",)), jobs=2)
    assert [(p.codec, p.values["si-snr"].mean) for p in report.points] == [("bytes", 0.5)]
    assert "--jobs" in report.environment["not-measured"]["silent"]


def test_measuring_leaves_the_threads_as_they_are():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        measures.scores(("si-snr",), noise(), noise())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_what_was_measured_outlives_the_phone_measures(corpus, codecs, monkeypatch):
    def fail(*_):
        raise RuntimeError("odd phones")

    monkeypatch.setattr(module, "phone_measures", fail)
    report = run(CodecConfig(("bytes",), corpus, (2,), ("si-snr",)))
    assert [p.codec for p in report.points] == list(report.environment["codecs"]) == ["bytes"]
    assert "odd phones" in report.environment["not-measured"]["bytes"]


def test_what_cannot_be_written_is_told_and_blamed_on_no_recording(corpus, codecs, tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="f.items.jsonl cannot be written"):
        run(CodecConfig(("bytes",), corpus, only=("stoi",)), tmp_path / "file" / "f.json")
    assert "left out" not in capsys.readouterr().err


def test_nothing_to_measure_is_an_error(corpus, codecs):
    with pytest.raises(AntiphonError, match="no codec 'nothing'"):
        run(CodecConfig(("nothing",), corpus, only=("stoi",)))
    with pytest.raises(ConfigError, match="Measures: stoi"):
        CodecConfig(("bytes",), corpus, only=("beauty",))
    with pytest.raises(ConfigError, match="codebooks is 0"):
        CodecConfig(("bytes",), corpus, codebooks=(0, 1))
    with pytest.raises(AntiphonError, match="^There is no device 'foo'"):
        run(CodecConfig(("bytes",), corpus, device="foo"))
    with pytest.raises(ConfigError, match="--codecs"):
        CodecConfig((), corpus)


def points():
    codec = types.SimpleNamespace(frame_rate=10.0, codebook_size=4)
    codes = [np.random.default_rng(0).integers(0, 4, (3, 100))]
    make = lambda name, k, s: Point.of(name, codec, [c[:k] for c in codes], {"stoi": [s, None]}, {}, {})  # noqa: E731
    return [make("a", 1, 0.5), make("a", 3, 0.9), make("b", 2, 0.7)]


def test_the_table_and_the_picture(tmp_path):
    report = CodecReport(points())
    stream = io.StringIO()
    report.print(stream)
    lines = stream.getvalue().splitlines()
    row = next(line for line in lines if " 60 " in line)
    assert [cell.strip() for cell in row.strip("│").split("│")][:3] == ["a", "3", "60"] and "0.900" in row
    assert any("untouched" in line and "1.000" in line for line in lines)
    assert report.points[0].values["stoi"].n == 1 and report.doubts() == []
    assert [f.name for f in report.figures().figures if "codebook" in f.name and "used" in f.name] == [
        "a-codebook-1-used", "a-codebook-2-used", "a-codebook-3-used", "b-codebook-1-used", "b-codebook-2-used",
    ]  # fmt: skip
    assert draw_rate_distortion(report.points, tmp_path / "new" / "p.png").stat().st_size > 10_000
    with pytest.raises(AntiphonError, match="no rate-distortion"):
        draw_rate_distortion([], tmp_path / "p.png")
    with pytest.raises(AntiphonError, match="could not be written"):
        draw_rate_distortion(report.points, tmp_path / "new" / "p.png" / "q.png")


# Every phone is a level of its own, which is to say a code of the upper byte.
LEVELS = {"a": -0.7, "b": -0.2, "k": 0.3, "t": 0.8}


def phones_of(i):
    """Eight phones and their samples, 0.1 s each."""
    said = "".join(np.random.default_rng(i).permutation(list("abkt" * 2)))
    return said, np.concatenate([np.full(800, LEVELS[phone], np.float32) for phone in said])


def speech_set(folder, noisy=False):
    with ShardWriter(folder, 8000) as writer:
        for i in range(6):
            said, samples = phones_of(i)
            if noisy:
                samples = np.random.default_rng(i).uniform(-1, 1, len(samples))
            ends = [0.1 * (j + 1) for j in range(len(said))]
            writer.add(Utterance(str(i), said, "v", phonemes=said, phoneme_ends=ends), samples)


def test_phones_are_told_where_the_set_knows_them(tmp_path, codecs):
    speech_set(tmp_path / "set")
    report = run(CodecConfig(("semantic",), tmp_path / "set", only=("phone-information", "phone-purity")))
    found = report.phones["semantic"]
    assert found.n == 6 and found.values["phone-information"] > 0.95 and found.values["phone-purity"] > 0.99
    names = [figure.name for figure in report.figures().figures]
    assert "semantic-codebook-1-phone-purity" in names
    stream = io.StringIO()
    report.print(stream)
    assert "phone MI" in stream.getvalue()


def test_a_set_that_was_made_anew_is_measured_anew(tmp_path, codecs):
    config = CodecConfig(("semantic",), tmp_path / "set", only=("phone-information",))
    speech_set(tmp_path / "set")
    assert run(config, tmp_path / "f.json").phones["semantic"].values["phone-information"] > 0.95
    (tmp_path / "set").rename(tmp_path / "old")
    speech_set(tmp_path / "set", noisy=True)
    assert run(config, tmp_path / "f.json").phones["semantic"].values["phone-information"] < 0.5


def test_phones_of_a_manifest_are_measured_too(tmp_path, codecs):
    rows = []
    for i in range(6):
        said, samples = phones_of(i)
        soundfile.write(tmp_path / f"{i}.wav", samples, 8000)
        times = [[f"{phone}1", 0.1 * j, 0.1 * (j + 1)] for j, phone in enumerate(said)]
        rows.append(json.dumps({"path": f"{i}.wav", "voice": "v", "phones": times}) + "\n")
    (tmp_path / "m.jsonl").write_text("".join(rows))
    codecs["slow"] = Slow()
    speech_set(tmp_path / "set")
    found, same = (
        run(CodecConfig(("slow",), tmp_path / place, only=tuple(PHONE_MEASURES))).phones["slow"]
        for place in ("m.jsonl", "set")
    )
    assert found == same and found.n == 6 and found.values["phone-information"] > 0.95 and found.values["abx"] < 0.1


class Slow(Semantic):
    """A code every 10 ms."""

    frame_rate = 100.0

    def encode(self, audio, codebooks=None):
        return super().encode(audio, codebooks)[..., ::80]


def test_phones_that_nobody_knows_are_told(corpus, codecs, capsys):
    report = run(CodecConfig(("semantic",), corpus, only=("abx",)))
    assert report.environment["not-measured"] == {"abx": "no phone times"}
    assert "abx: not measured: no phone times" in capsys.readouterr().err
