"""What a DICOM header says of scale, time and number of frames is believed only where it can be true."""

import io
import zlib

import av
import numpy as np
import pytest
from cine_files import dicom, save_dicom, speckle, ultrasound_region
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, fragment_frame, generate_frames
from pydicom.uid import (
    HEVCMP51,
    MPEG4HP41,
    DeflatedExplicitVRLittleEndian,
    EnhancedUSVolumeStorage,
    JPEG2000Lossless,
    RLELossless,
)

from fetalflow.cine.reading import open_cine, read_cine
from fetalflow.cine.recording import Limits
from fetalflow.errors import Rejected

LIMITS = Limits()
FRAMES = speckle(6, 80, 100)


@pytest.fixture
def write(tmp_path):
    def save(frames=FRAMES, photometric="MONOCHROME2", without=(), change=None, **elements):
        dataset = dicom(frames, photometric, **elements)
        for name in without:
            delattr(dataset, name)
        if change:
            change(dataset)
        return save_dicom(tmp_path / "a.dcm", dataset)

    return save


def rejected(path, limits=LIMITS) -> Rejected:
    with pytest.raises(Rejected) as found:
        read_cine(path, limits)
    return found.value


def region(box, centimetres=(0.02, 0.02), **elements):
    top, left, bottom, right = box
    found = ultrasound_region(centimetres[0], left, top, right, bottom)
    found.PhysicalDeltaY, found.PhysicalDeltaX = centimetres
    for name, value in elements.items():
        setattr(found, name, value)
    return found


WHOLE, LEFT, RIGHT, ZOOM = (0, 0, 79, 99), (0, 0, 79, 49), (0, 50, 79, 99), (50, 60, 79, 99)
HALF_MM = {"PixelSpacing": ["0.5", "0.5"]}
NO_UNITS = {"PhysicalUnitsXDirection": 0, "PhysicalUnitsYDirection": 0}
SCALES = {  # regions, other elements -> mm per pixel, box, regions of different scale, a word of the remark
    "one": ([region(WHOLE)], {}, 0.2, (0, 0, 80, 100), 0, None),
    "the end instead of the last pixel": ([region((0, 0, 80, 100))], {}, 0.2, (0, 0, 80, 100), 0, None),
    "beyond the frame": ([region((0, 0, 159, 199))], HALF_MM, None, None, 0, "beyond"),
    "another beyond the frame": ([region(WHOLE), region((0, 0, 20, 500))], {}, None, None, 0, "beyond"),
    "far beyond the frame": ([region((0, 0, 79, 4_000_000_000))], {}, None, None, 0, "beyond"),
    "two alike": ([region(LEFT), region(RIGHT)], {}, 0.2, (0, 0, 80, 100), 0, None),
    "two scales": ([region(LEFT), region(RIGHT, (0.03, 0.03))], {}, None, (0, 0, 80, 100), 2, "different"),
    "two scales and a spacing": ([region(LEFT), region(RIGHT, (0.03, 0.03))], HALF_MM, None, ..., 2, "different"),
    "a magnified part": ([region(WHOLE), region(ZOOM, (0.01, 0.01))], {}, None, ..., 2, "different"),
    "one of unknown scale": ([region(LEFT), region(RIGHT, **NO_UNITS)], {}, None, ..., 2, "unknown"),
    "a thumbnail": ([region(WHOLE), region((0, 0, 9, 9), (0.2, 0.2))], {}, 0.2, ..., 0, None),
    "M-mode below": ([region((0, 0, 39, 99)), region((40, 0, 79, 99), RegionSpatialFormat=2)], {}, 0.2, (0, 0, 40, 100),
                     0, None),
    "a spectrum below": ([region((0, 0, 39, 99)), region((40, 0, 79, 99), RegionSpatialFormat=3, RegionDataType=3)], {},
                         0.2, (0, 0, 40, 100), 0, None),
    "a spectrum that calls itself flat": ([region((0, 0, 39, 99)), region((40, 0, 79, 99), (9, 9), RegionDataType=4)],
                                          {}, 0.2, (0, 0, 40, 100), 0, None),
    "only a spectrum": ([region(WHOLE, RegionSpatialFormat=3, RegionDataType=3)], {}, None, None, 0, None),
    "inside out": ([region((79, 99, 0, 0))], {}, None, None, 0, None),
    "spacing alone": ([], HALF_MM, 0.5, None, 0, None),
    "a placeholder": ([], {"PixelSpacing": ["1", "1"]}, None, None, 0, "placeholder"),
    "a placeholder beside a region": ([region(WHOLE)], {"PixelSpacing": ["1.0", "1.0"]}, 0.2, ..., 0, "placeholder"),
    "spacing that differs": ([region(WHOLE)], HALF_MM, 0.2, ..., 0, "PixelSpacing 0.5"),
    "spacing that agrees": ([region(WHOLE)], {"PixelSpacing": ["0.2", "0.2"]}, 0.2, ..., 0, None),
    "a region without units": ([region(WHOLE, **NO_UNITS)], HALF_MM, 0.5, ..., 0, "state no length"),
    "no numbers": ([], {"PixelSpacing": ["0", "0"]}, None, None, 0, "no pair"),
}  # fmt: skip


