"""Positions of mixed parts: as `transformers` computes them from tokens, and the same however they come."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
import torch

from antiphon.models.omni.positions import (
    Image,
    Part,
    Sound,
    Text,
    Video,
    angles,
    chunks,
    interleaved,
    positions,
    tokens_in,
)

TEXT, IMAGE, VIDEO, AUDIO, SEE, SEEN, HEAR, HEARD = range(8)


def random_mix(chance: random.Random, own_sound: bool) -> list[Part]:
    """Videos all have their own sound, or none has: `transformers` knows no mix of the two."""
    parts: list[Part] = []
    for _ in range(chance.randint(1, 6)):
        parts.append(Text(chance.randint(1, 9)))
        kind = chance.choice(["image", "video", "sound", "text"])
        if kind == "image":
            parts.append(Image(chance.randint(1, 6), chance.randint(1, 6)))
        elif kind == "sound":
            parts.append(Sound(chance.randint(1, 130)))
        elif kind == "video":
            sound = chance.randint(1, 260) if own_sound else None
            seconds = chance.choice([0.5, 0.4, 1.0, 1.0 / 3, 0.7, 2.0, 3.7])
            size = (chance.randint(1, 9), chance.randint(1, 5), chance.randint(1, 5))
            parts.append(Video(*size, seconds, sound))
    return [*parts, Text(chance.randint(1, 9))]


def tokens(parts: list[Part]) -> list[int]:
    ids = []
    for part in parts:
        if isinstance(part, Text):
            ids += [TEXT] * part.tokens
        elif isinstance(part, Sound):
            ids += [HEAR, *[AUDIO] * part.tokens, HEARD]
        elif isinstance(part, Image):
            ids += [SEE, *[IMAGE] * (part.height * part.width), SEEN]
        elif part.sound is None:
            ids += [SEE, *[VIDEO] * (part.frames * part.height * part.width), SEEN]
        else:
            inside = [AUDIO if sound else VIDEO for sound, a, b in interleaved(part) for _ in range(b - a)]
            ids += [SEE, HEAR, *inside, HEARD, SEEN]
    return ids


def expected(parts: list[Part], own_sound: bool) -> torch.Tensor:
    from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import (
        Qwen2_5OmniPreTrainedModelForConditionalGeneration as Theirs,
    )

    model = SimpleNamespace(
        spatial_merge_size=2,
        config=SimpleNamespace(
            image_token_id=IMAGE, video_token_id=VIDEO, audio_token_id=AUDIO, vision_start_token_id=SEE,
            audio_start_token_id=HEAR, position_id_per_seconds=25, seconds_per_chunk=2,
        ),
    )  # fmt: skip
    for name in ("get_llm_pos_ids_for_vision", "get_chunked_index"):
        setattr(model, name, getattr(Theirs, name).__get__(model))
    images = [[1, 2 * part.height, 2 * part.width] for part in parts if isinstance(part, Image)]
    videos = [part for part in parts if isinstance(part, Video)]
    grids = [[part.frames, 2 * part.height, 2 * part.width] for part in videos]
    heard = []
    for part in parts:
        if isinstance(part, Sound):
            heard.append(part.tokens)
        elif isinstance(part, Video) and part.sound is not None:
            heard.append(part.sound)
    ids = torch.tensor([tokens(parts)])
    found, _ = Theirs.get_rope_index(
        model, ids, torch.tensor(images) if images else None, torch.tensor(grids) if grids else None,
        torch.ones_like(ids), own_sound, torch.tensor([4 * n for n in heard]) if heard else None,
        torch.tensor([part.seconds for part in videos]) if videos else None,
    )  # fmt: skip
    return found[:, 0]


def check(seeds: range) -> None:
    for seed in seeds:
        chance = random.Random(seed)
        own_sound = bool(seed % 2)
        parts = random_mix(chance, own_sound)
        found, after = positions(parts)
        assert torch.equal(found, expected(parts, own_sound)), (seed, parts)
        assert found.shape[1] == sum(map(tokens_in, parts))
        next_one, singly = 0, []
        for part in parts:
            new, next_one = positions([part], next_one)
            singly.append(new)
        assert torch.equal(torch.cat(singly, dim=1), found)
        assert next_one == after


def test_random_mixes_stand_where_transformers_puts_them_and_come_one_by_one():
    check(range(100))


@pytest.mark.slow
def test_a_thousand_random_mixes_stand_where_transformers_puts_them():
    check(range(100, 1100))


def test_a_video_stands_at_its_times_and_its_sound_beside_it():
    found, after = positions([Text(2), Video(3, 1, 2, seconds=1.0, sound=60)])
    assert found[0].tolist()[:4] == [0, 1, 2, 2]
    runs = interleaved(Video(3, 1, 2, seconds=1.0, sound=60))
    assert runs == [(False, 0, 4), (True, 0, 50), (False, 4, 6), (True, 50, 60)]
    assert found[:, 4:8].tolist() == [[3, 3, 28, 28], [3, 3, 3, 3], [3, 4, 3, 4]]
    assert found[0, 8:58].tolist() == list(range(3, 53)) and found[0, 58:60].tolist() == [53, 53]
    assert after == 64 and found[:, -1].tolist() == [63, 63, 63]


def test_cuts_lag_behind_frames_that_are_far_apart():
    assert chunks([0, 0, 120, 120], 50) == [(0, 2), (2, 3), (3, 4)]
    assert chunks([], 50) == [(0, 0)]


def test_angles_follow_time_height_and_width_in_sections():
    places = torch.tensor([[1], [10], [100]])
    found = angles(places, torch.tensor([1.0, 0.5, 0.25, 0.125]), (1, 2, 1))
    assert found.tolist() == [[1.0, 5.0, 2.5, 12.5]]
