"""The file endings by which a cine is known, in lower case. Where a file's content shows what it is, that counts."""

DICOM = (".dcm", ".dicom", ".ima")
STILLS = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff")
VIDEOS = (
    *(".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg"),
    *(".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
METAIMAGES = (".mha",)
CINES = (*VIDEOS, *DICOM, *STILLS, *METAIMAGES)