@pytest.mark.parametrize("name", SCALES)
def test_scale_and_regions(write, name):
    regions, elements, mm, box, different, word = SCALES[name]
    path = write(**({"SequenceOfUltrasoundRegions": regions} if regions else {}), **elements)
    with open_cine(path, LIMITS) as cine:
        assert cine.mm_per_px == (mm and pytest.approx(mm)) and len(cine.regions) == different
        assert box is ... or cine.box == box
        assert (word is None and not cine.remarks) or any(word in remark for remark in cine.remarks), cine.remarks


@pytest.mark.parametrize(
    ("elements", "aspect", "spacing", "word"),
    [
        ({"PixelAspectRatio": ["4", "3"]}, 4 / 3, None, "1.33"),
        ({"PixelAspectRatio": ["1", "1"]}, 1, None, None),
        ({"PixelAspectRatio": ["90", "1"]}, 1, None, "not used"),
        ({"PixelSpacing": ["0.3", "0.36"]}, 0.3 / 0.36, (0.3, 0.36), "0.833"),
        ({"PixelSpacing": ["0.3", "0.3"], "PixelAspectRatio": ["4", "3"]}, 1, (0.3, 0.3), "the scale is used"),
        ({"SequenceOfUltrasoundRegions": [region(WHOLE, (0.02, 0.03))]}, 2 / 3, (0.2, 0.3), "0.667"),
    ],
)
def test_each_axis_of_a_pixel_counts(write, elements, aspect, spacing, word):
    cine = read_cine(write(**elements), LIMITS)
    assert cine.aspect == pytest.approx(aspect) and cine.spacing == (spacing and pytest.approx(spacing))
    assert cine.frames.shape == FRAMES.shape  # as recorded; the store makes pixels square
    assert (word is None and not cine.remarks) or word in cine.remarks[0]


@pytest.mark.parametrize(
    ("elements", "fps", "pauses", "word"),
    [
        ({"FrameTimeVector": ["0", "40", "", "40", "40", "40"]}, 25, [], "blank"),
        ({"FrameTimeVector": ["0", "40", "40", " ", " ", "40"]}, 25, [], "blank"),
        ({"FrameTimeVector": ["0", "40"]}, 25, [], "2 values for 6 frames"),
        ({"FrameTimeVector": ["0", "40", "40", "4000", "40", "40"]}, 25, [3], "pauses before frame 3"),
        ({"FrameTimeVector": ["0", "20", "20", "20", "80", "80"]}, 50, [], "varies"),
        ({"FrameTimeVector": ["0", "40", "40", "40", "40", "40"], "CineRate": "30"}, 25, [], "different"),
        ({"FrameTimeVector": ["0", "40", "80", "120", "160", "200"]}, 25, [], "since the first frame"),
        ({"FrameTimeVector": ["0", "40", "-40", "40", "40", "40"]}, 25, [], "below 0"),
        ({"CineRate": "30", "FrameTime": "40"}, 30, [], "different"),
        ({"CineRate": "25", "FrameTime": "40"}, 25, [], None),
        ({"FrameTime": "40", "RecommendedDisplayFrameRate": "10"}, 25, [], None),
        ({"FrameTime": ""}, None, [], None),
    ],
)
def test_frame_times(write, elements, fps, pauses, word):
    cine = read_cine(write(**elements), LIMITS)
    assert cine.fps == (fps and pytest.approx(fps)) and list(cine.pauses) == pauses
    assert (word is None and not cine.remarks) or any(word in remark for remark in cine.remarks), cine.remarks


