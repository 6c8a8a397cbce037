"""Masks the pixels of a cine on every frame and writes them without loss; nothing else of the file is copied.

A cine is decoded twice, once to find the ultrasound region and once to write it, so that no unmasked frame is ever
on a disk.
"""

import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from pydicom import Dataset

from fetalflow.artefacts import atomic_file
from fetalflow.cine.cuts import find_cuts, small
from fetalflow.cine.reading import open_cine
from fetalflow.cine.recording import Limits
from fetalflow.cine.sector import (
    BACKGROUND,
    LIT,
    MOVES,
    STILL_SHARE,
    Watch,
    coloured_graphics,
    find_sector,
    find_sector_of_still,
    keep,
)
from fetalflow.errors import Rejected
from fetalflow.hospital.deidentify.pages import is_page

LARGEST_DICOM = 2**32 - 2  # bytes of uncompressed pixels that the standard can state


@dataclass(frozen=True)
class Survey:
    """Result of the first pass over a cine. masks: end frame (exclusive) and uint8 [H, W], 255 keep and 0 blank, of
    every scene; frames: their number; fps: None if the file states none; times: seconds of every frame where the rate
    varies, else None; aspect: height of a pixel divided by its width; spacing: mm per pixel down and across, None if
    the file states none."""

    masks: list[tuple[int, np.ndarray]]
    frames: int
    fps: float | None
    times: list[float] | None = None
    aspect: float = 1.0
    spacing: tuple[float, float] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.frames, *self.masks[0][1].shape


def survey(path: Path, limits: Limits, cut_threshold: float) -> Survey:
    """Find the ultrasound region of every scene.

    Raises Rejected: what `open_cine` raises; `sector` when the pixels show no ultrasound region, or a page of text,
    because then text and tissue cannot be distinguished. A region that the header states does not change that: some
    devices state the whole screen.
    """
    watch, pictures = Watch(), []
    with open_cine(path, limits) as cine:
        for frame in cine.frames:
            watch.look(frame, cine.tint)
            pictures.append(small(frame))
        box, facts = cine.box, (len(pictures), cine.fps, cine.times, cine.aspect, cine.spacing)
    cuts = find_cuts(np.stack(pictures), cut_threshold)
    if not cuts:
        kept = _kept(watch, box)
        if not kept.any():
            raise Rejected("sector", "no ultrasound region was found in the pixels, or they show a page of text")
        return Survey([(len(pictures), kept)], *facts)
    masks = [
        (end, _kept(scene, box) & ~coloured_graphics(watch))
        for end, scene in zip([*cuts, len(pictures)], _watches(path, limits, cuts), strict=True)
    ]
    if not any(kept.any() for _, kept in masks):
        raise Rejected("sector", "no ultrasound region was found in any scene")
    return Survey(masks, *facts)


def _watches(path: Path, limits: Limits, cuts: list[int]) -> Iterator[Watch]:
    """A `Watch` (statistics of the pixels) of each scene of a cine."""
    scene = Watch()
    with open_cine(path, limits) as cine:
        for index, frame in enumerate(cine.frames):
            if index in cuts:
                yield scene
                scene = Watch()
            scene.look(frame, cine.tint)
    yield scene


def _kept(watch: Watch, box: tuple[int, int, int, int] | None) -> np.ndarray:
    """As `keep`; nothing of a scene without a sector, which is black, and of a page of text."""
    kept = keep(watch, box)
    shows_text = not _has_sector(watch) or (_is_still(watch) and is_page(watch.mean().astype(np.uint8), kept))
    return np.zeros_like(kept) if shows_text else kept


def _has_sector(watch: Watch) -> bool:
    mean = watch.mean()
    everywhere = np.full(mean.shape, 255, np.uint8)
    if watch.seen == 1:
        return find_sector_of_still(mean, everywhere) is not None
    return find_sector(mean > BACKGROUND + LIT, watch.deviation(mean) > MOVES, everywhere) is not None


def _is_still(watch: Watch) -> bool:
    mean = watch.mean()
    lit = mean > BACKGROUND + LIT
    return watch.sampled < 3 or np.count_nonzero(lit & (watch.deviation(mean) > MOVES)) < STILL_SHARE * lit.sum()


def masked_frames(path: Path, limits: Limits, first_pass: Survey) -> Iterator[np.ndarray]:
    """The frames of a surveyed cine, uint8 [H, W] grey, blank where its masks are 0. An array is valid until the
    next one is requested."""
    scenes = iter(first_pass.masks)
    end, kept = next(scenes)
    with open_cine(path, limits) as cine:
        for index, frame in enumerate(cine.frames):
            if index == end:
                end, kept = next(scenes)
            yield cv2.bitwise_and(frame, kept)


def write_still(path: Path, frame: np.ndarray) -> None:
    """frame: uint8 [H, W], as PNG."""
    with atomic_file(path) as temporary:
        cv2.imwrite(str(temporary), frame)


def write_video(path: Path, frames: Iterator[np.ndarray], first_pass: Survey) -> None:
    """frames: uint8 [H, W], as FFV1 in Matroska, with the rate or the times of the frames that `first_pass` found; the
    same frames give the same bytes. PyAV cannot write the shape of pixels that are not square."""
    with (
        atomic_file(path) as temporary,
        av.open(str(temporary), "w", format="matroska", options={"fflags": "+bitexact"}) as container,
    ):
        stream = container.add_stream("ffv1", rate=Fraction(first_pass.fps).limit_denominator(10_000))
        stream.height, stream.width, stream.pix_fmt = *first_pass.shape[1:], "gray"
        stream.codec_context.thread_count = 1
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        ticks, last = Fraction(1, 1000), -1  # of Matroska
        if first_pass.times:
            stream.codec_context.time_base = ticks
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "gray")
            if first_pass.times:
                last = max(last + 1, round(first_pass.times[index] / ticks))
                picture.pts, picture.time_base = last, ticks
            for packet in stream.encode(picture):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def write_dicom(path: Path, header: Dataset, frames: Iterator[np.ndarray], shape: tuple[int, int, int]) -> None:
    """frames: uint8 [H, W], `shape` = [T, H, W], as uncompressed 8-bit MONOCHROME2 under a clean header.

    Raises Rejected `huge` when they do not fit into one file.
    """
    size = shape[0] * shape[1] * shape[2]
    if size > LARGEST_DICOM:
        raise Rejected("huge", "its pixels do not fit into an uncompressed DICOM file")
    frame_count, header.Rows, header.Columns = shape
    if "FrameIncrementPointer" in header:  # an object of several frames
        header.NumberOfFrames = frame_count
    header.SamplesPerPixel, header.PhotometricInterpretation, header.PixelRepresentation = 1, "MONOCHROME2", 0
    header.BitsAllocated, header.BitsStored, header.HighBit = 8, 8, 7
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent) as pixels:
        for frame in frames:
            pixels.write(np.ascontiguousarray(frame))
        pixels.write(b"\0" * (size % 2))
        pixels.seek(0, io.SEEK_SET)
        header.PixelData = pixels
        header["PixelData"].VR = "OB"
        with atomic_file(path) as temporary:
            header.save_as(temporary, enforce_file_format=True)
