"""Sequences and a network come in; a trained network, its curves and its answers go out.

Doors: answered_masks, answers, checkpoints, distilling, fitting, freed_memory, loading, one_run, pretrained,
pretraining, start, together.

Importing this room makes torch use huge pages, where the operating system offers them on request (`madvise`).

Gradients and activations are allocated anew at every step, and pages of 4 KiB must then be mapped and cleared one by
one (docs/ml-lead/training-speed.md). torch reads the variable when it makes the first tensor, so it is set here, before
Lightning is imported. THP_MEM_ALLOC_ENABLE=0 in the environment switches this off.
"""

import os

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
