"""The block encoder: Whisper's numbers in one block; pieces equal the whole in many."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from antiphon.encoders.whisper.encoder import EncoderConfig, WhisperBlockEncoder, sinusoids
from antiphon.errors import ModelError
from antiphon.nn.cache import join
from antiphon.nn.state import fork, select

TINY = dict(width=16, layers=2, heads=2, inner=24, bands=8, positions=40)


def tiny(block: int, right: int, seed: int = 0, **more: int) -> WhisperBlockEncoder:
    torch.manual_seed(seed)
    return WhisperBlockEncoder(EncoderConfig(**{**TINY, "block": block, "right": right, **more})).eval()


def transformers_encoder(frames: int):
    """A tiny random WhisperModel whose positions are cut to `frames`."""
    from transformers import WhisperConfig, WhisperModel

    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=20, num_mel_bins=8, d_model=16, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, max_source_positions=frames, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    model = WhisperModel(config).eval()
    for parameter in model.encoder.parameters():
        parameter.data.normal_(0, 0.2)
    return model


@torch.no_grad()
def test_one_block_is_transformers_encoder(tmp_path: Path) -> None:
    theirs = transformers_encoder(30)
    names = {f"model.{name}": value for name, value in theirs.state_dict().items()}
    save_file({name: value.contiguous() for name, value in names.items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(theirs.config.to_dict()))
    ours = WhisperBlockEncoder.from_pretrained(tmp_path, block=30, right=0)
    mel = torch.randn(2, 8, 60)
    assert torch.allclose(ours(mel), theirs.encoder(mel).last_hidden_state, atol=1e-5)


@pytest.mark.parametrize("size", [9, 74, 90, 200])
def test_layers_that_can_be_trained_through_are_those_of_the_blocks(size: int) -> None:
    encoder, mel = tiny(12, 4, positions=40), torch.randn(2, 8, size)  # it starts afresh after 80 mel frames
    with torch.no_grad():
        blocks = encoder.step_layers(mel, encoder.init_state(2), last=True)[2]
    layers = encoder.layers_of(mel)
    torch.testing.assert_close(layers.detach(), blocks, atol=1e-5, rtol=1e-4)
    layers[:, -1].square().sum().backward()  # of the last layer, through all blocks
    gradients = [parameter.grad for parameter in encoder.layers.parameters()]
    assert all(each is not None and torch.isfinite(each).all() for each in gradients)
    assert float(encoder.layers[0].self_attn.k_proj.weight.grad.abs().max()) > 0


@torch.no_grad()
@pytest.mark.parametrize(("block", "right"), [(4, 4), (4, 0), (12, 5), (40, 0)])
@pytest.mark.parametrize("together", [1, 3, 32])
def test_many_blocks_at_once_are_what_each_gives(block: int, right: int, together: int) -> None:
    encoder = tiny(block, right, positions=40)
    for size in (7, 74, 200):
        mel = torch.randn(2, 8, size)
        torch.testing.assert_close(encoder.features_of(mel, together), encoder(mel), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_every_layer_is_what_the_layers_give_averaged_over_four_frames() -> None:
    encoder, mel = tiny(40, 0), torch.randn(2, 8, 74)
    features, frames, layers = encoder.step_layers(mel, encoder.init_state(2), last=True)
    assert torch.equal(features, encoder(mel)) and frames.tolist() == [37, 37]
    x = encoder.embed(mel)
    for number in range(3):
        means = [x[:, at : at + 4].mean(1) for at in range(0, 37, 4)]  # the last one of a single frame
        assert torch.allclose(layers[:, number], torch.stack(means, 1), atol=1e-5)
        x = encoder.run(x, first=number, last=number + 1)
    assert torch.allclose(features[:, 36], encoder.layer_norm(layers[:, 2, 9]), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("block", "right"), [(4, 0), (8, 3), (40, 0)])
def test_every_layer_in_pieces_is_that_of_the_whole(block: int, right: int) -> None:
    encoder, draw = tiny(block, right), random.Random(block)
    mel = torch.randn(2, 8, 175)  # the encoder starts afresh twice
    whole = encoder.step_layers(mel, encoder.init_state(2), last=True)[2]
    assert whole.shape == (2, 3, 22, 16)
    state, parts, at = encoder.init_state(2), [], 0
    while at < 175:
        size = draw.randint(0, 13)
        parts.append(encoder.step_layers(mel[:, :, at : at + size], state)[2])
        at += size
    parts.append(encoder.step_layers(mel[:, :, :0], state, last=True)[2])
    assert torch.allclose(torch.cat(parts, dim=2), whole, atol=1e-5)


def test_blocks_that_are_no_multiples_of_four_frames_give_no_layers() -> None:
    encoder = tiny(5, 0)
    with pytest.raises(ModelError, match="blocks of 5 in 40 frames"):
        encoder.step_layers(torch.zeros(1, 8, 10), encoder.init_state())


@torch.no_grad()
@pytest.mark.parametrize(("block", "right"), [(1, 0), (5, 0), (5, 3), (4, 9), (60, 0)])
def test_pieces_give_what_the_whole_gives(block: int, right: int) -> None:
    encoder, draw = tiny(block, right, positions=60), random.Random(block)
    for frames in (1, 2, 41, 90):  # 90 mel frames
        mel = torch.randn(2, 8, frames)
        whole = encoder(mel)
        assert whole.shape == (2, -(-frames // 2), 16)
        state, parts, at = encoder.init_state(2), [], 0
        while at < frames:
            size = draw.randint(0, 13)
            parts.append(encoder.step(mel[:, :, at : at + size], state)[0])
            at += size
        parts.append(encoder.step(mel[:, :, :0], state, last=True)[0])
        assert torch.allclose(torch.cat(parts, dim=1), whole, atol=1e-5)


@torch.no_grad()
def test_a_block_sees_itself_the_past_and_the_right_context_only() -> None:
    encoder = tiny(block=5, right=2)
    mel = torch.randn(1, 8, 40)
    out = encoder(mel)
    far, near = mel.clone(), mel.clone()
    far[:, :, 2 * (5 + 2) + 1 :] += 1.0  # the convolutions look one mel frame past the right context
    near[:, :, 2 * 5 + 2] += 1.0
    assert torch.allclose(encoder(far)[:, :5], out[:, :5], atol=1e-6)
    assert not torch.allclose(encoder(near)[:, :5], out[:, :5], atol=1e-4)
    assert not torch.allclose(encoder(far)[:, 5:10], out[:, 5:10], atol=1e-4)


@torch.no_grad()
def test_it_starts_afresh_when_positions_run_out() -> None:
    encoder = tiny(block=7, right=3)  # 40 positions: blocks of 7 do not fit evenly
    mel = torch.randn(1, 8, 200)
    state = encoder.init_state(1)
    parts = [encoder.step(mel[:, :, at : at + 9], state)[0] for at in range(0, 200, 9)] + [
        encoder.step(mel[:, :, :0], state, last=True)[0]
    ]
    assert torch.allclose(torch.cat(parts, dim=1), encoder(mel), atol=1e-5)
    assert torch.cat(parts, dim=1).shape[1] == 100
    # Past the restart nothing is left of the start but what the convolutions see.
    changed = mel.clone()
    changed[:, :, :70] = 0.0
    assert torch.allclose(encoder(changed)[:, 40:], encoder(mel)[:, 40:], atol=1e-5)


@torch.no_grad()
def test_a_state_can_be_forked() -> None:
    encoder = tiny(block=4, right=1)
    first, left, right = torch.randn(1, 8, 23), torch.randn(1, 8, 20), torch.randn(1, 8, 31)
    state = encoder.init_state(1)
    begun, _ = encoder.step(first, state)
    encoder.step(left, fork(state), last=True)
    rest, _ = encoder.step(right, state, last=True)
    assert torch.allclose(torch.cat([begun, rest], 1), encoder(torch.cat([first, right], 2)), atol=1e-5)


@torch.no_grad()
def test_rows_out_of_step_give_what_each_gives_alone() -> None:
    """Signals begin, rest, end and leave a batch at any time, and run past the encoder's positions."""
    encoder, draw = tiny(block=6, right=2), random.Random(1)
    signals = [torch.randn(1, 8, length) for length in (150, 61, 33, 8)]
    heard, at = [[] for _ in signals], [0] * len(signals)
    state, rows = encoder.init_state(0), []

    def give(features: torch.Tensor, frames: torch.Tensor) -> None:
        for row, values, count in zip(rows, features, frames.tolist()):
            heard[row].append(values[:count])
            assert not values[count:].any()

    for _ in range(200):
        if len(rows) < 2 and (fresh := [row for row in range(4) if not at[row] and row not in rows]):
            rows, state = [*rows, fresh[0]], join([state, encoder.init_state(1)])
        if not rows:
            break
        counts = [min(draw.choice([0, 3, 7, 13]), signals[row].shape[2] - at[row]) for row in rows]
        mel = torch.stack([torch.nn.functional.pad(signals[row][0, :, at[row] : at[row] + count], (0, 13 - count),
                                                   value=9.0) for row, count in zip(rows, counts)])  # fmt: skip
        for row, count in zip(rows, counts):
            at[row] += count
        ended = torch.tensor([at[row] == signals[row].shape[2] for row in rows])
        give(*encoder.step(mel, state, ended, torch.tensor(counts)))
        left = (~ended).nonzero()[:, 0]
        rows, state = [rows[place] for place in left.tolist()], select(state, left)
    for signal, parts in zip(signals, heard):
        torch.testing.assert_close(torch.cat(parts)[None], encoder(signal), atol=1e-5, rtol=1e-5)


def test_positions_are_whispers() -> None:
    from transformers.models.whisper.modeling_whisper import sinusoids as theirs

    assert torch.allclose(sinusoids(50, 16), theirs(50, 16), atol=1e-5)


def test_errors_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no Whisper encoder"):
        WhisperBlockEncoder.from_pretrained(tmp_path)
    with pytest.raises(ModelError, match="heads"):
        EncoderConfig(width=10, heads=4)
    with pytest.raises(ModelError, match="block is 0"):
        EncoderConfig(block=0)
