"""Spectral losses: zero for the same sound, larger for a worse one, gradients for both groups of the adversarial
game.
"""

import torch

from antiphon.train.codec.discriminators import StftDiscriminator
from antiphon.train.codec.losses import MultiScaleMel, adversarial_losses, discriminator_loss


def test_mel_distance_orders_sounds():
    torch.manual_seed(0)
    mel, sound = MultiScaleMel(24000), torch.sin(torch.arange(9600) * 0.1)[None]
    noise = torch.randn_like(sound)
    for distances in zip(*(map(float, mel(sound + level * noise, sound)) for level in (0.0, 0.01, 0.1, 1.0))):
        assert distances[0] == 0 and list(distances) == sorted(distances)


def test_plain_frequencies_tell_a_voice_from_noise_above_where_mel_bins_hardly_do():
    torch.manual_seed(0)
    time = torch.arange(24000) / 24000
    low, high = (
        sum(torch.cos(2 * torch.pi * 200 * h * time + h * h) for h in part)[None]
        for part in (range(1, 30), range(30, 59))
    )

    def hiss() -> torch.Tensor:
        spectrum = torch.fft.rfft(torch.randn(1, 24000))
        spectrum[:, :5900] = 0
        noise = torch.fft.irfft(spectrum)
        return low + noise * high.norm() / noise.norm() + 0.05 * torch.randn(1, 24000)

    voice, noise, other = low + high + 0.05 * torch.randn(1, 24000), hiss(), hiss()
    by_mel, plain = (MultiScaleMel(24000, (2048,), (bins,)) for bins in (120, 0))
    seen, heard = (float(each(noise, voice)[0] - each(noise, other)[0]) for each in (plain, by_mel))
    assert seen > 5 * heard > 0


def test_convergence_by_hand():
    sound = torch.sin(torch.arange(9600) * 0.1)[None]
    _, convergence = MultiScaleMel(24000)(1.5 * sound, sound)
    torch.testing.assert_close(convergence, torch.tensor(0.5), atol=1e-3, rtol=0)


def test_each_player_gets_gradients_for_its_own_aim():
    torch.manual_seed(0)
    judge = StftDiscriminator(windows=(64, 128), channels=4)
    made, real = torch.randn(2, 800, requires_grad=True), torch.randn(2, 800)
    losses = adversarial_losses(judge(made), judge(real))
    (losses["adversarial"] + losses["matching"]).backward()
    assert made.grad.abs().sum() > 0
    judge.zero_grad()
    loss = discriminator_loss(judge(made.detach())[0], judge(real)[0])
    loss.backward()
    for parameter in judge.parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all()
        assert parameter.ndim < 2 or parameter.grad.abs().sum() > 0


def test_hinge_by_hand():
    fake, real = [torch.tensor([[-2.0, 0.0]])], [torch.tensor([[0.5, 2.0]])]
    # made: relu(1 - 2) = 0, relu(1 + 0) = 1, mean 0.5; real: relu(0.5), relu(-1), mean 0.25
    torch.testing.assert_close(discriminator_loss(fake, real), torch.tensor(0.75))
