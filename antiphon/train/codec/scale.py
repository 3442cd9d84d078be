"""Fresh weights scaled on data: every convolution of a codec, or of its discriminators, starts with outputs of unit
size.

Speech is quiet (a standard deviation of some 0.05), and each convolution of the usual initialisation makes it quieter
still. A narrow, deep network so begins as a nearly linear one of nearly constant latents, and stays there for its first
thousands of steps. One pass over a batch that divides each layer's weights by the size of its output ends that (Mishkin
and Matas 2016; Salimans and Kingma 2016, section 3). A narrow discriminator that isn't scaled gives the same verdict on
everything, and hardly a gradient, for its first hundreds of steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from antiphon.nn.seanet import SeanetConv
from antiphon.train.codec.discriminators import Discriminators

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
    convolutions = [module for module in codec.modules() if isinstance(module, CONVOLUTIONS)]
    order = _scale(
        [module for module in convolutions if getattr(module, "norm", None) is None],
        lambda: codec.synthesize(codec.latents(audio)),
    )
    if order:
        order[-1].weight *= audio.float().std()  # the last one makes the sound
    names = {module: name for name, module in codec.named_modules()}
    return [names[module] for module in order]


@torch.no_grad()
def scale_discriminators(discriminators: Discriminators, audio: Tensor) -> None:
    """Scales the convolutions of discriminators, but for those that give the verdicts; biases become zero.

    Args:
        discriminators: fresh.
        audio: [batch, channels, samples], like what they are going to judge.
    """
    layers = [layer for part in discriminators.parts for tower in part.towers for layer in tower[:-1]]
    _scale(layers, lambda: discriminators(audio))


def _scale(layers: Iterable[nn.Module], run: Callable[[], object]) -> list[nn.Module]:
    """Gives each layer's output unit size while `run` goes through them; the layers in the order of their use."""
    order, handles = [], []

    def scale(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        size = output.float().std()
        if not torch.isfinite(size) or size < 1e-8:
            return output
        gain = module.parametrizations.weight.original0 if is_parametrized(module) else module.weight
        gain /= size
        order.append(module)
        return output / size

    for layer in layers:
        if layer.bias is not None:
            layer.bias.zero_()
        handles.append(layer.register_forward_hook(scale))
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return order
