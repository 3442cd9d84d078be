"""Semantic tokens by clustering: features of a pretrained encoder, and which of K cluster centres each is nearest to.

The tokens of GSLM, TWIST and their kin (Lakhotia et al. 2021, section 3.1; Hsu et al. 2021 for HuBERT's own targets): a
layer of HuBERT, WavLM or wav2vec 2.0, or of Whisper's encoder, and k-means. The centres are fitted by
`antiphon.train.codec.kmeans`. A language model over such tokens usually reads each run of equal ones as one; a penalty
on changes makes these runs longer (`antiphon.codecs.semantic.segments`).

    tokenizer = SemanticTokenizer.from_pretrained(folder)
    codes = tokenizer.encode(audio)                  # [batch, 1, frames], 50 a second
    short, counts = deduplicate(codes[0, 0])
    codes = repeat(short, counts)                    # the inverse
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from antiphon.codecs.semantic.features import load_features
from antiphon.codecs.semantic.segments import lasting_codes
from antiphon.encoders.base import SpeechFeatures, length_mask
from antiphon.errors import ModelError
from antiphon.nn.quantize import nearest

FAMILY = "semantic"


class SemanticTokenizer(nn.Module):
    """Waveform to one code a frame; a `Tokenizer` (antiphon.codecs.base).

    Args:
        features: of speech.
        centroids: [codes, features.width], or [codes, directions].
        model, layer: where the features are from, as `load_features` takes it; saved, so that they can be had again.
        scale: what each feature is multiplied with before it is compared [features.width]; None for 1.
        directions: in which alone the features are compared [features.width, directions]; None for all.
        duration_penalty: what another code than the frame before costs, in squared distance (of unit variance within a
            phone where there are directions); 0 takes each frame's nearest centre.
    """

    channels, codebooks = 1, 1

    def __init__(
        self,
        features: SpeechFeatures,
        centroids: Tensor,
        model: str,
        layer: int | None,
        scale: Tensor | None = None,
        directions: Tensor | None = None,
        duration_penalty: float = 0.0,
    ):
        super().__init__()
        shape = (features.width, features.width) if directions is None else tuple(directions.shape)
        if centroids.ndim != 2 or (features.width, centroids.shape[1]) != shape:
            raise ModelError(
                f"centroids {list(centroids.shape)} don't fit features of width {features.width}: fit them anew, or "
                "give the encoder that they were fitted to"
            )
        if not duration_penalty >= 0:
            raise ModelError(f"duration_penalty is {duration_penalty}; it must be 0 or more")
        self.features, self.model, self.layer = features, model, layer
        self.duration_penalty = duration_penalty
        self.register_buffer("centroids", centroids.float())
        self.register_buffer("scale", torch.ones(features.width) if scale is None else scale.float())
        self.register_buffer("directions", None if directions is None else directions.float())

    @property
    def sample_rate(self) -> int:
        return self.features.sample_rate

    @property
    def frame_rate(self) -> float:
        return self.features.frame_rate

    @property
    def codebook_size(self) -> int:
        return len(self.centroids)

    @property
    def settings(self) -> str:
        """What codes depend on beside the weights, for `antiphon.codecs.base.fingerprint`."""
        return f"duration penalty {self.duration_penalty:g}" if self.duration_penalty else ""

    @torch.no_grad()
    def encode(self, audio: Tensor, codebooks: int | None = None) -> Tensor:
        """audio [batch, 1, samples] -> codes [batch, 1, frames].

        What becomes of a last frame that isn't full is up to the encoder: Whisper's is filled up with silence, the
        others leave it out.
        """
        if audio.ndim != 3 or audio.shape[1] != 1:
            raise ValueError(f"audio must be [batch, 1, samples], got {list(audio.shape)}")
        if codebooks not in (None, 1):
            raise ValueError(f"codebooks is {codebooks}; these codes have one")
        return self.tokenize(audio[:, 0])[0]

    @torch.no_grad()
    def tokenize(self, samples: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Rows of different length: [batch, samples], lengths [batch] -> codes [batch, 1, frames], frames [batch].

        Each row's codes are what it gives alone; after its end there are zeros.
        """
        values, frames = self.features(samples, lengths)
        parts = values.flatten(0, 1).split(8192)
        compare = [compared(part, self.scale, self.directions) for part in parts]
        if self.duration_penalty:
            rows = torch.cat(compare).view(*values.shape[:2], -1)
            codes = lasting_codes(rows, self.centroids, self.duration_penalty, frames)
        else:
            codes = torch.cat([nearest(part, self.centroids) for part in compare]).view(values.shape[:2])
        return (codes * length_mask(frames, values.shape[1]))[:, None], frames

    def save_pretrained(self, folder: Path | str) -> None:
        """Writes config.json (what the features are) and model.safetensors (centres, scale, directions, float32)."""
        args = (self.centroids, self.scale, folder, self.model, self.layer, self.directions, self.duration_penalty)
        save_centroids(*args)

    @classmethod
    def from_pretrained(cls, folder: Path | str, model: Path | str | None = None) -> SemanticTokenizer:
        """Reads what `save_pretrained` wrote, and the encoder that it names.

        Args:
            folder: of the centres.
            model: the encoder's folder, name or hub id where it isn't to be had under the name it had in training.

        Raises:
            ModelError: the folder holds something else.
            HubError: the encoder can't be had.
        """
        folder = Path(folder)
        try:
            config = json.loads((folder / "config.json").read_text())
            if config.get("family") != FAMILY:
                raise ValueError(f"its config.json doesn't say family {FAMILY!r}")
            name, layer = config["features"]["model"], config["features"]["layer"]
            weights = load_file(folder / "model.safetensors")
            centroids, scale = weights["centroids"], weights["scale"]
            penalty = float(config.get("duration_penalty", 0.0))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{folder} holds no cluster centres that can be read: {error}") from error
        features = load_features(model or name, layer)
        directions = weights.get("directions")
        return cls(features, centroids, str(model or name), layer, scale, directions, penalty).eval()


