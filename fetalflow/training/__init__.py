"""Training. Importing it asks torch for huge pages, which the operating system has where it is set to `madvise`.

Gradients and activations are made anew at every step, and in pages of 4 KiB each has to be asked for and cleared
(docs/training-speed.md). torch reads the variable when it first makes a tensor: hence here, before Lightning does.
THP_MEM_ALLOC_ENABLE=0 in the environment switches it off.
"""

import os

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
