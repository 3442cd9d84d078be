"""The bench of Moshi's step: ratios, what is skipped, that the peers are the same model; and once, tiny, for real."""

import pytest
import torch

from antiphon.bench import moshi
from antiphon.bench.moshi import SIZES, MoshiBenchConfig, bench_moshi, transformers_model
from antiphon.errors import EvalError
from antiphon.models.moshi.model import Moshi
from antiphon.models.moshi.weights import from_kyutai, to_kyutai


def test_figures_are_ratios_of_medians_and_the_worst_of_them_stands_for_all(monkeypatch):
    def run(work, fields, title, threads):
        slow = 2.0 if (fields["size"], threads) == ("middle", 2) else 1.0
        if fields["group"] == "batch":
            return {"one": [0.1, 0.1, 9.0], "many": [0.2 * slow] * 3}
        return {"ours": [0.1 * slow, 0.1 * slow, 7.0], "transformers": [0.4, 0.4, 0.4]}

    monkeypatch.setattr(moshi, "in_fresh_process", run)
    report = bench_moshi(MoshiBenchConfig())
    found = {figure.name: figure.value for figure in report.figures}
    assert found["moshi-step-vs-transformers"] == pytest.approx(0.5)
    assert found["moshi-step-vs-transformers-mini-2-threads"] == pytest.approx(0.25)
    assert found["batch-8-speedup"] == pytest.approx(2.0) and found["batch-8-speedup-mini-1-thread"] == pytest.approx(
        4.0
    )
    assert not any(name.startswith("moshi-step-vs-moshi") for name in found)  # it wasn't measured
    assert len(found) == 2 * (1 + 4)


def test_unknown_names_are_refused():
    with pytest.raises(EvalError, match="no size huge"):
        MoshiBenchConfig(sizes=("huge",))
    with pytest.raises(EvalError, match="no group all"):
        MoshiBenchConfig(only=("all",))


def test_sizes_go_into_kyutais_form():
    for config in SIZES.values():
        assert from_kyutai(to_kyutai(config), "") == config


@torch.no_grad()
def test_the_peer_of_transformers_is_the_same_model():
    torch.manual_seed(0)
    model = Moshi(SIZES["tiny"]).eval()
    theirs = transformers_model(model)
    grid = torch.randint(24, (1, 5, 6))
    columns = torch.where(
        torch.arange(7) <= torch.tensor(model.config.delays)[:, None],
        torch.tensor(model.config.initial)[:, None],
        torch.nn.functional.pad(grid, (1, 0)),
    )[:, :, :-1]
    out = theirs(input_ids=columns[:, 0], moshi_audio_codes=columns[:, 1:3], user_audio_codes=columns[:, 3:])
    torch.testing.assert_close(out.logits, model(grid).text, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_it_measures():
    report = bench_moshi(MoshiBenchConfig(sizes=("tiny",), threads=(1,), frames=3, warmup=1))
    values = {figure.name: figure.value for figure in report.figures}
    assert {"moshi-step-vs-transformers", "batch-8-speedup"} <= set(values)
    assert all(value > 0 for value in values.values())
