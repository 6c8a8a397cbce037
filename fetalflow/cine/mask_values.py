"""Makes 0 and 1 of the values of a mask's file. A file of several classes or colours is never thresholded."""

import re

import cv2
import numpy as np

from fetalflow.errors import InputError

FEW = 16  # values; a picture with more of them is drawn with soft edges, or stored with loss
LABELS = 32  # grey levels; a picture that is nowhere brighter holds numbers of classes
LOSS = 8  # grey levels by which JPEG of good quality changes 0 and the largest value near an edge
SOFT = 0.125  # of the largest value; this near to 0 or to the largest value, a soft picture counts as one of them
RIM_PX = 3.0  # the widest soft edge
IN_RIM = 0.97  # least share of the values between that lies within soft edges
TINT = 0.25  # of a colour's brightest channel; a soft picture's colours may differ by less
ROUNDED = 0.02  # as TINT, for a picture of few colours
STRAY = 0.01  # of the coloured pixels of a soft picture, which may have another colour
BORDER = 0.6  # share of the frame's border from which a mask may be inverted
SHOWN = 6  # values or colours that a refusal names
NAME = "mask_class"
WHOLE = r"\d+(?:\.0*)?(?:\+\d+)*"  # a spreadsheet writes 1 as 1.0; `1+2` are two classes of one structure
COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
REMEDY = f"Deliver a file with one class, or name the class of this row in the column {NAME}"


