"""The linear classifiers of the scene network: of every layer's mean and deviation, by logistic regression.

They are convex, have few hundred examples and thousands of inputs, and are held back by a penalty alone; so they are
fitted at the end, each group by itself, on all training examples at once. How much each counts beside what was trained
is chosen on examples that neither learnt from.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from antiphon.data.scene.encoded import EncodedExample, EncodedSet
from antiphon.models.scene.labels import GROUPS
from antiphon.models.scene.network import SceneNetwork
from antiphon.train.scene.batches import of_the_whole

PENALTY = 100.0  # half of the weights' squares so many times, against the sum of the examples' losses (scikit's 1 / C)
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the classifier beside the trained head
HALF, ENOUGH = 0.5, 20  # the share where fewer examples can be weighed on
ROUNDS = 60  # of the solver
Chosen = Sequence[tuple[EncodedSet, EncodedExample]]


@torch.no_grad()
def fit_linear(network: SceneNetwork, train: Chosen, dev: Chosen, most: int = 6000, seed: int = 0) -> dict[str, float]:
    """Fits the classifiers of a trained network, whose own are zero, and weighs both.

    Args:
        network: changed: its heads of the whole and its classifiers are scaled, so that their sum is the mixture.
        train: examples to fit on.
        dev: to weigh on; none of them was trained on.
        most: of the training examples that a group is fitted on, drawn by `seed`.

    Returns:
        The share of the classifier in each group.
    """
    network.eval()
    shares: dict[str, float] = {}
    generator = torch.Generator().manual_seed(seed)
    kept = {id(example): _statistics(network, *one) for one in (*train, *dev) for example in one[1:]}
    for name, labels in network.config.labels.items():
        own = [one for one in train if bool(_target(one[1], name, labels)[1].any())]
        own = [own[row] for row in torch.randperm(len(own), generator=generator)[:most].tolist()]
        weighed = [one for one in dev if bool(_target(one[1], name, labels)[1].any())]
        if not own:
            continue
        x = torch.stack([kept[id(example)] for _, example in own])
        y, mask = (torch.stack(side) for side in zip(*(_target(example, name, labels) for _, example in own)))
        weight, bias = fitted(x, y, mask, GROUPS[name].exclusive)
        share = shares[name] = _share(network, name, weighed, kept, weight, bias) if len(weighed) >= ENOUGH else HALF
        network.linear[name].weight.copy_(share * weight)
        network.linear[name].bias.copy_(share * bias)
        network.whole[name].weight.mul_(1 - share)
        network.whole[name].bias.mul_(1 - share)
    return shares


def _share(
    network: SceneNetwork, name: str, weighed: Chosen, kept: dict[int, Tensor], weight: Tensor, bias: Tensor
) -> float:
    """Of `SHARES`, that with which the mixture is least surprised by examples."""
    labels, exclusive = network.config.labels[name], GROUPS[name].exclusive
    trained = torch.stack([network(source(example))[1].logits[name][0] for source, example in weighed])
    linear = F.linear(torch.stack([kept[id(example)] for _, example in weighed]), weight, bias)
    y, mask = (torch.stack(side) for side in zip(*(_target(example, name, labels) for _, example in weighed)))
    losses = [float(_loss((1 - share) * trained + share * linear, y, mask, exclusive)) for share in SHARES]
    return SHARES[min(range(len(SHARES)), key=losses.__getitem__)]


def fitted(x: Tensor, y: Tensor, mask: Tensor, exclusive: bool) -> tuple[Tensor, Tensor]:
    """Logistic regression with a penalty on the weights, each label's examples together as heavy as another's.

    Args:
        x: [n, inputs].
        y: 1 where a label is true, [n, labels].
        mask: 1 where that is known, [n, labels].
        exclusive: one label is true, rather than any number of them.

    Returns:
        Weights [labels, inputs] and biases [labels].
    """
    mean, deviation = x.mean(0), x.std(0, correction=0).clamp_min(1e-3)
    x, balance = (x - mean) / deviation, _balance(y, mask, exclusive)
    weight = torch.zeros(y.shape[1], x.shape[1], requires_grad=True)
    bias = torch.zeros(y.shape[1], requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=ROUNDS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        total = _loss(F.linear(x, weight, bias), y, balance, exclusive, "sum") + PENALTY / 2 * weight.square().sum()
        total.backward()
        return total

    with torch.enable_grad():
        solver.step(loss)
    weight, bias = weight.detach() / deviation, bias.detach()
    return weight, bias - weight @ mean


def _balance(y: Tensor, mask: Tensor, exclusive: bool) -> Tensor:
    """How heavy each example is, [n, labels]."""
    true = (y * mask).sum(0).clamp_min(1)
    if exclusive:
        present = int(((y * mask).sum(0) > 0).sum())
        return mask * (len(y) / present / true)[y.argmax(1)][:, None]
    false, known = ((1 - y) * mask).sum(0).clamp_min(1), mask.sum(0)
    return mask * torch.where(y > 0.5, known / 2 / true, known / 2 / false)


def _loss(logits: Tensor, y: Tensor, weight: Tensor, exclusive: bool, reduce: str = "mean") -> Tensor:
    if exclusive:
        total, heavy = (weight[:, 0] * F.cross_entropy(logits, y.argmax(1), reduction="none")).sum(), weight[:, 0].sum()
    else:
        total = (weight * F.binary_cross_entropy_with_logits(logits, y, reduction="none")).sum()
        heavy = weight.sum()
    return total if reduce == "sum" else total / heavy.clamp_min(1e-6)


def _target(example: EncodedExample, group: str, labels: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    values, mask = of_the_whole(example.spans, example.known, group, example.seconds, labels)
    values, mask = torch.from_numpy(values).float(), torch.from_numpy(mask).float()
    if GROUPS[group].exclusive and not values.any():
        mask = torch.zeros_like(mask)
    return values, mask


def _statistics(network: SceneNetwork, source: EncodedSet, example: EncodedExample) -> Tensor:
    """[2 * layers * features]."""
    features, state = source(example), network.init_state()
    even = (features.layers - network.mean) / network.deviation
    network.add_statistics(even, torch.ones_like(features.level), state.sums)
    return network.statistics(state.sums)[0]
