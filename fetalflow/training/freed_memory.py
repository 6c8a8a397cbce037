"""What a training step frees stays with the process: the next step asks for the same again."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Of glibc's mallopt, mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
KEPT = {M_TRIM_THRESHOLD: 2**31 - 1, M_MMAP_MAX: 0}  # bytes free at the heap's end that stay: the largest int
# What glibc comes to by itself in a process of large blocks; asked anything, it stops to adapt.
GIVEN_BACK = {M_TRIM_THRESHOLD: 2**26, M_MMAP_THRESHOLD: 2**25, M_MMAP_MAX: 2**16}
CHOSEN = ("MALLOC_", "GLIBC_TUNABLES")  # how an environment begins to tell glibc


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """glibc hands blocks over 32 MiB back to the system as soon as they are freed, so that gradients and activations
    are mapped and cleared anew at every step. Within this context they come from the heap, which keeps what is freed;
    afterwards it is given back. Needs more memory, since free blocks between held ones stay (docs/training-speed.md).

    Where the environment tells glibc something about memory, that holds. Nothing but glibc is asked.
    """
    keep_freed_memory()
    try:
        yield
    finally:
        if _asked(GIVEN_BACK):
            ctypes.CDLL(None).malloc_trim(0)


def keep_freed_memory() -> None:
    """For as long as the process lives."""
    _asked(KEPT)


def _asked(options: dict[int, int]) -> bool:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "mallopt") or any(name.startswith(CHOSEN) for name in os.environ):
        return False
    for option, value in options.items():
        libc.mallopt(option, value)
    return True
