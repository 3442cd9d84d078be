"""Qwen3-Omni's vision tower: what `transformers` gives, picture by picture, on every level."""

from __future__ import annotations

import pytest
import torch

from antiphon.encoders.vision.deepstack import DeepstackConfig, DeepstackTower
from antiphon.encoders.vision.pictures import patchify, scaled
from antiphon.errors import ModelError

SIZES = {
    "depth": 4, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "out_hidden_size": 24,
    "num_position_embeddings": 49, "deepstack_visual_indexes": (0, 2),
}  # fmt: skip


@pytest.fixture(scope="module")
def pair():
    from transformers.models.qwen3_omni_moe.configuration_qwen3_omni_moe import Qwen3OmniMoeVisionEncoderConfig
    from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import Qwen3OmniMoeVisionEncoder

    torch.manual_seed(0)
    theirs = Qwen3OmniMoeVisionEncoder(Qwen3OmniMoeVisionEncoderConfig(**SIZES)).eval()
    for parameter in theirs.parameters():
        parameter.data.normal_(0, 0.2)
    ours = DeepstackTower(DeepstackConfig(**SIZES)).eval()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@torch.no_grad()
@pytest.mark.parametrize(("pictures", "height", "width"), [(1, 2, 2), (2, 8, 8), (3, 10, 18), (1, 4, 22)])
def test_pictures_of_any_size_are_what_transformers_gives(pair, pictures, height, width):
    ours, theirs = pair
    patches = torch.randn(pictures, height * width, ours.config.values)
    found = ours(patches, height, width)
    given = theirs(patches.flatten(0, 1), grid_thw=torch.tensor([[pictures, height, width]]))
    wanted = torch.cat([given.pooler_output, *given.deepstack_features], dim=-1)
    assert found.shape[-1] == ours.config.levels * 24
    assert (found.flatten(0, 1) - wanted).abs().max() < 1e-4 * wanted.abs().max().clamp_min(1)
    alone = torch.cat([ours(each[None], height, width) for each in patches])
    assert torch.allclose(alone, found, atol=1e-5)


@pytest.mark.parametrize("size", [(64, 96), (300, 200)])
def test_patches_are_those_of_the_published_processor(size):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    smooth = torch.nn.functional.interpolate(torch.rand(1, 3, 6, 6), size, mode="bicubic").clamp(0, 1)
    picture = (smooth[0] * 255).to(torch.uint8)
    config = DeepstackConfig()
    found, height, width = patchify(scaled(picture, config)[None], config)
    published = Qwen2VLImageProcessorPil(patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    wanted = published(images=[picture.permute(1, 2, 0).numpy()], return_tensors="pt")
    assert wanted["image_grid_thw"].tolist() == [[1, height, width]]
    off = (found[0] - wanted["pixel_values"]).abs()
    assert off.max() < 0.05 and off.mean() < 0.005  # its scaling rounds in another way: 1 / 127 is 0.008


def test_patches_of_another_picture_are_refused(pair):
    with pytest.raises(ModelError, match="aren't pictures of 3 x 4 patches"):
        pair[0](torch.zeros(1, 12, pair[0].config.values), 3, 4)
