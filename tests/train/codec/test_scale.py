"""Fresh weights scaled on data: unit sizes inside, the sound's size at the end, for each kind of network."""

import pytest
import torch

from antiphon.codecs.dac import Dac, DacConfig
from antiphon.codecs.mimi.model import Mimi, MimiConfig
from antiphon.train.codec.discriminators import Discriminators
from antiphon.train.codec.scale import CONVOLUTIONS, scale_discriminators, scale_to_data

DAC = Dac(DacConfig(ratios=(2, 4), encoder_width=2, decoder_width=8, codebooks=2, codebook_size=4))
MIMI = Mimi(
    MimiConfig(
        ratios=(2, 4), filters=2, dim=8, heads=2, inner=8, layers=1, codebooks=2, codebook_size=4, codebook_dim=4
    )
)


@pytest.mark.parametrize("codec", [DAC, MIMI], ids=["dac", "mimi"])
def test_sizes_after_scaling(codec):
    torch.manual_seed(0)
    audio = 0.03 * torch.randn(2, 1, 640)
    names = scale_to_data(codec, audio)
    layers = {name: module for name, module in codec.named_modules() if isinstance(module, CONVOLUTIONS)}
    assert sorted(names) == sorted(layers)
    sizes = {}
    for name, module in layers.items():
        module.register_forward_hook(lambda _, __, output, name=name: sizes.update({name: output.std().item()}))
        assert module.bias is None or not module.bias.any()
    latents = codec.latents(audio)
    codec.synthesize(latents)
    assert sizes.pop(names[-1]) == pytest.approx(float(audio.std()), rel=0.01)
    assert all(size == pytest.approx(1.0, rel=0.01) for size in sizes.values())


def test_silence_leaves_the_weights_alone():
    before = {name: value.clone() for name, value in DAC.state_dict().items() if name.endswith("weight")}
    assert scale_to_data(DAC, torch.zeros(1, 1, 64)) == []
    assert all(torch.equal(value, DAC.state_dict()[name]) for name, value in before.items())


def test_judges_sizes_after_scaling():
    torch.manual_seed(0)
    bands = {"windows": [64, 128], "channels": 3, "bands": [0, 0.5, 1]}
    judges, audio = Discriminators({"periods": [2, 3], "channels": [2, 4]}, bands), 0.03 * torch.randn(2, 1, 640)
    before = [verdict.std().item() for verdict in judges(audio)[0]]
    scale_discriminators(judges, audio)
    hidden = [layer for part in judges.parts for tower in part.towers for layer in tower[:-1]]
    sizes = []
    for layer in hidden:
        layer.register_forward_hook(lambda _, __, output: sizes.append(output.std().item()))
    after = [verdict.std().item() for verdict in judges(audio)[0]]
    assert len(sizes) == len(hidden) and all(size == pytest.approx(1.0, rel=0.01) for size in sizes)
    assert all(0.05 < new < 2 and new > 5 * old for old, new in zip(before, after))
