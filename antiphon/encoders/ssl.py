"""Features of HuBERT, wav2vec 2.0 and WavLM, run through `transformers`.

Rows of a batch may differ in length: each gives what it gives alone. Long audio goes through in chunks, so that memory
doesn't grow with the square of its length.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from antiphon.audio.mel import SAMPLE_RATE, WINDOW
from antiphon.encoders.base import FRAME_SAMPLES, checked_lengths, length_mask
from antiphon.errors import ModelError

SELF_SUPERVISED = ("hubert", "wav2vec2", "wavlm")


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

    sample_rate, frame_rate = SAMPLE_RATE, SAMPLE_RATE / FRAME_SAMPLES

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
        lengths = checked_lengths(audio, lengths)
        frames = ((lengths - WINDOW + FRAME_SAMPLES) // FRAME_SAMPLES).clamp_min(0)
        rows = [row[: int(length)] for row, length in zip(audio, lengths)]
        if self.normalise:
            rows = [(row - row.mean()) / (row.var(correction=0) + 1e-7).sqrt() if len(row) else row for row in rows]
        longest = int(frames.max())
        if longest <= self.chunk + 2 * self.context:
            parts = [self._run(rows, frames)]
        else:
            parts = [self._piece(rows, frames, start) for start in range(0, longest, self.chunk)]
        out = torch.cat(parts, 1)
        return out * length_mask(frames, longest)[:, :, None], frames

    def _piece(self, rows: list[Tensor], frames: Tensor, start: int) -> Tensor:
        """Frames start to start + chunk of long audio, seen with their surroundings."""
        first, last = max(0, start - self.context), start + self.chunk + self.context
        pieces = [row[first * FRAME_SAMPLES : (last - 1) * FRAME_SAMPLES + WINDOW] for row in rows]
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
        mask = None if int(counts.min()) == longest else length_mask(counts, longest)
        values = self.model.encoder(x, attention_mask=mask).last_hidden_state
        out = values.new_zeros(len(rows), longest, self.width)
        out[heard] = values
        return out
