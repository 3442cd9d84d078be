"""The thinker's layers: what the talker reads of them, and pictures told in depth."""

from __future__ import annotations

import pytest
import torch

from antiphon.models.omni import weights
from tests.models.omni.qwen3.tiny import conversation, inputs, theirs


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    model, folder = theirs(), tmp_path_factory.mktemp("omni")
    model.save_pretrained(folder)
    return weights.load(folder).thinker, model


@torch.no_grad()
@pytest.mark.parametrize("accepted", [0, 1, 3, 4])
def test_what_layers_gave_is_what_transformers_tells(pair, accepted):
    """As `transformers` tells it: before a picture's depth is added, and normed where it is the last."""
    ours, model = pair
    for seed in (5, 8, 9):
        parts, own_sound = conversation(seed)
        read = ours.read(parts)
        hidden, found = ours.thought(read.x[None], read.places[:, None], accepted=accepted)
        told = model.thinker(**inputs(model, parts, own_sound), output_hidden_states=True).hidden_states
        assert read.perceived.any() and (found - told[accepted]).abs().max() < 1e-4
        assert (hidden - told[-1]).abs().max() < 1e-4


@torch.no_grad()
def test_depth_matters_and_words_have_none(pair):
    ours, _ = pair
    read = ours.read(conversation(8)[0])
    shallow = read.x[:, : ours.width]
    assert not read.x[~read.perceived, ours.width :].any() and read.x[:, ours.width :].any()
    whole, flat = (ours(x[None], read.places[:, None]) for x in (read.x, shallow))
    assert not torch.allclose(whole, flat, atol=1e-2)
    words = ~read.perceived.cumsum(0).bool()  # before anything was seen
    assert torch.allclose(whole[0, words], flat[0, words], atol=1e-5)


@torch.no_grad()
def test_pieces_are_read_as_the_whole(pair):
    ours, _ = pair
    read = ours.read(conversation(5)[0])
    whole, accepted = ours.thought(read.x[None], read.places[:, None], accepted=2)
    cache, found = ours.language_model.init_cache(), []
    for x, places in zip(read.x.split(9), read.places.split(9, dim=1)):
        found.append(ours.thought(x[None], places[:, None], cache, accepted=2))
    assert torch.allclose(torch.cat([hidden for hidden, _ in found], dim=1), whole, atol=1e-4)
    assert torch.allclose(torch.cat([told for _, told in found], dim=1), accepted, atol=1e-4)
