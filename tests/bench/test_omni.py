"""The bench of Qwen2.5-Omni: its ratios, and once, tiny, for real."""

import pytest

from antiphon.bench import omni
from antiphon.bench.omni import OmniBenchConfig, bench_omni, question, random_model
from antiphon.errors import EvalError
from antiphon.models.omni.model import ReplySettings, Spoken


def test_figures_are_ratios_of_sides_that_took_turns(monkeypatch):
    def run(work, fields, title, threads):
        if work is omni.think:
            return {"prompts": [2.0], "steps": [0.25], "peak": 5e9}
        seconds = {"ours": [1.0, 2.0, 9.0], "serial": [20.0] * 3, "transformers": [5.0] * 3}
        sides = {side: seconds[side] for side in fields["sides"]}
        peak = 7e8 if fields["sides"] == ["ours"] else 1.4e9
        return {"first": sides, "whole": sides, "peak": peak}

    monkeypatch.setattr(omni, "in_fresh_process", run)
    report = bench_omni(OmniBenchConfig(size="tiny", rounds=3))
    found = {figure.name: figure.value for figure in report.figures}
    assert found == {
        "omni-first-sound-over-serial": pytest.approx(0.1),
        "omni-reply-over-transformers": pytest.approx(0.4),
        "omni-memory-over-transformers": pytest.approx(0.5),
        "omni-tiny-int4-memory-gb": pytest.approx(5.0),
        "omni-tiny-int4-tokens-per-s": pytest.approx(4.0),
        "omni-tiny-int4-prompt-64-s": pytest.approx(2.0),
        "omni-tiny-talker-int8-memory-gb": pytest.approx(5.0),
        "omni-tiny-talker-int8-codes-per-s": pytest.approx(4.0),
        "omni-tiny-talker-int8-prompt-64-s": pytest.approx(2.0),
    }


def test_unknown_names_are_refused():
    with pytest.raises(EvalError, match="no size huge"):
        OmniBenchConfig(size="huge")
    with pytest.raises(EvalError, match="no group all"):
        OmniBenchConfig(only=("all",))


def test_no_reply_of_the_random_model_ends_by_itself():
    model, state = random_model("tiny"), None
    state = model.init_state()
    model.read(state, question())
    settings = ReplySettings(max_tokens=5, max_codes=20, ends=())
    events = list(model.reply(state, "random", settings))
    assert len(state.reply) == 5 and len(state.codes) == 20
    assert sum(len(event.samples) for event in events if isinstance(event, Spoken)) == 20 * 480


@pytest.mark.slow
def test_it_measures():
    report = bench_omni(OmniBenchConfig(size="tiny", tokens=5, codes=60))
    assert len(report.figures) == 9 and all(figure.value > 0 for figure in report.figures)
