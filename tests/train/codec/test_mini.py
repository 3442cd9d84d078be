"""The mini codec in the task of all families: what quantization gives, gradients, the fit, and its two recipes."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from antiphon.codecs.mini.model import MiniCodec
from antiphon.data.speech.utterances import SpeechWriter, Utterance
from antiphon.errors import ConfigError
from antiphon.train import train
from antiphon.train.codec.task import TrainableCodec
from antiphon.train.config import load_recipe
from antiphon.train.engine import build_task, freeze
from tests.codecs.mini.test_model import TINY

RECIPES = Path(__file__).resolve().parents[3] / "recipes"
KEPT = ("analysis.", "encoder.", "semantic.", "acoustic.")
SMALL = ["model.mel_windows=[128,256]", "model.mel_bins=[10,20]", "batch=3", "steps=2", "log_every=1", "sample_every=2"]


@pytest.fixture
def codec() -> MiniCodec:
    torch.manual_seed(0)
    codec = MiniCodec(TINY)
    torch.nn.init.normal_(codec.wave.contour[-1].conv.weight, std=1e-3)  # of zeros nothing before has a gradient
    return codec


@pytest.fixture
def speech(tmp_path) -> Path:
    """Utterances of two vowels, whose phones are known."""
    rng, time = np.random.default_rng(0), np.arange(2400) / 2400
    with SpeechWriter(tmp_path / "speech", 2400) as writer:
        for index in range(6):
            phones = "".join(rng.choice(["i", "u"], 4))
            sound = [np.sign(np.sin(2 * np.pi * (150 if phone == "i" else 230) * time[:600])) for phone in phones]
            sound = 0.2 * np.concatenate(sound) + 0.01 * rng.standard_normal(2400)
            ends = [0.25, 0.5, 0.75, 1.0]
            writer.add(Utterance(str(index), phones, "v", 1.0, phonemes=phones, phoneme_ends=ends), sound)
    return tmp_path / "speech"


def recipe(name: str, speech: Path, tmp_path: Path, *more: str):
    given = [
        f"data.speech=[{speech}]",
        "data.hours=null",
        "data.seconds=0.8",
        "data.check=2",
        f"out={tmp_path / 'run'}",
    ]
    return load_recipe(RECIPES / name, [*SMALL, *given, *more])


def test_quantization_in_training_is_that_of_encode_and_decode(codec):
    codec.eval()
    latents = codec.latents(torch.randn(4, 1, 5 * 192))
    codes = codec.quantize(latents)
    found = codec.quantized(latents, torch.tensor([1, 2, 3, 3]))
    assert torch.equal(found.codes, codes)
    for row, used in enumerate((1, 2, 3, 3)):
        expected = codec.dequantize(codes[row : row + 1, :used])[0]
        torch.testing.assert_close(found.latents[row], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.first, codec.semantic.decode(codes[:, :1]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(codec.quantized(latents).latents, codec.dequantize(codes), atol=1e-5, rtol=1e-5)


def test_all_codebooks_learn_in_training(codec):
    before = {name: value.clone() for name, value in codec.state_dict().items() if name.endswith("codes")}
    codec.train().quantized(codec.latents(torch.randn(8, 1, 10 * 192)))
    after = codec.state_dict()
    assert len(before) == 3 and all(not torch.equal(value, after[name]) for name, value in before.items())


def test_the_guided_sound_has_the_targets_pitch(codec):
    time = torch.arange(20 * 192) / 2400
    target = torch.sign(torch.sin(2 * math.pi * 150 * time))[None, None]
    torch.nn.init.constant_(codec.wave.pitch.bias, -1.0)  # it says that nothing is voiced
    made, losses = codec.synthesize_guided(codec.latents(target), target)
    assert made.shape == (1, 1, 20 * 192 - TINY.look_ahead * TINY.hop)
    assert losses["voicing"] > 1.0  # nearly all of it is: ln(1 + e) nats each
    assert abs(losses["pitch"].item() - abs(-1.0 - math.log(150 / 200))) < 0.1
    spectrum = torch.fft.rfft(made[0, 0, 512:2912].detach() * torch.hann_window(2400)).abs()  # one bin is 1 Hz
    harmonics = spectrum[[150 * n + d for n in range(1, 7) for d in (-1, 0, 1)]].square().sum()
    quiet = torch.fft.rfft(codec.synthesize(codec.latents(target))[0, 0, 512:2912].detach()).abs()
    assert harmonics / spectrum.square().sum() > 3 * 18 / len(quiet)


def test_everything_that_trains_has_a_gradient(speech, tmp_path, codec):
    codec.save_pretrained(tmp_path / "codec")
    adversary = "model.stft={windows: [64, 128], channels: 2}"
    config = recipe("codecs/mini-decoder.yaml", speech, tmp_path, f"model.start={tmp_path / 'codec'}", adversary)
    torch.manual_seed(0)
    task = build_task(config)
    assert isinstance(task.model.codec, TrainableCodec)
    freeze(task.model, config.trainable)
    task.model.train()
    batch = task.batch(config.model.ahead)
    losses = task.losses(batch, "model")
    assert {"mel", "convergence", "adversarial", "matching", "voicing", "pitch", "audio"} <= set(losses)
    sum(loss for loss in losses.values() if loss.requires_grad).backward()
    for name, parameter in task.model.codec.named_parameters():
        if name.startswith(KEPT):
            assert parameter.grad is None, name
        else:
            assert torch.isfinite(parameter.grad).all() and parameter.grad.abs().sum() > 0, name


def test_a_codec_that_is_gone_on_with_may_get_parts_that_it_lacks(speech, tmp_path):
    torch.manual_seed(0)
    old = MiniCodec(replace(TINY, contour_width=0))
    old.save_pretrained(tmp_path / "old")
    more = [f"model.start={tmp_path / 'old'}", "model.codec={contour_width: 4}"]
    task = build_task(recipe("codecs/mini-contour.yaml", speech, tmp_path, *more))
    codec = task.model.codec.eval()
    audio = torch.randn(1, 1, 10 * 192)
    torch.testing.assert_close(codec.decode(codec.encode(audio)), MiniCodec.from_pretrained(tmp_path / "old").decode(
        codec.encode(audio)
    ))  # fmt: skip
    names = {name for name, parameter in codec.named_parameters() if name.startswith("wave.contour.")}
    assert names and codec.config.contour_width == 4
    for wrong, said in (
        ("{latent: 7}", "doesn't go"),
        ("{nonsense: 1}", "there is no"),
        ("{encoder_depth: 0}", "no pl"),
    ):
        with pytest.raises(ConfigError, match=said):
            build_task(recipe("codecs/mini-contour.yaml", speech, tmp_path, more[0], f"model.codec={wrong}"))


def test_judges_learn_ahead_of_the_codec(speech, tmp_path, codec):
    codec.save_pretrained(tmp_path / "codec")
    more = [f"model.start={tmp_path / 'codec'}", "model.stft={windows: [64, 128], channels: 2}", "model.patience=1"]
    task = build_task(recipe("codecs/mini-decoder.yaml", speech, tmp_path, *more, "model.ahead=2"))
    for step, (judged, heard) in enumerate([(False, False), (True, False), (True, False), (True, True)]):
        batch = task.batch(step)
        assert ("adversarial" in task.losses(batch, "model")) == heard
        assert task.skips_update(step, "adversary") != judged
        assert not judged or float(task.losses(batch, "adversary")["discriminator"].detach()) > 0


def test_a_decoder_trained_on_leaves_the_codes_alone(speech, tmp_path, codec):
    pytest.importorskip("pystoi")
    codec.save_pretrained(tmp_path / "codec")
    before = MiniCodec.from_pretrained(tmp_path / "codec")
    more = [f"model.start={tmp_path / 'codec'}", "model.stft={windows: [64, 128], channels: 2}", "model.ahead=1"]
    after = MiniCodec.from_pretrained(
        train(recipe("codecs/mini-decoder.yaml", speech, tmp_path, *more, "optim.warmup=0"))
    )
    audio = torch.randn(2, 1, 2000)
    assert torch.equal(before.encode(audio), after.encode(audio))
    weights = after.state_dict()
    assert all(
        torch.equal(value, weights[name]) for name, value in before.state_dict().items() if name.startswith(KEPT)
    )
    for name in ("slow.0.conv.weight", "synthesis.weight", "spectrum.conv.weight", "wave.pitch.weight"):
        assert not torch.equal(before.state_dict()[name], weights[name]), name


@pytest.mark.parametrize("name", ["codecs/mini.yaml", "mini/codec.yaml"])
def test_the_recipe_fits_and_trains(speech, tmp_path, name):
    pytest.importorskip("pystoi")
    sizes = {**vars(TINY), "codebook_size": 4}
    model = [f"model.codec.{key}={list(value) if isinstance(value, tuple) else value}" for key, value in sizes.items()]
    config = recipe(name, speech, tmp_path, *model, "model.fit=40")
    torch.manual_seed(0)
    codec = build_task(config).model.codec
    audio = torch.from_numpy(build_task(config).speech[0].samples(0))[None, None].float()
    patches = codec.patches(audio)
    again = codec.synthesis(codec.analysis(patches))  # principal components: most of the spectrum comes back
    assert (again - patches).square().mean() < 0.5 * (patches - patches.mean((0, 1))).square().mean()
    assert isinstance(MiniCodec.from_pretrained(train(config)), MiniCodec)


def test_a_decoder_reads_codes_that_are_fitted_anew_on_more_voices(speech, tmp_path):
    """The start's decoder, of a latent fitted on one set, makes of the new latent what it made of the old one."""
    sizes = {**vars(TINY), "codebook_size": 4, "latent": 12, "inner": 12, "encoder_depth": 0}
    model = [f"model.codec.{key}={list(value) if isinstance(value, tuple) else value}" for key, value in sizes.items()]
    torch.manual_seed(0)
    start = build_task(recipe("codecs/mini.yaml", speech, tmp_path, *model, "model.fit=40")).model.codec.eval()
    start.save_pretrained(tmp_path / "start")
    rng = np.random.default_rng(1)
    with SpeechWriter(tmp_path / "other", 2400) as writer:  # another voice, whose phones nobody knows
        for index in range(6):
            wave = 0.3 * np.sign(np.sin(2 * np.pi * 190 * np.arange(2400) / 2400))
            writer.add(Utterance(str(index), "", "w"), wave + 0.02 * rng.standard_normal(2400))
    more = [f"data.speech=[{speech},{tmp_path / 'other'}]", f"model.start={tmp_path / 'start'}", "model.fit=80"]
    more += ["model.codec={codebooks: 5, mel_offset: 0.03}"]
    task = build_task(recipe("codecs/mini-voices.yaml", speech, tmp_path, *more, f"out={tmp_path / 'voices'}"))
    codec = task.model.codec.eval()
    assert (codec.codebooks, codec.config.mel_offset) == (5, 0.03)
    assert not torch.equal(codec.analysis.weight, start.analysis.weight)
    audio = torch.from_numpy(task.speech[0].samples(0))[None, None].float()
    inner = slice(10, -3)  # the ends of a convolution know of silence
    before, after = start.features(start.latents(audio)), codec.features(codec.latents(audio))
    turned = (after - before)[..., inner].square().mean()
    as_it_was = (start.features(codec.latents(audio)) - before)[..., inner].square().mean()
    assert turned < 0.1 * as_it_was, f"{turned / as_it_was:.3f}"
    with pytest.raises(ConfigError, match="times of phones"):
        build_task(recipe("codecs/mini-voices.yaml", tmp_path / "other", tmp_path, *more[1:], "out=unused"))


def test_the_fit_is_the_mini_codecs(speech, tmp_path):
    with pytest.raises(ConfigError, match="linear encoder"):
        build_task(load_recipe(RECIPES / "codecs" / "encodec-tiny.yaml", [f"data.speech=[{speech}]", "model.fit=10",
            "data.hours=null", "data.check=1", f"out={tmp_path}"]))  # fmt: skip
