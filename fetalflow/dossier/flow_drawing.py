"""The way of the data as a drawing: boxes from above to below, what is left out beside them, the parts at the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from fetalflow.dossier.chapter import Text, parts
from fetalflow.dossier.evidence import Figure

WIDTH, LEFT, BOX, GAP = 460, 6, 214, 26  # px; narrow, so that the words can be read on a phone
LINE, PAD = 16, 8  # px: height of a line, room around the words
LONGEST = 33  # characters of a line
STYLE = "font:12px system-ui,sans-serif"


@dataclass(frozen=True)
class Box:
    """title: the first line. lines: each has its figures."""

    title: str
    lines: Sequence[Text]

    @property
    def figures(self) -> list[Figure]:
        """Those that the box shows, in order."""
        return [part for line in self.lines for part in parts(line) if isinstance(part, Figure)]


def draw(steps: Sequence[tuple[Box, Box | None]], ends: Sequence[Box], title: str) -> str:
    """An `<svg>` element. steps: a box of the way, and what is left out behind it; ends: the boxes side by side below
    the last step. title: for people who cannot see the drawing."""
    pieces, top = [], 0
    for box, out in steps:
        height = _height(box)
        pieces.append(_box(box, LEFT, top, BOX))
        below = top + height + GAP
        if out is not None:
            middle = top + height + GAP // 2
            side = max(middle - _height(out) // 2, 0)
            pieces.append(_arrow(LEFT + BOX // 2, middle, WIDTH - BOX - LEFT, middle))
            pieces.append(_box(out, WIDTH - BOX - LEFT, side, BOX, dashed=True))
            below = max(below, side + _height(out) + GAP)
        pieces.append(_arrow(LEFT + BOX // 2, top + height, LEFT + BOX // 2, below))
        top = below
    wide = (WIDTH - 2 * LEFT - (len(ends) - 1) * LEFT) // max(len(ends), 1)
    pieces += [_box(box, LEFT + number * (wide + LEFT), top, wide) for number, box in enumerate(ends)]
    height = top + max((_height(box) for box in ends), default=0) + 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}" style="width:100%;max-width:38rem;{STYLE}" fill="none" '
        f'stroke="#5a6876">{"".join(pieces)}</svg>'
    )


def _words(box: Box) -> list[str]:
    return [line for text in box.lines for line in _wrapped("".join(map(str, parts(text))))]


def _wrapped(text: str) -> list[str]:
    """Lines of at most LONGEST characters where a word allows it."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > LONGEST:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _height(box: Box) -> int:
    return (1 + len(_words(box))) * LINE + PAD + PAD // 2


def _box(box: Box, left: int, top: int, width: int, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    words = [f'<tspan font-weight="600">{escape(box.title)}</tspan>', *map(escape, _words(box))]
    lines = [
        f'<text x="{left + PAD}" y="{top + PAD // 2 + (number + 1) * LINE}" fill="#1c2733" stroke="none">{text}</text>'
        for number, text in enumerate(words)
    ]
    shape = f'<rect x="{left}" y="{top + 1}" width="{width}" height="{_height(box)}" rx="4" fill="#fff"{dash}/>'
    return shape + "".join(lines)


def _arrow(x: int, y: int, to_x: int, to_y: int) -> str:
    head = f"M{to_x - 5} {to_y - 4}L{to_x} {to_y}L{to_x - 5} {to_y + 4}"
    if x == to_x:
        head = f"M{to_x - 4} {to_y - 5}L{to_x} {to_y}L{to_x + 4} {to_y - 5}"
    return f'<path d="M{x} {y}L{to_x} {to_y}{head}"/>'
