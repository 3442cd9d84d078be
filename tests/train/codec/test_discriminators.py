"""Discriminators: shapes, what they look at, gradients for both groups, and that they learn to tell sounds apart."""

import pytest
import torch
from torch.nn import functional as F

from antiphon.errors import ModelError
from antiphon.train.codec.discriminators import Discriminators, PeriodDiscriminator, StftDiscriminator
from antiphon.train.codec.losses import adversarial_losses, discriminator_loss

PERIOD = {"periods": (2, 3), "channels": (2, 4, 4)}
STFT = {"windows": (32, 64), "channels": 2}


def test_periods_fold_the_waveform_and_mirror_its_end():
    judge = PeriodDiscriminator((3,), (2, 2), kernel=1, stride=1)
    seen = []
    judge.towers[0][0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    audio = torch.arange(8.0)[None]
    judge(audio)
    assert torch.equal(seen[0][0, 0], torch.tensor([[0.0, 1, 2], [3, 4, 5], [6, 7, 6]]))


def test_a_tower_for_each_period_resolution_and_band():
    audio = torch.randn(2, 400)
    verdicts, features = PeriodDiscriminator((2, 3), (2, 4, 4))(audio)
    assert [v.shape[0] for v in verdicts] == [2, 2] and [v.shape[-1] for v in verdicts] == [2, 3]
    assert [len(f) for f in features] == [3, 3]
    assert len(StftDiscriminator((32, 64), 2)(audio)[0]) == 2
    verdicts, features = StftDiscriminator((32, 64), 2, bands=(0, 0.25, 1))(audio)
    assert len(verdicts) == len(features) == 4


def test_bands_divide_the_spectrum():
    judge = StftDiscriminator((64,), 2, bands=(0, 0.1, 0.5, 1))
    (slices,) = judge.slices
    assert slices[0][0] == 0 and slices[-1][1] == 33
    assert all(one[1] == other[0] for one, other in zip(slices, slices[1:]))


def test_spectrum_equals_torch_stft_and_compression_keeps_the_phase():
    audio = torch.randn(1, 256)
    judge = StftDiscriminator((64,), 2)
    theirs = torch.stft(audio, 64, 16, window=torch.hann_window(64), center=False, normalized=True, return_complex=True)
    ours = judge.spectrum(audio, 64)
    torch.testing.assert_close(torch.complex(ours[:, 0], ours[:, 1]).transpose(1, 2), theirs, atol=1e-5, rtol=0)
    small = StftDiscriminator((64,), 2, compress=0.3).spectrum(audio, 64)
    small = torch.complex(small[:, 0], small[:, 1]).transpose(1, 2)
    torch.testing.assert_close(small.abs(), theirs.abs().clamp_min(1e-4).pow(0.3), atol=2e-2, rtol=1e-3)
    turned = F.cosine_similarity(torch.view_as_real(small), torch.view_as_real(theirs), dim=-1)
    torch.testing.assert_close(turned, torch.ones(1, 33, 13), atol=1e-3, rtol=0)


@pytest.mark.parametrize("sizes", [{"period": PERIOD}, {"stft": STFT}, {"period": PERIOD, "stft": STFT}])
def test_each_player_gets_gradients(sizes):
    torch.manual_seed(0)
    judge = Discriminators(**sizes)
    made, real = torch.randn(2, 1, 400, requires_grad=True), torch.randn(2, 1, 400)
    losses = adversarial_losses(judge(made), judge(real))
    (losses["adversarial"] + losses["matching"]).backward()
    assert torch.isfinite(made.grad).all() and made.grad.abs().sum() > 0
    judge.zero_grad()
    discriminator_loss(judge(made.detach())[0], judge(real)[0]).backward()
    for name, parameter in judge.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.ndim < 2 or parameter.grad.abs().sum() > 0, name


def test_it_learns_to_tell_a_tone_from_noise():
    torch.manual_seed(0)
    judge = Discriminators(period=PERIOD, stft=STFT)
    optimizer = torch.optim.Adam(judge.parameters(), lr=5e-3)
    tone, noise = torch.sin(torch.arange(400) * 0.3).repeat(4, 1), torch.randn(4, 400)
    losses = []
    for _ in range(60):
        loss = discriminator_loss(judge(noise)[0], judge(tone)[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_two_channels_are_judged_apart():
    judge, audio = Discriminators(stft=STFT), torch.randn(2, 2, 300)
    together, alone = judge(audio)[0][0], judge(audio[:, 1])[0][0]
    torch.testing.assert_close(together[1::2], alone)


def test_what_makes_no_sense_is_said():
    with pytest.raises(ModelError, match="no discriminator"):
        Discriminators()
    with pytest.raises(ModelError, match="from 0 to 1"):
        StftDiscriminator(bands=(0.1, 1))
    with pytest.raises(ModelError, match="too few bins"):
        StftDiscriminator((16,), bands=(0, 0.01, 1))
    with pytest.raises(ModelError, match="window"):
        Discriminators(stft=STFT)(torch.randn(1, 1, 40))
    with pytest.raises(ModelError, match="frobs"):
        Discriminators(stft={"frobs": 1})
