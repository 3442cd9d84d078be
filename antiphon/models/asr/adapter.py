"""From the encoder's features to the language model's pieces.

Pairs of 50 Hz features become 25 Hz vectors in the language model's embedding space; a piece's logit is the scaled
cosine with that piece's frozen embedding (moved by a small learnt offset), and CTC (Graves et al. 2006) aligns the two.

A language model's 49,000 pieces are too many to learn from hours of speech: most occur a handful of times. So the
adapter spells with the pieces that the tokenizer's *first* merges make. Byte-pair encoding builds long pieces out of
these short ones, so they are pieces of the same language model with embeddings of its own; common words are still one
piece each, rare ones a few. What the language model reads is the tokenizer's own segmentation of the text that they
spell.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.errors import ModelError
from antiphon.nn.weights import NoInitWeights, fill

BLANK = 0
SPLICE = 2  # encoder frames in one of the adapter's


@dataclass(frozen=True)
class AdapterConfig:
    """Shape of the adapter.

    Attributes:
        features: width of the encoder's frames.
        width: of the adapter's own layers.
        blocks: convolution + MLP blocks.
        kernel: frames (of 40 ms) that a block's convolution sees; odd.
        inner: width inside a block's MLP.
        embedding: width of the language model's embeddings.
        pieces: how many pieces there are, the blank not counted.
        merges: the tokenizer's first merges that are used.
        dropout: in training.
    """

    features: int = 512
    width: int = 384
    blocks: int = 3
    kernel: int = 9
    inner: int = 1152
    embedding: int = 576
    pieces: int = 2000
    merges: int = 2000
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise ModelError(
                f"kernel is {self.kernel}; it must be odd, so that a frame is in the middle of what it sees"
            )


class Spelling:
    """Text <-> the pieces that the adapter knows.

    Args:
        tokenizer: the language model's `tokenizer.json`, as text.
        merges: how many of its merges are used.
        ids: the language model's ids of the adapter's pieces, in the order of the logits (after the blank); None for
            all.

    Raises:
        ModelError: the tokenizer is no byte-pair encoding.
    """

    def __init__(self, tokenizer: str, merges: int, ids: list[int] | None = None) -> None:
        tree = json.loads(tokenizer)
        if tree.get("model", {}).get("type") != "BPE":
            raise ModelError("the language model's tokenizer.json is no byte-pair encoding; the adapter needs one")
        tree["model"]["merges"] = tree["model"]["merges"][:merges]
        self.tokenizer = Tokenizer.from_str(json.dumps(tree))
        self.ids = list(range(self.tokenizer.get_vocab_size())) if ids is None else list(ids)
        self.index = {token: position + 1 for position, token in enumerate(self.ids)}

    def spell(self, text: str) -> list[int]:
        """Indices into the logits (1 and up). Pieces that the adapter doesn't know are left out."""
        return [self.index[token] for token in self.tokenizer.encode(text).ids if token in self.index]

    def text(self, indices: list[int]) -> str:
        """What indices (without blanks) spell."""
        return self.tokenizer.decode([self.ids[index - 1] for index in indices]).strip()


def collapse(best: list[int]) -> list[int]:
    """The CTC rule: repeats are one, then blanks go. [0, 7, 7, 0, 7, 3] -> [7, 7, 3]."""
    return [index for previous, index in zip([BLANK, *best], best) if index != previous and index != BLANK]


def ctc_frames(target: list[int]) -> int:
    """The fewest frames in which CTC can say `target`: one each, and a blank between equal neighbours."""
    return len(target) + sum(a == b for a, b in zip(target, target[1:]))


class Block(nn.Module):
    """Depthwise convolution over time, then an MLP; each normed before and added after."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.norm_time = nn.LayerNorm(config.width)
        self.time = nn.Conv1d(
            config.width, config.width, config.kernel, padding=config.kernel // 2, groups=config.width
        )
        self.mix = nn.Linear(config.width, config.width)
        self.norm = nn.LayerNorm(config.width)
        self.up = nn.Linear(config.width, config.inner)
        self.down = nn.Linear(config.inner, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [B, T, width], mask [B, T, 1] (1 where there is a frame, so that padding is silence to the convolution)."""
        y = self.time((self.norm_time(x) * mask).transpose(1, 2)).transpose(1, 2)
        x = x + self.dropout(self.mix(F.silu(y)))
        return x + self.dropout(self.down(F.silu(self.up(self.norm(x)))))


