"""What a pretrained encoder makes of speech: features of a chosen layer, for tokenizers, adapters and distillation.

    features = load_features("whisper-base", layer=4)        # a part's name, a folder or a hub id
    values, frames = features(audio, lengths)                # [batch, frames, width] at features.frame_rate, [batch]

Two kinds: `SelfSupervisedFeatures` runs HuBERT, wav2vec 2.0 and WavLM through `transformers`; `WhisperFeatures` runs
our own Whisper encoder. Rows of a batch may differ in length: each gives what it gives alone. Long audio goes through
in chunks, so that memory doesn't grow with the square of its length.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from antiphon.audio.mel import HOP, SAMPLE_RATE, WINDOW, mel_filters
from antiphon.encoders.whisper.encoder import EncoderLayer, WhisperBlockEncoder
from antiphon.errors import ModelError

FRAME = 320  # samples a frame of Whisper, HuBERT, wav2vec 2.0 and WavLM: 50 frames/s
SELF_SUPERVISED = ("hubert", "wav2vec2", "wavlm")


class SpeechFeatures(Protocol):
    """Speech to features.

    Attributes:
        sample_rate: of the audio, Hz.
        frame_rate: frames a second.
        width: features a frame.
    """

    sample_rate: int
    frame_rate: float
    width: int

    def __call__(self, audio: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """audio [batch, samples], lengths [batch] in samples (None: all) -> features [batch, frames, width], zeros
        after a row's end; frames of each row [batch]."""


def load_features(model: Path | str, layer: int | None = None) -> SpeechFeatures:
    """The features of a layer of a pretrained encoder.

    Args:
        model: a folder in `transformers`' format, a part's name ("whisper-base") or a hub id ("facebook/hubert-base-
            ls960", "microsoft/wavlm-base-plus", "openai/whisper-small"); or a supervised tokenizer of ours.
        layer: transformer layer whose output is taken, from 1; 0 for its input; None for the encoder's output, of a
            supervised tokenizer for what its quantizer is given.

    Raises:
        ModelError: no such encoder there, or no such layer.
        HubError: the model can't be had.
    """
    from antiphon.hub import folder as find

    folder = find(model)
    try:
        told = json.loads((folder / "config.json").read_text())
        kind = told["model_type"] if told.get("family") != "supervised" else "supervised"
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder / 'config.json'} says no model_type ({error!r}): give a model's folder") from None
    if kind == "supervised":
        from antiphon.codecs.semantic.supervised import SupervisedFeatures

        return SupervisedFeatures.from_pretrained(folder, layer)
    if kind == "whisper":
        return WhisperFeatures.from_pretrained(folder, layer)
    if kind in SELF_SUPERVISED:
        return SelfSupervisedFeatures.from_pretrained(folder, layer)
    raise ModelError(f"{folder} holds a {kind}; features come from {', '.join(SELF_SUPERVISED)} or whisper")


def mask_of(lengths: Tensor, longest: int) -> Tensor:
    """[batch] -> [batch, longest], True within a row's length."""
    return torch.arange(longest, device=lengths.device) < lengths[:, None]


def _all_of(audio: Tensor, lengths: Tensor | None) -> Tensor:
    """Lengths in samples, checked."""
    if audio.ndim != 2:
        raise ValueError(f"audio must be [batch, samples], got {list(audio.shape)}")
    if lengths is None:
        return torch.full((len(audio),), audio.shape[1], device=audio.device)
    if lengths.shape != audio.shape[:1] or int(lengths.max()) > audio.shape[1]:
        raise ValueError(f"lengths {lengths.tolist()} don't fit audio {list(audio.shape)}")
    return lengths.to(audio.device)


# Whisper


