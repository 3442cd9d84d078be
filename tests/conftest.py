"""Fixtures that many tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait by spinning take the cores from other processes
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test needs a model hub, and one that asks it should fail at once

ROOT = Path(__file__).resolve().parent.parent

# Part of the reasons for which a test may be skipped even where everything is installed that it could need.
MAY_SKIP = (
    "fastabx",  # there is none for Python 3.11
    "FBGEMM",  # of x86 processors
    "/proc",  # of Linux
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    return _required((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):
    return _required((yield))


def _required(report):
    """A skipped test has failed where `make test` says that all it could need must be there."""
    if os.environ.get("ANTIPHON_PEERS") == "required" and report.skipped and not hasattr(report, "wasxfail"):
        path, line, reason = report.longrepr
        if not any(part in reason for part in MAY_SKIP):
            report.outcome, report.longrepr = "failed", f"{path}:{line}: {reason} (all must be there: ANTIPHON_PEERS)"
    return report


@pytest.fixture(autouse=True)
def _threads(request: pytest.FixtureRequest) -> None:
    """Tiny models are fastest on one thread; the real ones get two, unless two processes test."""
    import torch

    alone = "PYTEST_XDIST_WORKER" not in os.environ
    torch.set_num_threads(2 if alone and request.node.get_closest_marker("slow") else 1)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own, and no offline folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("ANTIPHON_CACHE", str(folder))
    monkeypatch.delenv("ANTIPHON_WHEELS", raising=False)
    return folder


@pytest.fixture(scope="session")
def question() -> Path:
    """The recorded question that ships: "What is the capital of Italy?"."""
    return ROOT / "examples" / "question.wav"


@pytest.fixture(scope="session")
def small():
    """The real model of that name, loaded once; only for slow tests."""
    import antiphon

    return antiphon.load("small")


@pytest.fixture(scope="session")
def mini():
    """The real model, loaded once; only for slow tests."""
    import antiphon

    return antiphon.load("mini")