class Adapter(nn.Module):
    """Features [B, frames, 512] at 50 Hz -> vectors [B, T, 576] at 25 Hz and logits over blank and pieces."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.LayerNorm(config.features)
        self.splice = nn.Linear(SPLICE * config.features, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.norm_out = nn.LayerNorm(config.width)
        self.out = nn.Linear(config.width, config.embedding)
        self.register_buffer("embeddings", torch.zeros(config.pieces, config.embedding))  # unit vectors, frozen
        self.offset = nn.Parameter(torch.zeros(config.pieces, config.embedding))
        self.blank = nn.Parameter(torch.randn(1, config.embedding) / math.sqrt(config.embedding))
        self.bias = nn.Parameter(torch.zeros(config.pieces + 1))
        self.scale = nn.Parameter(torch.tensor(math.log(16.0)))

    def set_embeddings(self, embeddings: Tensor) -> None:
        """Takes the language model's embeddings of the pieces, [pieces, embedding].

        What all of them share (their mean) tells no piece from another and is taken off; then each is made a unit
        vector.
        """
        self.embeddings.copy_(F.normalize(embeddings - embeddings.mean(0), dim=-1))

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Vectors in the language model's embedding space.

        Args:
            features: [B, frames, 512]; an odd last frame is doubled.
            lengths: frames of each row, [B]; None where all are whole.

        Returns:
            [B, ceil(frames / 2), 576]; those past a row's length mean nothing.
        """
        batch, frames, width = features.shape
        if frames % SPLICE:
            features = torch.cat([features, features[:, -1:]], dim=1)
        x = self.norm(features).reshape(batch, -1, SPLICE * width)
        time = torch.arange(x.shape[1], device=x.device)[None, :, None]
        limit = x.shape[1] if lengths is None else adapter_lengths(lengths)[:, None, None]
        mask = (time < limit).to(x.dtype).expand(batch, -1, 1)
        x = self.splice(x)
        for block in self.blocks:
            x = block(x, mask)
        return self.out(self.norm_out(x))

    def logits(self, vectors: Tensor) -> Tensor:
        """[B, T, 576] -> [B, T, 1 + pieces]: scaled cosines, the blank first."""
        directions = F.normalize(torch.cat([self.blank, self.embeddings + self.offset]), dim=-1)
        return self.scale.exp() * F.linear(F.normalize(vectors, dim=-1), directions) + self.bias

    @torch.no_grad()
    def best(self, features: Tensor, lengths: Tensor | None = None) -> list[list[int]]:
        """Greedy CTC: the indices (1 and up) that each row spells."""
        best = self.logits(self(features, lengths)).argmax(-1).tolist()
        counts = [len(row) for row in best] if lengths is None else adapter_lengths(lengths).tolist()
        return [collapse(row[:count]) for row, count in zip(best, counts)]

    def save(self, folder: Path, ids: list[int], about: dict[str, object] | None = None) -> None:
        """Writes config.json (with the pieces' ids in the language model) and model.safetensors (float16)."""
        folder.mkdir(parents=True, exist_ok=True)
        config = {"model_type": "antiphon-ctc-adapter", **asdict(self.config), "ids": ids, **(about or {})}
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        weights = {name: value.detach().cpu().half().contiguous() for name, value in self.state_dict().items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> tuple[Adapter, list[int]]:
        """Reads what `save` wrote: the adapter in float32, and its pieces' ids in the language model.

        Raises:
            ModelError: the folder holds something else.
        """
        folder = Path(folder)
        try:
            tree = json.loads((folder / "config.json").read_text())
            with NoInitWeights():
                adapter = cls(AdapterConfig(**{field.name: tree[field.name] for field in fields(AdapterConfig)}))
            fill(adapter, {name: value.float() for name, value in load_file(folder / "model.safetensors").items()})
            return adapter.eval(), list(tree["ids"])
        except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ModelError(f"{folder} holds no adapter that can be read: {error}") from error


def adapter_lengths(frames: Tensor) -> Tensor:
    """Adapter frames (25 Hz) of so many encoder frames (50 Hz)."""
    return (frames + SPLICE - 1) // SPLICE


def ctc_loss(logits: Tensor, lengths: Tensor, targets: list[list[int]]) -> Tensor:
    """Mean over the batch of each utterance's CTC loss per piece, in nats.

    Args:
        logits: [B, T, 1 + pieces].
        lengths: adapter frames of each row, [B].
        targets: indices (1 and up) of each row. A row that has too few frames for its target counts as 0.
    """
    flat = torch.tensor([index for target in targets for index in target], device=logits.device)
    counts = torch.tensor([len(target) for target in targets], device=logits.device)
    return F.ctc_loss(
        logits.float().log_softmax(-1).transpose(0, 1),
        flat,
        lengths,
        counts,
        blank=BLANK,
        reduction="mean",
        zero_infinity=True,
    )
