"""A video, DICOM or image file comes in; masked grey frames, their rate, scale, cuts and windows go out.

Doors: cuts, dicom, field_of_view, letterbox, mask_store, masked, masks, reading, recording, resampling, sector, still,
store, suffixes, windows.
"""
