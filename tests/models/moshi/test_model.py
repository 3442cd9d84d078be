"""Moshi: what its grid means, that it learns, and that a step is the forward, for any mixture of rows."""

import math

import pytest
import torch
from torch.nn import functional as F

import antiphon.models.moshi.model as module
from antiphon.codecs.mini.model import MiniCodec, MiniCodecConfig
from antiphon.errors import ConfigError, HubError
from antiphon.models.llm.sampling import sample, uniforms
from antiphon.models.moshi.config import DepthConfig, moshi_7b
from antiphon.models.moshi.model import GREEDY, Moshi, MoshiConfig, MoshiSampling
from antiphon.models.moshi.weights import load
from antiphon.nn import state as states
from antiphon.nn.delays import delay

DEPTH = {"dim": 32, "heads": 2, "layers": 2, "inner": 48, "codebooks": 4}
SIZES = {
    "dim": 48, "heads": 4, "layers": 2, "inner": 64, "kv_heads": 2, "context": 12, "text_card": 40, "codebooks": 4,
    "user_codebooks": 3, "card": 24,
}  # fmt: skip


def config(depth: dict | None = None, **sizes) -> MoshiConfig:
    return MoshiConfig(**{**SIZES, **sizes}, depth=DepthConfig(**{**DEPTH, **(depth or {})}))


def make(seed: int = 0, **given) -> Moshi:
    torch.manual_seed(seed)
    model = Moshi(config(**given)).eval()
    with torch.no_grad():  # heads of a fresh model are small: nearly all would be left to chance
        model.depth.heads.mul_(10)
        model.text_head.weight.mul_(10)
    return model


