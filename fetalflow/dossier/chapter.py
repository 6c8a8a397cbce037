"""What a chapter consists of. A number is always a `Figure`; plain text holds none that was measured."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fetalflow.dossier.evidence import Figure

Text = str | Figure | tuple["str | Figure", ...]  # words, a figure, or both in order


@dataclass(frozen=True)
class Heading:
    text: str


@dataclass(frozen=True)
class Words:
    """A paragraph. kind: `maker` is text that the maker states or still has to state, `warning` is what falls short."""

    parts: Text
    kind: Literal["text", "maker", "warning"] = "text"


@dataclass(frozen=True)
class Table:
    """rows: each has one cell for each word of `head`."""

    head: Sequence[str]
    rows: Sequence[Sequence[Text]]
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """file: of the evidence, such as `run/explain/overlap.png`."""

    file: str
    caption: Text


@dataclass(frozen=True)
class Drawing:
    """svg: a whole `<svg>` element, made by a chapter. figures: those that it shows, so that JSON holds them."""

    svg: str
    caption: Text
    figures: Sequence[Figure] = ()


Block = Heading | Words | Table | Picture | Drawing


@dataclass(frozen=True)
class Chapter:
    """name: for JSON and links, such as `facts`."""

    name: str
    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON. A drawing is given by its figures."""
        return {"name": self.name, "title": self.title, "blocks": [_block(block) for block in self.blocks]}

    def figures(self) -> list[Figure]:
        """Every figure of the chapter, in order."""
        return [part for block in self.blocks for text in texts_of(block) for part in parts(text) if _is_figure(part)]


def parts(text: Text) -> tuple[str | Figure, ...]:
    return text if isinstance(text, tuple) else (text,)


def texts_of(block: Block) -> list[Text]:
    """All texts of a block, in order."""
    match block:
        case Heading():
            return [block.text]
        case Words():
            return [block.parts]
        case Table():
            return [block.caption, *block.head, *(cell for row in block.rows for cell in row)]
        case Picture():
            return [block.caption]
        case Drawing():
            return [block.caption, *block.figures]


def _is_figure(part: str | Figure) -> bool:
    return isinstance(part, Figure)


def _block(block: Block) -> dict[str, Any]:
    match block:
        case Heading():
            return {"heading": block.text}
        case Words():
            return {block.kind: _text(block.parts)}
        case Table():
            rows = [[_text(cell) for cell in row] for row in block.rows]
            return {"table": {"caption": block.caption, "head": list(block.head), "rows": rows}}
        case Picture():
            return {"picture": {"file": block.file, "caption": _text(block.caption)}}
        case Drawing():
            return {"drawing": {"caption": _text(block.caption), "figures": [f.as_dict() for f in block.figures]}}


def _text(text: Text) -> Any:
    """A plain text as it is, a figure as an object, both together as a list."""
    found = [part.as_dict() if isinstance(part, Figure) else part for part in parts(text)]
    return found[0] if len(found) == 1 else found
