"""How the C library gives memory back."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Have glibc keep the memory that is freed for the next allocation.

    By default it returns every large block to the kernel, and gets it back page by page: training on a CPU, whose
    activations are allocated anew at each step, then takes two to three times as long. Elsewhere nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
