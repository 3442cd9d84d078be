"""A duplex model of a few thousand random weights."""

from pathlib import Path

import torch

from antiphon.codecs.mini.model import MiniCodec
from antiphon.models.moshi.bundle import Duplex
from antiphon.models.moshi.config import DepthConfig, MoshiSampling
from antiphon.models.moshi.hearing import HearingConfig
from antiphon.models.moshi.model import Moshi, MoshiConfig
from antiphon.models.moshi.text_tokenizer import TextTokenizer
from antiphon.train.moshi.hearing import with_hearing
from tests.codecs.mini.test_model import TINY as TINY_CODEC
from tests.data.dialogue.test_heard import tiny_frame_encoder

CONFIG = MoshiConfig(
    dim=16, heads=2, layers=2, inner=24, context=12, text_card=270, codebooks=3, user_codebooks=3, card=16,
    depth=DepthConfig(dim=8, heads=2, layers=1, inner=16, codebooks=3),
)  # fmt: skip
LIVELY = MoshiSampling(temperature=1.0, top_k=0, text_temperature=1.0, text_top_k=0)
SAMPLES = TINY_CODEC.samples_per_frame


def tiny_duplex(hearing: bool = False) -> Duplex:
    """With heads large enough that what it says depends on what it hears.

    Args:
        hearing: it hears by a tiny speech encoder, too.
    """
    torch.manual_seed(0)
    moshi, codec = Moshi(CONFIG).eval(), MiniCodec(TINY_CODEC).eval()
    torch.nn.init.normal_(moshi.text_head.weight, std=0.5)
    torch.nn.init.normal_(moshi.depth.heads, std=0.5)
    torch.nn.init.constant_(codec.wave.filters.bias, 0.0)
    if hearing:
        sizes = HearingConfig(width=32, dim=8, heads=2, layers=1, inner=16, context=10, intents=["a", "b", "c"])
        moshi = with_hearing(moshi, sizes).eval()
        for linear in (moshi.hearing.state_head, moshi.hearing.embedding):
            torch.nn.init.normal_(linear.weight)
    duplex = Duplex(moshi, codec, TextTokenizer.train(["good day to you"] * 3, CONFIG.text_card))
    if hearing:
        duplex.audio_encoder = tiny_frame_encoder(codec.sample_rate)
    return duplex


def noise(frames: int, seed: int = 0) -> torch.Tensor:
    """[frames, samples]."""
    return 0.3 * torch.randn(frames, SAMPLES, generator=torch.Generator().manual_seed(seed))


def save_tiny_duplex(folder: Path) -> Path:
    """Writes it, and its codec beside it; returns the model's folder."""
    duplex = tiny_duplex()
    duplex.sampling = LIVELY
    duplex.codec.save_pretrained(folder / "codec")
    duplex.save_pretrained(folder / "duplex", codec=str(folder / "codec"))
    return folder / "duplex"
