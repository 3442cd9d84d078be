"""What is told about the machine, and processes of their own."""

import os

import numpy as np
import pytest

from antiphon.errors import EvalError
from antiphon.evals.machine import available_cores, environment, in_fresh_process, memory_bytes, version


def test_the_machine_is_told():
    found = environment()
    assert {"python", "system", "cpu", "cores", "threads", "versions"} == set(found)
    assert found["cores"] == available_cores() >= 1 and found["versions"]["torch"] == version("torch") is not None
    assert version("no-such-package") is None


def test_memory_is_in_bytes_and_its_peak_is_no_less():
    before = memory_bytes("VmHWM")
    block = np.ones(20 * 2**20, np.uint8)
    assert 10e6 < memory_bytes() <= memory_bytes("VmHWM") and memory_bytes("RssAnon") <= memory_bytes()
    assert memory_bytes("VmHWM") >= before and block[-1] == 1


def about(fields):
    """What a process sees."""
    print("something that is no result")
    return [os.getpid(), os.environ.get("OMP_NUM_THREADS"), fields]


def failing(fields):
    raise RuntimeError(fields["why"])


def test_a_function_runs_in_a_process_of_its_own():
    process, threads, fields = in_fresh_process(about, {"a": [1]}, "x", threads=3)
    assert process != os.getpid() and threads == "3" and fields == {"a": [1]}
    with pytest.raises(EvalError, match="the work failed: RuntimeError: too late"):
        in_fresh_process(failing, {"why": "too late"}, "the work")
