"""The vision tower: what `transformers` gives, picture by picture."""

from __future__ import annotations

import pytest
import torch

from antiphon.encoders.vision.tower import VisionConfig, VisionTower, windows
from antiphon.errors import ModelError

SIZES = {
    "depth": 3, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "patch_size": 14, "out_hidden_size": 24,
    "fullatt_block_indexes": (1,),
}  # fmt: skip


@pytest.fixture(scope="module")
def pair():
    from transformers import Qwen2_5OmniVisionEncoderConfig
    from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniVisionEncoder

    torch.manual_seed(0)
    theirs = Qwen2_5OmniVisionEncoder(Qwen2_5OmniVisionEncoderConfig(**SIZES)).eval()
    for parameter in theirs.parameters():
        parameter.data.normal_(0, 0.2)
    ours = VisionTower(VisionConfig(**SIZES)).eval()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@torch.no_grad()
@pytest.mark.parametrize(("pictures", "height", "width"), [(1, 2, 2), (2, 8, 8), (3, 10, 18), (1, 4, 22)])
def test_pictures_of_any_size_are_what_transformers_gives(pair, pictures, height, width):
    ours, theirs = pair
    patches = torch.randn(pictures, height * width, ours.config.values)
    found = ours(patches, height, width)
    wanted = theirs(patches.flatten(0, 1), grid_thw=torch.tensor([[pictures, height, width]])).pooler_output
    assert (found.flatten(0, 1) - wanted).abs().max() < 1e-4 * wanted.abs().max().clamp_min(1)
    alone = torch.cat([ours(each[None], height, width) for each in patches])
    assert torch.allclose(alone, found, atol=1e-5)


def test_windows_hold_each_patch_once():
    index, there = windows(10, 18, 2, 4)
    assert index.shape == (6, 64)
    assert sorted(index[there].tolist()) == list(range(180))
    assert there.sum(1).tolist() == [64, 64, 16, 16, 16, 4]


def test_patches_of_another_picture_are_refused(pair):
    with pytest.raises(ModelError, match="aren't pictures of 3 x 4 patches"):
        pair[0](torch.zeros(1, 12, pair[0].config.values), 3, 4)


def test_all_of_it_learns():
    tower = VisionTower(VisionConfig(**SIZES))
    tower(torch.randn(1, 80, tower.config.values), 8, 10).square().mean().backward()
    assert all(bool(parameter.grad.abs().sum() > 0) for parameter in tower.parameters())


def test_windows_that_were_made_while_looking_can_be_trained_through():
    windows.cache_clear()
    with torch.inference_mode():
        index, _ = windows(12, 20, 2, 2)
    x = torch.rand(1, 240, 4, requires_grad=True)
    x[:, index].square().sum().backward()
    assert x.grad is not None
