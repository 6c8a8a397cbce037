"""A DICOM segmentation for each image: the mask of every frame that was measured, with references to these frames."""

from collections.abc import Iterable, Sequence
from copy import deepcopy

import cv2
import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.sr.codedict import codes

from fetalflow.biometry.structures import LENGTHS
from fetalflow.study.contents import MAKER
from fetalflow.study.dicom.codes import ANATOMY, STRUCTURE_CODES
from fetalflow.study.dicom.sources import Source, place_in_study
from fetalflow.study.dicom.uids import uid
from fetalflow.study.result import FOR_RESEARCH, MeasuredFrame, StudyResult, UsedModel

SERIES = 9701
COUNTED_BY = "TemporalPositionIndex"  # the measured frames follow each other in time; counted without gaps


def model_of(result: StudyResult, task: str) -> UsedModel:
    """The model that answered a task; a nameless one where the result does not state it."""
    return next((each for each in result.models if each.task == task), UsedModel(task, task, "", "", "", ""))


def parameters(model: UsedModel) -> list[str]:
    """What identifies a model beside name and version, for an algorithm identification."""
    stated = (("network", model.network), ("sha256 of the weights", model.sha256), ("engine", model.engine))
    return [f"{name}: {value}" for name, value in stated if value]


def who_answered(result: StudyResult) -> list[str]:
    """A sentence for each model that a figure depends on."""
    says = {"biometry": "measured", "planes": "planes named"}
    says |= {"movement": "parts that move named"} if result.movement else {}
    return [
        "; ".join([f"{says[each.task]} by {each.name}, version {each.version or 'none'}", *parameters(each)])
        for each in result.models
        if each.task in says
    ]


def segmentation(
    result: StudyResult,
    source: Source,
    frames: Sequence[MeasuredFrame],
    number: int,
    seed: str,
    classes: dict[str, str],
) -> Segmentation:
    """frames: the measured frames of this source. number: of the object in its series. seed: `uids.fingerprint`.

    One segment for each structure, one frame for each measured frame, binary, in the pixels of the source; its tracking
    UID is that of the measurements in the report.
    """
    frames = sorted(frames, key=lambda each: (list(LENGTHS).index(each.structure), each.frame))
    structures = [each for each in LENGTHS if any(frame.structure == each for frame in frames)]
    model = model_of(result, "biometry")
    made = Segmentation(
        source_images=[source.stand_in],
        pixel_array=np.ones((1, source.stand_in.Rows, source.stand_in.Columns, len(structures)), np.uint8),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _segment(place, structure, model, source, seed) for place, structure in enumerate(structures, start=1)
        ],
        series_instance_uid=uid(seed, "series", "SEG"),
        series_number=SERIES,
        sop_instance_uid=uid(seed, "SEG", source.uid),
        instance_number=number,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=result.fetalflow,
        device_serial_number="none",
        content_label="FETAL_STRUCTURES",
        content_description=FOR_RESEARCH,
        series_description=f"fetalflow masks. {FOR_RESEARCH}",
        content_date=source.moment.date(),
        content_time=source.moment.time(),
    )
    made.PatientOrientation, made.ContentCreatorName = None, None
    _hold(made, source, frames, structures, uid(seed, "dimensions", source.uid))
    place_in_study(made, source, classes)
    return made


def frame_number(frames: Sequence[MeasuredFrame], frame: MeasuredFrame) -> int:
    """The number, from 1, of a measured frame of a source in the segmentation of that source."""
    order = sorted((list(LENGTHS).index(each.structure), each.frame) for each in frames)
    return order.index((list(LENGTHS).index(frame.structure), frame.frame)) + 1


def tracking_uid(seed: str, source: Source, structure: str) -> str:
    """One structure in one image has one tracking UID, in the segmentation and in the report."""
    return uid(seed, "view", source.uid, structure)


def recorded_mask(frame: MeasuredFrame, source: Source) -> np.ndarray:
    """uint8 [rows, columns]: the mask in the pixels of the file. Frames whose pixels are not square were made square
    before they were measured."""
    shape = (source.stand_in.Columns, source.stand_in.Rows)
    mask = frame.pixels.astype(np.uint8)
    return mask if mask.shape[::-1] == shape else cv2.resize(mask, shape, interpolation=cv2.INTER_NEAREST)


