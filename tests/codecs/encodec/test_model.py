"""EnCodec: parity with `transformers` on the same random weights, streams, rows that come and go, chunks, files."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import EncodecConfig as PeerConfig
from transformers import EncodecModel as Peer

from antiphon.codecs.base import Codec, StreamingCodec
from antiphon.codecs.encodec.model import ChunkedEncodec, Encodec, EncodecConfig
from antiphon.errors import HubError
from antiphon.nn.state import join, select

LIVE = dict(sampling_rate=2400, target_bandwidths=[1.2, 2.4, 7.2], num_filters=4, hidden_size=32, codebook_size=16,
            upsampling_ratios=[5, 4, 2])  # fmt: skip
STEREO = dict(sampling_rate=2400, target_bandwidths=[0.72, 1.44], num_filters=4, hidden_size=8, codebook_size=16,
              upsampling_ratios=[5, 4, 2], audio_channels=2, normalize=True, chunk_length_s=1.0, overlap=0.01,
              norm_type="time_group_norm", use_causal_conv=False)  # fmt: skip
HOP, FRAMES = 40, 60  # samples a frame; frames a chunk
TINY = EncodecConfig(sample_rate=800, latent=6, filters=4, ratios=(4, 2), codebooks=3, codebook_size=16)


def peer(**fields) -> Peer:
    torch.manual_seed(0)
    model = Peer(PeerConfig(**fields)).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if ".norm." in key:
                parameter.add_(0.3 * torch.randn_like(parameter))
            elif key.endswith("original0"):  # else latents hardly differ from frame to frame
                parameter.mul_(1.7)
        left = model.encoder(torch.randn(8, fields.get("audio_channels", 1), 2400)).mT.flatten(0, 1)
        for layer in model.quantizer.layers:  # zeros at first: any input would have one code
            chosen = left[torch.randperm(len(left))[:16]]
            layer.codebook.embed.copy_(chosen + 0.01 * left.std() * torch.randn_like(chosen))
            left = left - layer.codebook.decode(layer.codebook.encode(left))
    return model


def pair(folder, **fields):
    theirs = peer(**fields)
    theirs.save_pretrained(folder)
    return theirs, Encodec.from_pretrained(folder)


@pytest.fixture
def live(tmp_path):
    return pair(tmp_path, **LIVE)[1]


@pytest.mark.parametrize("samples", [1, 7, HOP, HOP + 1, 60 * HOP, 60 * HOP + 77, 200 * HOP - 3])
def test_same_codes_and_audio_as_transformers(samples, tmp_path):
    theirs, ours = pair(tmp_path, **LIVE)
    assert isinstance(ours, Encodec) and isinstance(ours, StreamingCodec) and isinstance(ours, Codec)
    assert (ours.codebooks, ours.codebook_size, ours.frame_rate, ours.channels) == (30, 16, 60, 1)
    audio, seen = torch.randn(2, 1, samples), 0
    for bandwidth in LIVE["target_bandwidths"]:
        with torch.no_grad():
            expected = theirs.encode(audio, bandwidth=bandwidth).audio_codes
            heard = theirs.decode(expected, [None]).audio_values
        codes = ours.encode(audio, ours.codebooks_at(bandwidth))
        assert torch.equal(codes, expected[0]) and codes.shape[1] > seen
        torch.testing.assert_close(ours.decode(codes), heard, atol=1e-4, rtol=0)
        seen = codes.shape[1]
    assert samples < HOP or len(codes.unique()) > 12


def test_every_number_of_codebooks(tmp_path):
    theirs, ours = pair(tmp_path, **LIVE)
    audio = torch.randn(3, 1, 1234)
    with torch.no_grad():
        latents = theirs.encoder(audio)
        for count in range(1, 31):
            expected = theirs.quantizer.encode(latents, count * 60 * 4 / 1000 + 1e-6).transpose(0, 1)
            codes = ours.encode(audio, count)
            assert torch.equal(codes, expected) and codes.shape[1] == count
            heard = theirs.decode(expected[None], [None]).audio_values
            torch.testing.assert_close(ours.decode(codes), heard, atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="31 codebooks"):
        ours.encode(audio, 31)
    fewer = Encodec.from_pretrained(tmp_path, codebooks=4)
    assert fewer.codebooks == 4 and torch.equal(fewer.encode(audio), ours.encode(audio, 4))


@pytest.mark.parametrize("padding", ["reflect", "constant"])
def test_rows_come_and_go(padding):
    """Three streams that start at different times share a batch; each hears what it would hear alone."""
    torch.manual_seed(1)
    codec = Encodec(EncodecConfig(**{**vars(TINY), "padding": padding})).eval()
    hop, total = codec.config.samples_per_frame, 30
    audio = torch.randn(3, 1, total * hop)
    whole = codec.encode(audio)
    heard = codec.decode(whole)
    starts, ends, mixed = (0, 3, 11), (20, 30, 26), 0  # in frames, on the batch's clock
    state, rows, codes, sounds = None, [], [[], [], []], [[], [], []]
    for now in range(max(ends)):
        for row in range(3):
            if starts[row] == now:
                state = codec.init_state(1) if state is None else join([state, codec.init_state(1)])
                rows.append(row)
            if ends[row] == now:
                state = select(state, [n for n, other in enumerate(rows) if other != row])
                rows.remove(row)
        piece = torch.cat([audio[r : r + 1, :, (now - starts[r]) * hop : (now - starts[r] + 1) * hop] for r in rows])
        step = codec.encode_step(piece, state)
        sound = codec.decode_step(step, state)
        assert sound.shape == (len(rows), 1, step.shape[-1] * hop)
        mixed += len({int(n) for n in (step[:, 0] >= 0).sum(-1)}) > 1
        for n, row in enumerate(rows):
            codes[row].append(step[n][:, step[n, 0] >= 0])
            sounds[row].append(sound[n, :, sound.shape[-1] - codes[row][-1].shape[-1] * hop :])
    for row in range(3):
        frames = ends[row] - starts[row]
        assert torch.equal(torch.cat(codes[row], -1), whole[row, :, :frames])
        sound = torch.cat(sounds[row], -1)
        assert sound.shape[-1] == frames * hop and not sound[..., : codec.delay].any()
        expected = heard[row, :, : frames * hop - codec.delay]
        torch.testing.assert_close(sound[..., codec.delay :], expected, atol=1e-5, rtol=0)
    assert (codec.delay == 0 and mixed == 0) if padding == "constant" else (codec.delay > 0 and mixed > 2)


def test_codes_that_a_row_lacks_are_on_the_left(live):
    codes, state = torch.zeros(2, 3, 4, dtype=torch.long), live.init_state(2)
    codes[1, :, :2] = -1
    assert live.decode_step(codes, state).shape == (2, 1, 4 * HOP)
    assert state.decoder.seanet.count.tolist() == [4, 2]
    for place in ((1, slice(None), 3), (1, 0, 2)):  # on the right; not in all codebooks
        wrong = codes.clone()
        wrong[place] = -1
        with pytest.raises(ValueError, match="-1 stands for"):
            live.decode_step(wrong, live.init_state(2))
    with pytest.raises(ValueError, match="codes must be 0 to 15, got -1"):
        live.decode(codes)


def test_long_signals_go_through_in_pieces(live):
    audio = torch.randn(1, 1, 64 * HOP + 9)
    codes = live.encode(audio, 3)
    heard = live.decode(codes)
    live.config.piece = 10
    assert torch.equal(live.encode(audio, 3), codes)
    torch.testing.assert_close(live.decode(codes), heard, atol=1e-5, rtol=0)
    assert max(piece.shape[-1] for piece in live.decode_pieces(codes)) <= 16 * HOP


@pytest.mark.parametrize("samples", [1, 100, 2376, 2400, 2401 + HOP, 5000, 7129, 7176, 9999])
def test_stereo_same_codes_scales_and_audio_as_transformers(samples, tmp_path):
    theirs, ours = pair(tmp_path, **STEREO)
    assert isinstance(ours, ChunkedEncodec) and isinstance(ours, Codec) and not isinstance(ours, StreamingCodec)
    audio = torch.randn(2, 2, samples) * torch.linspace(0.1, 1.0, samples)
    for bandwidth in STEREO["target_bandwidths"]:
        with torch.no_grad():
            told = theirs.encode(audio, bandwidth=bandwidth)
            heard = theirs.decode(told.audio_codes, told.audio_scales, last_frame_pad_length=told.last_frame_pad_length)
            plain = theirs.decode(
                told.audio_codes, [None] * len(told.audio_codes), last_frame_pad_length=told.last_frame_pad_length
            )
        expected = torch.cat(list(told.audio_codes), -1)
        expected = expected[..., : expected.shape[-1] - max(told.last_frame_pad_length, 0)]
        codes, scales = ours.encode_chunks(audio, ours.codebooks_at(bandwidth))
        assert torch.equal(codes, expected) and torch.equal(ours.encode(audio, codes.shape[1]), codes)
        torch.testing.assert_close(scales, torch.cat(told.audio_scales, 1), atol=1e-6, rtol=0)
        torch.testing.assert_close(ours.decode(codes, scales), heard.audio_values, atol=1e-4, rtol=0)
        torch.testing.assert_close(ours.decode(codes), ours.config.level * plain.audio_values, atol=1e-4, rtol=0)


@pytest.mark.parametrize("samples", [2376 + 1, 2 * 2376 + 5])
def test_stereo_a_chunk_with_nothing_new_is_left_out(samples, tmp_path):
    """Where `transformers` gives up: the last chunk but one has a frame less than the others."""
    _, ours = pair(tmp_path, **{**STEREO, "overlap": 0.05})
    audio = torch.randn(1, 2, 2280 + 100)
    codes, scales = ours.encode_chunks(audio)
    assert scales.shape == (1, 2) and codes.shape[-1] == FRAMES + -(-100 // HOP)
    codes, scales = ours.encode_chunks(audio[..., : 2280 + 80])
    assert scales.shape == (1, 1) and codes.shape[-1] == 59 and ours.decode(codes, scales).shape[-1] == 2360


def test_stereo_scales_must_fit(tmp_path):
    _, ours = pair(tmp_path, **STEREO)
    codes, _ = ours.encode_chunks(torch.randn(2, 2, 5000))
    with pytest.raises(ValueError, match="2 x 3 chunks"):
        ours.decode(codes, torch.ones(2, 1))
    assert ours.frame_rate == pytest.approx(60 / 0.99)
    assert ours.decode(ours.encode(torch.zeros(1, 2, 0))).shape == (1, 2, 0)


def test_fewer_codebooks_can_be_loaded(tmp_path):
    torch.manual_seed(0)
    codec = Encodec(TINY).eval()
    codec.save_pretrained(tmp_path)
    again, audio = Encodec.from_pretrained(tmp_path), torch.randn(1, 1, 500)
    fewer = Encodec.from_pretrained(tmp_path, codebooks=2)
    assert torch.equal(fewer.encode(audio), codec.encode(audio, 2))
    assert all(bool(book.ready) for book in again.quantizer.codebooks)


def test_what_does_not_fit_is_refused(tmp_path):
    pair(tmp_path, **LIVE)
    config = json.loads((tmp_path / "config.json").read_text())
    for change in ({"num_residual_layers": 2}, {"num_lstm_layers": 1}, {"codebook_size": 32}):
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(HubError, match="do not fit"):
            Encodec.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "pad_mode": "replicate"}))
    with pytest.raises(HubError, match="not with 'replicate'"):
        Encodec.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "trim_right_ratio": 0.5}))
    with pytest.raises(HubError, match="trims"):
        Encodec.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "other"}))
    with pytest.raises(HubError, match="holds no EnCodec"):
        Encodec.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="ChunkedEncodec"):
        Encodec(EncodecConfig(normalize=True))


def rewritten(folder, name) -> None:
    """Gives a folder's weights other names, and leaves out those that are to have none."""
    weights = {name(key): value for key, value in load_file(folder / "model.safetensors").items()}
    weights.pop(None, None)
    save_file(weights, folder / "model.safetensors")


