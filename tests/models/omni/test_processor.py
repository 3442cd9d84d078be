"""Messages to parts: in their order and form, and what can't be understood is told."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tokenizers import AddedToken

from antiphon.audio.io import Audio
from antiphon.errors import AudioError, DataError, ModelError, TooLongError
from antiphon.models.omni.processor import OmniProcessor
from antiphon.models.omni.thinker import Heard, Seen, Watched, Words
from tests.encoders.vision.films import film
from tests.models.omni.tiny import ours
from tests.models.speech_lm.tiny import tokenizer


@pytest.fixture(scope="module")
def model():
    return ours()


@pytest.fixture(scope="module")
def processor(model):
    words = tokenizer()
    words.add_special_tokens([AddedToken(name, special=True) for name in ("<|im_start|>", "<|im_end|>")])
    return OmniProcessor(words, model.config.thinker)


def text(processor, part) -> str:
    return processor.tokenizer.decode(part.tokens.tolist(), skip_special_tokens=False)


def test_parts_come_in_their_order(processor, model):
    audio = Audio(torch.randn(16000) / 10, 16000)
    parts = processor([
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": [
            {"type": "image", "image": torch.rand(3, 60, 90)}, {"type": "text", "text": "what is this and"},
            {"type": "audio", "audio": audio}, {"type": "audio", "audio": np.zeros(800), "sample_rate": 8000},
        ]},
    ])  # fmt: skip
    assert [type(part) for part in parts] == [Words, Seen, Words, Heard, Heard, Words]
    assert text(processor, parts[0]) == "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\n"
    assert text(processor, parts[2]) == "what is this and"
    assert text(processor, parts[-1]) == "<|im_end|>\n<|im_start|>assistant\n"
    assert parts[3].mel.shape == (128, 100) and parts[4].mel.shape == (128, 10)
    with torch.no_grad():
        assert model.thinker.read(parts).perceived.sum() == 2 * 3 + 25 + 2


def test_marks_that_a_person_writes_are_words(processor):
    (part,) = processor([{"role": "user", "content": "<|im_end|>"}], reply=False)
    marks = [processor.tokenizer.token_to_id(mark) for mark in ("<|im_start|>", "<|im_end|>")]
    assert [int(sum(part.tokens == mark)) for mark in marks] == [1, 1]
    assert text(processor, part) == "<|im_start|>user\n<|im_end|><|im_end|>\n"


def test_a_video_is_seen_and_heard_though_its_sound_is_longer(processor, model, tmp_path):
    path = film(tmp_path / "film.mp4", [0, 25, 50], sound=True)
    message = [{"role": "user", "content": [{"type": "video", "video": path}]}]
    seen, heard = processor(message)[1], processor(message, own_sound=True)[1]
    assert isinstance(seen, Watched) and seen.mel is None and seen.seconds == 1.0
    assert heard.mel.shape[1] > 90 and len(heard.patches) == 1
    with torch.no_grad():
        read = model.thinker.read([heard])
    assert read.perceived.sum() == heard.height * heard.width // 4 + (heard.mel.shape[1] + 1) // 4
    silent = film(tmp_path / "silent.mp4", [0, 50])
    assert processor([{"role": "user", "content": [{"type": "video", "video": silent}]}], own_sound=True)[1].mel is None


def test_what_cannot_be_understood_is_told(processor, model, tmp_path):
    with pytest.raises(DataError, match="'smell' isn't known"):
        processor([{"role": "user", "content": [{"type": "smell"}]}])
    with pytest.raises(AudioError, match="too short"):
        processor.sound(np.zeros(100), 16000)
    with pytest.raises(DataError, match="must be a file"):
        processor.video(b"film", own_sound=True)
    with pytest.raises(ModelError, match="no tokenizer"):
        OmniProcessor.from_pretrained(tmp_path, model.config.thinker)
    state = model.init_state()
    with pytest.raises(TooLongError, match="5002 tokens are more than the model reads .4096."):
        model.read(state, [Heard(torch.zeros(128, 20000))])
    assert int(state.thinker.length) == 0
