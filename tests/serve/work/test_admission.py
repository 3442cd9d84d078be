"""Who is let in: as many as were measured to be kept in time together."""

from __future__ import annotations

from antiphon.serve.app import create_app
from antiphon.serve.settings import ServeConfig
from antiphon.serve.work.admission import AT_ONCE, Pace, measure
from tests.serve.scripted import Scripted


def test_answers_that_share_steps_let_in_more_than_one_alone_would():
    assert Pace(0.05, 0.5).capacity == 1
    assert Pace(0.05, 0.5, {2: 0.6, 4: 0.85, 8: 1.6}).capacity == 4  # 5 would take 1.04
    assert Pace(0.05, 0.5, {2: 0.6, 4: 1.0}).capacity == 3  # 0.8 between those that were measured
    assert Pace(0.05, 0.5, {2: 1.2}).capacity == 1
    assert Pace(0.05, 0.1, {2: 0.1, 4: 0.1, 8: 0.1}).capacity == 8  # more weren't tried
    assert Pace(0.3, 0.1, {2: 0.1, 4: 0.1, 8: 0.1}).capacity == 3  # who talks costs hearing


def test_several_answers_are_made_at_once_where_they_share_steps():
    backend = Scripted(pace=0.001, shares_steps=True)
    pace = measure(backend)
    assert tuple(pace.together) == AT_ONCE and len(backend.answers) == 2 + sum(AT_ONCE)
    assert pace.capacity == 8
    app = create_app(backend, ServeConfig(), pace)
    assert len(app.state.served.scheduler._threads) == app.state.served.admission.sessions == 8
    app.state.served.scheduler.close()
    assert not measure(Scripted(pace=0.001)).together
