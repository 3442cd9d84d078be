"""Messages to parts, read at the tokens that there are of each; bad ones are told as they are of Qwen2.5-Omni."""

from __future__ import annotations

import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.errors import DataError, TooLongError
from antiphon.models.omni.thinker import Watched
from tests.encoders.vision.films import film
from tests.models.omni.qwen3.tiny import talking


@pytest.fixture(scope="module")
def backend():
    return talking()


@torch.no_grad()
def test_contents_of_every_kind_are_read_at_their_tokens(backend):
    audio = Audio(torch.randn(16000) / 10, 16000)
    contents = [
        ({"type": "audio", "audio": audio}, 13), ({"type": "audio", "audio": torch.zeros(800), "sample_rate": 8000}, 2),
        ({"type": "image", "image": torch.rand(3, 60, 90)}, 2 * 3),
        ({"type": "image", "image": torch.rand(3, 1, 1)}, 2 * 2),
    ]  # fmt: skip
    thinker = backend.model.thinker
    for content, tokens in contents:
        read = thinker.read(backend.processor([{"role": "user", "content": [content]}]))
        assert read.perceived.sum() == tokens and read.x.shape[1] == 3 * 32 and read.x.isfinite().all()
        assert read.x[:, 32:].any() == (content["type"] == "image")


@torch.no_grad()
def test_a_video_is_seen_and_heard(backend, tmp_path):
    path = film(tmp_path / "film.mp4", [0, 40, 120, 290], sound=True)
    contents = [{"type": "video", "video": str(path)}, {"type": "text", "text": "what moves"}]
    (_, watched, *_) = parts = backend.processor([{"role": "user", "content": contents}], own_sound=True)
    assert isinstance(watched, Watched) and watched.mel is not None and watched.seconds == 1.0
    read = backend.model.thinker.read(parts)
    seen = len(watched.patches) * watched.height * watched.width // 4
    heard = backend.model.config.thinker.audio.tokens(watched.mel.shape[1])
    assert read.perceived.sum() == seen + heard and read.places.isfinite().all()
    state = backend.model.init_state()
    backend.model.read(state, parts)
    assert list(backend.model.reply(state, "bert")) and state.codes


def test_what_cannot_be_read_is_told(backend):
    with pytest.raises(DataError, match="too narrow"):
        backend.processor.picture(torch.rand(3, 1, 900))
    with pytest.raises(TooLongError, match="more than the model reads"):
        backend.model.thinker.read([backend.processor.sound(torch.zeros(16000 * 400), 16000)])
