"""The mini codec: shapes, streaming equals offline, saving, and the fit of its linear encoder."""
import json
from dataclasses import replace

import pytest
import torch

from antiphon.codecs.base import StreamingCodec
from antiphon.codecs.mini.model import LogMel, MiniCodec, MiniCodecConfig
from antiphon.errors import HubError
from antiphon.nn.state import fork, join, select
from tests.codecs.simple import follow_a_schedule

TINY = MiniCodecConfig(
    sample_rate=2400, hop=32, mels=10, mel_window=128, encoder_width=8, encoder_depth=1, decoder_widths=(8, 8, 8),
    decoder_depths=(1, 1, 1), latent=6, semantic_inner=4, inner=6, codebooks=3, codebook_size=16,
)  # fmt: skip


@pytest.fixture
def codec() -> MiniCodec:
    torch.manual_seed(0)
    codec = MiniCodec(TINY).eval()
    torch.nn.init.normal_(codec.encoder[-1].conv.weight)  # zero at first: the residual network would go untested
    torch.nn.init.constant_(codec.wave.filters.bias, 0.0)
    torch.nn.init.normal_(codec.wave.pitch.weight, std=0.1)
    torch.nn.init.constant_(codec.wave.pitch.bias, 0.1)
    return codec


def test_shapes_and_rates(codec):
    codes = codec.encode(torch.randn(2, 1, 500))
    assert codes.shape == (2, 3, 3) and codec.frame_rate == 12.5
    assert codec.decode(codes).shape == (2, 1, 3 * 192)
    assert codec.decode(codes[:, :1]).shape == (2, 1, 3 * 192)


@pytest.mark.parametrize("trial", range(100))
def test_streaming_equals_offline(codec, trial):
    generator = torch.Generator().manual_seed(trial)
    length = int(torch.randint(1, 12 * 192, (), generator=generator))
    audio = torch.randn(2, 1, length, generator=generator)
    codes, state, at, live, heard = codec.encode(audio), codec.init_state(2), 0, [], []
    while at < length:
        size = min(length - at, int(torch.randint(0, 5 * 192, (), generator=generator)))
        at += size
        live.append(codec.encode_step(audio[..., at - size : at], state, last=at == length))
        heard.append(codec.decode_step(live[-1], state, last=at == length))
    assert torch.equal(torch.cat(live, -1), codes)
    live, whole = torch.cat(heard, -1), codec.decode(codes)
    assert whole.abs().max() > 0.1
    torch.testing.assert_close(live[..., codec.delay :], whole, atol=1e-5, rtol=0)


def test_rows_join_and_leave_at_any_frame_and_states_fork(codec):
    audio = torch.randn(3, 1, 10 * 192)
    codes, whole, starts, heard = codec.encode(audio), codec.decode(codec.encode(audio)), [0, 2, 5], [[], [], []]
    state, live = None, []
    for now in range(15):
        for row, start in enumerate(starts):
            if start == now:
                fresh = codec.init_state(1)
                state, live = fresh if state is None else join([state, fresh]), [*live, row]
        pieces = torch.cat([audio[row : row + 1, :, (now - starts[row]) * 192 :][..., :192] for row in live])
        kept = fork(state)
        found = codec.encode_step(pieces, state, codebooks=2)
        assert torch.equal(found[..., 0], torch.stack([codes[row, :2, now - starts[row]] for row in live]))
        given = torch.stack([codes[row, :, now - starts[row]] for row in live])[..., None]
        for row, sound in zip(live, codec.decode_step(given, state)):
            heard[row].append(sound)
        assert torch.equal(codec.encode_step(pieces, kept, codebooks=2), found)  # the fork was left alone
        stay = [place for place, row in enumerate(live) if now - starts[row] < 9]
        state, live = select(state, stay), [live[place] for place in stay]
    for row in range(3):
        sound = torch.cat(heard[row], -1)[:, codec.delay :]
        torch.testing.assert_close(sound, whole[row, :, : sound.shape[-1]], atol=1e-5, rtol=0)


def test_any_schedule(codec):
    for seed in range(3):
        follow_a_schedule(codec, seed)


def test_one_codebook_alone():
    one, audio = MiniCodec(replace(TINY, codebooks=1)).train(), torch.randn(2, 1, 500)
    result = one.quantized(one.latents(audio), used=torch.tensor([1, 1]))
    assert result.codes.shape == (2, 1, 3) and torch.equal(result.latents, result.first)
    assert one.decode(one.eval().encode(audio)).shape == (2, 1, 3 * 192)


@pytest.mark.parametrize("frames", [20, 23.3, 30])
def test_long_signals_go_through_in_pieces(codec, monkeypatch, frames):
    audio = torch.randn(2, 1, int(frames * 192))
    codes, sound = codec.encode(audio, 2), codec.decode(codec.encode(audio))
    monkeypatch.setattr("antiphon.codecs.mini.model.PIECE", 10)
    assert torch.equal(codec.encode(audio, 2), codes)
    pieces = list(codec.decode_pieces(codec.encode(audio)))
    assert len(pieces) == -(-codes.shape[-1] // 10)
    torch.testing.assert_close(torch.cat(pieces, -1), sound, atol=1e-5, rtol=0)
    torch.testing.assert_close(codec.decode(codec.encode(audio)), sound, atol=1e-5, rtol=0)


def test_nothing_gives_nothing(codec):
    assert codec.encode(torch.zeros(2, 1, 0), 2).shape == (2, 2, 0)
    assert codec.decode(torch.zeros(2, 3, 0, dtype=torch.long)).shape == (2, 1, 0)
    state = codec.init_state(2)
    assert codec.encode_step(torch.zeros(2, 1, 0), state, last=True).shape == (2, 3, 0)
    assert codec.decode_step(torch.zeros(2, 3, 0, dtype=torch.long), state, last=True).shape == (2, 1, 0)
    assert isinstance(codec, StreamingCodec)


def test_decoding_a_frame_needs_no_later_one(codec):
    codes = torch.randint(0, 16, (1, 3, 6))
    changed = codes.clone()
    changed[..., 3:] = 0
    certain = 3 * 192 - codec.delay
    torch.testing.assert_close(codec.decode(codes)[..., :certain], codec.decode(changed)[..., :certain])


def test_saved_and_loaded_it_gives_the_same_codes(codec, tmp_path):
    codec.half().float()  # what float16 can't hold would differ
    codec.save_pretrained(tmp_path)
    again = MiniCodec.from_pretrained(tmp_path)
    audio = torch.randn(1, 1, 960)
    assert torch.equal(codec.encode(audio), again.encode(audio))
    assert json.loads((tmp_path / "config.json").read_text())["family"] == "mini-codec"


def test_weights_that_do_not_fit_are_refused(codec, tmp_path):
    codec.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["encoder_depth"] = 2
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(HubError, match="do not fit"):
        MiniCodec.from_pretrained(tmp_path)


def test_stereo_is_refused(codec):
    with pytest.raises(ValueError, match=r"\[batch, 1, samples\]"):
        codec.encode(torch.zeros(1, 2, 192))


def test_log_mel_is_causal():
    mel = LogMel(2400, 128, 32, 10, 1e-5)
    audio = torch.randn(1, 320)
    later = audio.clone()
    later[:, 160:] = 0
    torch.testing.assert_close(mel(audio)[..., :5], mel(later)[..., :5])
