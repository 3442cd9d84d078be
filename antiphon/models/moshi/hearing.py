"""What is said to a duplex model: a small causal transformer reads a speech encoder's frames.

A codec's codes tell a small model when somebody speaks and little of what is said, the less the stranger the voice. A
frozen encoder's frames (`antiphon.encoders.whisper.frames`) tell the words. What is made of them is the state of the
dialogue, as in systems that drive a language model by predicted states (Freeze-Omni, MinMo): nobody has asked anything,
the user isn't done, or else the user's intent. The temporal transformer reads the probabilities of the states at its
input, and nothing else of what was heard. So a sentence that was never heard in training has to be understood only as
far as its intent, and what is answered to an intent, from the first word to the last, is learnt from all sentences that
have it.

Such a model needs none of the user's codes (`user_codebooks: 0`). Without them more of what it says fits: it would go
by the voice and the sentence that it knows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from antiphon.errors import ConfigError
from antiphon.nn.cpu import PackedWeights, product
from antiphon.nn.transformer import Transformer, TransformerConfig, TransformerState

# States of a dialogue; from `FIRST_INTENT` on, the user's intents.
IDLE = 0  # nobody has asked anything
LISTENING = 1  # a turn of the user's has begun and isn't over
FIRST_INTENT = 2


@dataclass
class HearingConfig:
    """Sizes.

    Attributes:
        encoder: part or folder of the Whisper whose encoder hears.
        width: of a frame's vector.
        delay: steps until a frame's vector is there.
        dim, heads, layers, inner: of the transformer; `inner` is the width of the SwiGLU.
        context: frames that are seen, the present one included.
        intents: of users' turns that it tells apart.
    """

    encoder: str = "asr"
    width: int = 2048
    delay: int = 2
    dim: int = 256
    heads: int = 4
    layers: int = 4
    inner: int = 704
    context: int = 125
    intents: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("width", "dim", "heads", "layers", "inner", "context"):
            if getattr(self, name) < 1:
                raise ConfigError(f"hearing.{name} must be at least 1, not {getattr(self, name)}.")
        if self.delay < 0:
            raise ConfigError(f"hearing.delay must be 0 or more, not {self.delay}.")
        if self.dim % self.heads or (self.dim // self.heads) % 2:
            raise ConfigError(f"hearing.dim {self.dim} must be an even multiple of hearing.heads {self.heads}.")

    @property
    def states(self) -> int:
        """How many states a dialogue can be in."""
        return FIRST_INTENT + len(self.intents)


class Hearing(nn.Module):
    """See the module.

    Args:
        config: sizes.
        dim: width of the temporal transformer.
    """

    def __init__(self, config: HearingConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.from_frames = nn.Linear(config.width, config.dim, bias=False)
        self.transformer = Transformer(
            TransformerConfig(config.dim, config.heads, config.inner, config.layers, config.context)
        )
        self.state_head = nn.Linear(config.dim, config.states, bias=False)
        self.embedding = nn.Linear(config.states, dim, bias=False)  # of a mixture, so no table to look up
        nn.init.zeros_(self.embedding.weight)  # at first, nothing is added

    def forward(self, heard: Tensor) -> Tensor:
        """What it makes of frames; differentiable.

        Args:
            heard: at each step the newest frame that is there, [batch, time, width]; zeros where there is none.

        Returns:
            [batch, time, config.dim], from which `state_head` tells logits of the states.
        """
        return self.transformer(self.from_frames(heard.to(self.from_frames.weight.dtype)))

    def chances(self, seen: Tensor, packed: PackedWeights | None = None) -> Tensor:
        """Probabilities of the states by what `forward` gave, [..., config.dim] -> [..., states]. Before anything was
        heard, which is when that is nothing at all, the dialogue is idle; all states would be as likely else."""
        rows = product(seen.flatten(0, -2), self.state_head.weight, packed=packed)
        likely = rows.unflatten(0, seen.shape[:-1]).softmax(-1)
        idle = torch.zeros_like(likely)
        idle[..., IDLE] = 1.0
        return torch.where((seen == 0).all(-1, keepdim=True), idle, likely)

    def embed(self, heard: Tensor) -> Tensor:
        """What the temporal transformer reads of these frames: [batch, time, width] -> [batch, time, dim]."""
        return self.embedding(self.chances(self(heard)))

    def init_state(self, batch: int = 1) -> TransformerState:
        """The state before the first frame."""
        return self.transformer.init_state(batch)

    @torch.no_grad()
    def step(self, heard: Tensor, state: TransformerState, packed: PackedWeights | None) -> Tensor:
        """`embed` of one step: [batch, width] -> [batch, dim]; `state` is changed."""
        x = product(heard.to(self.from_frames.weight.dtype), self.from_frames.weight, packed=packed)
        x = self.transformer.step(x[:, None], state, packed)[:, 0]
        return product(self.chances(x, packed), self.embedding.weight, packed=packed)

    def reset(self) -> None:
        """See `Transformer.reset`."""
        self.transformer.reset()
