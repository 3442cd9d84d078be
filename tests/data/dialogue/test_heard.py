"""What an encoder hears of conversations: every frame of the user's channel, once, by workers that share."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from antiphon.data.dialogue.format import Dialogue, DialogueWriter, read_dialogues
from antiphon.data.dialogue.heard import HeardDialogues, hear_dialogues
from antiphon.encoders.whisper.encoder import EncoderConfig, WhisperBlockEncoder
from antiphon.encoders.whisper.frames import BLOCK, FrameEncoder
from antiphon.errors import DataError


def tiny_frame_encoder(sample_rate: int = 16000) -> FrameEncoder:
    """Random weights that fit the tiny Whisper."""
    torch.manual_seed(0)
    sizes = dict(width=8, layers=1, heads=2, inner=8, bands=80, positions=40, block=BLOCK, right=BLOCK)
    return FrameEncoder(WhisperBlockEncoder(EncoderConfig(**sizes)).eval(), sample_rate)


def save_tiny_encoder(folder: Path) -> Path:
    """Its folder, as a Whisper's."""
    folder.mkdir()
    encoder = tiny_frame_encoder().encoder
    weights = {f"model.encoder.{name}": each.contiguous() for name, each in encoder.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    sizes = encoder.config
    config = {"d_model": sizes.width, "encoder_layers": sizes.layers, "encoder_attention_heads": sizes.heads}
    config |= {"encoder_ffn_dim": sizes.inner, "num_mel_bins": sizes.bands, "max_source_positions": sizes.positions}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    with DialogueWriter(tmp_path / "talks", ".flac") as writer:
        for number, seconds in enumerate((1.0, 0.8, 1.25)):
            model, user = 0.1 * rng.standard_normal((2, round(seconds * 16000))).astype(np.float32).clip(-1, 1)
            writer.add(f"talk-{number}", Dialogue(model, user, 16000, [], []))
    return tmp_path / "talks"


def test_the_users_channel_is_heard_in_frames_of_80_ms(talks: Path, tmp_path: Path) -> None:
    heard = hear_dialogues(talks, tiny_frame_encoder(), tmp_path / "heard")
    assert [len(heard[f"talk-{number}"]) for number in range(3)] == [13, 10, 16]
    talk = dict(read_dialogues(talks))["talk-1"]
    wanted = tiny_frame_encoder().whole(torch.from_numpy(talk.user))
    torch.testing.assert_close(heard["talk-1"], wanted, atol=2e-3, rtol=2e-3)  # kept in float16


def test_workers_share_and_a_rerun_hears_what_is_missing(talks: Path, tmp_path: Path) -> None:
    first = hear_dialogues(talks, tiny_frame_encoder(), tmp_path / "heard", (0, 2))
    assert [f"talk-{number}" in first for number in range(3)] == [True, False, True]
    with pytest.raises(DataError, match="talk-1"):
        first["talk-1"]
    hear_dialogues(talks, tiny_frame_encoder(), tmp_path / "heard", (1, 2))
    again = hear_dialogues(talks, tiny_frame_encoder(), tmp_path / "heard")
    assert all(f"talk-{number}" in again for number in range(3))
    assert torch.equal(again["talk-0"], first["talk-0"])
    other = tiny_frame_encoder()
    torch.nn.init.ones_(other.encoder.conv1.weight)
    with pytest.raises(DataError, match="encoder"):
        hear_dialogues(talks, other, tmp_path / "heard")


def test_another_set_is_no_such_set(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        HeardDialogues(tmp_path)
