"""What a training step frees stays with the process: the next step asks for the same again."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Of glibc's mallopt, mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
MOST = 2**31 - 1  # bytes free at the end of the heap that are kept: the largest int
GIVEN_BACK = {M_TRIM_THRESHOLD: 128 * 1024, M_MMAP_MAX: 65536}  # glibc's defaults


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """glibc hands blocks over 32 MiB back to the system as soon as they are freed, so that gradients and activations
    are mapped and cleared anew at every step. Within this context they come from the heap, which keeps what is freed;
    afterwards it is given back. Needs more memory, since free blocks between held ones stay (docs/training-speed.md).

    MALLOC_MMAP_MAX_ in the environment has the last word. Does nothing where the C library is not glibc.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if "MALLOC_MMAP_MAX_" in os.environ or not hasattr(libc, "mallopt"):
        yield
        return
    for parameter, value in {M_TRIM_THRESHOLD: MOST, M_MMAP_MAX: 0}.items():
        libc.mallopt(parameter, value)
    try:
        yield
    finally:
        for parameter, value in GIVEN_BACK.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)
