"""Memory that was freed: the C library mostly keeps it, and a process looks larger than what it holds."""

from __future__ import annotations

import ctypes

LARGE_BYTES = 8 << 20
_M_MMAP_THRESHOLD = -3  # of mallopt(3)


def map_large_blocks() -> None:
    """From now on blocks of 8 MB or more go back to the system when they are freed. Otherwise glibc raises that bound
    to 32 MB as it meets such blocks, and what a model needs for a moment stays: a tenth of its size."""
    try:
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
    except (AttributeError, OSError, TypeError):  # not glibc
        return


def return_memory() -> None:
    """Gives freed memory back to the system: what packed products were made from is as large as they are."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return
