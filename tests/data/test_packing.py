"""Packing: little padding, nothing lost; and what a model makes of a packed row is what it makes of each example."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from antiphon.data.formats.example import Example
from antiphon.data.packing import fill, pack, stack
from antiphon.errors import DataError
from antiphon.models.llm.llama import Llama, LlamaConfig, positions_within

TINY = LlamaConfig(
    hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
    vocab_size=50,
)  # fmt: skip


def examples(*lengths: int, seed: int = 0) -> list[Example]:
    rng = np.random.default_rng(seed)
    return [
        Example(rng.integers(1, 50, length), rng.choice([0.0, 0.5, 1.0], length).astype(np.float32))
        for length in lengths
    ]


def test_rows_are_filled_the_longest_first():
    assert fill([3, 9, 4, 5, 1], 10) == [[1, 4], [3, 2], [0]]


def test_nothing_is_lost_and_first_tokens_have_no_weight():
    given = examples(3, 9, 4, 5, 1)
    rows = pack(given, 10)
    found = {
        tuple(row.tokens[row.segments == number]): tuple(row.weights[row.segments == number])
        for row in rows
        for number in set(row.segments)
    }
    assert found == {tuple(example.tokens): (0.0, *example.weights[1:]) for example in given}
    assert all(len(row) <= 10 for row in rows) and len(rows) == 3


def test_grids_are_packed_along_their_frames():
    grids = [Example(np.arange(2 * n).reshape(2, n), np.ones(n, np.float32)) for n in (3, 2)]
    (row,) = pack(grids, 5)
    tokens, _, segments = stack([row, grids[0]], padding=-1)
    assert tokens.tolist() == [[[0, 1, 2, 0, 1], [3, 4, 5, 2, 3]], [[0, 1, 2, -1, -1], [3, 4, 5, -1, -1]]]
    assert segments.tolist() == [[1, 1, 1, 2, 2], [1, 1, 1, 0, 0]]


def test_an_example_that_is_too_long_is_told():
    with pytest.raises(DataError, match="an example of 11 tokens doesn't fit into rows of 10"):
        pack(examples(3, 11), 10)


def test_positions_start_anew_with_each_segment():
    assert positions_within(torch.tensor([[1, 1, 1, 2, 2, 0], [1, 2, 3, 3, 0, 0]])).tolist() == [
        [0, 1, 2, 0, 1, 0],
        [0, 0, 0, 1, 0, 1],
    ]


def loss_of(model: Llama, rows: list[Example]) -> torch.Tensor:
    tokens, weights, segments = stack(rows)
    hidden = model(model.embed(tokens[:, :-1]), segments=segments[:, :-1])
    losses = F.cross_entropy(model.logits(hidden).transpose(1, 2), tokens[:, 1:], reduction="none")
    return (losses * weights[:, 1:]).sum() / weights[:, 1:].sum()


def test_packed_is_unpacked_losses_and_gradients():
    torch.manual_seed(0)
    model, given = Llama(TINY), examples(7, 3, 12, 2, 9, 5, 1)
    packed = pack(given, 16)
    assert len(packed) < len(given)
    found = []
    for rows in (packed, given):
        model.zero_grad()
        loss = loss_of(model, rows)
        loss.backward()
        found.append((loss.detach(), [p.grad.clone() for p in model.parameters()]))
    (ours, gradients), (plain, others) = found
    assert torch.allclose(ours, plain, atol=1e-5)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(gradients, others))


def test_segments_of_a_whole_row_are_the_plain_forward():
    torch.manual_seed(0)
    model, tokens = Llama(TINY), torch.randint(50, (2, 9))
    plain = model(model.embed(tokens))
    assert torch.allclose(model(model.embed(tokens), segments=torch.ones_like(tokens)), plain, atol=1e-6)
