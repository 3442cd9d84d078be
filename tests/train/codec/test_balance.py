"""The balancer against its definition: shares of the gradient follow the weights, whatever the losses' scales."""

import pytest
import torch

from antiphon.train.codec.balance import Balancer, weighted


def test_gradient_equals_the_definition():
    """Defossez et al. 2022, eq. 4, written out with the running means as sums over the past."""
    torch.manual_seed(0)
    weights, decay, total = {"a": 1.0, "b": 3.0}, 0.9, 2.0
    balancer, past = Balancer(weights, total, decay), {"a": [], "b": []}
    for _ in range(4):
        output = torch.randn(3, 1, 20, requires_grad=True)
        losses = {"a": output.square().mean() * 100, "b": (output - 1).abs().mean() * 0.01}
        expected = torch.zeros_like(output)
        for name, loss in losses.items():
            (gradient,) = torch.autograd.grad(loss, output, retain_graph=True)
            past[name].append(float(gradient.flatten(1).norm(dim=1).mean()))
            ages = [decay**age for age in range(len(past[name]))][::-1]
            mean = sum(age * norm for age, norm in zip(ages, past[name])) / sum(ages)
            expected += total * weights[name] / 4.0 * gradient / mean
        balancer(losses, output).backward()
        torch.testing.assert_close(output.grad, expected, rtol=1e-4, atol=1e-7)


def test_scale_does_not_matter_and_the_rest_of_the_graph_stays():
    x = torch.randn(2, 1, 8)
    results = []
    for scale in (1.0, 1000.0):
        layer = torch.nn.Linear(8, 8)
        torch.nn.init.eye_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
        output = layer(x)
        other = output.sum() * 0.0 + layer.weight.sum() * 0.0  # a loss of the codes shares the graph before the output
        loss = Balancer({"a": 1.0, "b": 1.0})({"a": scale * output.square().mean(), "b": output.abs().mean()}, output)
        (loss + other).backward()
        results.append(layer.weight.grad.clone())
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-6)


def test_value_is_the_weighted_mean_and_zero_weights_are_left_out():
    output = torch.ones(1, 1, 4, requires_grad=True)
    losses = {"a": output.sum(), "b": 2 * output.sum(), "log": output.sum() * float("nan")}
    loss = Balancer({"a": 1.0, "b": 3.0, "log": 0.0})(losses, output)
    assert loss.item() == pytest.approx((4 + 3 * 8) / 4)
    loss.backward()
    assert torch.isfinite(output.grad).all()


def test_means_move_in_training_alone_and_live_in_the_checkpoint():
    balancer, output = Balancer({"a": 1.0}), torch.ones(1, 1, 4, requires_grad=True)
    balancer({"a": output.sum()}, output)
    state = {name: value.clone() for name, value in balancer.state_dict().items()}
    balancer.eval()({"a": 5 * output.sum()}, output)
    assert set(state) == {"sums", "mass"}
    assert all(torch.equal(value, balancer.state_dict()[name]) for name, value in state.items())


def test_weighted_is_the_plain_gradient_past_the_judges_own_weights():
    judge, layer, x = torch.nn.Linear(4, 1), torch.nn.Linear(4, 4), torch.randn(2, 4)

    def losses(output):
        return {"a": output.square().mean(), "b": judge(output).mean()}

    output = layer(x)
    plain = losses(output)
    (0.5 * plain["a"] + 2.0 * plain["b"]).backward()
    expected = layer.weight.grad.clone()
    judge.zero_grad()
    layer.zero_grad()
    output = layer(x)
    weighted(losses(output), {"a": 0.5, "b": 2.0}, output).backward()
    torch.testing.assert_close(layer.weight.grad, expected)
    assert judge.weight.grad is None