def compressed(syntax, pieces=1, **change):
    """Compresses the frames of a file, each in so many pieces, without a table of offsets."""

    def compress(dataset):
        dataset.compress(syntax)
        frames = list(generate_frames(dataset.PixelData, number_of_frames=len(FRAMES)))
        parts = [bytes(part) for frame in frames for part in fragment_frame(frame, pieces)]
        dataset.PixelData = encapsulate(parts, has_bot=False)
        for name, value in change.items():
            setattr(dataset, name, value) if value is not None else delattr(dataset, name)

    return compress


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (lambda dataset: None, 6),
        (lambda dataset: delattr(dataset, "NumberOfFrames"), 6),
        (lambda dataset: setattr(dataset, "NumberOfFrames", 1), "lying"),
        (lambda dataset: setattr(dataset, "NumberOfFrames", 9), "truncated"),
        (lambda dataset: setattr(dataset, "Rows", 79), "lying"),
        (lambda dataset: setattr(dataset, "Columns", 98), "lying"),
        (lambda dataset: setattr(dataset, "PixelData", dataset.PixelData + bytes(512)), 6),
        (compressed(JPEG2000Lossless), 6),
        (compressed(JPEG2000Lossless, NumberOfFrames=None), 6),
        (compressed(JPEG2000Lossless, NumberOfFrames=1), "lying"),
        (compressed(JPEG2000Lossless, NumberOfFrames=5), "lying"),
        (compressed(JPEG2000Lossless, NumberOfFrames=7), "truncated"),
        (compressed(JPEG2000Lossless, pieces=3), 6),
        (compressed(RLELossless), 6),
        (compressed(RLELossless, NumberOfFrames=None), 6),
        (compressed(RLELossless, NumberOfFrames=4), "lying"),
    ],
)
def test_the_number_of_frames_is_counted_in_the_file(write, change, answer):
    path = write(change=change)
    if isinstance(answer, str):
        assert rejected(path).kind == answer
        return
    assert np.array_equal(read_cine(path, LIMITS).frames, FRAMES)


