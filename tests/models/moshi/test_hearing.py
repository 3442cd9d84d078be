"""What is heard beside the codes: nothing until it is learnt, a step is the forward, only the text's choice changes."""

import pytest
import torch

from antiphon.errors import ConfigError
from antiphon.models.moshi.hearing import HearingConfig, reworded
from antiphon.models.moshi.model import GREEDY, Moshi, MoshiConfig
from antiphon.models.moshi.weights import load
from antiphon.train.moshi.hearing import with_hearing
from tests.models.moshi.test_model import a_grid, make

HEARING = HearingConfig(width=12, dim=16, heads=2, layers=2, inner=24, context=6)


def hearing(learnt: bool = True) -> Moshi:
    model = with_hearing(make(), HEARING).eval()
    if learnt:
        torch.nn.init.normal_(model.hearing.out.weight, std=0.5)
    return model


@torch.no_grad()
def test_what_has_learnt_nothing_changes_nothing() -> None:
    bare, model = make(), hearing(learnt=False)
    grid, heard = a_grid(bare, 2, 15), torch.randn(2, 15, 12)
    assert torch.equal(bare(grid).text, model(grid, heard=heard).text)
    assert torch.equal(bare(grid).codes, model(grid, heard=heard).codes)


@torch.no_grad()
def test_what_is_heard_changes_which_word_is_said_and_neither_when_nor_the_codes() -> None:
    model = hearing()
    grid = a_grid(model, 2, 15)
    one, other = model(grid), model(grid, heard=torch.randn(2, 15, 12))
    assert not torch.allclose(one.text, other.text) and torch.equal(one.codes, other.codes)
    silent = [model.config.pad, model.config.end_pad]
    bare = make()(grid).text.softmax(-1)[..., silent]
    for output in (one, other):
        torch.testing.assert_close(output.text.softmax(-1)[..., silent], bare)
    words = torch.tensor([[3.0, 1.0, 2.0, 0.5]])
    ratios = reworded(torch.tensor([[1.0, 2.0, 0.0, 1.0]]), words, [0, 3]).log_softmax(-1)
    assert float(ratios[0, 2] - ratios[0, 1]) == pytest.approx(1.0)


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
    torch.testing.assert_close(text, model(delayed(model, grid), heard=heard).text, atol=2e-3, rtol=2e-3)


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
