"""EnCodec's loss balancer: weights say which share of the gradient each loss has, whatever its scale."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Balancer(nn.Module):
    """Rescales the gradients of losses with respect to the model's output (Defossez et al. 2022, section 3.4, eq. 4).

    With g_i the gradient of loss i, n_i the running mean of its norm and w_i its weight, the output receives the sum of
    `total * w_i / sum_j w_j * g_i / n_i`. A loss that grows tenfold so moves the model no more than before.

    Args:
        weights: of each loss, by name; their ratios are shares of the gradient.
        total: norm that the gradient would have if all losses pulled the same way.
        decay: of the running means.
    """

    def __init__(self, weights: dict[str, float], total: float = 1.0, decay: float = 0.999):
        super().__init__()
        self.names, self.weights = sorted(weights), dict(weights)
        self.total, self.decay = total, decay
        # Sums of norms and of their weights: their quotient is a mean that needs no warm-up.
        self.register_buffer("sums", torch.zeros(len(weights)))
        self.register_buffer("mass", torch.zeros(len(weights)))

    def forward(self, losses: dict[str, Tensor], output: Tensor) -> Tensor:
        """One loss to call `backward` on: its gradient with respect to the output is the balanced one.

        Args:
            losses: scalars that depend on `output`; those without a weight, or with weight 0, are left out.
            output: of the model, any shape; the graph from it to the losses is used up, the one before it is not.

        Returns:
            Scalar: the weighted mean of the losses in value, so that a log still means something.
        """
        asked = {name: losses[name] for name in self.names if name in losses and self.weights[name]}
        if not asked:
            return output.sum() * 0.0
        gradients = {}
        for index, (name, loss) in enumerate(asked.items()):
            (gradients[name],) = torch.autograd.grad(loss, [output], retain_graph=index + 1 < len(asked))
        with torch.no_grad():
            norms = torch.stack([gradient.flatten(1).norm(dim=1).mean() for gradient in gradients.values()]).float()
            places = torch.tensor([self.names.index(name) for name in asked], device=norms.device)
            if self.training:
                if dist.is_initialized():
                    dist.all_reduce(norms)
                    norms /= dist.get_world_size()
                self.sums[places] = self.decay * self.sums[places] + norms
                self.mass[places] = self.decay * self.mass[places] + 1.0
            means = self.sums[places] / self.mass[places].clamp_min(1e-12)
            whole = sum(self.weights[name] for name in asked)
            balanced = torch.zeros_like(output)
            for (name, gradient), mean in zip(gradients.items(), means):
                balanced += self.total * self.weights[name] / whole * gradient / mean.clamp_min(1e-12)
            value = sum(self.weights[name] * loss.detach() for name, loss in asked.items()) / whole
        return _GradientFrom.apply(output, balanced, value)


def weighted(losses: dict[str, Tensor], weights: dict[str, float], output: Tensor) -> Tensor:
    """The weighted sum of losses, without a balancer; as there, the gradient goes no other way than through `output`.

    So what lies between output and losses (discriminators) costs no gradients of its own weights.
    """
    asked = [weights[name] * losses[name] for name in sorted(losses) if weights.get(name)]
    if not asked:
        return output.sum() * 0.0
    total = sum(asked)
    (gradient,) = torch.autograd.grad(total, [output])
    return _GradientFrom.apply(output, gradient, total.detach())


class _GradientFrom(torch.autograd.Function):
    """A scalar of a given value whose gradient with respect to the output is given."""

    @staticmethod
    def forward(ctx, output: Tensor, gradient: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return upstream * gradient, None, None
