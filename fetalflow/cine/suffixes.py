"""The file endings by which a cine is known, in lower case. Where a file's content shows what it is, that counts."""

DICOM = (".dcm", ".dicom", ".ima")
STILLS = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff")
VIDEOS = (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".wmv")
CINES = (*VIDEOS, *DICOM, *STILLS)
