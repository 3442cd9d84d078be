"""The transformer: in pieces equals whole, each row at its own position; rotations, grouped heads, earlier names."""

import math
import random
from dataclasses import replace

import pytest
import torch

from antiphon.nn.state import fork, join, select, tensors
from antiphon.nn.transformer import (
    Transformer,
    TransformerConfig,
    halves,
    neighbours,
    renamed,
    rotate,
    rotations,
)

SMALL = TransformerConfig(dim=8, heads=2, inner=12, layers=2, window=5)
MIMI = replace(SMALL, norm="layer", gated=False, layer_scale=0.5, last_norm=False, max_piece=3)
KINDS = {
    "moshi": SMALL,
    "grouped": replace(SMALL, heads=4, kv_heads=2),
    "one key head": replace(SMALL, heads=4, kv_heads=1, max_piece=4, rope_halves=True),
    "talker": replace(SMALL, rope_halves=True, window=50),
    "mimi": MIMI,
    "no memory": replace(MIMI, window=1),
}


def made(config: TransformerConfig) -> Transformer:
    torch.manual_seed(0)
    return Transformer(config).eval()


@torch.no_grad()
def slow(model: Transformer, x: torch.Tensor) -> torch.Tensor:
    """As the formulas stand in the papers, one query at a time."""
    config = model.config
    heads, kv_heads, width = config.heads, config.kv_heads or config.heads, config.dim // config.heads
    for layer in model.layers:
        y = layer.project(layer.norm_attention(x)).unflatten(-1, (heads + 2 * kv_heads, width))
        turns = rotations(torch.arange(y.shape[1]), model.frequencies)
        y = [rotate(y[:, t], turn, config.rope_halves) for t, turn in enumerate(turns)]
        values = layer.project(layer.norm_attention(x)).unflatten(-1, (heads + 2 * kv_heads, width))[:, :, -kv_heads:]
        rows = []
        for t in range(x.shape[1]):
            seen = range(max(0, t - config.window + 1), t + 1)
            parts = []
            for head in range(heads):
                group = head // (heads // kv_heads)
                scores = torch.stack([(y[t][:, head] * y[s][:, heads + group]).sum(-1) for s in seen], -1)
                share = (scores / width**0.5).softmax(-1)
                parts.append(sum(share[:, n, None] * values[:, s, group] for n, s in enumerate(seen)))
            rows.append(torch.cat(parts, -1))
        mixed = layer.out(torch.stack(rows, 1))
        x = x + (mixed * layer.scale_attention if layer.scaled else mixed)
        hidden = layer.norm_mlp(x)
        if config.gated:
            gate, up = layer.gate_up(hidden).chunk(2, -1)
            made = layer.down(torch.nn.functional.silu(gate) * up)
        else:
            made = layer.down(torch.nn.functional.gelu(layer.up(hidden)))
        x = x + (made * layer.scale_mlp if layer.scaled else made)
    return model.norm(x)


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_is_what_the_formulas_say(kind):
    model, x = made(KINDS[kind]), torch.randn(2, 13, 8)
    torch.testing.assert_close(model(x), slow(model, x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trial", range(5))
def test_rows_come_and_go_in_pieces_and_get_what_each_gets_alone(kind, trial):
    model, draw = made(KINDS[kind]), random.Random(trial)
    x = torch.randn(4, 40, 8, generator=torch.Generator().manual_seed(trial))
    with torch.no_grad():
        whole, at, rows, found = model(x), [0] * 4, [], [[] for _ in range(4)]
        state, coming = model.init_state(0), list(range(4))
        while coming or rows:
            if coming and draw.random() < 0.5:
                rows.append(coming.pop())
                state = join([state, model.init_state(1)])
            draw.shuffle(places := list(range(len(rows))))
            state, rows = select(state, places), [rows[place] for place in places]
            size = min([draw.choice((0, 1, 1, 2, 3, 7, 12)), *(40 - at[row] for row in rows)])
            pieces = [x[row, at[row] : at[row] + size] for row in rows]
            piece = torch.stack(pieces) if rows else torch.zeros(0, size, 8)
            model.step(torch.randn_like(piece), fork(state))  # a future that isn't gone on with
            for row, y in zip(rows, model.step(piece, state)):
                found[row].append(y)
                at[row] += size
            stay = [place for place, row in enumerate(rows) if at[row] < 40]
            state, rows = select(state, stay), [rows[place] for place in stay]
    for row in range(4):
        torch.testing.assert_close(torch.cat(found[row]), whole[row], atol=1e-5, rtol=1e-4)


def test_the_state_never_grows():
    model = made(MIMI)
    state = model.init_state(3)
    sizes = {sum(t.numel() for t in tensors(state))}
    for time in (1, 3, 20, 1):
        model.step(torch.randn(3, time, 8), state)
        sizes.add(sum(t.numel() for t in tensors(state)))
    assert len(sizes) == 1 and state.position.tolist() == [25, 25, 25]


def test_a_stream_may_begin_in_inference_mode():
    model, x = made(SMALL), torch.randn(1, 8, 8)
    with torch.inference_mode():
        state = model.init_state()
        first = model.step(x[:, :3], state)
    with torch.no_grad():
        rest = [model.step(x[:, t : t + 1], state) for t in range(3, 8)]
        torch.testing.assert_close(torch.cat([first, *rest], 1), model(x), atol=1e-5, rtol=1e-4)


def test_every_parameter_learns():
    for config in KINDS.values():
        model = made(config).train()
        model(torch.randn(2, 9, 8)).square().sum().backward()
        for name, parameter in model.named_parameters():
            if config.window > 1 or "project" not in name:  # alone with itself, an input has nothing to choose
                assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_half_precision_keeps_the_norms_in_float32():
    model, x = made(SMALL).bfloat16(), 300 * torch.randn(1, 6, 8)
    with torch.no_grad():
        y = model(x.bfloat16())
        state = model.init_state()
        pieces = [model.step(x[:, t : t + 1].bfloat16(), state) for t in range(6)]
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(torch.cat(pieces, 1), y, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("which", [True, False])
def test_rotation_by_hand_and_scores_that_depend_on_distance_alone(which):
    turn = rotations(torch.tensor(2), torch.ones(1))
    expected = torch.tensor([math.cos(2.0), math.sin(2.0)])
    torch.testing.assert_close(rotate(torch.tensor([1.0, 0.0]), turn, which), expected)
    q, k, frequencies = torch.randn(8), torch.randn(8), made(replace(SMALL, dim=16)).frequencies

    def score(one: int, other: int) -> torch.Tensor:
        turned = [rotate(x, rotations(torch.tensor(p), frequencies), which) for x, p in ((q, one), (k, other))]
        return (turned[0] * turned[1]).sum()

    torch.testing.assert_close(score(5, 3), score(105, 103), atol=1e-4, rtol=1e-4)


def test_rows_can_be_put_in_order_for_either_rotation():
    paired = made(SMALL)
    weight = paired.layers[0].project.weight.data
    assert torch.equal(neighbours(halves(weight, 6), 6), weight)
    parted, x = made(replace(SMALL, rope_halves=True)), torch.randn(1, 7, 8)
    for one, other in zip(paired.layers, parted.layers):
        q, k, v = one.project.weight.data.chunk(3)
        other.project.weight.data.copy_(torch.cat([halves(q, 2), halves(k, 2), v]))
    torch.testing.assert_close(parted(x), paired(x), atol=1e-6, rtol=1e-5)


def test_earlier_names_are_known():
    kept = ["temporal.layers.3.norm_mlp.weight", "depth.layers.0.norm_mlp", "attention.out.weight", "norm.weight"]
    earlier = {
        "temporal.layers.11.attention.project.weight": "temporal.layers.11.project.weight",
        "talker.depth.layers.0.attention.out.weight": "talker.depth.layers.0.out.weight",
        "temporal.layers.0.norm_attention": "temporal.layers.0.norm_attention.weight",
        "model.temporal.norm": "model.temporal.norm.weight",
    }
    weights = {name: torch.tensor(n) for n, name in enumerate([*earlier, *kept])}
    assert list(renamed(weights)) == [*earlier.values(), *kept]