def whisper_mel(audio: Tensor, lengths: Tensor, bands: int = 80) -> Tensor:
    """Whisper's own log-mel spectrogram: what is under the loudest value of the *row* by more than 8 is cut off.

    Args:
        audio: [batch, samples] at 16 kHz.
        lengths: [batch], in samples; what follows is taken for silence.
        bands: 80, or 128 for Whisper large-v3.

    Returns:
        [batch, bands, 2 * ceil(samples / 320)], zeros after a row's last whole frame of the encoder.
    """
    frames = -(-audio.shape[1] // FRAME)
    audio = audio * mask_of(lengths, audio.shape[1])
    audio = F.pad(audio, (0, frames * FRAME - audio.shape[1] + WINDOW // 2))
    windows = F.pad(audio[:, None], (WINDOW // 2, 0), mode="reflect")[:, 0].unfold(1, WINDOW, HOP)[:, : 2 * frames]
    power = torch.fft.rfft(windows * torch.hann_window(WINDOW, device=audio.device)).abs().square()
    with torch.autocast(audio.device.type, enabled=False):  # a spectrum's range is too wide for bf16
        log = torch.log10((power @ mel_filters(bands).to(audio.device).T).clamp_min(1e-10))
    mel = (torch.maximum(log, log.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0
    return (mel * mask_of(2 * -(-lengths // FRAME), mel.shape[1])[:, :, None]).transpose(1, 2)


def whisper_stem(encoder: WhisperBlockEncoder, mel: Tensor, frames: Tensor) -> Tensor:
    """The encoder's two convolutions: mel [batch, bands, 2 T], frames [batch] -> [batch, T, width].

    Behind a row's end there are zeros for both, as there would be if it were alone.
    """
    x = F.gelu(encoder.conv1(F.pad(mel, (1, 1))))
    x = x * mask_of(2 * frames, x.shape[2])[:, None]
    return F.gelu(encoder.conv2(F.pad(x, (1, 1)))).transpose(1, 2)


def whisper_layer(layer: EncoderLayer, x: Tensor, mask: Tensor | None) -> Tensor:
    """One layer of the encoder over x [batch, T, width]; mask [batch, 1, 1 or T, T] is True where a frame may look."""
    attention, y = layer.self_attn, layer.self_attn_layer_norm(x)
    query, key, value = (
        project(y).unflatten(2, (attention.heads, -1)).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    x = x + attention.out_proj(out.transpose(1, 2).flatten(2))
    return x + layer.fc2(F.gelu(layer.fc1(layer.final_layer_norm(x))))


def attention_mask(frames: Tensor, longest: int, block: int = 0) -> Tensor | None:
    """Which frames a frame may look at: those of its row and, with `block`, none of a later block of so many frames.

    Returns:
        [batch, 1, 1 or T, T]; None where every frame may look at all.
    """
    mask = None
    if int(frames.min()) < longest:
        mask = mask_of(frames, longest)[:, None, None]
    if 0 < block < longest:
        at = torch.arange(longest, device=frames.device) // block
        seen = (at[None, :] <= at[:, None])[None, None]
        mask = seen if mask is None else mask & seen
    return mask


class WhisperFeatures(nn.Module):
    """Features of Whisper's encoder, 50 a second; every 30 s it starts afresh, as Whisper does.

    The sound isn't padded to 30 s: the encoder sees what is there and no more.

    Args:
        encoder: Whisper's.
        layer: whose output is taken, from 1; 0 for the input of the first; None for the encoder's output, which is
            the last layer's after a layer norm.
    """

    sample_rate, frame_rate = SAMPLE_RATE, SAMPLE_RATE / FRAME

    def __init__(self, encoder: WhisperBlockEncoder, layer: int | None = None):
        super().__init__()
        if layer is not None and not 0 <= layer <= len(encoder.layers):
            raise ModelError(f"layer is {layer}; this Whisper has 0 to {len(encoder.layers)}")
        self.encoder, self.layer, self.width = encoder, layer, encoder.config.width

    @classmethod
    def from_pretrained(cls, folder: Path | str, layer: int | None = None) -> WhisperFeatures:
        """The features of a Whisper folder (see `WhisperBlockEncoder.from_pretrained`)."""
        return cls(WhisperBlockEncoder.from_pretrained(folder), layer)

    def forward(self, audio: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `SpeechFeatures`; a last frame that isn't full is filled up with silence."""
        lengths = _all_of(audio, lengths)
        frames, window = -(-lengths // FRAME), self.encoder.config.positions
        out = audio.new_zeros(len(audio), -(-audio.shape[1] // FRAME), self.width)
        for start in range(0, out.shape[1], window):
            rows = (frames > start).nonzero()[:, 0]
            if not len(rows):
                break
            left = (lengths[rows] - start * FRAME).clamp_max(window * FRAME)
            piece = audio[rows, start * FRAME : start * FRAME + int(left.max())]
            values = self._window(piece, left)
            out[rows, start : start + values.shape[1]] = values.to(out.dtype)
        return out * mask_of(frames, out.shape[1])[:, :, None], frames

    def _window(self, audio: Tensor, lengths: Tensor) -> Tensor:
        """At most 30 s."""
        encoder, frames = self.encoder, -(-lengths // FRAME)
        x = whisper_stem(encoder, whisper_mel(audio, lengths, encoder.config.bands), frames)
        x = x + encoder.embed_positions.weight[: x.shape[1]]
        mask = attention_mask(frames, x.shape[1])
        for layer in encoder.layers[: self.layer]:
            x = whisper_layer(layer, x, mask)
        return encoder.layer_norm(x) if self.layer is None else x


# HuBERT, wav2vec 2.0, WavLM


class SelfSupervisedFeatures(nn.Module):
    """Features of HuBERT, wav2vec 2.0 or WavLM.

    A last frame that isn't full is left out, as in these models: n samples give (n - 80) // 320 frames.

    Args:
        model: of `transformers`; its layers above `layer` are cut off.
        layer: whose output is taken, from 1; 0 for the first one's input; None for the encoder's output, which large
            models norm once more.
        normalise: whether each signal is brought to zero mean and unit variance first (`do_normalize` of the folder's
            preprocessor_config.json).
        chunk, context: seconds of long audio that go through at once, and what they see of it on both sides.
    """

    sample_rate, frame_rate = SAMPLE_RATE, SAMPLE_RATE / FRAME

    def __init__(
        self,
        model: nn.Module,
        layer: int | None = None,
        normalise: bool = True,
        chunk: float = 30.0,
        context: float = 3.0,
    ):
        super().__init__()
        layers = len(model.encoder.layers)
        if layer is not None and not 0 <= layer <= layers:
            raise ModelError(f"layer is {layer}; this {model.config.model_type} has 0 to {layers}")
        if layer is not None:
            model.encoder.layers = model.encoder.layers[:layer]
            if getattr(model.config, "do_stable_layer_norm", False):
                model.encoder.layer_norm = nn.Identity()  # it stands behind the last layer, not before the first
        self.model, self.normalise, self.width = model, normalise, model.config.hidden_size
        self.chunk, self.context = (int(seconds * self.frame_rate) for seconds in (chunk, context))

    @classmethod
    def from_pretrained(cls, folder: Path | str, layer: int | None = None) -> SelfSupervisedFeatures:
        """The features of a folder in `transformers`' format.

        Raises:
            ModelError: it holds no such model.
        """
        from transformers import AutoModel

        folder = Path(folder)
        try:
            model = AutoModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
            preprocessor = folder / "preprocessor_config.json"
            rules = json.loads(preprocessor.read_text()) if preprocessor.is_file() else {}
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"{folder} holds no encoder that can be read: {error}") from error
        if model.config.model_type not in SELF_SUPERVISED:
            raise ModelError(f"{folder} holds a {model.config.model_type}, not {', '.join(SELF_SUPERVISED)}")
        return cls(model.eval(), layer, rules.get("do_normalize", True))

    def forward(self, audio: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `SpeechFeatures`."""
        lengths = _all_of(audio, lengths)
        frames = ((lengths - WINDOW + FRAME) // FRAME).clamp_min(0)
        rows = [row[: int(length)] for row, length in zip(audio, lengths)]
        if self.normalise:
            rows = [(row - row.mean()) / (row.var(correction=0) + 1e-7).sqrt() if len(row) else row for row in rows]
        longest = int(frames.max())
        if longest <= self.chunk + 2 * self.context:
            parts = [self._run(rows, frames)]
        else:
            parts = [self._piece(rows, frames, start) for start in range(0, longest, self.chunk)]
        out = torch.cat(parts, 1)
        return out * mask_of(frames, longest)[:, :, None], frames

    def _piece(self, rows: list[Tensor], frames: Tensor, start: int) -> Tensor:
        """Frames start to start + chunk of long audio, seen with their surroundings."""
        first, last = max(0, start - self.context), start + self.chunk + self.context
        pieces = [row[first * FRAME : (last - 1) * FRAME + WINDOW] for row in rows]
        count = (frames - first).clamp(0, last - first)
        values = self._run(pieces, count)[:, start - first :][:, : self.chunk]
        wanted = min(self.chunk, int(frames.max()) - start)
        return F.pad(values, (0, 0, 0, wanted - values.shape[1]))

    def _run(self, rows: list[Tensor], frames: Tensor) -> Tensor:
        """Rows of any length -> [rows, most frames, width]."""
        longest = int(frames.max())
        if longest == 0:
            return rows[0].new_zeros(len(rows), 0, self.width)
        heard = [index for index, count in enumerate(frames.tolist()) if count]
        # Some of these models norm over a whole signal (feat_extract_norm "group"), its padding included: so rows of
        # different length go through the convolutions one by one.
        if len({len(row) for row in rows}) == 1:
            x = self.model.feature_extractor(torch.stack(rows)).transpose(1, 2)
        else:
            stem = [self.model.feature_extractor(rows[index][None])[0].T for index in heard]
            x = pad_sequence(stem, batch_first=True)
        x = self.model.feature_projection(x)
        x = x[0] if isinstance(x, tuple) else x
        counts = frames[heard] if len(heard) < len(rows) else frames
        mask = None if int(counts.min()) == longest else mask_of(counts, longest)
        values = self.model.encoder(x, attention_mask=mask).last_hidden_state
        out = values.new_zeros(len(rows), longest, self.width)
        out[heard] = values
        return out