def a_grid(model: Moshi, batch: int, frames: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    sizes = model.config
    text = torch.randint(sizes.text_card, (batch, 1, frames), generator=generator)
    return torch.cat([text, torch.randint(sizes.card, (batch, sizes.streams - 1, frames), generator=generator)], dim=1)


def replay(model: Moshi, grid: torch.Tensor, monkeypatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Steps through a known grid. Returns text logits, code logits as `forward` shapes them, and what came out."""
    found, real = [], module.sample
    monkeypatch.setattr(module, "sample", lambda logits, *rest: (found.append(logits.clone()), real(logits, *rest))[1])
    batch, _, frames = grid.shape
    own = 1 + model.config.codebooks
    state, out = model.init_state(batch), []
    for t in range(frames):
        user = grid[:, own:, t - 1] if t else torch.full_like(grid[:, own:, 0], 7)  # call 0 must not look at it
        out.append(model.step(user, state, GREEDY, grid[:, 0, t], grid[:, 1:own, t]))
    monkeypatch.setattr(module, "sample", real)
    each = [torch.stack(found[level::own], dim=1) for level in range(own)]
    return each[0], torch.stack(each[1:], dim=2), torch.stack(out, dim=2)


def test_shapes_and_kept_frames():
    model = make()
    grid = delay(a_grid(model, 2, 9), model.config.delays, -1)
    whole = model(grid)
    assert whole.text.shape == (2, 10, 40) and whole.codes.shape == (20, 4, 24)
    keep = torch.rand(2, 10) < 0.4
    kept = model(grid, keep)
    assert kept.codes.shape == (int(keep.sum()), 4, 24)
    torch.testing.assert_close(kept.codes, whole.codes[keep.flatten()])
    torch.testing.assert_close(kept.text, whole.text)
    text_alone = model(grid, torch.zeros_like(keep))
    assert text_alone.codes.shape == (0, 4, 24)
    (text_alone.text.sum() + text_alone.codes.sum()).backward()
    assert model.text_head.weight.grad.abs().max() > 0


def test_an_input_is_the_column_before_and_the_initial_one_while_a_stream_is_late():
    """Against the definition, column by column, in a loop."""
    model = make(delays=[0, 0, 2, 2, 1, 0, 1, 1])
    grid = delay(a_grid(model, 1, 5), model.config.delays, -1)
    table = torch.cat([model.code_embedding.weight[:-1].view(7, 25, 48), torch.zeros(7, 1, 48)], dim=1)
    expected = []
    for t in range(7):
        total = torch.zeros(48)
        for stream in range(8):
            token = int(grid[0, stream, t - 1]) if t - 1 >= model.config.delays[stream] else -2
            if stream:
                total += table[stream - 1, 24 if token == -2 else token]  # row -1 is zeros
            elif token != -1:
                total += model.text_embedding.weight[40 if token == -2 else token]
        expected.append(total)
    seen = []
    model.temporal.forward = lambda x: (seen.append(x), x)[1]
    model(grid)
    torch.testing.assert_close(seen[0][0], torch.stack(expected))


def test_minus_one_adds_nothing():
    model = make()
    nothing = torch.full((3, model.config.streams), -1)
    assert torch.equal(model._embed(nothing), torch.zeros(3, 48))
    grid = a_grid(model, 1, 6)
    one = grid.clone()
    one[:, 5, 3] = -1  # a user's code that was lost
    one[:, 2, 3] = -1
    first, second = model(grid), model(one)
    torch.testing.assert_close(first.text[:, :4], second.text[:, :4])
    assert (first.text[:, 4:] - second.text[:, 4:]).abs().amin(-1).max() > 1e-5
    codes = first.codes - second.codes
    torch.testing.assert_close(codes[:3], torch.zeros_like(codes[:3]))
    torch.testing.assert_close(codes[3, :2], torch.zeros(2, 24))  # code 1 is known to codebooks 2 and 3 alone
    assert codes[3, 2:].abs().max() > 1e-4


def test_a_fresh_models_loss_is_near_chance_and_every_parameter_learns():
    torch.manual_seed(0)
    for depth in (None, {"schedule": [0, 1, 2, 2]}, {"codebooks": 7}):
        model = Moshi(config(depth=depth))
        grid = delay(a_grid(model, 4, 40), model.config.delays, -1)
        out = model(grid)
        codes = out.codes.view(4, -1, model.config.predicted, 24)
        losses = [F.cross_entropy(out.text.flatten(0, 1), grid[:, 0].flatten(), ignore_index=-1)]
        for k in range(model.config.predicted):
            losses.append(F.cross_entropy(codes[:, :, k].flatten(0, 1), grid[:, 1 + k].flatten(), ignore_index=-1))
        chance = [math.log(40)] + [math.log(24)] * model.config.predicted
        assert all(abs(loss.item() - expected) < 0.1 for loss, expected in zip(losses, chance))
        sum(losses).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().max() > 0, name
            if parameter.dim() == 3:  # each set of weights learns
                assert (parameter.grad.abs().amax((1, 2)) > 0).all(), name
        for table in (model.text_embedding, model.code_embedding, model.depth.text_embedding):
            assert table.weight.grad[table.padding_idx].abs().max() == 0


def test_the_loss_of_a_head_trains_no_later_codebook():
    model = Moshi(config())
    out = model(a_grid(model, 1, 4))
    out.codes[:, 1].sum().backward()
    touched = model.depth.layers[0].project.grad.abs().amax((1, 2)) > 0
    assert touched.tolist() == [True, True, False, False]
    assert model.text_head.weight.grad is None


def test_a_tiny_model_learns_one_batch_by_heart():
    torch.manual_seed(0)
    model = Moshi(config(kv_heads=4, context=30))
    grid = delay(a_grid(model, 2, 12), model.config.delays, -1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(120):
        out = model(grid)
        codes = out.codes.view(2, -1, 4, 24)
        loss = F.cross_entropy(out.text.flatten(0, 1), grid[:, 0].flatten(), ignore_index=-1)
        loss = loss + F.cross_entropy(codes.flatten(0, 2), grid[:, 1:5].transpose(1, 2).flatten(), ignore_index=-1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


@pytest.mark.parametrize("given", [
    {}, {"kv_heads": 4, "delays": [0, 0, 2, 2, 2, 0, 2, 2]}, {"delays": [0] * 8},
    {"depth": {"schedule": [0, 1, 1, 0]}}, {"delays": [2, 0, 1, 1, 1, 0, 1, 1], "depth": {"codebooks": 7}},
])  # fmt: skip
def test_steps_are_the_forward_also_when_the_ring_has_wrapped(given, monkeypatch):
    model = make(**given)
    grid = a_grid(model, 2, 40)  # the context is 12
    text, codes, out = replay(model, grid, monkeypatch)
    whole = model(delay(grid, model.config.delays, -1))
    torch.testing.assert_close(text, whole.text[:, :40], atol=1e-5, rtol=0)
    expected = whole.codes.view(2, -1, model.config.predicted, 24)[:, :40, :4]
    torch.testing.assert_close(codes, expected, atol=1e-5, rtol=0)
    lag = model.config.max_delay
    assert torch.equal(out[:, :, lag:], grid[:, :5, : 40 - lag])
    assert (out[:, :, :lag] == -1).all()


def test_the_window_is_as_wide_as_the_context():
    model = make()
    grid = a_grid(model, 1, 40)
    other = grid.clone()
    other[:, 5:, 3] = (other[:, 5:, 3] + 1) % 24
    a, b = model(grid).text, model(other).text
    reach = (a - b).abs().amax((0, 2)) > 1e-6
    # an input at 4, seen by two layers of 12 frames each
    assert reach.nonzero()[:, 0].tolist() == list(range(4, 4 + 2 * 11 + 1))


def test_rows_join_leave_and_fork_at_any_frame():
    model = make()
    sampling = MoshiSampling(temperature=1.0, text_temperature=1.0, top_k=10, text_top_k=0)
    user = torch.randint(24, (4, 60, 3), generator=torch.Generator().manual_seed(5))

    def alone(row: int, frames: int) -> torch.Tensor:
        state = model.init_state(1, seed=100 + row)
        return torch.cat([model.step(user[row : row + 1, t], state, sampling) for t in range(frames)])

    expected = {row: alone(row, 60) for row in range(4)}
    heard: dict[int, list[torch.Tensor]] = {row: [] for row in range(4)}
    at = dict.fromkeys(range(4), 0)

    def advance(state, rows: list[int], frames: int):
        for _ in range(frames):
            out = model.step(torch.stack([user[row, at[row]] for row in rows]), state, sampling)
            for each, row in zip(out, rows):
                heard[row].append(each)
                at[row] += 1

    first = model.init_state(1, seed=100)
    advance(first, [0], 7)
    both = states.join([first, model.init_state(2, seed=101)])
    advance(both, [0, 1, 2], 9)
    snapshot = states.fork(states.select(both, [2]))
    advance(both, [0, 1, 2], 10)
    rest = states.select(both, [2, 0])  # row 1 leaves
    three = states.join([model.init_state(1, seed=103), rest])
    advance(three, [3, 2, 0], 30)
    for row, out in heard.items():
        assert torch.equal(torch.stack(out), expected[row][: len(out)]), row
    at[2] = 9  # back to the snapshot, which knows nothing of what came later
    heard[2].clear()
    advance(snapshot, [2], 5)
    assert torch.equal(torch.stack(heard[2]), expected[2][9:14])


def test_the_model_plays_the_user_where_it_can():
    model = make(depth={"codebooks": 7})
    state = model.init_state(2)
    out = torch.stack([model.step(None, state) for _ in range(20)], dim=2)
    assert out.shape == (2, 8, 20) and (out[:, :, 1:] >= 0).all()
    again = model.init_state(2)
    given = torch.full((2, 3), -1)
    for t in range(19):  # what it played, given as a user's: the same conversation
        own = model.step(out[:, 5:, t] if t else given, again)
        assert torch.equal(own, out[:, :5, t])
    with pytest.raises(ValueError, match="doesn't predict the user"):
        make().step(None, make().init_state(1))
    with pytest.raises(ValueError, match="user must be"):
        model.step(given[:1], again)


def test_forced_tokens_are_heard_and_the_rest_is_left_to_the_model():
    model = make(delays=[0, 0, 2, 2, 2, 0, 1, 1])
    user = torch.zeros(1, 3, dtype=torch.long)
    free, forced = model.init_state(1), model.init_state(1)
    none = torch.full((1, 4), -1)
    for t in range(12):
        a = model.step(user, free)
        own = torch.tensor([[20, -1, 21, -1]]) if t == 5 else none
        b = model.step(user, forced, forced_own=own, forced_text=torch.tensor([9 if t == 5 else -1]))
        if t < 5:
            assert torch.equal(a, b)
        if t == 7:
            assert b[0, [0, 1, 3]].tolist() == [9, 20, 21]
    assert not torch.equal(a, b)


def test_draws_follow_the_distribution():
    torch.manual_seed(0)
    logits = torch.tensor([[0.0, 2.0, 1.0, -1.0, 1.5]]).expand(20000, -1)
    chance = uniforms(torch.arange(20000), torch.full((20000,), 3), 4)
    assert abs(float(chance.mean()) - 0.5) < 0.01 and abs(float(chance.std()) - 12**-0.5) < 0.01
    assert abs(float(torch.corrcoef(chance.T)[0, 1])) < 0.03
    along = uniforms(torch.zeros(20000, dtype=torch.long), torch.arange(20000), 1)[:, 0]
    assert abs(float(torch.corrcoef(torch.stack([along[1:], along[:-1]]))[0, 1])) < 0.03
    for temperature, top_k in ((1.0, 0), (0.5, 0), (1.0, 2)):
        share = torch.bincount(sample(logits, chance[:, 1], temperature, top_k), minlength=5) / 20000
        scores = logits[0] / temperature
        if top_k:
            scores = scores.masked_fill(scores < scores.topk(top_k).values[-1], -math.inf)
        torch.testing.assert_close(share, scores.softmax(0), atol=0.015, rtol=0)
    assert (sample(logits, None, 0.0, 3) == 1).all()
    edge = sample(torch.tensor([[0.0, 0.0, -1000.0]]), torch.tensor([1 - 2.0**-24]), 1.0, 0)
    assert edge.tolist() == [1]


def test_seeds_and_a_bonus_for_silence():
    model, user = make(), torch.zeros(2, 3, dtype=torch.long)
    warm = MoshiSampling(temperature=1.0, text_temperature=1.0)

    def run(seed, sampling=warm):
        state = model.init_state(2, seed)
        return torch.stack([model.step(user, state, sampling) for _ in range(12)], dim=2)

    assert torch.equal(run(3), run([3, 4])) and not torch.equal(run(3), run(4))
    assert torch.equal(run(3)[1], run(4)[0])
    assert (run(3, MoshiSampling(pad_bonus=100.0))[:, 0, 1:] == model.config.pad).all()
    with pytest.raises(ConfigError):
        MoshiSampling(temperature=-1.0)


def test_codebooks_start_the_embeddings_and_heads():
    torch.manual_seed(0)
    codec = MiniCodec(MiniCodecConfig(codebooks=5, codebook_size=24))
    for book in [*codec.semantic.codebooks, *codec.acoustic.codebooks]:
        torch.nn.init.normal_(book.codes)
    model = Moshi(config())
    before = model.depth.code_embedding.weight[24].clone()
    model.take_codebooks(codec)
    vectors = codec.codebook_vectors()
    assert len(vectors) == 5
    like = torch.corrcoef(vectors[1]).detach()  # of codes that sound alike the embeddings are alike
    for table in (model.code_embedding.weight[25:49], model.code_embedding.weight[125:149], model.depth.heads[1]):
        assert (
            float(torch.corrcoef(torch.stack([like.flatten(), torch.corrcoef(table.detach()).flatten()]))[0, 1]) > 0.6
        )
    assert 0.7 < model.code_embedding.weight[:24].std().item() * 48**0.5 < 1.4
    assert torch.equal(model.depth.code_embedding.weight[24], before)  # the initial token has no sound
    grid = delay(a_grid(model, 4, 40), model.config.delays, -1)
    codes = model(grid).codes.view(4, -1, 4, 24)
    for k in range(4):
        loss = F.cross_entropy(codes[:, :, k].flatten(0, 1), grid[:, 1 + k].flatten(), ignore_index=-1)
        assert abs(loss.item() - math.log(24)) < 0.1
    with pytest.raises(ValueError, match="5 of"):
        Moshi(config(card=25)).take_codebooks(codec)


def test_a_folder_keeps_a_model(tmp_path):
    model = make(depth={"schedule": [0, 1, 1, 2]})
    model.save_pretrained(tmp_path / "m")
    again = load(tmp_path / "m")
    assert again.config == model.config and not again.training
    grid = a_grid(model, 1, 20)
    torch.testing.assert_close(model(grid).codes, again(grid).codes, atol=0.02, rtol=0)
    half = load(tmp_path / "m", dtype=torch.bfloat16)
    assert half.step(torch.zeros(1, 3, dtype=torch.long), half.init_state(1)).shape == (1, 5)
    (tmp_path / "m" / "config.json").write_text('{"family": "moshi", "dim": 96}')
    with pytest.raises(HubError, match="do not fit"):
        load(tmp_path / "m")


@pytest.mark.parametrize("wrong, said", [
    ({"dim": 50}, "multiple of heads"), ({"kv_heads": 3}, "kv_heads"), ({"delays": [0, 1]}, "delays"),
    ({"pad": 40}, "text pieces"), ({"layers": 0}, "layers"), ({"depth": {"codebooks": 5}}, "depth.codebooks"),
    ({"depth": {"schedule": [0, 2, 2, 2]}}, "gaps"), ({"depth": {"schedule": [0]}}, "schedule"),
    ({"depth": {"heads": 3}}, "depth.heads"),
])  # fmt: skip
def test_sizes_that_make_no_sense(wrong, said):
    with pytest.raises(ConfigError, match=said):
        config(**wrong)


def test_sizes_round_trip_and_the_published_ones():
    sizes = config(depth={"schedule": [0, 1, 1, 2]})
    assert MoshiConfig.from_dict({"family": "moshi", **sizes.to_dict()}) == sizes
    with pytest.raises(ConfigError, match="heds"):
        MoshiConfig.from_dict({"heds": 3})
    assert moshi_7b().delays == [0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1]
    with torch.device("meta"):
        assert 7.5e9 < sum(p.numel() for p in Moshi(moshi_7b()).parameters()) < 7.8e9


@pytest.mark.skipif(torch.backends.quantized.engine not in ("x86", "fbgemm"), reason="needs FBGEMM (x86)")
def test_packed_weights_give_the_same_and_changed_ones_are_not_used():
    model, user = make().half().float(), torch.zeros(6, 3, dtype=torch.long)

    def run() -> torch.Tensor:
        state = model.init_state(6)
        temporal = state.temporal
        temporal.rings = [ring + 0.1 * torch.arange(6)[:, None, None, None, None] for ring in temporal.rings]
        for _ in range(3):
            model.step(user, state)
        return torch.stack(temporal.rings)

    before = run()
    model.pack()
    # all linear layers: 4 a temporal layer, the text's head; the depth's input, heads, and 4 a layer and codebook
    assert len(model.packed) == 2 * 4 + 1 + 1 + 4 + 2 * 4 * 4
    torch.testing.assert_close(run(), before, atol=1e-5, rtol=0)
    with torch.no_grad():
        model.temporal.layers[0].project.weight.mul_(0.5)
    after = run()
    model.packed = None
    torch.testing.assert_close(run(), after, atol=1e-5, rtol=0)
    assert (after - before).abs().max() > 1e-3


def test_a_folder_in_int8_is_half_as_large_and_predicts_nearly_the_same(tmp_path):
    model = make()
    grid = a_grid(model, 1, 20)
    for name, dtype in (("half", torch.float16), ("small", torch.int8)):
        model.save_pretrained(tmp_path / name, dtype)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "small")]
    assert sizes[1] < 0.7 * sizes[0]
    with torch.no_grad():
        there, back = model(grid).text, load(tmp_path / "small")(grid).text
    assert 0 < (there - back).abs().max() < 0.02 * there.abs().max()
