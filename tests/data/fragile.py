"""Work for other processes; imports nothing heavy, so that they start at once."""

import os
import signal
import time


def double(job, at, item):
    """Dies on "kill"."""
    if item == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return at, job * item


def nap(job, at, item):
    """Says in the file `job` that it has begun, and takes its time."""
    with open(job, "w"):
        time.sleep(60)
    return at, item


def dies_of_silence(names, clean, heard):
    """Stands for `antiphon.evals.codec.measures.scores`."""
    if heard.silent:
        os.kill(os.getpid(), signal.SIGKILL)
    return dict.fromkeys(names, 0.5)
