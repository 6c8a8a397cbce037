"""The structures that are measured: their lengths, and what a drop may state of them."""

LENGTHS = {"head": ("hc", "bpd", "ofd"), "abdomen": ("ac",), "femur": ("fl",)}  # by structure, the main one first
WEEKS = 4.0, 44.0  # of gestation; a stated age beyond is a slip, and is not used