def compared(values: Tensor, scale: Tensor, directions: Tensor | None) -> Tensor:
    """Features [n, width] as they are compared with the centres: scaled by [width], or in directions [width, d]."""
    values = values.float() * scale
    return values if directions is None else values @ directions


def save_centroids(
    centroids: Tensor,
    scale: Tensor,
    folder: Path | str,
    model: str,
    layer: int | None,
    directions: Tensor | None = None,
    duration_penalty: float = 0.0,
) -> None:
    """Writes the folder of a `SemanticTokenizer`: config.json and model.safetensors (float32)."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = {"family": FAMILY, "features": {"model": model, "layer": layer}, "codebook_size": len(centroids)}
    config |= {"duration_penalty": duration_penalty} if duration_penalty else {}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    weights = {"centroids": centroids, "scale": scale} | ({} if directions is None else {"directions": directions})
    save_file({k: v.detach().float().contiguous().cpu() for k, v in weights.items()}, folder / "model.safetensors")


def deduplicate(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Each run of equal frames as one.

    Args:
        codes: [frames], or [codebooks, frames], whose frames are equal where all their codes are.

    Returns:
        Codes [n] or [codebooks, n], no two neighbours equal; how many frames each stands for [n].

    >>> deduplicate(torch.tensor([5, 5, 5, 2, 5, 5]))
    (tensor([5, 2, 5]), tensor([3, 1, 2]))
    """
    if not codes.shape[-1]:
        return codes, codes.new_zeros(0, dtype=torch.long)
    changes = codes[..., 1:] != codes[..., :-1]
    changes = changes.any(0) if codes.ndim > 1 else changes
    at = torch.cat([changes.new_ones(1), changes]).nonzero()[:, 0]
    ends = torch.cat([at[1:], at.new_tensor([codes.shape[-1]])])
    return codes[..., at], ends - at


def repeat(codes: Tensor, counts: Tensor) -> Tensor:
    """The inverse of `deduplicate`: codes [..., n], counts [n] -> [..., frames]."""
    return codes.repeat_interleave(counts, -1)
