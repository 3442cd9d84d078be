"""The network of turns: live and whole agree, it learns, it is saved and read."""

from __future__ import annotations

import json

import pytest
import torch
from torch.nn import functional as F

from antiphon.errors import ModelError
from antiphon.models.turns.network import DECISIONS, FRAME, TurnConfig, TurnNetwork, frames_of

TINY = TurnConfig(width=8, hidden=8, depth=2, dropout=0.0)


def sound(seconds: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    samples = 0.1 * torch.randn(round(16000 * seconds), generator=generator)
    return samples * (torch.sin(torch.arange(len(samples)) / 1500) > 0)


@pytest.mark.parametrize("sizes", [(FRAME,), (1, 700, 4000, 160)])
def test_as_it_comes_it_decides_what_it_decides_of_the_whole(sizes):
    torch.manual_seed(0)
    network, samples = TurnNetwork(TINY).eval(), sound(2.0)
    hops, voice = frames_of(samples)
    whole = network(hops[None], voice[None], torch.ones(1, len(hops)))[0].softmax(-1)
    state, found, at = network.init_state(), [], 0
    while at < len(samples):
        size = sizes[len(found) % len(sizes)]
        found.append(network.step(samples[at : at + size], True, state))
        at += size
    chances, voices = (torch.cat(each) for each in zip(*found))
    assert len(chances) == len(whole) == 25
    assert torch.allclose(chances, whole, atol=1e-5) and torch.allclose(voices, voice, atol=1e-5)


def test_a_decision_comes_with_its_frame_and_sees_nothing_after_it():
    network = TurnNetwork(TINY).eval()
    one, other = sound(1.0), sound(1.0)
    other[8 * FRAME :] = 0.5
    first, second = (
        network.step(each, False, network.init_state())[0] for each in (one[: 9 * FRAME], other[: 9 * FRAME])
    )
    assert len(first) == 9 and torch.equal(first[:8], second[:8])


def test_every_weight_learns_and_one_conversation_can_be_learnt():
    torch.manual_seed(0)
    network = TurnNetwork(TurnConfig(width=16, hidden=16, depth=1, dropout=0.0))
    hops, voice = frames_of(sound(2.0))
    own = (torch.arange(len(hops)) > 12).float()
    wanted = torch.arange(len(hops)) // 5 % len(DECISIONS)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.02)
    for step in range(150):
        loss = F.cross_entropy(network(hops[None], voice[None], own[None])[0], wanted)
        optimizer.zero_grad()
        loss.backward()
        if not step:
            for name, each in network.named_parameters():
                assert each.grad is not None and each.grad.isfinite().all() and each.grad.abs().sum() > 0, name
        optimizer.step()
    assert loss < 0.1


def test_what_was_saved_is_read(tmp_path):
    network = TurnNetwork(TINY).eval()
    network.save(tmp_path)
    again, samples = TurnNetwork.from_pretrained(tmp_path), sound(1.0)
    one, other = (each.step(samples, False, each.init_state())[0] for each in (network, again))
    assert torch.allclose(one, other, atol=1e-2) and again.config == TINY


@pytest.mark.parametrize("changed", [{"family": "other"}, {"decisions": ["go"]}, {"hidden": 9}, {"size": 3}])
def test_another_folder_is_refused(tmp_path, changed):
    TurnNetwork(TINY).save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changed))
    with pytest.raises(ModelError, match=str(tmp_path)):
        TurnNetwork.from_pretrained(tmp_path)
