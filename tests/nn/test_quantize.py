"""Quantizers: nearest codes, residuals, straight-through gradients, moving averages by hand, codes that stay alive."""

import itertools

import pytest
import torch

from antiphon.nn.quantize import (
    FSQ,
    Codebook,
    FactorizedResidualQuantizer,
    ResidualQuantizer,
    SplitQuantizer,
    nearest,
    update_codebooks,
)


@pytest.mark.parametrize("rows", [1, 3, 50])
def test_nearest_equals_the_slow_way_also_after_the_codes_have_changed(rows):
    x, book = torch.randn(rows, 4), Codebook(9, 4)
    for _ in range(2):
        slow = torch.cdist(x, book.codes).argmin(-1)
        assert torch.equal(nearest(x, book.codes), slow) and torch.equal(book.search(x), slow)
        book.codes.copy_(torch.randn(9, 4))
    with torch.inference_mode():
        book = Codebook(9, 4)
        for _ in range(2):
            assert torch.equal(book.search(x), torch.cdist(x, book.codes).argmin(-1))
            book.codes.copy_(torch.randn(9, 4))


@pytest.mark.parametrize("kind", ["residual", "split", "factorized"])
def test_vectors_are_what_each_code_adds_and_the_first_levels_stand_alone(kind):
    torch.manual_seed(0)
    quantizer = {
        "residual": lambda: ResidualQuantizer(6, 4, 3, 8),
        "split": lambda: SplitQuantizer(6, 4, 1, 2, 8),
        "factorized": lambda: FactorizedResidualQuantizer(6, 4, 3, 8),
    }[kind]()
    codes, x = torch.randint(0, 8, (2, 3, 5)), torch.randn(2, 5, 6)
    with torch.no_grad():
        total = sum(vectors[codes[:, level]] for level, vectors in enumerate(quantizer.vectors()))
        torch.testing.assert_close(quantizer.decode(codes), total, atol=1e-5, rtol=1e-5)
        for levels in (1, 2, 3):
            assert torch.equal(quantizer.encode(x, levels), quantizer.encode(x)[:, :levels])


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
    update_codebooks([book], [torch.tensor([[1.0], [3.0], [10.0]])], [torch.tensor([0, 0, 1])])
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
    quantizer.train().quantized(x)
    result = quantizer.eval().quantized(x)
    codes = result.codes
    assert torch.equal(codes, quantizer.encode(x))
    torch.testing.assert_close(quantizer.decode(codes), result.latents, atol=1e-5, rtol=1e-5)
    errors = [float((x - quantizer.decode(codes[:, :k])).square().mean()) for k in (1, 2, 3, 4)]
    assert errors == sorted(errors, reverse=True)


def test_dropout_uses_that_many_levels_and_gradients_pass_straight_through():
    quantizer = ResidualQuantizer(4, 4, levels=3, size=8).eval()
    torch.nn.init.eye_(quantizer.inward.weight)
    torch.nn.init.eye_(quantizer.outward.weight)
    x = torch.randn(2, 5, 4, requires_grad=True)
    result = quantizer.quantized(x, used=torch.tensor([1, 3]))
    torch.testing.assert_close(result.latents[0], quantizer.decode(result.codes[:1, :1])[0])
    torch.testing.assert_close(result.latents[1], quantizer.decode(result.codes[1:])[0])
    result.latents.sum().backward()
    torch.testing.assert_close(x.grad, torch.ones_like(x))


def test_codes_may_live_in_the_input_s_own_space():
    torch.manual_seed(0)
    quantizer, x = ResidualQuantizer(6, 0, levels=3, size=16), torch.randn(2, 30, 6)
    assert not list(quantizer.parameters())
    quantizer.quantized(x)
    result = quantizer.eval().quantized(x)
    torch.testing.assert_close(quantizer.decode(result.codes), result.latents)
    torch.testing.assert_close(quantizer.decode(result.codes[:, :1]), result.first)


def test_the_levels_learn_together_as_each_would_alone():
    """Updates at the end of a pass equal updates level by level: residuals come from the codes before them."""
    torch.manual_seed(0)
    together, x = ResidualQuantizer(4, 0, levels=3, size=4, dead=0.0), torch.randn(2, 50, 4)
    for book in together.codebooks:
        book.ready.fill_(True)
    alone = [Codebook(4, 4, dead=0.0) for _ in range(3)]
    for one, other in zip(alone, together.codebooks):
        one.load_state_dict(other.state_dict())
    together.quantized(x)
    residual = x.flatten(0, 1)
    for one, other in zip(alone, together.codebooks):
        residual = residual - one(residual)[0]
        torch.testing.assert_close(one.codes, other.codes)


def test_split_quantizer_sums_what_both_make_of_the_same_latent():
    torch.manual_seed(0)
    quantizer, x = SplitQuantizer(6, 4, semantic=1, acoustic=3, size=8), torch.randn(3, 20, 6)
    quantizer.quantized(x)
    quantizer.eval()
    result = quantizer.quantized(x)
    assert torch.equal(result.codes, quantizer.encode(x)) and result.codes.shape == (3, 4, 20)
    torch.testing.assert_close(quantizer.decode(result.codes), result.latents)
    torch.testing.assert_close(quantizer.decode(result.codes[:, :1]), result.first)
    assert torch.equal(quantizer.acoustic.encode(x), result.codes[:, 1:])  # of the latent itself, not of a residual


