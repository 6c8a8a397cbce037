"""A secondary capture: a measured frame with outline, calipers and lengths drawn into its pixels."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from highdicom import CoordinateSystemNames
from highdicom.sc import SCImage
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from fetalflow.biometry.drawing import draw_measured
from fetalflow.biometry.measuring import Measured
from fetalflow.biometry.outline import Spacing
from fetalflow.inference.examination.overlay import length_text
from fetalflow.inference.examination.result import Examination
from fetalflow.study.contents import MAKER
from fetalflow.study.dicom.sources import LOSSY, Source, place_in_study
from fetalflow.study.dicom.uids import uid
from fetalflow.study.result import FOR_RESEARCH, StudyResult

SERIES = 9702
LEAST = 640  # px across; a smaller frame is enlarged by a whole factor, so that the writing can be read
FOOT = 34  # px below the frame
DPI = 100


def capture(
    result: StudyResult, source: Source, found: Examination, number: int, seed: str, classes: dict[str, str]
) -> SCImage:
    """found: of the result; the frame that it shows, as the model saw it. What was found to lie outside of the field of
    view is black. Writing inside of it stays, as it is in the source."""
    frame = found.frames[found.shown]
    made = SCImage.from_ref_dataset(
        ref_dataset=source.stand_in,
        pixel_array=drawn(found),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system=CoordinateSystemNames.PATIENT,
        patient_orientation=("L", "P"),  # highdicom wants one; it is taken out below, because it is not known
        series_instance_uid=uid(seed, "series", "SC"),
        series_number=SERIES,
        sop_instance_uid=uid(seed, "SC", source.uid, str(found.structure)),
        instance_number=number,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=result.fetalflow,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description=f"fetalflow calipers. {FOR_RESEARCH}",
        content_date=source.moment.date(),
        content_time=source.moment.time(),
    )
    made.PatientOrientation, made.Laterality = None, None
    made.BurnedInAnnotation = "YES"
    made.ImageComments = FOR_RESEARCH
    made.DerivationDescription = "Outline, calipers and lengths of a model are drawn into the frame"
    made.SourceImageSequence = [_reference(source, frame)]
    for keyword in LOSSY:
        if keyword in source.stand_in:
            made[keyword] = source.stand_in[keyword]
    place_in_study(made, source, classes)
    return made


def drawn(found: Examination) -> np.ndarray:
    """uint8 [height, width, 3]: the shown frame with what was measured, and FOR_RESEARCH below it."""
    factor = -(-LEAST // found.width)
    width, height = factor * found.width, factor * found.height
    figure = Figure(figsize=(width / DPI, (height + FOOT) / DPI), dpi=DPI, facecolor="black")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, FOOT / (height + FOOT), 1, height / (height + FOOT)))
    measured = found.measured[found.shown] or Measured(found.label, found.unit)
    draw_measured(
        axes,
        found.picture,
        found.answer(found.shown),
        replace(measured, warnings=()),  # they are in the report; here they would cover the picture
        Spacing(found.mm_per_px, found.mm_per_px) if found.mm_per_px else None,
        values={name: length_text(length) for name, length in found.lengths.items()},
    )
    text = f"{FOR_RESEARCH} fetalflow, {found.structure or found.label}, frame {found.frames[found.shown] + 1}"
    figure.text(0.01, FOOT / (height + FOOT) / 2, text, color="white", fontsize=9, va="center")
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _reference(source: Source, frame: int) -> Dataset:
    made = Dataset()
    made.ReferencedSOPClassUID, made.ReferencedSOPInstanceUID = source.sop_class, source.uid
    if (numbers := source.numbers([frame])) is not None:
        made.ReferencedFrameNumber = numbers[0]
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = (
        codes.DCM.SourceImageForImageProcessingOperation[:3]
    )
    made.PurposeOfReferenceCodeSequence = [purpose]
    return made


def best_frames(result: StudyResult, sources: dict[str, Source]) -> Sequence[tuple[Source, Examination]]:
    """The frames to draw: by structure, the one that the page of the examination shows."""
    return [(sources[each.source], each) for each in result.examinations if each.source in sources]
