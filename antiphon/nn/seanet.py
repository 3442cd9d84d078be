"""SEANet, the convolutional encoder and decoder of EnCodec, Mimi and SpeechTokenizer, whole or live.

Defossez et al. 2022 ("High Fidelity Neural Audio Compression", section 3.1). Everything is [batch, time, channels]
inside, and every layer, upsampling included, is one convolution as a matrix product (`antiphon.nn.seanet_layers`).

A causal network streams: `step` takes any number of samples (encoder) or latents (decoder) and gives what is certain.
Reflect padding needs a few frames before the first output, so such a network collects its lead-in; rows of one batch
may be in it or past it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from antiphon.nn.seanet_layers import (
    LstmState,
    SeanetBlock,
    SeanetConfig,
    SeanetConv,
    SkipLstm,
    TailState,
    folded,
    pack,
    unpack,
)
from antiphon.nn.state import in_groups

__all__ = [
    "LstmState",
    "SeanetBlock",
    "SeanetConfig",
    "SeanetConv",
    "SeanetDecoder",
    "SeanetEncoder",
    "SeanetState",
    "SkipLstm",
    "TailState",
    "folded",
    "pack",
    "unpack",
]


@dataclass
class SeanetState:
    """Where a stream stands.

    Attributes:
        layers: one state a layer.
        pending: input that doesn't fill a frame, [batch, less than a hop, channels]; none in a decoder.
        lead: the lead-in collected so far, [batch, most that it can be, channels].
        count: how much of `lead` is filled, [batch]; one more than it can hold once the stream is past it.
    """

    layers: list[TailState | LstmState]
    pending: Tensor
    lead: Tensor
    count: Tensor


class _Seanet(nn.Module):
    """What encoder and decoder share: layers in a row, named as in the published weights, and streaming.

    Args:
        config: sizes.
        layers: number in the published sequence (activations have numbers too) -> module.
        unit: time steps of input that a stream takes at once.
        channels: of the input.
    """

    def __init__(self, config: SeanetConfig, layers: dict[str, nn.Module], unit: int, channels: int):
        super().__init__()
        self.config, self.unit, self.channels = config, unit, channels
        self.layers = nn.ModuleDict(layers)
        self.lead = 0  # steps of input needed before the first output
        if config.causal and config.padding == "reflect":
            while not self._mirrors(self.lead):
                self.lead += unit

    def _mirrors(self, length: int) -> bool:
        """Whether that much input is enough for the reflect padding of every layer."""
        for module in self.modules():
            if isinstance(module, SeanetConv):
                if module.padding == "reflect" and length <= module.keep:
                    return False
                length = length // module.stride * module.upsample
        return True

    def init_state(self, batch: int) -> SeanetState:
        if not self.config.causal:
            raise ValueError("only a causal SEANet streams")
        weight = next(self.parameters())
        return SeanetState(
            [layer.init_state(batch) for layer in self.layers.values()],
            weight.new_zeros(batch, 0, self.channels),
            weight.new_zeros(batch, max(self.lead - self.unit, 0), self.channels),
            torch.zeros(batch, dtype=torch.long, device=weight.device),
        )

    def _whole(self, x: Tensor) -> Tensor:
        for layer in self.layers.values():
            x = layer(x)
        return x

    def _run(self, x: Tensor, layers: list[TailState | LstmState], first: bool, last: bool) -> Tensor:
        for layer, state in zip(self.layers.values(), layers):
            x = layer.step(x, state, first, last)
        return x

    def _advance(self, x: Tensor, state: SeanetState, last: bool) -> list[Tensor] | Tensor:
        """Steps all rows: one tensor if all have the same number of outputs, else one a row.

        Args:
            x: [batch, whole frames unless last, channels].
        """
        if not len(x):  # all rows have left
            return x.new_zeros(0, 0, [*self.layers.values()][-1].channels_out)
        if not self.lead:
            return self._run(x, state.layers, False, last)
        counts = state.count.tolist()
        if len(set(counts)) == 1:
            return self._advance_together(x, state, counts[0], last)

        def run(rows: list[int], part: SeanetState) -> Tensor:
            return self._advance_together(x[rows], part, counts[rows[0]], last)

        outputs, whole = in_groups(state, counts, run)
        state.layers, state.lead, state.count = whole.layers, whole.lead, whole.count
        return torch.cat(outputs) if len({y.shape[1] for y in outputs}) == 1 else outputs

    def _advance_together(self, x: Tensor, state: SeanetState, count: int, last: bool) -> Tensor:
        """Rows that have all collected `count` steps."""
        room = state.lead.shape[1]
        if count > room:
            return self._run(x, state.layers, False, last)
        time = x.shape[1]
        if count + time < self.lead and not last:
            # Not in place: what was made in inference mode may be changed there only.
            state.lead = torch.cat([state.lead[:, :count], x, state.lead[:, count + time :]], dim=1)
            state.count = state.count + time
            return self._run(x[:, :0], state.layers, False, False)
        state.count = torch.full_like(state.count, room + 1)
        return self._run(torch.cat([state.lead[:, :count], x], dim=1), state.layers, True, last)


class SeanetEncoder(_Seanet):
    """Waveform to latents, one every `config.hop` samples.

    Args:
        config: sizes.
        unit: samples that a stream takes at once, a multiple of the hop; the hop when None.
    """

    def __init__(self, config: SeanetConfig, unit: int | None = None):
        habits = dict(causal=config.causal, padding=config.padding, norm=config.norm)
        width = config.filters
        row: list[nn.Module | None] = [SeanetConv(config.channels, width, config.kernel, activate=False, **habits)]
        for ratio in reversed(config.ratios):
            row += [SeanetBlock(width, config.dilation_growth**j, config) for j in range(config.residual_layers)]
            row += [None, SeanetConv(width, 2 * width, 2 * ratio, ratio, **habits)]
            width *= 2
        if config.lstm:
            row += [SkipLstm(width, config.lstm, config.bidirectional)]
            width *= 2 if config.bidirectional else 1
        row += [None, SeanetConv(width, config.dimension, config.last_kernel, **habits)]
        super().__init__(config, _numbered(row), unit or config.hop, config.channels)

    def forward(self, audio: Tensor) -> Tensor:
        """audio [batch, channels, samples] -> latents [batch, ceil(samples / hop), dimension]; differentiable."""
        return self._whole(audio.transpose(1, 2))

    def step(self, audio: Tensor, state: SeanetState, last: bool = False) -> Tensor | list[Tensor]:
        """More audio, any number of samples -> the latents that are now certain.

        Args:
            audio: [batch, channels, samples].
            state: of `init_state`, changed in place.
            last: the signal ends here: what doesn't fill a frame is padded as `forward` pads it.

        Returns:
            [batch, n, dimension]; where rows are in their lead-in and others aren't, a list of one [1, n, dimension] a
            row.
        """
        x = torch.cat([state.pending, audio.transpose(1, 2)], dim=1) if state.pending.shape[1] else audio.mT
        whole = x.shape[1] if last else x.shape[1] // self.unit * self.unit
        state.pending = x[:, whole:].clone()
        return self._advance(x[:, :whole], state, last)


class SeanetDecoder(_Seanet):
    """Latents to waveform.

    Args:
        config: sizes.
    """

    def __init__(self, config: SeanetConfig):
        habits = dict(causal=config.causal, padding=config.padding, norm=config.norm)
        width = config.filters * 2 ** len(config.ratios)
        row: list[nn.Module | None] = [SeanetConv(config.dimension, width, config.kernel, activate=False, **habits)]
        row += [SkipLstm(width, config.lstm)] if config.lstm else []
        for ratio in config.ratios:
            row += [None, SeanetConv(width, width // 2, 2, upsample=ratio, **habits)]
            width //= 2
            row += [SeanetBlock(width, config.dilation_growth**j, config) for j in range(config.residual_layers)]
        row += [None, SeanetConv(width, config.channels, config.last_kernel, **habits)]
        super().__init__(config, _numbered(row), 1, config.dimension)

    def forward(self, latents: Tensor) -> Tensor:
        """latents [batch, frames, dimension] -> audio [batch, channels, frames * hop]; differentiable."""
        return self._whole(latents).transpose(1, 2)

    def step(self, latents: Tensor, state: SeanetState, last: bool = False) -> Tensor | list[Tensor]:
        """More latents [batch, n, dimension] -> audio [batch, channels, samples], or a list as in the encoder."""
        y = self._advance(latents, state, last)
        return y.mT if isinstance(y, Tensor) else [row.mT for row in y]


def _numbered(row: list[nn.Module | None]) -> dict[str, nn.Module]:
    """Gives each module its place as its name; None is an activation, which a convolution applies itself."""
    return {str(place): module for place, module in enumerate(row) if module is not None}