def test_a_compressed_file_that_stops_early(write):
    path = write(change=compressed(JPEG2000Lossless))
    data = path.read_bytes()
    for place in (len(data) // 3, len(data) // 2, len(data) - 20):
        path.write_bytes(data[:place])
        assert rejected(path).kind == "truncated"


def deflated(path, target):
    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(target, enforce_file_format=True)
    return target


def test_deflated_files_are_read(write, tmp_path):
    cine = read_cine(deflated(write(CineRate=20), tmp_path / "b.dcm"), LIMITS)
    assert np.array_equal(cine.frames, FRAMES) and cine.fps == 20
    data = (tmp_path / "b.dcm").read_bytes()
    (tmp_path / "b.dcm").write_bytes(data[: len(data) * 2 // 3])
    assert rejected(tmp_path / "b.dcm").kind == "truncated"


def test_a_deflated_file_is_refused_before_it_is_unpacked(write, tmp_path):
    """100 MB of zeros in 0.1 MB: beyond the limit if the header says so, else more than the header says."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = b"".join(packer.compress(bytes(1 << 24)) for _ in range(6)) + packer.flush()
    for stated, kind in ((1, "lying"), (3000, "huge")):
        small = deflated(write(CineRate=20, NumberOfFrames=stated), tmp_path / "b.dcm").read_bytes()
        begin = 144 + dcmread(tmp_path / "b.dcm", stop_before_pixels=True).file_meta.FileMetaInformationGroupLength
        head = zlib.decompress(small[begin:], -zlib.MAX_WBITS)
        packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
        (tmp_path / "bomb.dcm").write_bytes(
            small[:begin] + packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH) + zeros
        )
        assert rejected(tmp_path / "bomb.dcm", Limits(max_bytes=20_000_000)).kind == kind


@pytest.mark.parametrize(("syntax", "codec", "kind"), [(MPEG4HP41, "libx264", "mp4"), (HEVCMP51, "libx265", "mpegts"),
                                                       (MPEG4HP41, "libx264", "h264")])  # fmt: skip
def test_a_video_in_a_dicom_file_is_read(write, syntax, codec, kind):
    stream, target = io.BytesIO(), Dataset()
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    with av.open(stream, "w", format=kind) as file:
        video = file.add_stream(codec, rate=25, options={"crf": "4"} | options)
        video.height, video.width, video.pix_fmt = *FRAMES.shape[1:], "yuv420p"
        for frame in FRAMES:
            file.mux(video.encode(av.VideoFrame.from_ndarray(frame, "gray")))
        file.mux(video.encode())
    data = stream.getvalue()

    def change(dataset):
        dataset.PixelData = encapsulate([data[: len(data) // 2 & ~1], data[len(data) // 2 & ~1 :]], has_bot=False)
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.update(target)

    target.SamplesPerPixel, target.PhotometricInterpretation = 3, "YBR_PARTIAL_420"
    cine = read_cine(write(change=change, FrameTime="50"), LIMITS)
    assert cine.fps == 20 and cine.promised == 6 and not cine.remarks
    assert np.abs(cine.frames.astype(int) - FRAMES).mean() < 4
    target.NumberOfFrames = 9
    assert rejected(write(change=change)).kind == "truncated"
    target.NumberOfFrames, target.Rows = 6, 90
    assert rejected(write(change=change)).kind == "lying"


def plane(position):
    group, place = Dataset(), Dataset()
    place.ImagePositionVolume = position
    group.PlanePositionVolumeSequence = [place]
    return group


@pytest.mark.parametrize(
    ("elements", "is_volume"),
    [
        ({"SOPClassUID": EnhancedUSVolumeStorage}, True),
        ({"DimensionOrganizationType": "3D"}, True),
        ({"DimensionOrganizationType": "3D_TEMPORAL"}, True),
        ({"FrameIncrementPointer": 0x00540080}, True),
        ({"FrameIncrementPointer": 0x00181063, "FrameTime": "40"}, False),
        ({"SOPClassUID": EnhancedUSVolumeStorage,
          "PerFrameFunctionalGroupsSequence": [plane([0, 0, z]) for z in range(6)]}, True),
        ({"SOPClassUID": EnhancedUSVolumeStorage,
          "PerFrameFunctionalGroupsSequence": [plane([0, 0, 0]) for _ in range(6)]}, False),
    ],
)  # fmt: skip
def test_planes_in_space_are_not_moments_in_time(write, elements, is_volume):
    path = write(**elements)
    if not is_volume:
        assert len(read_cine(path, LIMITS).frames) == 6
        return
    verdict = rejected(path)
    assert verdict.kind == "modality" and "volume" in verdict.reason
    assert len(read_cine(write(FRAMES[:1], **elements), LIMITS).frames) == 1  # one plane is an image


def test_16_stored_bits_of_16_have_the_grey_levels_of_12(write):
    deep = FRAMES.astype(np.uint16) * 16
    assert np.abs(read_cine(write(deep, BitsStored=12, HighBit=11), LIMITS).frames.astype(int) - FRAMES).max() <= 1
    white = np.percentile(deep[deep > 0], 99)
    found = read_cine(write(deep), LIMITS).frames
    assert np.abs(found.astype(int) - np.minimum(deep * (255 / white), 255)).max() <= 1
    spots = deep.copy()
    spots[0, :3, :3] = 65535  # a mark in one frame: every other pixel of every frame stays as it was
    marked = read_cine(write(spots), LIMITS).frames
    assert np.abs(marked.astype(int) - found)[spots == deep].max() <= 2
    window = {"WindowCenter": "2048", "WindowWidth": "4096"}
    assert np.abs(read_cine(write(deep, **window), LIMITS).frames.astype(int) - FRAMES).max() <= 1
    blank = read_cine(write(deep, WindowCenter="", WindowWidth="0", RescaleSlope="0", RescaleIntercept=""), LIMITS)
    assert np.array_equal(blank.frames, found)


def table_of(bits, stored):
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4096, 0, bits], (np.arange(4096) >> 12 - bits).astype(stored).tobytes()
    table["LUTData"].VR = "OW"
    return {"VOILUTSequence": [table]}


TWELVE = {"BitsStored": 12, "HighBit": 11}
DEPTHS = {  # what the frames are multiplied by, their type, elements, a word of the remark
    "signed, and none is below 0": (16, np.int16, TWELVE | {"PixelRepresentation": 1, "BitsStored": 13, "HighBit": 12}),
    "8 signed bits": (0.5, np.int8, {"PixelRepresentation": 1}),
    "a table of 12 bits": (16, np.uint16, TWELVE | table_of(12, np.uint16)),
    "a table of 8 bits": (16, np.uint16, TWELVE | table_of(8, np.uint8)),
    "a table of 8 bits in 16": (16, np.uint16, TWELVE | table_of(8, np.uint16)),
    "a window for 8 bits": (16, np.uint16, TWELVE | {"WindowCenter": "128", "WindowWidth": "256"}, "is not used"),
}


@pytest.mark.parametrize("name", DEPTHS)
def test_the_grey_levels_do_not_depend_on_how_they_are_stored(write, name):
    times, kind, elements, *word = DEPTHS[name]
    cine = read_cine(write((FRAMES.astype(float) * times).astype(kind), **elements), LIMITS)
    assert np.abs(cine.frames.astype(int) - FRAMES).max() <= 2 and all(word[0] in r for r in cine.remarks)
    assert len(cine.remarks) == len(word)


def test_uncompressed_colour_at_half_width_is_read_on_every_frame(write):
    """pydicom reads only the first frame of such a file."""
    halved = np.full((*FRAMES.shape[:2], FRAMES.shape[2] // 2, 4), 128, np.uint8)  # two greys, then the colour of both
    halved[..., 0], halved[..., 1] = FRAMES[..., ::2], FRAMES[..., 1::2]

    def change(dataset):
        dataset.PixelData = halved.tobytes()

    colour = np.repeat(FRAMES[..., None], 3, axis=3)
    assert np.array_equal(read_cine(write(colour, "YBR_FULL_422", change=change), LIMITS).frames, FRAMES)


def test_pixels_in_the_upper_bits_are_refused_and_not_misread(write):
    verdict = rejected(write(FRAMES.astype(np.uint16) * 256, BitsStored=12, HighBit=15))
    assert verdict.kind == "unreadable" and "HighBit 11" in verdict.reason
