"""What is skipped for want of a package or a program fails where all of them must be there."""

from types import SimpleNamespace

import pytest

from tests.conftest import _required


@pytest.mark.parametrize(
    ("reason", "needed", "outcome"),
    [
        ("Skipped: could not import 'moshi': No module named 'moshi'", "required", "failed"),
        ("Skipped: could not import 'moshi': No module named 'moshi'", "optional", "skipped"),
        ("Skipped: could not import 'fastabx': No module named 'fastabx'", "required", "skipped"),
    ],
)
def test_a_skip_fails_where_all_must_be_there(reason, needed, outcome, monkeypatch):
    monkeypatch.setenv("ANTIPHON_PEERS", needed)
    report = _required(SimpleNamespace(skipped=True, outcome="skipped", longrepr=("test_x.py", 3, reason)))
    assert report.outcome == outcome and reason in str(report.longrepr)
    expected = _required(SimpleNamespace(skipped=True, wasxfail="", outcome="skipped", longrepr="xfail"))
    assert expected.outcome == "skipped"
