"""Semantic distillation: pooling and losses by hand, gradients, and that a codebook learns what the teacher hears."""

import pytest
import torch
from torch.nn import functional as F

from antiphon.errors import ModelError
from antiphon.nn.quantize import SplitQuantizer
from antiphon.train.codec.distil import Distillation, pool
from antiphon.train.codec.fit import phone_information


def test_pooling_by_hand():
    x = torch.arange(8.0)[None, :, None]
    assert pool(x, 50, 12.5, 2).flatten().tolist() == [1.5, 5.5]
    # Mimi's window is twice the stride; at the edges it has what there is.
    assert pool(x, 50, 12.5, 2, span=2).flatten().tolist() == [2.5, 4.5]
    # 50 to 75 a second: a third of a frame later each time, cut where frames meet
    torch.testing.assert_close(pool(x, 50, 75, 3).flatten(), torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(pool(x, 50, 40, 2).flatten(), torch.tensor([0.2, 1.4]), atol=1e-6, rtol=0)


def test_pooling_equals_mimi_s_average_pool_inside():
    x = torch.randn(2, 40, 3)
    theirs = F.avg_pool1d(x.transpose(1, 2), 8, 4, padding=2).transpose(1, 2)
    torch.testing.assert_close(pool(x, 50, 12.5, 10, span=2)[:, 1:-1], theirs[:, 1:-1])


def test_the_last_feature_lasts():
    assert pool(torch.tensor([[[1.0], [3.0]]]), 50, 50, 4).flatten().tolist() == [1.0, 3.0, 3.0, 3.0]


def test_losses_by_hand():
    made = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    target = torch.tensor([[[1.0, 0.0], [0.0, -1.0]]])
    for kind, expected in (("frames", (0 + 2) / 2), ("dimensions", (0.31326 + 1.31326) / 2)):
        loss = Distillation(2, 2, kind, decay=0.0)
        torch.nn.init.eye_(loss.project.weight)
        torch.nn.init.zeros_(loss.project.bias)
        assert loss(made, target).item() == pytest.approx(expected, abs=1e-4)
    with pytest.raises(ModelError, match="frames or dimensions"):
        Distillation(2, 2, "hertz")


def test_features_are_standardised_by_their_running_moments():
    loss, target = Distillation(2, 3, decay=0.5), torch.randn(4, 200, 3) * torch.tensor([0.1, 1.0, 50.0]) + 7
    standard = loss._standard(target)
    torch.testing.assert_close(standard.mean((0, 1)), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(standard.std((0, 1)), torch.ones(3), atol=2e-2, rtol=0)
    before = loss.moments.clone()
    loss.eval()._standard(target * 3)
    assert torch.equal(before, loss.moments)


def test_the_first_codebook_learns_what_the_teacher_hears():
    """Loud directions of the latents tell nothing, a quiet one tells the phone: distillation finds it."""
    shares = {}
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        quantizer, encoder = SplitQuantizer(4, 4, 1, 1, 8), torch.nn.Linear(4, 4)
        loss = Distillation(4, 6)
        parts = torch.nn.ModuleList([quantizer, encoder, loss])
        optimizer, table = torch.optim.Adam(parts.parameters(), lr=0.02), torch.randn(4, 6)
        for _ in range(150):
            phones = torch.randint(4, (4, 32))
            x = torch.randn(4, 32, 4) * torch.tensor([1.0, 1.0, 1.0, 0.1])
            x[..., 3] += 0.2 * phones - 0.3
            quantized = quantizer.quantized(encoder(x))
            optimizer.zero_grad()
            (weight * loss(quantized.first, table[phones]) + quantized.commitment).backward()
            optimizer.step()
        shares[weight] = phone_information(quantized.codes[:, 0].flatten(), phones.flatten())
        assert (quantizer.acoustic.inward.weight.grad.abs().sum() > 0) and encoder.weight.grad.abs().sum() > 0
    assert shares[1.0] > shares[0.0] + 0.2
