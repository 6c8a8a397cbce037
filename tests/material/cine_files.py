"""Small cines for the tests: speckle in a sector, written as video or DICOM."""

from pathlib import Path

import av
import cv2
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid


def sector_mask(height: int, width: int) -> np.ndarray:
    """bool [H, W], a convex probe's sector."""
    mask = np.zeros((height, width), np.uint8)
    cv2.ellipse(mask, (width // 2, -height // 8), (height, height), 0, 55, 125, 255, -1)
    cv2.ellipse(mask, (width // 2, -height // 8), (height // 4, height // 4), 0, 0, 180, 0, -1)
    return mask > 0


def speckle(frames: int, height: int = 120, width: int = 160, seed: int = 0, speed: float = 1.5) -> np.ndarray:
    """uint8 [T, H, W]: speckled tissue that slides by `speed` px a frame in a sector; black outside."""
    rng = np.random.default_rng(seed)
    tissue = cv2.GaussianBlur(rng.gamma(1.0, 1.0, (height, width * 2)), (5, 5), 1.2)
    lumps = cv2.resize(rng.uniform(0.1, 1.8, (6, 14)), (width * 2, height), interpolation=cv2.INTER_CUBIC)
    tissue = np.clip(tissue * lumps * 90, 12, 255)
    moved = [
        cv2.warpAffine(tissue, np.array([[1, 0, -speed * t], [0, 1, 0]], float), (width * 2, height))
        for t in range(frames)
    ]
    return np.stack(moved)[:, :, :width].astype(np.uint8) * sector_mask(height, width)


def write_video(path: Path, frames: np.ndarray, codec: str = "mjpeg", fps: int = 25, **options: str) -> Path:
    """frames: uint8 [T, H, W] grey or [T, H, W, 3] RGB."""
    pixels = {"mjpeg": "yuvj420p", "gif": "rgb8", "ffv1": "gray"}.get(codec, "yuv420p")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width, stream.pix_fmt, stream.options = *frames.shape[1:3], pixels, options
        if codec == "mpeg1video":
            stream.bit_rate = 4_000_000
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, "gray" if frame.ndim == 2 else "rgb24")
            for packet in stream.encode(picture):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def dicom(frames: np.ndarray, photometric: str = "MONOCHROME2", **elements) -> Dataset:
    """frames: uint8 or uint16 [T, H, W] or uint8 [T, H, W, 3]; elements by keyword."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = UltrasoundMultiFrameImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.Modality = "US"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames.shape[:3]
    dataset.SamplesPerPixel = 3 if frames.ndim == 4 else 1
    if frames.ndim == 4:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated = dataset.BitsStored = 8 * frames.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = 0
    dataset.PixelData = frames.tobytes()
    for name, value in elements.items():
        setattr(dataset, name, value)
    return dataset


def save_dicom(path: Path, dataset: Dataset) -> Path:
    dataset.save_as(path, enforce_file_format=True)
    return path


def ultrasound_region(centimetres: float, x0: int, y0: int, x1: int, y1: int) -> Dataset:
    """A B-mode region of `centimetres` per pixel."""
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = x0, y0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = x1, y1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = centimetres
    return region
