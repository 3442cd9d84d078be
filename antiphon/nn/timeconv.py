"""Convolutions over time in the layout [batch, time, channels], as matrix products.

A window of a signal that lies time after time is one contiguous row, so a convolution is a product of such rows with
one matrix, and no large weight is reordered when a call brings two time steps. Weights are kept as that matrix, [out,
kernel * in] with the oldest tap first.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

FEW = 3  # rows up to which a product does nothing but read the weight


def product(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """rows [n, in] times weight [out, in], plus bias [out] -> [n, out]; as `F.linear`, but quicker on a CPU.

    Two findings, on CPUs with AVX-512: a few rows are bound by reading the weight, and the product runs at the speed of
    memory if the weight comes first and the rows are contiguous, several times slower in other forms. With more rows
    oneDNN's product is twice as fast as that of MKL, which `F.linear` takes.
    """
    if rows.device.type != "cpu" or rows.dtype != torch.float32 or torch.is_grad_enabled():
        return F.linear(rows, weight, bias)
    if len(rows) <= FEW:
        rows = rows.contiguous().T
        y = weight @ rows if bias is None else torch.addmm(bias[:, None], weight, rows)
        return y.T
    return _linear(rows, weight, bias)


def _linear(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if not torch.backends.mkldnn.is_available():
        return F.linear(rows, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, kernel: int = 1, stride: int = 1, dilation: int = 1
) -> Tensor:
    """Convolution without padding.

    Args:
        x: [batch, length, channels in].
        weight: [channels out, kernel * channels in].
        bias: [channels out] or None.
        kernel, stride, dilation: as in `torch.nn.Conv1d`.

    Returns:
        [batch, (length - dilation * (kernel - 1) - 1) // stride + 1, channels out].
    """
    batch, length, width = x.shape
    span = dilation * (kernel - 1) + 1
    time = (length - span) // stride + 1
    if time <= 0:
        return x.new_zeros(batch, 0, len(weight))
    if span == stride == 1:
        return product(x.reshape(batch * time, width), weight, bias).view(batch, time, -1)
    if torch.is_grad_enabled() or batch * time * 64 > weight.numel():
        # oneDNN's convolution needs no windows, but its weights in an order of its own: worth it for a small weight.
        kernels = weight.view(-1, kernel, width).permute(0, 2, 1).unsqueeze(2)  # what it takes for "channels last"
        y = F.conv2d(x.transpose(1, 2).unsqueeze(2), kernels, bias, (1, stride), 0, (1, dilation))
        return y.squeeze(2).transpose(1, 2)
    x = x.contiguous()
    shape = (batch, time, kernel, width)
    windows = x.as_strided(shape, (length * width, stride * width, dilation * width, 1), x.storage_offset())
    return product(windows.reshape(batch * time, -1), weight, bias).view(batch, time, -1)


def mirrored(x: Tensor, left: int, right: int) -> Tensor:
    """Reflect padding of [batch, time, channels] along time.

    Of a signal too short to be mirrored so far, zeros that follow it are (as EnCodec does), and are then cut off.
    """
    length = x.shape[1]
    if length == 0 or not (left or right):
        return x
    if extra := max(0, max(left, right) - length + 1):
        x = F.pad(x, (0, 0, 0, extra))
    end = x.shape[1] - 1
    x = torch.cat([x[:, 1 : left + 1].flip(1), x, x[:, end - right : end].flip(1)], dim=1)
    return x[:, : x.shape[1] - extra]


def pad(x: Tensor, left: int, right: int, mode: str) -> Tensor:
    """Pads [batch, time, channels] along time.

    Args:
        left, right: time steps.
        mode: "constant" (zeros), "replicate" or "reflect".
    """
    if mode == "reflect":
        return mirrored(x, left, right)
    if mode == "replicate" and x.shape[1]:
        return torch.cat([x[:, :1].expand(-1, left, -1), x, x[:, -1:].expand(-1, right, -1)], dim=1)
    return F.pad(x, (0, 0, left, right))
