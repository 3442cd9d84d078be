"""Positions of mixed parts: as `transformers` computes them from tokens, and the same however they come."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
import torch

from antiphon.models.omni.positions import Part, Sound, Text, Video, tokens_in
from antiphon.models.omni.qwen3.positions import angles, interleaved, positions
from tests.models.omni import test_positions as other
from tests.models.omni.test_positions import AUDIO, HEAR, IMAGE, SEE, VIDEO, random_mix


def frames(tokens: int) -> int:
    """Mel frames of which the tower makes so many tokens."""
    whole, rest = divmod(tokens, 13)
    return 100 * whole + (8 * rest - 3 if rest else 0)


def expected(parts: list[Part], own_sound: bool, monkeypatch) -> torch.Tensor:
    from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import (
        Qwen3OmniMoePreTrainedModelForConditionalGeneration as Theirs,
    )

    config = SimpleNamespace(
        image_token_id=IMAGE, video_token_id=VIDEO, audio_token_id=AUDIO, vision_start_token_id=SEE,
        audio_start_token_id=HEAR, position_id_per_seconds=13, audio_config=SimpleNamespace(n_window=50),
    )  # fmt: skip
    model = SimpleNamespace(spatial_merge_size=2, config=config)
    model.get_llm_pos_ids_for_vision = Theirs.get_llm_pos_ids_for_vision.__get__(model)
    monkeypatch.setattr(other, "interleaved", interleaved)
    ids = torch.tensor([other.tokens(parts)])
    images = [[1, 2 * part.height, 2 * part.width] for part in parts if not isinstance(part, Text | Sound | Video)]
    videos = [part for part in parts if isinstance(part, Video)]
    grids = [[part.frames, 2 * part.height, 2 * part.width] for part in videos]
    sounding = [part for part in parts if isinstance(part, Sound | Video)]
    heard = [part.tokens if isinstance(part, Sound) else part.sound for part in sounding]
    lengths = [frames(count) for count in heard if count is not None]
    found, _ = Theirs.get_rope_index(
        model, ids, torch.tensor(images) if images else None, torch.tensor(grids) if grids else None,
        torch.ones_like(ids), own_sound, torch.tensor(lengths) if lengths else None,
        torch.tensor([part.seconds for part in videos]) if videos else None,
    )  # fmt: skip
    return found[:, 0]


def check(seeds: range, monkeypatch) -> None:
    for seed in seeds:
        own_sound = bool(seed % 2)
        parts = random_mix(random.Random(seed), own_sound)
        found, after = positions(parts)
        assert torch.equal(found, expected(parts, own_sound, monkeypatch)), (seed, parts)
        assert found.shape[1] == sum(tokens_in(part) for part in parts)
        next_one, singly = 0.0, []
        for part in parts:
            new, next_one = positions([part], next_one)
            singly.append(new)
        assert torch.equal(torch.cat(singly, dim=1), found) and next_one == after


def test_random_mixes_stand_where_transformers_puts_them_and_come_one_by_one(monkeypatch):
    check(range(100), monkeypatch)


@pytest.mark.slow
def test_a_thousand_random_mixes_stand_where_transformers_puts_them(monkeypatch):
    check(range(100, 1100), monkeypatch)


def test_a_video_and_its_sound_take_turns_by_their_times():
    video = Video(2, 1, 2, seconds=0.5, sound=9)
    assert interleaved(video) == [(False, 0, 2), (True, 0, 7), (False, 2, 4), (True, 7, 9)]
    found, after = positions([Text(1), video])
    assert found[0].tolist() == [0, 1, 2, 3, 3, *range(3, 10), 9.5, 9.5, 10, 11, 12, 13]
    assert after == 14


def test_angles_follow_time_height_and_width_by_turns():
    places = torch.tensor([[1.0], [10.0], [100.0]])
    found = angles(places, torch.ones(7), (3, 2, 2))
    assert found.tolist() == [[1.0, 10.0, 100.0, 1.0, 10.0, 100.0, 1.0]]