def one_class(pixels: np.ndarray, wanted: str = "") -> np.ndarray:
    """uint8 [T, H, W], 1 in the structure. pixels: bool or whole numbers [T, H, W].

    wanted: the value that is meant, as text, or several as `1+2`, of which one must be there; "": the file may hold one
    value, or one value with soft edges, whose pixels count from half of the largest value. Raises InputError when the
    file holds several classes, another class than the wanted one, or everything except the structure.
    """
    if pixels.dtype == bool:
        pixels = pixels.view(np.uint8)
    values, counts = _values(pixels)
    if wanted:
        if not re.fullmatch(WHOLE, wanted):
            raise InputError(f"{NAME} is {wanted!r}, and the file holds numbers: {_some(values)}. Name one of these")
        meant = [int(float(number)) for number in wanted.split("+")]
        if not set(meant) & set(values.tolist()):
            raise InputError(f"{NAME} is {wanted}, and the file holds {_some(values) or 'only 0'}. Name one of these")
        return np.stack([np.isin(frame, meant).view(np.uint8) for frame in pixels])
    if len(values) > 1 and not _is_loss(values, counts):
        _check_soft(pixels, values, counts)
    chosen = (pixels > (int(values[-1]) // 2 if len(values) else 0)).astype(np.uint8)
    _check_not_inverted(chosen)
    return chosen


def one_colour(picture: np.ndarray, wanted: str = "") -> np.ndarray:
    """uint8 [T, H, W], 1 in the structure. picture: uint8 or uint16 BGR [T, H, W, 3]. wanted: a colour like `#ff0000`,
    or as for `one_class` where the picture is grey. Raises InputError as `one_class`."""
    blue, green, red = np.moveaxis(picture, 3, 0)
    if COLOUR.fullmatch(wanted) and picture.dtype == np.uint8:
        colour = [int(wanted[i : i + 2], 16) for i in (5, 3, 1)]
        chosen = (picture == np.array(colour)).all(axis=3)
        if not chosen.any():
            raise InputError(f"{NAME} is {wanted}, and the file holds {_colours(picture)}. Name one of these")
        return chosen.astype(np.uint8)
    if np.array_equal(blue, green) and np.array_equal(blue, red):
        return one_class(np.ascontiguousarray(blue), wanted)
    if wanted:
        raise InputError(f"{NAME} is {wanted!r}, and the file holds colours: {_colours(picture)}. Name one of these")
    brightest = np.maximum(np.maximum(blue, green), red)
    chosen = one_class(brightest)
    shades = picture[chosen > 0] / brightest[chosen > 0][:, None].astype(float)
    kinds, times = np.unique(np.round(shades, 2), axis=0, return_counts=True)
    away = np.abs(shades - kinds[times.argmax()]).max(axis=1)
    few = len(np.unique(picture.reshape(-1, 3), axis=0)) <= FEW
    if (away > TINT).sum() > STRAY * len(shades) or (few and away.max(initial=0) > ROUNDED):
        raise InputError(f"the mask holds several colours ({_colours(picture)}). {REMEDY}, as in #ff0000")
    return chosen


def _values(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values other than 0, sorted, and how often each occurs."""
    if pixels.dtype.itemsize <= 2 and pixels.dtype.kind == "u":
        counts = np.zeros(int(pixels.max(initial=0)) + 1, np.int64)
        if len(counts) == 2:  # most masks are 0 and 1, and need no count
            return np.array([1]), np.array([np.count_nonzero(pixels)])
        for frame in pixels:
            counts += np.bincount(frame.ravel(), minlength=len(counts))
        counts[0] = 0
        return np.flatnonzero(counts), counts[counts > 0]
    values, counts = np.unique(pixels, return_counts=True)
    if len(values) and values[0] < 0:
        raise InputError(f"the mask holds {values[0]}. Expected 0 outside the structure and one value above 0 in it")
    return values[values != 0], counts[values != 0]


def _is_loss(values: np.ndarray, counts: np.ndarray) -> bool:
    """Whether all values are 0 and the largest one with what JPEG changes. Maps of classes may hold 1, 2 and 255."""
    low, high = values <= LOSS, values >= values[-1] - LOSS
    near = values[-1] >= LABELS and bool((low | high).all()) and low.any() and high.sum() > 1
    return near and (len(values) > 4 or counts[-1] > counts[:-1].sum())


def _check_soft(pixels: np.ndarray, values: np.ndarray, counts: np.ndarray) -> None:
    """Raises InputError unless all values below the largest are the soft edges of it."""
    most = int(values[-1])
    or_loss = f" or was stored with much loss: it has {len(values)} values" if len(values) > FEW else ""
    several = InputError(f"the mask holds several classes{or_loss} (the values {_some(values)}). {REMEDY}")
    if most < LABELS or most > np.iinfo(np.uint16).max:
        raise several
    if len(values) <= FEW:
        found = [_peaks, _blocks] if len(values) <= 4 else [_peaks]
        least = 1 if len(values) <= 4 else 5
        for each in found:
            pixels_of = sum((each(frame, values) for frame in pixels), np.zeros(len(values), np.int64))[:-1]
            if (pixels_of >= np.maximum(least, counts[:-1] / 2)).any():
                raise several
    between = rim = 0
    for frame in pixels:
        chosen = np.pad((frame > most // 2).astype(np.uint8), 1, mode="edge")
        edge = cv2.morphologyEx(chosen, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))[1:-1, 1:-1]
        near = cv2.distanceTransform(1 - edge, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= RIM_PX
        middle = (frame > SOFT * most) & (frame < (1 - SOFT) * most)
        between, rim = between + np.count_nonzero(middle), rim + np.count_nonzero(middle & near)
    if rim < IN_RIM * between:
        raise several


def _peaks(frame: np.ndarray, values: np.ndarray) -> np.ndarray:
    """For each value, how many of its pixels have no larger one within two pixels."""
    found = frame[frame == cv2.dilate(frame.astype(np.uint16), np.ones((5, 5), np.uint8))]
    return np.array([np.count_nonzero(found == value) for value in values])


def _blocks(frame: np.ndarray, values: np.ndarray) -> np.ndarray:
    """For each value, how many of its pixels lie in squares of 2x2 px of this value, which a soft edge has not."""
    square = np.ones((2, 2), np.uint8)
    areas = ((frame == value).view(np.uint8) for value in values)
    return np.array([np.count_nonzero(cv2.morphologyEx(area, cv2.MORPH_OPEN, square)) for area in areas])


def _check_not_inverted(chosen: np.ndarray) -> None:
    """The structure of an inverted mask may reach one corner of the frame, or lie across one of its sides."""
    corners = chosen[:, (0, 0, -1, -1), (0, -1, 0, -1)].sum(axis=1)
    sides = np.concatenate([chosen[:, 0], chosen[:, -1], chosen[:, :, 0], chosen[:, :, -1]], axis=1).mean(axis=1)
    if ((corners >= 3) & (sides > BORDER)).all() and not chosen.all():
        raise InputError(
            "the mask is set along most of the frame's border and not in a part of the frame: it may be inverted. "
            "Deliver it with 0 outside the structure"
        )


def _some(values: np.ndarray) -> str:
    return ", ".join(map(str, values[:SHOWN])) + (", ..." if len(values) > SHOWN else "")


def _colours(picture: np.ndarray) -> str:
    found, times = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
    names = [f"#{r:02x}{g:02x}{b:02x}" for b, g, r in found[np.argsort(-times)] if max(b, g, r)]
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
