"""Features of pretrained encoders: those of `transformers`, row by row, layer by layer, in chunks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from antiphon.encoders import load_features
from antiphon.encoders.ssl import SelfSupervisedFeatures
from antiphon.encoders.whisper.encoder import EncoderConfig, WhisperBlockEncoder, attention_mask
from antiphon.encoders.whisper.features import WhisperFeatures, whisper_mel
from antiphon.errors import ModelError

SIZES = dict(
    hidden_size=24, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, conv_dim=(8,) * 7,
    num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, vocab_size=8,
)  # fmt: skip


def self_supervised(kind: str, large: bool):
    """A tiny random model of `transformers`: base (group norm, norms behind) or large (layer norms, norms before)."""
    import transformers as t

    config, model = {
        "hubert": (t.HubertConfig, t.HubertModel),
        "wav2vec2": (t.Wav2Vec2Config, t.Wav2Vec2Model),
        "wavlm": (t.WavLMConfig, t.WavLMModel),
    }[kind]
    torch.manual_seed(0)
    more = dict(do_stable_layer_norm=True, feat_extract_norm="layer", conv_bias=True) if large else {}
    made = model(config(**SIZES, **more)).eval()
    for name, parameter in made.named_parameters():
        if parameter.ndim == 1 and "weight" in name:
            parameter.data.uniform_(0.5, 1.5)
        elif parameter.ndim == 1:
            parameter.data.normal_(0, 0.1)
    return made


def sound(samples: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(seed)) * 0.1


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("kind", ["hubert", "wav2vec2", "wavlm"])
@torch.no_grad()
def test_every_layer_is_that_of_transformers(kind: str, large: bool, tmp_path: Path) -> None:
    from transformers import Wav2Vec2FeatureExtractor

    theirs = self_supervised(kind, large)
    theirs.save_pretrained(tmp_path)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=large)
    extractor.save_pretrained(tmp_path)
    audio = sound(7321)
    values = extractor(audio.numpy(), sampling_rate=16000, return_tensors="pt").input_values
    made = {}
    theirs.encoder.layers[0].register_forward_pre_hook(lambda _, given: made.update({0: given[0]}))
    for n, layer in enumerate(theirs.encoder.layers, 1):
        layer.register_forward_hook(
            lambda _, given, out, n=n: made.update({n: out[0] if isinstance(out, tuple) else out})
        )
    made[None] = theirs(values).last_hidden_state
    for layer in (0, 1, 2, 3, None):
        ours = load_features(tmp_path, layer)
        got, frames = ours(audio[None])
        wanted = made[layer].view(1, -1, 24)
        assert got.shape == wanted.shape == (1, int(frames), ours.width)
        assert torch.allclose(got, wanted, atol=1e-4) and wanted.std() > 0.1


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("kind", ["hubert", "wavlm"])
@torch.no_grad()
def test_rows_of_a_batch_give_what_each_gives_alone(kind: str, large: bool) -> None:
    features = SelfSupervisedFeatures(self_supervised(kind, large), 2)
    lengths = torch.tensor([4000, 399, 9999, 400, 0, 720])
    audio = torch.stack([torch.nn.functional.pad(sound(n, n), (0, 9999 - n), value=9.0) for n in lengths.tolist()])
    values, frames = features(audio, lengths)
    assert frames.tolist() == [12, 0, 30, 1, 0, 2] and values.shape == (6, 30, 24)
    for row, (length, count) in enumerate(zip(lengths.tolist(), frames.tolist())):
        alone = features(audio[row : row + 1, :length])[0]
        assert alone.shape[1] == count
        assert torch.allclose(values[row, :count], alone[0], atol=1e-5) and not values[row, count:].any()


@torch.no_grad()
def test_long_audio_in_chunks_is_whole_where_context_suffices() -> None:
    model = self_supervised("hubert", True)
    model.encoder.layers = model.encoder.layers[:0]  # convolutions alone: what they see has an end
    whole = SelfSupervisedFeatures(model, 0, normalise=True, chunk=100.0)
    pieces = SelfSupervisedFeatures(model, 0, normalise=True, chunk=0.4, context=0.3)
    audio = torch.stack([sound(60001, 1), sound(60001, 2)])
    lengths = torch.tensor([60001, 13000])
    a, b = whole(audio, lengths), pieces(audio, lengths)
    assert torch.equal(a[1], b[1]) and a[0].shape == b[0].shape == (2, 187, 24)
    assert torch.allclose(a[0], b[0], atol=1e-5)
    attentive = SelfSupervisedFeatures(self_supervised("hubert", True), 3, chunk=0.4, context=0.3)
    assert attentive(audio, lengths)[0].shape == (2, 187, 24)


def whisper_folder(folder: Path, positions: int = 50):
    from transformers import WhisperConfig, WhisperModel

    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=20, num_mel_bins=80, d_model=16, encoder_layers=3, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, max_source_positions=positions,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    model = WhisperModel(config).eval()
    for parameter in model.encoder.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(0, 0.2)
    names = {f"model.{name}": value.contiguous() for name, value in model.state_dict().items()}
    save_file(names, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(model.config.to_dict()))
    return model


@torch.no_grad()
def test_whispers_layers_are_those_of_transformers(tmp_path: Path) -> None:
    from transformers import WhisperFeatureExtractor

    theirs = whisper_folder(tmp_path)
    audio = sound(15000)
    padded = torch.nn.functional.pad(audio, (0, 1000))  # theirs takes whole windows alone; here one is a second
    extractor = WhisperFeatureExtractor(chunk_length=1)
    mel = extractor(audio.numpy(), sampling_rate=16000, return_tensors="pt").input_features
    ours = whisper_mel(padded[None], torch.tensor([16000]))
    # Theirs mirrors the window's end where ours has silence, which only the last frame sees.
    assert torch.allclose(ours[..., :-1], mel[..., :-1], atol=1e-4)
    out = theirs.encoder(ours, output_hidden_states=True)
    for layer in (0, 1, 2, None):
        values, frames = load_features(tmp_path, layer)(padded[None])
        assert frames.tolist() == [50]
        wanted = out.last_hidden_state if layer is None else out.hidden_states[layer]
        assert torch.allclose(values, wanted, atol=1e-4)


@torch.no_grad()
def test_whispers_rows_and_windows(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = WhisperBlockEncoder(EncoderConfig(width=16, layers=2, heads=2, inner=24, positions=20, block=20, right=0))
    features = WhisperFeatures(encoder.eval())
    lengths = torch.tensor([100, 16000, 6400, 6401, 0])  # a window is 6,400 samples
    audio = torch.stack([torch.nn.functional.pad(sound(n, n), (0, 16000 - n), value=9.0) for n in lengths.tolist()])
    values, frames = features(audio, lengths)
    assert frames.tolist() == [1, 50, 20, 21, 0] and values.shape == (5, 50, 16)
    for row, (length, count) in enumerate(zip(lengths.tolist(), frames.tolist())):
        assert not values[row, count:].any()
        if length:
            alone = features(audio[row : row + 1, :length])[0]
            assert torch.allclose(values[row, :count], alone[0], atol=1e-5)
    assert torch.allclose(features(audio[1:2, 6400:12800])[0], values[1:2, 20:40], atol=1e-5)


def test_blocks_see_no_later_ones() -> None:
    mask = attention_mask(torch.tensor([5, 3]), 5, block=2)
    assert mask.shape == (2, 1, 5, 5)
    for row, frames in enumerate((5, 3)):
        for i in range(5):
            seen = [j < frames and j // 2 <= i // 2 for j in range(5)]
            assert mask[row, 0, i].tolist() == seen
    assert attention_mask(torch.tensor([5, 5]), 5) is None


def test_errors_say_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="no model_type"):
        load_features(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelError, match="holds a llama"):
        load_features(tmp_path)
    with pytest.raises(ModelError, match="0 to 3"):
        SelfSupervisedFeatures(self_supervised("hubert", False), 4)
    features = SelfSupervisedFeatures(self_supervised("hubert", False))
    with pytest.raises(ValueError, match=r"\[batch, samples\]"):
        features(torch.zeros(2, 1, 500))
    with pytest.raises(ValueError, match="don't fit"):
        features(torch.zeros(1, 500), torch.tensor([501]))
    assert np.isclose(features.frame_rate, 50.0)
