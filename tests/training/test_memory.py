"""Memory that is kept: the same tensor again costs no new pages."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource
import torch
from auriscope.training.memory import keep_freed_memory

if {keep}:
    assert keep_freed_memory()
for number in range(20):
    torch.ones(2**24)
    if number == 9:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _page_faults(keep: bool) -> int:
    command = [sys.executable, "-c", COUNT.format(keep=keep)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_a_tensor_of_the_same_size_takes_the_same_pages() -> None:
    assert 20 * _page_faults(keep=True) < _page_faults(keep=False)
