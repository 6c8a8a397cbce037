"""A video, DICOM or image file comes in; masked grey frames, their rate, scale, cuts and windows go out.

Doors: cuts, dicom, dicom_frames, dicom_scale, dicom_time, ellipses, field_of_view, frame_shape, image_quality,
letterbox, mask_store, masked, masks, metaimage, no_names, outlines, reading, recording, resampling, scales, sector,
still, store, suffixes, windows.
"""