def test_older_files_and_half_precision(tmp_path):
    _, plain = pair(tmp_path, **LIVE)
    audio = torch.randn(1, 1, 1000)
    rewritten(tmp_path, lambda key: key.replace("parametrizations.weight.original0", "weight_g"))
    rewritten(tmp_path, lambda key: key.replace("parametrizations.weight.original1", "weight_v"))
    assert any(key.endswith("conv.weight_g") for key in load_file(tmp_path / "model.safetensors"))
    assert torch.equal(Encodec.from_pretrained(tmp_path).encode(audio), plain.encode(audio))
    weights = load_file(tmp_path / "model.safetensors")
    save_file({k: v.half() if v.is_floating_point() else v for k, v in weights.items()}, tmp_path / "model.safetensors")
    half = Encodec.from_pretrained(tmp_path)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float32}
    for one, other in zip(half.parameters(), plain.parameters()):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-2)
    assert (half.encode(audio, 1) == plain.encode(audio, 1)).float().mean() > 0.9


@pytest.mark.parametrize(
    "lost, found, complaint",
    [
        ("encoder.layers.0.conv.parametrizations.weight.original0", None, "missing: encoder.layers.0.conv.weight;"),
        ("encoder.layers.0.conv.parametrizations.weight.original1", None, "missing: encoder.layers.0.conv.weight;"),
        ("quantizer.layers.3.codebook.embed", "quantizer.layers.3.codebook.embeded", "missing: .*embed; .*embeded"),
        ("quantizer.layers.3.codebook.embed_avg", "quantizer.layers.3.codebok.embed_avg", "unknown: .*codebok"),
    ],
)
def test_misspelt_and_half_weights_are_refused(lost, found, complaint, tmp_path):
    pair(tmp_path, **LIVE)
    assert lost in load_file(tmp_path / "model.safetensors")
    rewritten(tmp_path, lambda key: found if key == lost else key)
    with pytest.raises(HubError, match=complaint):
        Encodec.from_pretrained(tmp_path)


