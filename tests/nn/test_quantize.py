"""Quantizers: nearest codes, residuals, straight-through gradients, moving averages by hand, codes that stay alive."""

import torch

from antiphon.nn.quantize import Codebook, ResidualQuantizer, nearest


def test_nearest_equals_the_slow_way():
    x, codes = torch.randn(50, 4), torch.randn(9, 4)
    assert torch.equal(nearest(x, codes), torch.cdist(x, codes).argmin(-1))


def test_initialisation_finds_clusters_and_uses_every_code():
    torch.manual_seed(0)
    centres = torch.randn(16, 3) * 10
    x = centres.repeat(40, 1) + 0.01 * torch.randn(640, 3)
    book = Codebook(16, 3)
    book.initialise(x, rounds=20)
    quantized, index = book.eval()(x)
    assert (x - quantized).square().mean() < 0.2 * x.var()
    assert len(index.unique()) >= 12


def test_update_by_hand():
    book = Codebook(2, 1, decay=0.5)
    book.codes.copy_(torch.tensor([[0.0], [10.0]]))
    book.total.copy_(book.codes)
    book.usage.fill_(1.0)
    book.update(torch.tensor([[1.0], [3.0], [10.0]]), torch.tensor([0, 0, 1]))
    # usage: (1 + 2) / 2 and (1 + 1) / 2; totals: (0 + 4) / 2 and (10 + 10) / 2
    torch.testing.assert_close(book.codes, torch.tensor([[4 / 3], [10.0]]), atol=1e-5, rtol=0)


def test_a_dead_code_is_replaced_by_data():
    torch.manual_seed(0)
    book = Codebook(4, 2, decay=0.5)
    book.codes[3] = 1e6
    book.total.copy_(book.codes)
    book.ready.fill_(True)
    for _ in range(12):
        book.train()(torch.randn(64, 2))
    assert book.codes[3].abs().max() < 10


def test_more_levels_leave_less_and_codes_decode_to_the_same():
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(6, 6, levels=4, size=32)
    torch.nn.init.eye_(quantizer.inward.weight)
    torch.nn.init.eye_(quantizer.outward.weight)
    x = torch.randn(8, 20, 6)
    quantizer.train()(x)
    quantizer.eval()
    quantized, codes, _ = quantizer(x)
    assert torch.equal(codes, quantizer.encode(x))
    torch.testing.assert_close(quantizer.decode(codes), quantized, atol=1e-5, rtol=1e-5)
    errors = [float((x - quantizer.decode(codes[:, :k])).square().mean()) for k in (1, 2, 3, 4)]
    assert errors == sorted(errors, reverse=True)


def test_dropout_uses_that_many_levels_and_gradients_pass_straight_through():
    quantizer = ResidualQuantizer(4, 4, levels=3, size=8).eval()
    torch.nn.init.eye_(quantizer.inward.weight)
    torch.nn.init.eye_(quantizer.outward.weight)
    x = torch.randn(2, 5, 4, requires_grad=True)
    quantized, codes, _ = quantizer(x, used=torch.tensor([1, 3]))
    torch.testing.assert_close(quantized[0], quantizer.decode(codes[:1, :1])[0])
    torch.testing.assert_close(quantized[1], quantizer.decode(codes[1:])[0])
    quantized.sum().backward()
    torch.testing.assert_close(x.grad, torch.ones_like(x))
