"""From arrival to test: how many rows, cines, sequences and patients each step keeps and leaves out."""

from collections.abc import Iterable, Sequence

from fetalflow.dossier.chapter import Block, Drawing, Heading, Table, Text, Words
from fetalflow.dossier.evidence import Evidence, Figure
from fetalflow.dossier.flow_drawing import Box, draw
from fetalflow.dossier.gathering import deliveries, people

EXTRACT, SPLIT = "run/extract.json", "run/split.json"
KINDS = 8  # kinds of quarantine that the drawing names; the table has all
Sum = tuple[str, Sequence[Figure], Sequence[Figure]]  # what is counted; both sides must have the same sum


def way_of_data(evidence: Evidence) -> list[Block]:
    """Blocks for the data sheet: the drawing, whether its counts add up, and the tables behind it."""
    return [
        Heading("From arrival to test"),
        _drawing(evidence),
        *_checked(evidence),
        *_quarantine(evidence),
        *_parts(evidence),
        *_labels(evidence),
    ]


def _drawing(evidence: Evidence) -> Drawing:
    split = Box("Left out by the split", [(_of(evidence, people.FILE, "unused", "sequences"), " sequences")])
    used = Box("Used", [(_of(evidence, EXTRACT, "rows_used"), " rows"), (_cines(evidence), " cines or images")])
    sequences = Box(
        "Sequences",
        [(_of(evidence, EXTRACT, "sequences"), " sequences"), (_of(evidence, EXTRACT, "patients"), " patients")],
    )
    rows = Box("The drop that was read", [(_of(evidence, EXTRACT, "rows"), " rows")])
    steps = [*_arrived(evidence), (rows, _left_out(evidence)), (used, None), (sequences, split)]
    ends = [_end(evidence, number, part) for number, part in enumerate(people.PARTS)]
    boxes = [box for pair in steps for box in pair if box is not None] + ends
    figures = [figure for box in boxes for figure in box.figures]
    words = "How many rows, cines, sequences and patients each step keeps. Dashed boxes are left out."
    return Drawing(draw(steps, ends, "The way of the data from arrival to test."), words, figures)


def _arrived(evidence: Evidence) -> list[tuple[Box, Box | None]]:
    """The deliveries of an inbox; nothing where the drop did not come by one."""
    if evidence.figure(deliveries.FILE, "from").value != "store":
        return []
    taken = _list(evidence, deliveries.FILE, "deliveries")
    number = evidence.counted(len(taken), deliveries.FILE, "number of deliveries")
    refused, gone = evidence.figure(deliveries.FILE, "states", "refused"), _uncounted(evidence)
    rows = _delivered(evidence)
    lines: list[Text] = [(refused, " deliveries refused")] if refused.value else []
    lines += [(gone, " rows recalled, withdrawn or sent twice")] if int(gone.value or 0) > 0 else []
    beside = Box("Not used", lines) if lines else None
    return [(Box("Delivered", [(number, " deliveries"), (rows, " rows")]), beside)]


def _delivered(evidence: Evidence) -> Figure:
    rows = [each.get("rows") for each in _list(evidence, deliveries.FILE, "deliveries")]
    known = sum(rows) if rows and None not in rows else None
    return evidence.counted(known, deliveries.FILE, "sum of rows over all deliveries")


def _uncounted(evidence: Evidence) -> Figure:
    """Rows of the deliveries that the drop does not have any more."""
    delivered, read = _delivered(evidence).value, _of(evidence, EXTRACT, "rows").value
    more = delivered - read if isinstance(delivered, int) and isinstance(read, int) else None
    return evidence.counted(more, deliveries.FILE, "rows of all deliveries minus rows of run/extract.json")


def _left_out(evidence: Evidence) -> Box:
    kinds = _kinds(evidence)
    lines: list[Text] = [(_of(evidence, EXTRACT, "rows_quarantined"), " rows")]
    lines += [(kind, ": ", figure) for kind, figure in kinds[:KINDS]]
    if len(kinds) > KINDS:
        rest = sum(int(figure.value or 0) for _, figure in kinds[KINDS:])
        lines.append(("other kinds: ", evidence.counted(rest, EXTRACT, "sum of the other kinds in quarantined")))
    return Box("In quarantine", lines)


def _kinds(evidence: Evidence) -> list[tuple[str, Figure]]:
    found = evidence.figure(EXTRACT, "quarantined").value
    kinds = sorted(found.items(), key=lambda kind: (-kind[1], kind[0])) if isinstance(found, dict) else []
    return [(kind, _of(evidence, EXTRACT, "quarantined", kind)) for kind, _ in kinds]


def _end(evidence: Evidence, number: int, part: str) -> Box:
    titles = {"train": "Training", "validation": "Validation", "test": "Test"}
    lines = [
        (_of(evidence, people.FILE, "parts", number, key), f" {key}") for key in ("sequences", "cines", "patients")
    ]
    return Box(titles[part], lines)


