"""A video, DICOM or image file comes in; masked grey frames, their rate, scale, cuts and windows go out.

Doors: cuts, dicom, dicom_frames, ellipses, field_of_view, letterbox, mask_store, masked, masks, metaimage, outlines,
reading, recording, resampling, scales, sector, still, store, suffixes, windows.
"""
