"""Talker and duplex model learn from the codes of any codec: the recipe's line names it, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from antiphon.codecs.dac import Dac, DacConfig
from antiphon.codecs.encodec.model import Encodec, EncodecConfig
from antiphon.codecs.mimi.model import Mimi, MimiConfig
from antiphon.codecs.mini.model import MiniCodec
from antiphon.data.dialogue.format import Dialogue, DialogueWriter, Word
from antiphon.errors import ConfigError
from antiphon.models.moshi.config import DepthConfig, MoshiConfig
from antiphon.models.moshi.weights import load
from antiphon.models.tts.durations import TalkerConfig
from antiphon.models.tts.talker import Talker
from antiphon.train import StageConfig, load_recipe, train
from antiphon.train.moshi.task import fitted_to
from tests.codecs.mini.test_model import TINY

CODECS = {
    "mimi": lambda: Mimi(
        MimiConfig(
            sample_rate=2400, ratios=(4, 4, 3, 2), filters=2, dim=16, heads=2, inner=16, layers=1, codebooks=4,
            codebook_size=32, codebook_dim=8,
        )
    ),
    "encodec": lambda: Encodec(
        EncodecConfig(sample_rate=2400, latent=6, filters=2, ratios=(8, 4), codebooks=3, codebook_size=16)
    ),
    "dac": lambda: Dac(
        DacConfig(2400, ratios=(4, 8), encoder_width=2, decoder_width=8, codebooks=2, codebook_size=16, codebook_dim=4)
    ),
    "mini": lambda: MiniCodec(TINY),
}  # fmt: skip
SIZES = dict(
    hidden=4, encoder_dim=8, encoder_layers=1, encoder_kernel=3, dim=8, heads=2, inner=8, layers=1, depth_dim=8,
    depth_heads=2, depth_inner=8, depth_layers=1,
)  # fmt: skip
MOSHI = dict(
    dim=16, heads=2, layers=1, inner=16, context=20, text_card=280, depth=dict(dim=8, heads=2, layers=1, inner=8)
)
SHORT = ["steps=2", "batch=2", "precision=float32", "sample_every=0", "threads=1"]


@pytest.fixture(params=CODECS)
def codec(request: pytest.FixtureRequest, tmp_path: Path):
    torch.manual_seed(0)
    made = CODECS[request.param]().eval()
    made.save_pretrained(tmp_path / "codec")
    return made


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, int(2400 * seconds))


def recipe(name: str, folder: Path, **data: object) -> StageConfig:
    config = load_recipe(f"recipes/{name}.yaml", [f"out={folder}/run", f"data.codec={folder}/codec", *SHORT])
    for name, value in data.items():
        setattr(config.data, name, value)
    return config


def test_a_talker_learns_from_the_codes_of_any_codec(codec, tmp_path):
    for number in range(3):
        (tmp_path / "corpus").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "corpus" / f"{number}.wav", noise(1.0, number), 2400)
        (tmp_path / "corpus" / f"{number}.txt").write_text("Yes, well.")
    frames = int(2 * codec.frame_rate)
    config = recipe("mini/talker", tmp_path, speech=str(tmp_path / "corpus"), codes=None, hours=None, frames=frames)
    config.model.talker = TalkerConfig(**SIZES)
    talker = Talker.from_pretrained(train(config))
    assert (talker.config.codebooks, talker.config.codebook_size) == (codec.codebooks, codec.codebook_size)
    assert talker.config.frame_rate == codec.frame_rate
    wanted = codec.codebook_vectors()[0]
    wanted = (wanted - wanted.mean(0)) / (wanted - wanted.mean(0)).std()
    torch.testing.assert_close(talker.codes[0], wanted, atol=2e-3, rtol=2e-3)


def test_a_duplex_model_learns_from_dialogues_in_the_codes_of_any_codec(codec, tmp_path):
    with DialogueWriter(tmp_path / "talks") as writer:
        for number in range(2):
            words = [Word("Yes.", 0.4, 0.6), Word("hello", 0.1, 0.3, "user")]
            writer.add(str(number), Dialogue(noise(2.0, number), noise(2.0, 9 + number), 2400, words))
    places = {"pieces": str(tmp_path / "pieces"), "conversations": [str(tmp_path / "talks")]}
    config = recipe("duplex/conversations", tmp_path, frames=16, held_out=1, **places)
    config.model.moshi = MoshiConfig.from_dict(MOSHI)
    if isinstance(codec, Dac):  # nobody can talk to a codec that doesn't stream
        with pytest.raises(ConfigError, match="can't stream"):
            train(config)
        return
    moshi = load(train(config)).config
    assert (moshi.codebooks, moshi.user_codebooks, moshi.card) == (codec.codebooks,) * 2 + (codec.codebook_size,)
    assert moshi.delays == [0, *[0] + [1] * (codec.codebooks - 1), *[0] + [1] * (codec.codebooks - 1)]


@pytest.mark.parametrize("name", CODECS)
def test_codebook_vectors_are_what_codes_add_to_the_latent(name):
    torch.manual_seed(0)
    codec = CODECS[name]().eval()
    latents = codec.dequantize if name == "mini" else codec.quantizer.decode
    codes = torch.randint(codec.codebook_size, (1, codec.codebooks, 5))
    vectors = codec.codebook_vectors()
    assert len(vectors) == codec.codebooks
    added = sum(vector[codes[0, level]] for level, vector in enumerate(vectors))
    torch.testing.assert_close(added, latents(codes)[0])


def test_a_duplex_models_sizes_follow_from_the_codec():
    codec = CODECS["mimi"]()
    same = fitted_to(codec, MoshiConfig(codebooks=4, user_codebooks=2, depth=DepthConfig(codebooks=6)))
    assert (same.codebooks, same.user_codebooks, same.card, same.depth.codebooks) == (4, 2, 32, 6)
    few = fitted_to(codec, MoshiConfig(delays=[0, 0, *[2] * 7, 0, *[2] * 7]))
    assert (few.codebooks, few.user_codebooks, few.depth.codebooks) == (4, 4, 4)
    assert few.delays == [0, 0, 2, 2, 2, 0, 2, 2, 2]
    both = fitted_to(codec, MoshiConfig(depth=DepthConfig(codebooks=16)))
    assert both.depth.codebooks == 8 and both.delays == [0, 0, 1, 1, 1, 0, 1, 1, 1]