def _checked(evidence: Evidence) -> list[Block]:
    """Whether the counts of the drawing add up: a warning for each that does not, or cannot be compared."""
    wrong, unknown = [], []
    for what, one, other in _sums(evidence):
        if any(figure.value is None for figure in (*one, *other)):
            unknown.append(what)
        elif _total(one) != _total(other):
            words: Text = (f"The counts of {what} do not add up: ", *_plus(one), " is not ", *_plus(other), ".")
            wrong.append(Words(words, "warning"))
    if evidence.figure(deliveries.FILE, "from").value == "store" and int(_uncounted(evidence).value or 0) < 0:
        both = _of(evidence, EXTRACT, "rows"), " and ", _delivered(evidence), "."
        wrong.append(Words(("More rows were read than the deliveries have: ", *both), "warning"))
    if unknown:
        missing = f"Whether these counts add up cannot be checked, since some are not on record: {'; '.join(unknown)}."
        wrong.append(Words(missing, "warning"))
    return wrong or [Words("The counts of all steps add up.")]


def _sums(evidence: Evidence) -> list[Sum]:
    def parts(key: str) -> list[Figure]:
        return [_of(evidence, people.FILE, "parts", number, key) for number in range(len(people.PARTS))]

    unused = _of(evidence, people.FILE, "unused", "sequences")
    sequences = _of(evidence, EXTRACT, "sequences")
    found: list[Sum] = [
        (
            "rows",
            [_of(evidence, EXTRACT, "rows")],
            [_of(evidence, EXTRACT, key) for key in ("rows_used", "rows_quarantined")],
        ),
        ("rows in quarantine", [_of(evidence, EXTRACT, "rows_quarantined")], [n for _, n in _kinds(evidence)]),
        ("sequences by label", [sequences], _values(evidence, EXTRACT, "sequences_by_label")),
        ("sequences by part", [sequences], [*parts("sequences"), unused]),
    ]
    folds = evidence.figure(people.FILE, "folds").value
    by_label = [figure for part in people.PARTS for figure in _values(evidence, SPLIT, "counts", part)]
    if folds == 1:  # with more folds, split.json counts each sequence once for each fold
        found.append(("sequences of the split", by_label, parts("sequences")))
    whole = not unused.value and not _of(evidence, people.FILE, "shared").value
    if whole and not _of(evidence, people.FILE, "erased").value:
        for key in ("patients", "cines"):
            everyone = _of(evidence, people.FILE, "all", key)
            found += [(f"{key} by part", [everyone], parts(key))] if everyone.value is not None else []
    return found


def _quarantine(evidence: Evidence) -> list[Block]:
    rows: list[list[Text]] = [[kind, figure] for kind, figure in _kinds(evidence)]
    if not rows:
        total = _of(evidence, EXTRACT, "rows_quarantined")
        return [Heading("Rows in quarantine"), Words(("Rows in quarantine: ", total, "."))]
    total = _of(evidence, EXTRACT, "rows_quarantined")
    words = "A row in quarantine is trained on and tested on by nobody, until a person releases it."
    return [Heading("Rows in quarantine"), Words(words), Table(["kind", "rows"], [*rows, ["all kinds", total]])]


def _parts(evidence: Evidence) -> list[Block]:
    keys = ("sequences", "cines", "patients")
    rows: list[list[Text]] = [
        [_of(evidence, people.FILE, "parts", number, key) for key in ("part", *keys)]
        for number in range(len(_list(evidence, people.FILE, "parts")))
    ]
    blocks: list[Block] = [Heading("The parts"), Words(("Kind of the split: ", evidence.figure(SPLIT, "kind"), "."))]
    blocks += [Table(["part", *keys], rows)] if rows else [Words("The split of this version is not on record.")]
    folds, shared = (evidence.figure(people.FILE, key) for key in ("folds", "shared"))
    if isinstance(folds.value, int) and folds.value > 1:
        words = " divisions of the same data were made. The counts here and in the drawing are those of the first."
        blocks.append(Words((folds, words)))
    if shared.value:
        blocks.append(Words((shared, " patients are in more than one part."), "warning"))
    return blocks


def _labels(evidence: Evidence) -> list[Block]:
    keys = ("label", *people.PARTS, "patients")
    rows: list[list[Text]] = [
        [_of(evidence, people.FILE, "labels", number, key) for key in keys]
        for number in range(len(_list(evidence, people.FILE, "labels")))
    ]
    head = ["label", "training", "validation", "test", "patients"]
    return [Heading("Sequences by label and part"), Table(head, rows)] if rows else []


def _cines(evidence: Evidence) -> Figure:
    """Cines of the manifest; where it is not on record, those that could be read."""
    known = _of(evidence, people.FILE, "all", "cines")
    return known if known.value is not None else _of(evidence, EXTRACT, "cines_readable")


def _of(evidence: Evidence, name: str, *keys: str | int) -> Figure:
    return evidence.figure(name, *keys)


def _values(evidence: Evidence, name: str, *keys: str) -> list[Figure]:
    """The figures of a JSON object, by key; one without a value where there is no object."""
    found = evidence.figure(name, *keys).value
    return (
        [_of(evidence, name, *keys, key) for key in sorted(found)]
        if isinstance(found, dict)
        else [_of(evidence, name, *keys)]
    )


def _list(evidence: Evidence, name: str, *keys: str) -> list[dict]:
    found = evidence.figure(name, *keys).value
    return found if isinstance(found, list) else []


def _total(figures: Iterable[Figure]) -> int:
    return sum(int(figure.value) for figure in figures)  # type: ignore[arg-type]


def _plus(figures: Sequence[Figure]) -> list[str | Figure]:
    """The figures with `+` between them."""
    return [part for figure in figures for part in (" + ", figure)][1:] or ["none"]
