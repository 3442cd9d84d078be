"""What was said to a duplex model, beside how it sounded: a small causal transformer reads a speech encoder's frames.

A codec's codes tell a small model when somebody speaks and little of what is said, the less the stranger the voice. A
frozen encoder's frames (`antiphon.encoders.whisper.frames`) tell the words. What is made of them is added to the states
of the temporal transformer where it is chosen which piece of text is next, and nowhere else: whether there is one at
all, and so when to speak, stays what it was (`reworded`), and so does the sound.

The user's intent is a state of its own, as in systems that drive a language model by predicted states of the dialogue
(Freeze-Omni, MinMo): a probability of each of the `intents`, and the choice of words is told these. So a sentence that
was never heard in training has to be understood only as far as its intent, and what is answered to an intent is learnt
from all sentences that have it. The encoder is later than the codec: `wait` lets the codes be as late, so that all that
was said is known when it is time to answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
        intents: of users' turns that it tells apart; with none, all that is heard reaches the choice of words.
        wait: frames by which the user's codes reach the temporal transformer later than they could.
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
    wait: int = 0

    def __post_init__(self) -> None:
        for name in ("width", "dim", "heads", "layers", "inner", "context"):
            if getattr(self, name) < 1:
                raise ConfigError(f"hearing.{name} must be at least 1, not {getattr(self, name)}.")
        for name in ("delay", "wait"):
            if getattr(self, name) < 0:
                raise ConfigError(f"hearing.{name} must be 0 or more, not {getattr(self, name)}.")
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


def linear(x: Tensor, layer: nn.Linear, packed: PackedWeights | None) -> Tensor:
    """A linear layer; in steps, where weights are packed, quicker."""
    return layer(x) if packed is None else product(x, layer.weight, packed=packed)


class IntentConditioning(nn.Module):
    """What is added to a state, and so to the logits of the text, for the user's intent. It reads the state, which
    knows the text so far, and of what was heard the intent alone: by more than that a small set's sentences are
    recognised, and their replies learnt by heart.

    Args:
        intents: how many.
        dim, width: of the state, inside.
    """

    def __init__(self, intents: int, dim: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(intents, width, bias=False)  # of a mixture, so no table to look up
        self.text = nn.Linear(dim, width, bias=False)
        self.norm = RMSNorm(width, 1e-6)
        self.up = nn.Linear(width, 2 * width, bias=False)
        self.down = nn.Linear(2 * width, width, bias=False)
        self.out = nn.Linear(width, dim, bias=False)
        nn.init.normal_(self.embedding.weight)  # each is seldom seen, and must tell from the beginning
        nn.init.zeros_(self.out.weight)  # at first, nothing is added

    def forward(self, intent: Tensor, state: Tensor, packed: PackedWeights | None = None) -> Tensor:
        """Probabilities [..., intents], normed states [..., dim] -> [..., dim]."""
        x = linear(intent, self.embedding, packed) + linear(state, self.text, packed)
        x = x + linear(F.silu(linear(self.norm(x), self.up, packed)), self.down, packed)
        return linear(x, self.out, packed)


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
        self.out = self.conditioning = None
        if config.intents:
            self.intent_head = nn.Linear(config.dim, len(config.intents), bias=False)
            self.conditioning = IntentConditioning(len(config.intents), dim, config.dim)
        else:
            self.out = nn.Linear(config.dim, dim, bias=False)
            nn.init.zeros_(self.out.weight)  # at first, nothing is added

    def read(self, heard: Tensor, states: Tensor) -> Tensor:
        """What it makes of frames: [batch, time, width], [batch, time, dim] -> [batch, time, config.dim]."""
        return self.transformer(self.from_frames(heard.to(states.dtype)) + self.from_states(self.norm(states)))

    def conditioned(
        self, seen: Tensor, states: Tensor, intent: Tensor | None = None, packed: PackedWeights | None = None
    ) -> Tensor:
        """States with what was heard.

        Args:
            seen: [..., config.dim], of `read`.
            states: [..., dim].
            intent: probabilities [..., intents]; None for its own.
            packed: weights for quicker steps.

        Returns:
            [..., dim].
        """
        if self.conditioning is None:
            return states + linear(seen, self.out, packed)
        intent = linear(seen, self.intent_head, packed).softmax(-1) if intent is None else intent
        return states + self.conditioning(intent, self.norm(states), packed)

    def forward(self, heard: Tensor, states: Tensor) -> Tensor:
        """States with what was heard; differentiable.

        Args:
            heard: at each step the newest frame that is there, [batch, time, width]; zeros where there is none. With
                `wait` it is that much ahead of the codes.
            states: of the temporal transformer, [batch, time, dim].

        Returns:
            [batch, time, dim].
        """
        return self.conditioned(self.read(heard, states), states)

    def init_state(self, batch: int = 1) -> TransformerState:
        """The state before the first frame."""
        return self.transformer.init_state(batch)

    @torch.no_grad()
    def step(self, heard: Tensor, states: Tensor, state: TransformerState, packed: PackedWeights | None) -> Tensor:
        """`forward` of one step: [batch, width], [batch, dim] -> [batch, dim]; `state` is changed."""
        x = product(heard.to(states.dtype), self.from_frames.weight, packed=packed)
        x = x + product(self.norm(states), self.from_states.weight, packed=packed)
        x = self.transformer.step(x[:, None], state, packed)[:, 0]
        return self.conditioned(x, states, packed=packed)

    def reset(self) -> None:
        """See `Transformer.reset`."""
        self.transformer.reset()
