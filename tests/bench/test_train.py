"""The bench of training: both sides compute the same, and learn from as many tokens as they say."""

import dataclasses

import numpy as np
import pytest
import torch

from antiphon.bench import train_peers
from antiphon.bench.train import TrainBenchConfig, _same, measure, pairs, token_losses
from antiphon.data.packing import pack, stack
from antiphon.errors import EvalError
from antiphon.models.llm.llama import Llama, own_key

TINY = TrainBenchConfig(width=64, layers=1, vocabulary=50, batch=2, shortest=4, longest=12, steps=2, rounds=1)


def test_pairs_share_their_prompts_and_answers_alone_are_learnt():
    chosen, rejected = pairs(TINY, range(3))
    for better, worse in zip(chosen, rejected):
        assert np.array_equal(better.tokens[:4], worse.tokens[:4]) and not better.weights[:4].any()
        assert better.weights[4:].all() and len(better) >= 6
        assert better.tokens.shape != worse.tokens.shape or not np.array_equal(better.tokens, worse.tokens)


def test_packed_rows_give_the_loss_that_padded_ones_give_a_transformers_model():
    torch.manual_seed(0)
    theirs, ours = train_peers.llama(TINY.sizes), Llama(TINY.sizes)
    ours.load_state_dict({own_key(k): v for k, v in theirs.state_dict().items() if not k.startswith("lm_head")})
    examples = [TINY.example(number) for number in range(5)]
    loss = token_losses(ours, stack(pack(examples, 24)))[0].mean()
    _same(loss, train_peers.lm_loss(theirs, examples))
    with pytest.raises(EvalError, match="don't compute the same"):
        _same(loss + 0.01, train_peers.lm_loss(theirs, examples))


@pytest.mark.slow
@pytest.mark.parametrize(("group", "names"), [("lm", {"lm"}), ("dpo", {"dpo", "dpo-reference-kept"})])
def test_both_sides_run(group, names):
    if group == "dpo":
        pytest.importorskip("trl")
    found = measure({"group": group, "config": dataclasses.asdict(TINY)})
    assert set(found) == names
    assert all(len(side) == 1 and side[0] > 0 for sides in found.values() for side in sides)
