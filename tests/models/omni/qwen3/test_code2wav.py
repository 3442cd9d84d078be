"""Codes to sound: what `transformers` makes of them, whole or as they come."""

from __future__ import annotations

import pytest
import torch

from antiphon.errors import ModelError
from antiphon.models.omni import weights
from antiphon.nn.state import fork
from tests.models.omni.qwen3.tiny import theirs


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    model, folder = theirs(), tmp_path_factory.mktemp("omni")
    model.save_pretrained(folder)
    return weights.load(folder).token2wav, model.code2wav


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 4, 60])
def test_sound_is_that_of_transformers(pair, frames):
    ours, model = pair
    codes = torch.randint(80, (2, 5, frames))
    found, wanted = ours(codes), model(codes)[:, 0]
    assert found.shape == wanted.shape and wanted.std() > 0.1
    assert (found - wanted).abs().max() < 1e-4


@torch.no_grad()
@pytest.mark.parametrize("sizes", [[1] * 60, [2, 0, 7, 51], [60]])
def test_pieces_of_any_size_give_what_the_whole_gives(pair, sizes):
    ours, _ = pair
    codes = torch.randint(80, (2, 5, 60))
    state = ours.init_state(2)
    sound = [ours.step(piece, state) for piece in codes.split(sizes, dim=2)]
    whole = ours(codes)
    assert sound[0].numel() and torch.cat(sound, dim=1).shape == whole.shape
    assert (torch.cat(sound, dim=1) - whole).abs().max() < 1e-4


@torch.no_grad()
def test_a_copy_of_a_stream_goes_its_own_way(pair):
    ours, _ = pair
    first, second, other = torch.randint(80, (3, 1, 5, 9))
    state = ours.init_state()
    ours.step(first, state)
    copy = fork(state)
    changed = ours.step(other, copy)
    sound = ours.step(second, state)
    assert torch.allclose(sound, ours(torch.cat([first, second], 2))[:, -sound.shape[1] :], atol=1e-4)
    assert not torch.allclose(sound, changed, atol=1e-2)


def test_gradients_reach_all_of_it(pair):
    ours = pair[0]
    for parameter in ours.parameters():
        parameter.requires_grad_(True)
    ours(torch.randint(80, (1, 5, 12))).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in ours.parameters())
    ours.requires_grad_(False)


def test_codes_of_other_codebooks_are_refused(pair):
    with pytest.raises(ModelError, match="codes of 3 codebooks are given, and there are 5"):
        pair[0](torch.zeros(1, 3, 4, dtype=torch.long))
