"""The columns that fetalflow writes into the table of sequences. A column of a drop with such a name is renamed."""

FIRST_COLUMNS = (  # before the quality figures and the further columns of the drop
    *("sequence", "video", "source", "patient", "site", "device", "label", "annotators", "first_frame", "last_frame"),
    *("frames", "fps", "step", "mm_per_px", "height", "width", "mask_source", "mask_done"),
)
TAKEN = "taken"  # frame numbers with blanks between; only where sequences of a varying frame rate were resampled
FILE_COLUMNS = ("path", "digest", "mask_digest", "sector", "mask_path")  # which `preprocess` adds
