"""Pictures and videos: as the published processor cuts them, at exact times, and bad ones told."""

from __future__ import annotations

import io
import zlib

import av
import numpy as np
import pytest
import torch
from PIL import Image

from antiphon.encoders.vision.pictures import fitting, load_picture, patchify, scaled
from antiphon.encoders.vision.tower import VisionConfig
from antiphon.encoders.vision.video import has_sound, load_video
from antiphon.errors import DataError
from tests.encoders.vision.films import film

CONFIG = VisionConfig()


def encoded(pixels: np.ndarray, kind: str = "png", **settings) -> bytes:
    """A picture's bytes."""
    made = io.BytesIO()
    Image.fromarray(pixels).save(made, kind, **settings)
    return made.getvalue()


@pytest.mark.parametrize("size", [(56, 84), (300, 200), (20, 30), (1200, 1100)])
def test_patches_are_those_of_the_published_processor(size):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    smooth = torch.nn.functional.interpolate(torch.rand(1, 3, 6, 6), size, mode="bicubic").clamp(0, 1)
    picture = (smooth[0] * 255).to(torch.uint8)
    found, height, width = patchify(scaled(picture, CONFIG)[None], CONFIG)
    wanted = Qwen2VLImageProcessorPil()(images=[picture.permute(1, 2, 0).numpy()], return_tensors="pt")
    assert wanted["image_grid_thw"].tolist() == [[1, height, width]]
    off = (found[0] - wanted["pixel_values"]).abs()
    assert off.max() < 0.05 and off.mean() < 0.005  # its scaling rounds in another way: 1 / 255 is 0.015


def test_a_pair_of_pictures_is_a_group_of_patches():
    pictures = torch.randn(3, 3, 56, 28)
    patches, height, width = patchify(pictures, CONFIG)
    assert (patches.shape, height, width) == ((2, 8, 1176), 4, 2)
    first = patches[0, 0].view(3, 2, 14, 14)
    assert torch.equal(first[:, 0], pictures[0, :, :14, :14]) and torch.equal(first[:, 1], pictures[1, :, :14, :14])
    assert torch.equal(patches[1, 0].view(3, 2, 14, 14)[:, 1], pictures[2, :, :14, :14])


def test_sizes_are_whole_tokens_within_bounds():
    assert fitting(300, 200, 28, 3136, 10**6) == (308, 196)
    high, wide = fitting(4000, 3000, 28, 3136, 1003520)
    assert high * wide <= 1003520 and abs(high / wide - 4 / 3) < 0.05
    with pytest.raises(DataError, match="too narrow"):
        fitting(1, 500, 28, 3136, 10**6)


@pytest.mark.parametrize("codec", ["png", "jpeg", "webp"])
def test_files_are_read(codec, tmp_path):
    pixels = np.full((40, 60, 3), (200, 100, 50), np.uint8)
    (tmp_path / "picture").write_bytes(encoded(pixels, codec))
    for source in (tmp_path / "picture", encoded(pixels, codec)):
        found = load_picture(source)
        assert (
            found.shape == (3, 40, 60) and (found.float().mean((1, 2)) - torch.tensor([200, 100, 50])).abs().max() < 3
        )


def test_a_picture_is_turned_as_its_camera_was():
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :30] = 200
    turned = Image.Exif()
    turned[0x0112] = 6
    found = load_picture(encoded(pixels, "jpeg", exif=turned))
    assert found.shape == (3, 60, 40) and found[:, :28].min() > 150 and found[:, 32:].max() < 50


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_huge_picture_is_refused_before_it_is_decoded():
    small = encoded(np.zeros((16, 16, 3), np.uint8))
    header = small[12:16] + (20000).to_bytes(4, "big") + (5000).to_bytes(4, "big") + small[24:29]
    huge = small[:12] + header + zlib.crc32(header).to_bytes(4, "big") + small[33:]
    with pytest.raises(DataError, match="20000 x 5000 pixels; at most 50,000,000"):
        load_picture(huge)
    header = header[:4] + (20000).to_bytes(4, "big") * 2 + header[12:]
    with pytest.raises(DataError, match="pixels"):
        load_picture(small[:12] + header + zlib.crc32(header).to_bytes(4, "big") + small[33:])


def test_one_pixel_is_a_picture():
    patches, height, width = patchify(scaled(load_picture(torch.rand(3, 1, 1)), CONFIG)[None], CONFIG)
    assert (height, width) == (4, 4) and patches.std() < 2


def test_what_is_no_picture_is_told(tmp_path):
    with pytest.raises(DataError, match="no picture that can be read"):
        load_picture(b"not a picture at all")
    with pytest.raises(DataError, match="can't be read"):
        load_picture(tmp_path / "missing.png")
    with pytest.raises(DataError, match=r"\[3, height, width\]"):
        load_picture(torch.zeros(4, 4))
    broken = encoded(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8))[:60]
    with pytest.raises(DataError):
        load_picture(broken)


def shades(path, **settings) -> list[int]:
    pictures, _ = load_video(path, **settings)
    return [round(float(picture.float().mean()) / 20) for picture in pictures]


def test_pictures_are_those_shown_at_even_times(tmp_path):
    even = film(tmp_path / "even.mp4", list(range(0, 300, 25)))
    assert shades(even) == [0, 2, 4, 6, 8, 10]
    assert shades(even, fps=4.0) == list(range(12))
    uneven = film(tmp_path / "uneven.mp4", [0, 10, 90, 100, 210, 260])
    assert shades(uneven)[:6] == [0, 1, 3, 3, 3, 4]


def test_a_long_video_is_seen_at_fewer_times(tmp_path):
    pictures, seconds = load_video(film(tmp_path / "film.mp4", list(range(0, 300, 25))), most=3)
    assert len(pictures) == 3 and seconds == pytest.approx(1.0, abs=0.1)


def test_bad_videos_are_told(tmp_path):
    (tmp_path / "film.mp4").write_bytes(film(tmp_path / "whole.mp4", list(range(0, 300, 25))).read_bytes()[:400])
    with pytest.raises(DataError):
        load_video(tmp_path / "film.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=16000)
        block = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), "fltp", "mono")
        block.sample_rate = 16000
        file.mux(stream.encode(block))
        file.mux(stream.encode())
    with pytest.raises(DataError, match="nothing to see"):
        load_video(tmp_path / "sound.mp4")


def test_it_is_known_whether_there_is_something_to_hear(tmp_path):
    assert has_sound(film(tmp_path / "loud.mp4", [0, 50], sound=True))
    assert not has_sound(film(tmp_path / "silent.mp4", [0, 50]))
