from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from antiphon.data.formats.formats import Interleaving, Weights, interleaved, prompt, speech, speech_to_text, undo
from antiphon.data.formats.item import Item, Word
from antiphon.models.llm.sampling import TokenSampling
from antiphon.models.speech_lm.generate import generate
from antiphon.models.speech_lm.vocabulary import NOTHING
from tests.models.speech_lm.tiny import speech_lm


@torch.no_grad()
def test_a_row_gets_in_a_batch_what_it_gets_alone_and_without_a_cache():
    model = speech_lm()
    prompts = [speech(Item(np.arange(n)), model).tokens[:-1] for n in (9, 4, 12)]
    together = generate(model, prompts, 10)
    for given, row in zip(prompts, together):
        assert (generate(model, [given], 10)[0] == row).all()
        tokens = given
        for token in row:
            in_text = bool(model.vocabulary.in_text(torch.from_numpy(tokens))[-1])
            logits = model.logits(model(torch.from_numpy(tokens)[None])[0, -1], 0, in_text)
            assert int(logits.argmax()) + model.vocabulary.head(0, in_text).start == token
            tokens = np.append(tokens, token)


def learnt(model, example):
    tokens, weights = torch.from_numpy(example.tokens)[None], torch.from_numpy(example.weights)[None]
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        (model.losses(tokens, weights).sum() / weights[:, 1:].sum()).backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("codebooks", [1, 2, 3])
def test_what_was_learnt_by_heart_is_said(codebooks):
    """Teacher-forced training and generation agree on tags, delays and ends, in grids of one to three streams."""
    torch.manual_seed(0)
    codes = np.random.default_rng(0).integers(0, 20, (codebooks, 8))
    codes = codes if codebooks > 1 else codes[0]
    said = Item(codes, "the cat sat", (Word("the", 0, 2), Word("cat", 2, 5), Word("sat", 5, 8)))
    model = speech_lm(codebooks=codebooks, deduplicated=codebooks == 1)
    whole = speech_to_text(said, model)
    (text,) = generate(learnt(model, whole), [prompt(said, model, ("T",))], 20)
    assert [part.text for part in undo(text, model)] == ["the cat sat"]
    whole = interleaved(said, model, Interleaving((2, 2), (1, 1), "speech"), random.Random(0), Weights())
    (rest,) = generate(learnt(model, whole), [whole.tokens[..., :2]], 20)
    parts = undo(np.concatenate((whole.tokens[..., :2], rest), -1), model)
    assert (parts[0].units == said.units[..., :5]).all() and [part.text for part in parts[1:]] == ["sat"]
    whole = speech(said, model)
    (rest,) = generate(learnt(model, whole), [whole.tokens[..., :1]], 20)
    (part,) = undo(rest, model)
    assert (part.units == said.units).all()


def test_the_seed_decides_and_the_number_of_tokens_is_kept():
    model = speech_lm(codebooks=2, deduplicated=False)
    given = [prompt(Item(np.zeros((2, 3), np.int64)), model, ())] * 2
    one, two = generate(model, given, 6, TokenSampling(temperature=1.0, seed=3), stop=())
    (again,) = generate(model, given[:1], 6, TokenSampling(temperature=1.0, seed=4), stop=())
    assert one.shape[1] <= 7 and not np.array_equal(one, two) and np.array_equal(two, again)
    assert (one[0, :6] != NOTHING).any()
