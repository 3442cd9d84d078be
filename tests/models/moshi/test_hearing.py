"""What is heard beside the codes: nothing until it is learnt, a step is the forward, all that is said may follow it."""

import pytest
import torch

from antiphon.errors import ConfigError
from antiphon.models.moshi.hearing import HearingConfig
from antiphon.models.moshi.model import GREEDY, Moshi, MoshiConfig
from antiphon.models.moshi.weights import load
from tests.models.moshi.test_model import a_grid, make

HEARING = HearingConfig(width=12, dim=16, heads=2, layers=2, inner=24, context=6, intents=["time", "weather", "name"])


def hearing(learnt: bool = True) -> Moshi:
    """One that is yet to forget the user's codes: what it hears stands beside them."""
    bare = make()
    model = Moshi(MoshiConfig.from_dict(bare.config.to_dict() | {"hearing": HEARING})).eval()
    model.load_state_dict(bare.state_dict(), strict=False)
    if learnt:
        torch.nn.init.normal_(model.hearing.embedding.weight, std=0.5)
    return model


@torch.no_grad()
def test_what_has_learnt_nothing_changes_nothing() -> None:
    bare, model = make(), hearing(learnt=False)
    grid, heard = a_grid(bare, 2, 15), torch.randn(2, 15, 12)
    assert torch.equal(bare(grid).text, model(grid, heard=heard).text)
    assert torch.equal(bare(grid).codes, model(grid, heard=heard).codes)


@torch.no_grad()
def test_of_what_is_heard_the_state_of_the_dialogue_alone_is_told() -> None:
    model = hearing()
    grid, heard = a_grid(model, 2, 15), torch.randn(2, 15, 12)
    one, other = model(grid), model(grid, heard=heard)
    assert not torch.allclose(one.text, other.text) and not torch.allclose(one.codes, other.codes)
    ear = model.hearing
    chances = ear.state_head(ear(heard)).softmax(-1)
    assert chances.shape == (2, 15, 5)  # idle, listening, or one of the intents
    torch.testing.assert_close(model.conditioned(grid, condition=chances @ ear.embedding.weight.T).text, other.text)
    later = heard.clone()
    later[:, 9:] = 0.0
    torch.testing.assert_close(model(grid, heard=later).text[:, :9], other.text[:, :9])
    assert not torch.allclose(model(grid, heard=later).text[:, 9:], other.text[:, 9:])


@torch.no_grad()
@pytest.mark.parametrize("packed", [False, True])
def test_before_anything_was_heard_the_dialogue_is_idle(packed: bool) -> None:
    model = hearing()
    if packed:
        model.half().float().pack()
    ear, heard = model.hearing, torch.randn(2, 8, 12)
    heard[0, :3] = 0.0  # nothing has come yet
    heard[:, 5] = 0.0  # is lost
    chances, idle = ear.chances(ear(heard)), torch.eye(5)[0]
    assert (
        torch.equal(chances[0, :3], idle.expand(3, 5))
        and (chances[0, 3:, 0] < 1.0).all()
        and (chances[1, :, 0] < 1.0).all()
    )
    state = ear.init_state(2)
    steps = torch.stack([ear.step(heard[:, t], state, model.packed) for t in range(8)], 1)
    torch.testing.assert_close(steps, ear.embed(heard), atol=2e-3, rtol=2e-3)


@torch.no_grad()
def test_the_depth_transformer_may_read_another_grid_than_the_temporal_one() -> None:
    model = hearing()
    grid = a_grid(model, 2, 15)
    other = grid.clone()
    other[:, 2] = grid[:, 2].flip(-1)  # the second codebook
    plain, mixed = model.conditioned(grid), model.conditioned(grid, known=other)
    assert torch.equal(plain.text, mixed.text) and not torch.equal(plain.codes, mixed.codes)
    assert torch.equal(plain.codes[:, :2], mixed.codes[:, :2])  # those before it in a frame don't see it
    assert torch.equal(model.conditioned(grid, known=grid).codes, plain.codes)


@torch.no_grad()
@pytest.mark.parametrize("packed", [False, True])
def test_a_step_is_the_forward(packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import antiphon.models.moshi.model as module

    model, frames = hearing(), 20
    if packed:
        model.half().float().pack()
    grid, heard = a_grid(model, 2, frames), torch.randn(2, frames, 12)
    found, real = [], module.sample
    monkeypatch.setattr(module, "sample", lambda logits, *rest: (found.append(logits.clone()), real(logits, *rest))[1])
    state, own = model.init_state(2), 1 + model.config.codebooks
    for t in range(frames):
        user = grid[:, own:, max(0, t - 1)]
        model.step(user, state, GREEDY, grid[:, 0, t], grid[:, 1:own, t], heard[:, t])
    text = torch.stack(found[::own], dim=1)
    whole = delayed(model, grid)
    torch.testing.assert_close(text, model(whole, heard=heard).text, atol=2e-3, rtol=2e-3)


@torch.no_grad()
def test_weights_of_half_the_size_hear_frames_of_float32() -> None:
    model = hearing().bfloat16()
    state, user = model.init_state(1), torch.zeros(1, model.config.user_codebooks, dtype=torch.long)
    for _ in range(6):
        assert model.step(user, state, heard=torch.randn(1, 12)).dtype == torch.long


def delayed(model: Moshi, grid: torch.Tensor) -> torch.Tensor:
    from antiphon.nn.delays import delay

    return delay(grid, list(model.config.delays), -1)[:, :, : grid.shape[2]]


def test_it_is_saved_with_the_model(tmp_path) -> None:
    model = hearing()
    model.save_pretrained(tmp_path, torch.float32)
    again = load(tmp_path)
    assert again.config.hearing == HEARING
    grid, heard = a_grid(model, 1, 9), torch.randn(1, 9, 12)
    with torch.no_grad():
        torch.testing.assert_close(again(grid, heard=heard).text, model(grid, heard=heard).text)
    make().save_pretrained(tmp_path / "bare")
    assert "hearing" not in (tmp_path / "bare" / "config.json").read_text()


def test_sizes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="hearing.layers"):
        HearingConfig(layers=0)
    with pytest.raises(ConfigError, match="even multiple"):
        HearingConfig(dim=30, heads=4)
    with pytest.raises(ConfigError, match="hearing.delay"):
        MoshiConfig(hearing={"delay": -1})
