"""What was freed goes back to the system."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import torch
from antiphon.nn.memory import map_large_blocks, return_memory

def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

def freed(megabytes):
    large, small = [], []
    for _ in range(12):  # small ones that stay lie between the large ones
        large.append(torch.ones(megabytes << 18))
        small.append(torch.ones(1000))
    most = held()
    del large
    return most - held()

{first}
torch.ones(31 << 18)  # glibc raises its bound when such a block is freed
print(freed(12) >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_large_blocks_go_back() -> None:
    def megabytes(first: str) -> int:
        return int(subprocess.check_output([sys.executable, "-c", PROGRAM.format(first=first)], text=True))

    assert megabytes("map_large_blocks()") > 130 > 2 * megabytes("")