def test_split_quantizer_drops_acoustic_levels_only():
    torch.manual_seed(0)
    quantizer = SplitQuantizer(6, 4, semantic=1, acoustic=3, size=8).eval()
    x = torch.randn(3, 20, 6, requires_grad=True)
    result = quantizer.quantized(x, used=torch.tensor([1, 2, 4]))
    for row, levels in enumerate((1, 2, 4)):
        alone = quantizer.decode(result.codes[row : row + 1, :levels])[0]
        torch.testing.assert_close(result.latents[row], alone)
    result.latents[0].sum().backward()
    expected = (quantizer.semantic.outward.weight @ quantizer.semantic.inward.weight).sum(0)
    torch.testing.assert_close(x.grad[0], expected.expand(20, 6))


def test_at_most_so_many_codes_are_replaced_at_once_and_by_vectors_of_the_batch():
    torch.manual_seed(0)
    book, x = Codebook(4, 2), torch.randn(30, 2)
    book.usage.copy_(torch.tensor([1.0, 0.0, 1.0, 0.0]))
    update_codebooks([book], [x], [torch.zeros(30, dtype=torch.long)])
    for code in (1, 3):
        assert (x - book.codes[code]).abs().sum(1).min() < 1e-5
        assert float(book.usage[code]) > 0.5


def test_processes_exchange_once_a_step_whatever_the_number_of_levels(monkeypatch):
    """The other process saw the same, so that sums are twice one's own."""
    torch.manual_seed(0)
    alone, x = SplitQuantizer(4, 4, semantic=1, acoustic=3, size=4), torch.randn(2, 20, 4)
    alone.quantized(x)
    shared, calls = SplitQuantizer(4, 4, semantic=1, acoustic=3, size=4), []
    shared.load_state_dict(alone.state_dict())
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 0)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr("torch.distributed.all_reduce", lambda flat: calls.append(flat.mul_(2)))
    before = [book.usage.clone() for book in shared.acoustic.codebooks]
    shared.quantized(x)
    assert len(calls) == 1
    for book, usage in zip(shared.acoustic.codebooks, before):
        assert float(book.usage.sum()) == pytest.approx(float(usage.sum()) * 0.99 + 0.01 * 80, rel=1e-4)


@pytest.mark.parametrize("kind", ["plain", "split", "factorized"])
def test_bf16_arithmetic_around_it_changes_no_code(kind):
    torch.manual_seed(0)
    made = {
        "plain": lambda: ResidualQuantizer(16, 8, 3, 64),
        "split": lambda: SplitQuantizer(16, 8, 1, 2, 64),
        "factorized": lambda: FactorizedResidualQuantizer(16, 4, 3, 64),
    }
    quantizer, x = made[kind]().eval(), torch.randn(4, 100, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = quantizer.quantized(x)
    assert torch.equal(result.codes, quantizer.encode(x))
    torch.testing.assert_close(result.latents, quantizer.decode(result.codes), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (3,) * 8, (2, 4), (7,)])
def test_every_code_has_its_own_point_and_gives_it_back(levels):
    fsq = FSQ(levels)
    index = torch.arange(fsq.size)
    points = fsq.vectors(index)
    assert points.shape == (fsq.size, len(levels)) and len(points.unique(dim=0)) == fsq.size
    assert points.abs().max() <= 1
    for dimension, count in enumerate(levels):
        assert len(points[:, dimension].unique()) == count
    # what is bounded to a grid point is that point again
    half = fsq.levels // 2
    offset = 0.5 * (fsq.levels % 2 == 0)
    inner = torch.atanh((points * half + offset) / ((fsq.levels - 1) * (1 + 1e-3) / 2)) - torch.atanh(
        offset / ((fsq.levels - 1) * (1 + 1e-3) / 2)
    )
    again, found = fsq(inner)
    assert torch.equal(found, index) and torch.allclose(again, points, atol=1e-6)


def test_rounding_is_that_of_a_slow_obvious_version():
    fsq, x = FSQ((3, 5)), torch.randn(50, 2, generator=torch.Generator().manual_seed(0)) * 2
    quantized, index = fsq(x)
    grid = list(itertools.product((-1.0, 0.0, 1.0), (-2.0, -1.0, 0.0, 1.0, 2.0)))
    for row in range(50):
        bounded = [torch.tanh(x[row, d]) * (n - 1) * (1 + 1e-3) / 2 for d, n in enumerate((3, 5))]
        best = min(grid, key=lambda point: sum((float(b) - p) ** 2 for b, p in zip(bounded, point)))
        assert quantized[row].tolist() == [best[0], best[1] / 2]
        assert index[row] == (best[0] + 1) + 3 * (best[1] + 2)


def test_the_gradient_is_that_of_the_bound():
    fsq, x = FSQ((4, 5)), torch.randn(6, 2, requires_grad=True)
    fsq(x)[0].sum().backward()
    got, x.grad = x.grad.clone(), None
    (fsq.bound(x) / (fsq.levels // 2)).sum().backward()
    assert torch.allclose(got, x.grad) and (got > 0).all()


def test_too_few_levels_are_refused():
    with pytest.raises(ValueError, match="at least 2"):
        FSQ((3, 1))
    with pytest.raises(ValueError, match="at least 2"):
        FSQ(())