def _segment(place: int, structure: str, model: UsedModel, source: Source, seed: str) -> SegmentDescription:
    algorithm = AlgorithmIdentificationSequence(
        name=f"{MAKER} {model.name}",
        family=codes.cid7162.ArtificialIntelligence,
        version=model.version or model.sha256[:12] or "none",
        source=MAKER,
        parameters={"stated": "; ".join(parameters(model))},
    )
    return SegmentDescription(
        segment_number=place,
        segment_label=structure,
        segmented_property_category=ANATOMY,
        segmented_property_type=STRUCTURE_CODES[structure],
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        tracking_uid=tracking_uid(seed, source, structure),
        tracking_id=f"{structure} in image {source.uid}"[:64],
    )


def _hold(
    made: Segmentation, source: Source, frames: Sequence[MeasuredFrame], structures: Sequence[str], dimensions: str
) -> None:
    """Put the masks in. highdicom (0.28) holds one frame of an image without a place in space, and ultrasound has none;
    the groups that are made here are those of its one frame, once for each measured frame."""
    derivation = made.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence
    numbers = sorted({frame.frame for frame in frames})
    groups = []
    for frame in frames:
        segment = structures.index(frame.structure) + 1
        group = Dataset()
        group.DerivationImageSequence = [_of_frame(derivation[0], source, frame)]
        content, place = Dataset(), numbers.index(frame.frame) + 1
        content.DimensionIndexValues = [segment, place]
        setattr(content, COUNTED_BY, place)
        group.FrameContentSequence = [content]
        group.SegmentIdentificationSequence = [Dataset()]
        group.SegmentIdentificationSequence[0].ReferencedSegmentNumber = segment
        groups.append(group)
    for shared in made.SharedFunctionalGroupsSequence:
        if "SegmentIdentificationSequence" in shared:  # where there is one segment, highdicom states it for all frames
            del shared.SegmentIdentificationSequence
    made.PerFrameFunctionalGroupsSequence = groups
    made.NumberOfFrames = len(frames)
    made.SegmentsOverlap = "YES" if _overlap(frames) else "NO"
    made.PixelData = _packed(recorded_mask(frame, source).ravel() for frame in frames)
    _count_by_time(made, dimensions)


def _packed(masks: Iterable[np.ndarray]) -> bytes:
    """Eight pixels in a byte; a frame begins where the one before ended, also within a byte. Masks of long cines do not
    fit into memory together."""
    pieces, rest = [], np.zeros(0, np.uint8)
    for mask in masks:
        bits = np.concatenate([rest, mask])
        whole = len(bits) // 8 * 8
        pieces.append(np.packbits(bits[:whole], bitorder="little").tobytes())
        rest = bits[whole:]
    packed = b"".join([*pieces, np.packbits(rest, bitorder="little").tobytes()])
    return packed + bytes(len(packed) % 2)


def _overlap(frames: Sequence[MeasuredFrame]) -> bool:
    """Whether a pixel belongs to two structures."""
    of_number: dict[int, list[MeasuredFrame]] = {}
    for frame in frames:
        of_number.setdefault(frame.frame, []).append(frame)
    several = [group for group in of_number.values() if len(group) > 1]
    return any(np.sum([frame.pixels for frame in group], axis=0).max() > 1 for group in several)


def _of_frame(derivation: Dataset, source: Source, frame: MeasuredFrame) -> Dataset:
    made = deepcopy(derivation)
    if (numbers := source.numbers([frame.frame])) is not None:
        made.SourceImageSequence[0].ReferencedFrameNumber = numbers[0]
    return made


def _count_by_time(made: Segmentation, dimensions: str) -> None:
    """The second dimension of the frames, after the segment."""
    second = Dataset()
    second.DimensionIndexPointer = tag_for_keyword(COUNTED_BY)
    second.FunctionalGroupPointer = tag_for_keyword("FrameContentSequence")
    second.DimensionDescriptionLabel = "Frame of the cine"
    made.DimensionIndexSequence = [made.DimensionIndexSequence[0], second]
    for each in (*made.DimensionIndexSequence, *made.DimensionOrganizationSequence):
        each.DimensionOrganizationUID = dimensions
