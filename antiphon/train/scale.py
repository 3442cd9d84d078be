"""Fresh weights scaled on data: every convolution of a codec starts with outputs of unit size.

Speech is quiet (a standard deviation of some 0.05), and each convolution of the usual initialisation makes it quieter
still. A narrow, deep network so begins as a nearly linear one of nearly constant latents, and stays there for its first
thousands of steps. One pass over a batch that divides each layer's weights by the size of its output ends that (Mishkin
and Matas 2016; Salimans and Kingma 2016, section 3).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from antiphon.nn.seanet import SeanetConv

CONVOLUTIONS = (nn.Conv1d, nn.ConvTranspose1d, SeanetConv)


@torch.no_grad()
def scale_to_data(codec: nn.Module, audio: Tensor) -> list[str]:
    """Scales the convolutions between audio and latents, and between latents and audio; their biases become zero.

    Args:
        codec: fresh, with `latents` and `synthesize`.
        audio: [batch, channels, samples], like what it is going to be trained on.

    Returns:
        Names of the layers that were scaled. One whose output is silent, or is normed behind it, is left alone.
    """
    names, order, handles = {module: name for name, module in codec.named_modules()}, [], []

    def scale(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        size = output.float().std()
        if not torch.isfinite(size) or size < 1e-8:
            return output
        module.weight /= size
        order.append(module)
        return output / size

    for module in codec.modules():
        if isinstance(module, CONVOLUTIONS) and getattr(module, "norm", None) is None:
            if module.bias is not None:
                module.bias.zero_()
            handles.append(module.register_forward_hook(scale))
    try:
        codec.synthesize(codec.latents(audio))
    finally:
        for handle in handles:
            handle.remove()
    if order:
        order[-1].weight *= audio.float().std()  # the last one makes the sound
    return [names[module] for module in order]
