"""The talker: what it reads first, a frame's other codes, and marks that are never spoken."""

from __future__ import annotations

import pytest
import torch

from antiphon.models.llm.sampling import TokenSampling
from antiphon.models.omni import weights
from tests.models.omni.qwen3.tiny import theirs


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    model, folder = theirs(), tmp_path_factory.mktemp("omni")
    model.save_pretrained(folder)
    return weights.load(folder).talker, model


@torch.no_grad()
def test_it_begins_as_transformers_lays_it_out(pair):
    ours, model = pair
    said, marks = torch.randn(1, 9, 32), torch.randn(1, 3, 32)
    bos, end, pad = (model.talker.text_projection(mark) for mark in marks.split(1, dim=1))
    wanted, _, trailing = model._get_talker_assistant_parts(0, 9, 1090, said, pad, bos, end)
    begun = ours.begin(said[0, :3], said[0, 3], 1090, marks[0, 0], marks[0, 2])
    assert (begun - wanted[0]).abs().max() < 1e-4
    codes = (3, 4, 5, 6, 7)
    summed = model.talker.model.codec_embedding(torch.tensor([3]))
    for table, code in zip(model.talker.code_predictor.model.codec_embedding, codes[1:]):
        summed = summed + table(torch.tensor([code]))
    assert (ours.next(codes, said[0, 4]) - (summed + trailing[0, 0])).abs().max() < 1e-4
    perceived = torch.tensor([False, True] * 4 + [False])
    hidden = torch.randn(1, 9, 32)
    asked = model._get_talker_user_parts(0, 9, perceived[None], hidden, said)
    assert (ours.asked(said[0], hidden[0], perceived) - asked[0]).abs().max() < 1e-4


@torch.no_grad()
def test_other_codes_of_a_frame_are_those_of_transformers(pair):
    ours, model = pair
    for first in range(20):
        hidden = torch.randn(16)
        x = torch.stack([hidden, model.talker.model.codec_embedding.weight[first]])[None]
        made = model.talker.code_predictor.generate(inputs_embeds=x, max_new_tokens=4, do_sample=False)
        assert ours.frame(hidden, first, TokenSampling()) == (first, *made[0].tolist())


@torch.no_grad()
def test_draws_of_a_frame_follow_from_the_seed_and_its_number(pair):
    ours, _ = pair
    hidden, how = torch.randn(16), TokenSampling(temperature=3.0, seed=4)
    frames = [ours.frame(hidden, 7, how, number) for number in (0, 0, *range(1, 6))]
    assert frames[0] == frames[1] and len(set(frames)) > 3


@torch.no_grad()
def test_step_by_step_is_as_at_once(pair):
    ours, model = pair
    x, places = torch.randn(1, 20, 16), torch.arange(20.0).expand(3, 1, 20)
    whole = ours(x, places)
    wanted = model.talker.model(inputs_embeds=x, position_ids=places).last_hidden_state
    assert (whole - wanted).abs().max() < 1e-4
    cache = ours.lm.init_cache()
    steps = [ours(x[:, at : at + 1], places[..., at : at + 1], cache) for at in range(20)]
    assert (torch.cat(steps, dim=1) - whole).abs().max() < 1e-4


@torch.no_grad()
def test_marks_are_out_of_the_question_but_the_end(pair):
    logits = pair[0].logits(torch.randn(3, 16))
    possible = logits.isfinite().any(0).nonzero().flatten().tolist()
    assert possible == [*range(1100 - 1024), 1080]
