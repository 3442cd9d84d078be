"""The encoder of a speaker's reference spectrogram: ECAPA-TDNN (Desplanques et al. 2020), as Qwen2.5-Omni has it.

Names of weights are the published ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.errors import ModelError
from antiphon.models.omni.config import DiTConfig

FLOOR = 1e-12  # of a variance


def conv(inputs: int, outputs: int, kernel: int = 1, dilation: int = 1) -> nn.Conv1d:
    """A convolution that mirrors the signal at its ends and keeps its length."""
    return nn.Conv1d(inputs, outputs, kernel, dilation=dilation, padding="same", padding_mode="reflect")


class TimeDelay(nn.Module):
    """A convolution, then ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, dilation: int = 1):
        super().__init__()
        self.conv = conv(inputs, outputs, kernel, dilation)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x))


class Res2Net(nn.Module):
    """Groups of channels, each of which sees what the group before it gave."""

    def __init__(self, channels: int, scale: int, kernel: int, dilation: int):
        super().__init__()
        size = channels // scale
        self.scale = scale
        self.blocks = nn.ModuleList(TimeDelay(size, size, kernel, dilation) for _ in range(scale - 1))

    def forward(self, x: Tensor) -> Tensor:
        first, *others = x.chunk(self.scale, dim=1)
        parts = [first]
        for number, (part, block) in enumerate(zip(others, self.blocks)):
            parts.append(block(part + parts[-1] if number else part))
        return torch.cat(parts, dim=1)


class SqueezeExcitation(nn.Module):
    """Weighs channels by their means."""

    def __init__(self, channels: int, inner: int):
        super().__init__()
        self.conv1, self.conv2 = conv(channels, inner), conv(inner, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.conv2(F.relu(self.conv1(x.mean(2, keepdim=True)))))


class Block(nn.Module):
    """All of these around a residual."""

    def __init__(self, channels: int, outputs: int, config: DiTConfig, kernel: int, dilation: int):
        super().__init__()
        self.tdnn1 = TimeDelay(channels, outputs)
        self.res2net_block = Res2Net(outputs, config.enc_res2net_scale, kernel, dilation)
        self.tdnn2 = TimeDelay(outputs, outputs)
        self.se_block = SqueezeExcitation(outputs, config.enc_se_channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.se_block(self.tdnn2(self.res2net_block(self.tdnn1(x))))


class StatisticsPooling(nn.Module):
    """Mean and deviation over time, of frames that are attended to."""

    def __init__(self, channels: int, inner: int):
        super().__init__()
        self.tdnn = TimeDelay(3 * channels, inner)
        self.conv = conv(inner, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, frames] -> [batch, 2 * channels, 1]"""
        told = [each.expand_as(x) for each in self._statistics(x, x.new_tensor(1 / x.shape[2]))]
        share = self.conv(torch.tanh(self.tdnn(torch.cat([x, *told], dim=1)))).softmax(2)
        return torch.cat(self._statistics(x, share), dim=1)

    @staticmethod
    def _statistics(x: Tensor, share: Tensor) -> list[Tensor]:
        mean = (share * x).sum(2, keepdim=True)
        return [mean, (share * (x - mean).square()).sum(2, keepdim=True).clamp_min(FLOOR).sqrt()]


class SpeakerEncoder(nn.Module):
    """Spectrogram [batch, frames, mel] -> [batch, enc_dim]."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        channels, kernels, dilations = config.enc_channels, config.enc_kernel_sizes, config.enc_dilations
        if not len(channels) == len(kernels) == len(dilations):
            raise ModelError("enc_channels, enc_kernel_sizes and enc_dilations must be equally long")
        self.blocks = nn.ModuleList([TimeDelay(config.mel_dim, channels[0], kernels[0], dilations[0])])
        for number in range(1, len(channels) - 1):
            before, own = channels[number - 1], channels[number]
            self.blocks.append(Block(before, own, config, kernels[number], dilations[number]))
        self.mfa = TimeDelay(channels[-1], channels[-1], kernels[-1], dilations[-1])
        self.asp = StatisticsPooling(channels[-1], config.enc_attention_channels)
        self.fc = conv(2 * channels[-1], config.enc_dim)

    def forward(self, mel: Tensor) -> Tensor:
        x, made = mel.transpose(1, 2), []
        for block in self.blocks:
            x = block(x)
            made.append(x)
        return self.fc(self.asp(self.mfa(torch.cat(made[1:], dim=1))))[:, :, 0]
