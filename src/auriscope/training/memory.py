"""Memory of the process, kept for the next step instead of being given back after every tensor."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let the C library keep what was freed, as a training step asks for the same again; tell whether it does.

    glibc maps every large tensor anew and gives it back, and the system clears its pages each time: a third of the time
    of a small separator's training step on a CPU. Peak memory grows a little, as large blocks may leave holes. With
    other C libraries nothing is done. See mallopt(3).
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(name, _LARGEST) == 1 for name in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))
