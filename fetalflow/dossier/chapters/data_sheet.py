"""Data sheet: where the data are from, under which terms, what was left out, who labelled, and what was erased."""

from fetalflow.dossier.chapter import Block, Chapter, Heading, Table, Text, Words
from fetalflow.dossier.chapters.facts import synthetic_warning
from fetalflow.dossier.chapters.labelled import labelled
from fetalflow.dossier.chapters.way_of_data import EXTRACT, way_of_data
from fetalflow.dossier.evidence import Evidence
from fetalflow.dossier.gathering import deliveries, people
from fetalflow.dossier.statements import stated

TERMS = {"licence": "Licence", "consent": "Consent"}


def chapter(evidence: Evidence) -> Chapter:
    blocks = [
        *_sources(evidence),
        *_deliveries(evidence),
        *_terms(evidence),
        *way_of_data(evidence),
        *labelled(evidence),
        *_gone(evidence),
    ]
    return Chapter("data", "Data sheet", tuple(blocks))


def _sources(evidence: Evidence) -> list[Block]:
    facts: list[list[Text]] = [
        ["layout of the drop", evidence.figure(EXTRACT, "layout")],
        ["patients are known from", evidence.figure(EXTRACT, "patients_from")],
        ["patients that the drop does not name", evidence.figure(EXTRACT, "patients_assumed")],
        ["files of the drop", evidence.figure(EXTRACT, "cine_files")],
        ["frames that were decoded", evidence.figure(EXTRACT, "decoded_frames")],
    ]
    return [
        Heading("Where the data are from"),
        *synthetic_warning(evidence),
        Table(["fact", "value"], facts),
        *_sites(evidence),
        *_devices(evidence),
    ]


def _sites(evidence: Evidence) -> list[Block]:
    keys = ("site", *people.PARTS, "patients")
    rows: list[list[Text]] = [
        [evidence.figure(people.FILE, "sites", i, key) for key in keys] for i in range(_size(evidence, "sites"))
    ]
    if not rows:
        return [Heading("Patients by site"), Words("The sites are not on record.")]
    return [
        Heading("Patients by site"),
        Table(["site", "training", "validation", "test", "patients"], rows, "Patients of the first division."),
    ]


def _devices(evidence: Evidence) -> list[Block]:
    keys = ("site", "device", "patients", "cines", "sequences")
    rows: list[list[Text]] = [
        [evidence.figure(people.FILE, "devices", i, key) for key in keys] for i in range(_size(evidence, "devices"))
    ]
    if rows:
        return [Heading("Devices"), Table(list(keys), rows)]
    return [
        Heading("Devices"),
        Words(("The devices are not on record. ", evidence.figure(people.FILE, "why_no_manifest"))),
    ]


def _deliveries(evidence: Evidence) -> list[Block]:
    file, heading = deliveries.FILE, Heading("Deliveries")
    source, keys = evidence.figure(file, "from").value, ("number", "day", "rows", "cines", "patients")
    rows: list[list[Text]] = [
        [evidence.figure(file, "deliveries", i, key) for key in keys]
        for i in range(_size(evidence, "deliveries", file))
    ]
    if not rows:
        return [heading, Words(("No delivery is on record. ", evidence.figure(file, "why")))]
    if source != "store":
        cines, patients = (evidence.figure(file, "deliveries", 0, key) for key in ("cines", "patients"))
        words: Text = (
            "The data came as one drop, not by an inbox: ",
            cines,
            " cines or images of ",
            patients,
            " patients.",
        )
        return [heading, Words(words)]
    recalled: list[Block] = [
        Words(
            ("Delivery ", evidence.figure(file, "deliveries", i, "number"), _recalled(evidence, i, str(state))),
            "warning",
        )
        for i in range(len(rows))
        if (state := evidence.figure(file, "deliveries", i, "recalled").value)
    ]
    states = evidence.figure(file, "states").value
    others: list[list[Text]] = [[state, evidence.figure(file, "states", state)] for state in states or {}]
    words = "Deliveries that were taken before the version was made. Days are UTC."
    return [
        heading,
        Table(list(keys), rows, words),
        *recalled,
        Table(["what happened", "times"], others, "Again: the same rows came before. Refused: it was not used."),
    ]


def _recalled(evidence: Evidence, number: int, state: str) -> str:
    said = " was recalled or replaced." if state == "all" else " was replaced in part by a later one."
    after = evidence.figure(deliveries.FILE, "deliveries", number, "used_before").value
    return f"{said} That was after this version was made, so the version used it." if after else said


def _terms(evidence: Evidence) -> list[Block]:
    """Licence and consent as a column of each delivery states them, and what the maker states."""
    blocks: list[Block] = [Heading("Consent, licence and ethics")]
    blocks += [stated(evidence, key) for key in ("ethics", "consent", "availability")]
    for term, title in TERMS.items():
        rows: list[list[Text]] = []
        for i in range(_size(evidence, "deliveries", deliveries.FILE)):
            place = ("deliveries", i, term)
            found = evidence.figure(deliveries.FILE, *place).value
            number = evidence.figure(deliveries.FILE, "deliveries", i, "number")
            for value in found if isinstance(found, dict) else ():
                said = evidence.counted(value, deliveries.FILE, "/".join(map(str, place)))
                rows.append([number, said, evidence.figure(deliveries.FILE, *place, value)])
        missing = Words(f"{title}: {_without_column(evidence, term)}")
        caption = "Rows by what the column says. A text that fewer than five patients share is not shown."
        head = ["delivery", "stated", "rows"]
        blocks += [Heading(f"{title} by delivery"), Table(head, rows, caption)] if rows else [missing]
    return blocks


def _without_column(evidence: Evidence, term: str) -> str:
    """What is known where no delivery states a term. The table of a delivery may be missing, or all of them."""
    found = evidence.figure(deliveries.FILE, "deliveries").value
    if isinstance(found, list) and found and all(term in each for each in found):
        return f"no delivery has a column called {term}, so the files do not state it."
    return "not on record, because the tables of the deliveries are not here."


def _gone(evidence: Evidence) -> list[Block]:
    file = deliveries.FILE
    certificates = _size(evidence, "certificates", file)
    papers = evidence.counted(certificates if evidence.has(file) else None, file, "number of certificates")
    rows: list[list[Text]] = [
        ["patients who withdrew, up to now", evidence.figure(file, "withdrawn")],
        ["patients of this version's data who were erased since", evidence.figure(people.FILE, "erased")],
        ["certificates of erasure for this workspace", papers],
    ]
    erased: list[list[Text]] = [
        [evidence.figure(file, "certificates", i, key) for key in ("day", "removed")] for i in range(certificates)
    ]
    words = "Weights cannot forget one patient. Where one was erased, the certificate names the versions that used her."
    table = Table(["day (UTC)", "files and rows removed or rewritten"], erased)
    return [
        Heading("What was withdrawn and erased"),
        Table(["fact", "value"], rows),
        *([Words(words), table] if erased else []),
    ]


def _size(evidence: Evidence, key: str, name: str = people.FILE) -> int:
    found = evidence.figure(name, key).value
    return len(found) if isinstance(found, list) else 0
