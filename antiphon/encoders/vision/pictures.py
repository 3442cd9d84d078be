"""Pictures: read, scaled to whole tokens, cut into patches; as Qwen2-VL's processor does it.

    picture = load_picture("cat.png")                                   # uint8 [3, height, width]
    patches, height, width = patchify(scaled(picture, config)[None], config)

A file says how large it is before it is decoded; one that is too large is refused there.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from antiphon.encoders.vision.tower import VisionConfig
from antiphon.errors import DataError

MIN_PIXELS, MAX_PIXELS = 56 * 56, 28 * 28 * 1280  # of a scaled picture
MAX_RATIO = 200  # of a picture's sides
MAX_DECODED = 50_000_000  # pixels: 150 MB
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")  # others run programs, or are seldom met
Source = str | os.PathLike[str] | bytes | Tensor


def load_picture(source: Source) -> Tensor:
    """A picture, uint8 [3, height, width].

    Args:
        source: a file, its bytes, or a tensor of such a shape: uint8, or floats between 0 and 1.

    Raises:
        DataError: it can't be read, or is too large.
    """
    if isinstance(source, Tensor):
        if source.ndim != 3 or source.shape[0] != 3 or not source.numel():
            raise DataError(f"a picture has the shape [3, height, width], not {list(source.shape)}")
        return source if source.dtype == torch.uint8 else (source.clamp(0, 1) * 255).round().to(torch.uint8)
    from PIL import ImageOps

    with _opened(source) as file:
        picture = ImageOps.exif_transpose(file.convert("RGB"))
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def check_picture(source: str | os.PathLike[str] | bytes) -> None:
    """Looks at the head of a picture, which isn't decoded.

    Raises:
        DataError: it can't be read, or is too large.
    """
    with _opened(source):
        pass


@contextmanager
def _opened(source: str | os.PathLike[str] | bytes) -> Iterator[Any]:
    """A picture that isn't decoded yet; errors of its decoding are told, too."""
    from PIL import Image, UnidentifiedImageError

    name = "the picture" if isinstance(source, bytes) else os.fspath(source)
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as file:
            check_size(*file.size, name)
            yield file
    except UnidentifiedImageError as error:
        raise DataError(f"{name} is no picture that can be read: give a png, jpeg or webp") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{name} has too many pixels to be decoded ({error}): make it smaller first") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{name} can't be read: {error}") from error


def check_size(width: int, height: int, name: str) -> None:
    """Raises DataError for more pixels than are decoded."""
    if width * height > MAX_DECODED:
        raise DataError(
            f"{name} has {width} x {height} pixels; at most {MAX_DECODED:,} are decoded: make it smaller first"
        )


def fitting(height: int, width: int, unit: int, least: int, most: int) -> tuple[int, int]:
    """The size near another one whose sides are multiples of `unit` and whose pixels lie between `least` and `most`.

    Raises:
        DataError: it is longer than wide, or wider than long, by more than `MAX_RATIO`.
    """
    if max(height, width) > MAX_RATIO * min(height, width):
        raise DataError(f"a picture of {width} x {height} pixels is too narrow: at most 1 to {MAX_RATIO} is understood")
    high, wide = (round(side / unit) * unit for side in (height, width))
    if high * wide > most:
        shrink = math.sqrt(height * width / most)
        return tuple(max(unit, math.floor(side / shrink / unit) * unit) for side in (height, width))
    if high * wide < least:
        grow = math.sqrt(least / (height * width))
        return tuple(math.ceil(side * grow / unit) * unit for side in (height, width))
    return high, wide


def scaled(picture: Tensor, config: VisionConfig, least: int = MIN_PIXELS, most: int = MAX_PIXELS) -> Tensor:
    """A picture uint8 [3, height, width] at a size that fits: [3, height, width] float32, as the tower was taught."""
    unit = config.patch_size * config.spatial_merge_size
    size = fitting(picture.shape[1], picture.shape[2], unit, least, most)
    if size != tuple(picture.shape[1:]):
        picture = F.interpolate(picture[None], size, mode="bicubic", antialias=True)[0]
    mean, deviation = (torch.tensor(each)[:, None, None] for each in (config.mean, config.deviation))
    return (picture.float() / 255 - mean) / deviation


def patchify(pictures: Tensor, config: VisionConfig) -> tuple[Tensor, int, int]:
    """Scaled pictures [pictures, 3, height, width] as patches.

    Args:
        pictures: a picture, which stands for as many alike as a patch has; or a multiple of that many.

    Returns:
        [groups, patches, values], in the order that the tower takes; rows and columns of patches.
    """
    depth, size, merge = config.temporal_patch_size, config.patch_size, config.spatial_merge_size
    if len(pictures) % depth:
        pictures = torch.cat([pictures, pictures[-1:].expand(depth - len(pictures) % depth, -1, -1, -1)])
    _, channels, high, wide = pictures.shape
    height, width = high // size, wide // size
    cut = pictures.reshape(
        -1, depth, channels, height // merge, merge, size, width // merge, merge, size
    )  # group, depth, channel, row of tokens, row in it, pixel, column of tokens, column in it, pixel
    cut = cut.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return cut.reshape(len(cut), height * width, config.values), height, width
