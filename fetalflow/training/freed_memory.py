"""Keeps the memory that a training step frees in the process, because the next step needs the same amount again."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of glibc's mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
# No block is mapped separately, and free memory at the end of the heap is kept, up to the largest int.
KEEP = {M_TRIM_THRESHOLD: 2**31 - 1, M_MMAP_MAX: 0}
# The values that glibc itself reaches in a process with large blocks. They must be set, because glibc no longer adapts
# its thresholds after any call of mallopt.
GIVE_BACK = {M_TRIM_THRESHOLD: 2**26, M_MMAP_THRESHOLD: 2**25, M_MMAP_MAX: 2**16}
USER_SETTINGS = ("MALLOC_", "GLIBC_TUNABLES")  # names of environment variables for glibc's malloc begin like this


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory within this context, and give it back to the system afterwards.

    glibc returns blocks over 32 MiB to the system as soon as they are freed, so that gradients and activations are
    mapped and cleared anew at every step. Within this context they come from the heap, which keeps freed memory. This
    needs more memory, since free blocks between used ones are kept too (docs/ml-lead/training-speed.md).

    Nothing is changed where environment variables set glibc's malloc, or where the C library is not glibc.
    """
    keep_freed_memory()
    try:
        yield
    finally:
        if _set_malloc_options(GIVE_BACK):
            ctypes.CDLL(None).malloc_trim(0)


def keep_freed_memory() -> None:
    """Keep freed memory until the process ends."""
    _set_malloc_options(KEEP)


def _set_malloc_options(options: dict[int, int]) -> bool:
    """Whether the options were set."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "mallopt") or any(name.startswith(USER_SETTINGS) for name in os.environ):
        return False
    for option, value in options.items():
        libc.mallopt(option, value)
    return True
