"""Tempo: the autocorrelation against a slow one, pieces against the whole, and that the tempo of clicks is learnt."""

from __future__ import annotations

import torch

from antiphon.models.scene.tempo import RATE, TempoConfig, TempoNet, autocorrelation


def test_the_autocorrelation_is_that_of_the_frames_that_count() -> None:
    x = torch.rand(2, 3, 40, dtype=torch.float64)
    heard = torch.tensor([40, 13])
    found = autocorrelation(x, heard)
    for row in range(2):
        own = x[row, :, 40 - int(heard[row]) :]
        own = own - own.mean(1, keepdim=True)
        for lag in range(20):
            pairs = own.shape[1] - lag
            if pairs < 0.25 * own.shape[1]:
                assert (found[row, :, lag] == 0).all()
                continue
            products = (own[:, : own.shape[1] - lag] * own[:, lag:]).sum(1) / pairs
            assert torch.allclose(found[row, :, lag], products / own.square().mean(1), atol=1e-4)


@torch.no_grad()
def test_pieces_give_what_the_whole_gives() -> None:
    torch.manual_seed(0)
    net = TempoNet(TempoConfig(bands=6, seconds=2.0)).eval()
    for frames in (50, 200, 333):
        mel = torch.randn(2, 6, frames)
        state = net.init_state(2)
        for piece in mel.split(37, 2):
            net.step(piece, state)
        assert torch.allclose(net.read(state), net(mel), atol=1e-4)


def clicks(tempi: torch.Tensor, frames: int) -> torch.Tensor:
    """Spectrograms with a click each beat and a noise floor."""
    mel = 0.1 * torch.rand(len(tempi), 6, frames)
    for row, tempo in enumerate(tempi.tolist()):
        places = (torch.arange(0, frames, 60 * RATE / tempo) + 3).long()
        mel[row, :, places[places < frames]] += 1
    return mel


def test_the_tempo_of_clicks_is_learnt_and_told_between_bins() -> None:
    torch.manual_seed(0)
    net = TempoNet(TempoConfig(bands=6, width=16, curves=2, seconds=6.0))
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(120):
        tempi = 60 * 2 ** (1.5 * torch.rand(16))
        loss = -(net.target(tempi) * net(clicks(tempi, 600)).log_softmax(-1)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    tempi = torch.tensor([71.3, 93.9, 128.0, 150.5])
    found, sure = net.tempo(net(clicks(tempi, 600)).detach())
    assert ((found / tempi - 1).abs() < 0.04).all(), found
    assert (sure > 0.3).all() and (sure <= 1).all()
