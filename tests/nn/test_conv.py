"""Streaming equals offline for random splits, forked states go their own ways, and nothing sees the future."""

import copy

import pytest
import torch

from antiphon.nn.conv import CausalConv1d, CausalStack, ConvNeXtBlock, Upsample, convolve


def random_splits(total: int, generator: torch.Generator, unit: int = 1) -> list[int]:
    sizes = []
    while total > 0:
        size = min(total, unit * int(torch.randint(1, 5, (), generator=generator)))
        sizes.append(size)
        total -= size
    return sizes


@pytest.mark.parametrize("trial", range(10))
def test_stack_in_pieces_equals_whole(trial):
    generator = torch.Generator().manual_seed(trial)
    torch.manual_seed(trial)
    stack = CausalStack(
        CausalConv1d(3, 4, 7), ConvNeXtBlock(4), CausalConv1d(4, 4, 3, dilation=3), CausalConv1d(4, 5, 4, stride=2),
        Upsample(5, 2, 3),
    )  # fmt: skip
    x = torch.randn(2, 3, 24, generator=generator)
    state = stack.init_state(2)
    pieces = [stack.step(piece, state) for piece in x.split(random_splits(24, generator, unit=2), dim=-1)]
    torch.testing.assert_close(torch.cat(pieces, -1), stack(x), atol=1e-6, rtol=1e-5)


def test_output_ignores_the_future():
    conv = CausalConv1d(1, 1, 4, stride=2)
    x = torch.randn(1, 1, 12)
    changed = x.clone()
    changed[..., 6:] += 1
    torch.testing.assert_close(conv(x)[..., :3], conv(changed)[..., :3])
    assert not torch.allclose(conv(x)[..., 3], conv(changed)[..., 3])


def test_a_fork_leaves_the_original_alone():
    conv = CausalConv1d(1, 1, 3)
    state = conv.init_state(1)
    conv.step(torch.ones(1, 1, 2), state)
    fork = copy.deepcopy(state)
    conv.step(torch.full((1, 1, 2), 5.0), fork)
    assert torch.equal(state.past, torch.ones(1, 1, 2))


def test_a_kernel_shorter_than_its_stride_is_refused():
    with pytest.raises(ValueError, match="shorter than stride"):
        CausalConv1d(1, 1, 2, stride=3)


@pytest.mark.parametrize("kernel, stride, dilation", [(7, 1, 1), (3, 1, 2), (4, 2, 1), (5, 2, 1), (1, 1, 1), (6, 3, 1)])
@pytest.mark.parametrize("length, width", [(9, 2), (40, 3), (400, 2)])
def test_convolve_is_conv1d(kernel, stride, dilation, length, width):
    torch.manual_seed(0)
    conv = torch.nn.Conv1d(width, 5, kernel, stride, dilation=dilation)
    x = torch.randn(2, length, width)
    weight = conv.weight.detach().transpose(1, 2).flatten(1)
    expected = conv(x.mT).mT
    for graded in (False, True):
        with torch.set_grad_enabled(graded):
            y = convolve(x, weight, conv.bias, kernel, stride, dilation)
        torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)
    assert convolve(x[:, :0], weight, None, kernel, stride, dilation).shape == (2, 0, 5)
