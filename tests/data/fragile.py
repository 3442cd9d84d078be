"""Work for other processes; imports nothing heavy, so that they start at once."""

import os
import signal


def double(job, at, item):
    """Dies on "kill"."""
    if item == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return at, job * item
