"""Cine files as hospitals keep them: video containers through PyAV, multi-frame ultrasound DICOM through pydicom."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import JPEGBaseline8Bit, UltrasoundMultiFrameImageStorage, generate_uid

from fetalflow.hospital.phantom.patients import Patient
from fetalflow.hospital.phantom.scanner import Scanner

# With lookahead for B frames, a third of the repeats gave other bytes (measured with the x264 of PyAV 18.1).
X264 = "bframes=0:rc-lookahead=0:mbtree=0:threads=1"
# suffix -> container, codec, pixel format, options of the encoder
VIDEOS = {
    ".mp4": ("mp4", "libx264", "yuv420p", {"crf": "19", "preset": "veryfast", "x264-params": X264}),
    ".mov": ("mov", "mpeg4", "yuv420p", {"qmin": "2", "qmax": "4"}),
    ".avi": ("avi", "mjpeg", "yuvj420p", {"qmin": "3", "qmax": "3"}),
    ".mpg": ("mpeg", "mpeg2video", "yuv420p", {"qmin": "2", "qmax": "4"}),
}
JPEG_QUALITY = 92


def write_cine(path: Path, frames: np.ndarray, patient: Patient, scanner: Scanner, promised: int) -> None:
    """Write grey frames, uint8 [T, H, W], in the format of the path's suffix, as the patient's site does.

    promised: the number of frames that a DICOM's header states.
    """
    if path.suffix != ".dcm":
        write_video(path, frames, int(scanner.fps))
        return
    rows, columns = np.nonzero(scanner.sector)
    box = tuple(int(v) for v in (columns.min(), rows.min(), columns.max(), rows.max()))
    about = {"PatientID": patient.name, "PatientName": f"Synthetic^{patient.name}",
             "InstitutionName": patient.site.name, "ManufacturerModelName": patient.site.device,
             "StudyID": path.stem}  # fmt: skip
    write_dicom(path, frames, int(scanner.fps), scanner.mm_per_px, about, box, promised)


def write_video(path: Path, frames: np.ndarray, fps: int) -> None:
    """Write grey frames, uint8 [T, H, W] with even H and W, in the format of the path's suffix."""
    container, codec, pixels, options = VIDEOS[path.suffix]
    # bitexact: the file holds no dates or versions, so the same frames give the same bytes.
    with av.open(str(path), "w", format=container, options={"fflags": "+bitexact"}) as output:
        stream = output.add_stream(codec, rate=Fraction(fps), options=options)
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt = pixels
        stream.codec_context.thread_count = 1
        stream.codec_context.bit_rate = 8_000_000
        convert = VideoReformatter()  # one for all frames: preparing a conversion takes longer than doing it
        for frame in frames:
            picture = convert.reformat(av.VideoFrame.from_ndarray(frame, format="gray"), format=pixels)
            output.mux(stream.encode(picture))
        output.mux(stream.encode())


def write_dicom(
    path: Path,
    frames: np.ndarray,
    fps: int,
    mm_per_px: float,
    about: dict[str, str],
    box: tuple[int, int, int, int],
    promised: int,
) -> None:
    """Write grey frames, uint8 [T, H, W], as JPEG-compressed Ultrasound Multi-frame Image.

    about: DICOM keyword -> text. box: x0, y0, x1, y1 px of the calibrated region; the standard calibrates in cm.
    promised: the number of frames that the header states.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.name, *about.values()])
    meta.TransferSyntaxUID = JPEGBaseline8Bit
    cine = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    cine.SOPClassUID, cine.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    cine.StudyInstanceUID = generate_uid(entropy_srcs=["study", *about.values()])
    cine.SeriesInstanceUID = generate_uid(entropy_srcs=["series", *about.values()])
    cine.Modality = "US"
    for keyword, text in about.items():
        setattr(cine, keyword, text)
    cine.NumberOfFrames = promised
    cine.Rows, cine.Columns = frames.shape[1:]
    cine.SamplesPerPixel, cine.PhotometricInterpretation = 1, "MONOCHROME2"
    cine.BitsAllocated = cine.BitsStored = 8
    cine.HighBit, cine.PixelRepresentation = 7, 0
    cine.FrameTime, cine.CineRate = 1000 / fps, fps
    cine.FrameIncrementPointer = Tag("FrameTime")
    cine.LossyImageCompression = "01"
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0, region.RegionLocationMaxX1, region.RegionLocationMaxY1 = box
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = mm_per_px / 10
    cine.SequenceOfUltrasoundRegions = [region]
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    cine.PixelData = encapsulate([cv2.imencode(".jpg", frame, quality)[1].tobytes() for frame in frames])
    cine["PixelData"].VR = "OB"
    cine.save_as(path, enforce_file_format=True)