def test_shards_are_read(tmp_path):
    theirs, whole = pair(tmp_path / "whole", **LIVE)
    theirs.save_pretrained(tmp_path / "parts", max_shard_size="20KB")
    index = tmp_path / "parts" / "model.safetensors.index.json"
    audio = torch.randn(1, 1, 500)
    assert index.is_file() and torch.equal(Encodec.from_pretrained(index.parent).encode(audio), whole.encode(audio))
    next(index.parent.glob("model-00002*")).unlink()
    with pytest.raises(HubError, match="model-00002.*Download it again"):
        Encodec.from_pretrained(index.parent)
    index.write_text("[]")
    with pytest.raises(HubError, match="names no shards"):
        Encodec.from_pretrained(index.parent)


@pytest.mark.parametrize("kind", ["live", "chunked"])
def test_every_parameter_learns_and_codebooks_fill(kind):
    torch.manual_seed(0)
    if kind == "live":
        codec = Encodec(TINY).train()
    else:
        fields = dict(channels=2, causal=False, norm="time_group_norm", normalize=True)
        codec = ChunkedEncodec(EncodecConfig(**{**vars(TINY), **fields})).train()
    audio = torch.randn(4, codec.channels, 400)
    result = codec.quantized(codec.latents(audio), used=torch.tensor([1, 2, 3, 3]))
    heard = codec.synthesize(result.latents)
    assert heard.shape == audio.shape
    ((heard - audio).square().mean() + result.commitment).backward()
    for name, parameter in codec.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, name
    assert all(bool(book.ready) for book in codec.quantizer.codebooks)
    codec.eval()
    if kind == "live":
        with torch.no_grad():
            codes = codec.quantized(codec.latents(audio)).codes
        assert torch.equal(codec.encode(audio), codes)
