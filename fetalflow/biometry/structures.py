"""The structures that are measured, their lengths, the label of all other views, and the gestational ages that a drop
may state."""

LENGTHS = {"head": ("hc", "bpd", "ofd"), "abdomen": ("ac",), "femur": ("fl",)}  # by structure, the main one first
OTHER = "other"  # label of a view that shows none of them: nothing is measured, and it needs no mask
WEEKS = 4.0, 44.0  # of gestation; a stated age outside is taken for a mistake and is not used
