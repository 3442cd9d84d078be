"""What was said to a duplex model, beside how it sounded: a small causal transformer reads a speech encoder's frames.

A codec's codes tell a small model when somebody speaks and little of what is said, the less the stranger the voice. A
frozen encoder's frames (`antiphon.encoders.whisper.frames`) tell the words. What is made of them is added to the states
of the temporal transformer where it is chosen which piece of text is next, and nowhere else: whether there is one at
all, and so when to speak, stays what it was (`reworded`), and so does the sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from antiphon.errors import ConfigError
from antiphon.nn.cpu import PackedWeights, product
from antiphon.nn.transformer import RMSNorm, Transformer, TransformerConfig, TransformerState


@dataclass
class HearingConfig:
    """Sizes.

    Attributes:
        encoder: part or folder of the Whisper whose encoder hears.
        width: of a frame's vector.
        delay: steps until a frame's vector is there.
        dim, heads, layers, inner: of the transformer; `inner` is the width of the SwiGLU.
        context: frames that are seen, the present one included.
    """

    encoder: str = "asr"
    width: int = 2048
    delay: int = 2
    dim: int = 256
    heads: int = 4
    layers: int = 4
    inner: int = 704
    context: int = 125

    def __post_init__(self) -> None:
        for name in ("width", "dim", "heads", "layers", "inner", "context"):
            if getattr(self, name) < 1:
                raise ConfigError(f"hearing.{name} must be at least 1, not {getattr(self, name)}.")
        if self.delay < 0:
            raise ConfigError(f"hearing.delay must be 0 or more, not {self.delay}.")
        if self.dim % self.heads or (self.dim // self.heads) % 2:
            raise ConfigError(f"hearing.dim {self.dim} must be an even multiple of hearing.heads {self.heads}.")


def reworded(text: Tensor, words: Tensor, silent: Sequence[int]) -> Tensor:
    """Logits by which any piece is as likely as before, and each of them as likely among them as others say.

    Args:
        text: logits [..., pieces] that say how likely silence is.
        words: logits [..., pieces] that say which piece is likely.
        silent: the pieces that aren't any: PAD and EPAD.
    """
    of_words = torch.ones(text.shape[-1], dtype=torch.bool, device=text.device)
    of_words[list(silent)] = False
    shift = text[..., of_words].logsumexp(-1) - words[..., of_words].logsumexp(-1)
    return torch.where(of_words, words + shift[..., None], text)


class Hearing(nn.Module):
    """See the module.

    Args:
        config: sizes.
        dim: width of the states that it adds to.
    """

    def __init__(self, config: HearingConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.from_frames = nn.Linear(config.width, config.dim, bias=False)
        self.from_states = nn.Linear(dim, config.dim, bias=False)
        self.norm = RMSNorm(dim, 1e-6)
        self.transformer = Transformer(
            TransformerConfig(config.dim, config.heads, config.inner, config.layers, config.context)
        )
        self.out = nn.Linear(config.dim, dim, bias=False)
        nn.init.zeros_(self.out.weight)  # at first, nothing is added

    def read(self, heard: Tensor, states: Tensor) -> Tensor:
        """What it makes of frames: [batch, time, width], [batch, time, dim] -> [batch, time, config.dim]."""
        return self.transformer(self.from_frames(heard) + self.from_states(self.norm(states)))

    def forward(self, heard: Tensor, states: Tensor) -> Tensor:
        """States with what was heard; differentiable.

        Args:
            heard: at each step the newest frame that is there, [batch, time, width]; zeros where there is none.
            states: of the temporal transformer, [batch, time, dim].

        Returns:
            [batch, time, dim].
        """
        return states + self.out(self.read(heard, states))

    def init_state(self, batch: int = 1) -> TransformerState:
        """The state before the first frame."""
        return self.transformer.init_state(batch)

    @torch.no_grad()
    def step(self, heard: Tensor, states: Tensor, state: TransformerState, packed: PackedWeights | None) -> Tensor:
        """`forward` of one step: [batch, width], [batch, dim] -> [batch, dim]; `state` is changed."""
        x = product(heard, self.from_frames.weight, packed=packed)
        x = x + product(self.norm(states), self.from_states.weight, packed=packed)
        x = self.transformer.step(x[:, None], state, packed)[:, 0]
        return states + product(x, self.out.weight, packed=packed)

    def reset(self) -> None:
        """See `Transformer.reset`."""
        self.transformer.reset()
