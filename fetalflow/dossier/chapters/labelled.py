"""Who labelled, by count, and how well they agree."""

from dataclasses import replace

from fetalflow.dossier.chapter import Block, Heading, Table, Text, Words
from fetalflow.dossier.chapters.way_of_data import EXTRACT
from fetalflow.dossier.evidence import Evidence
from fetalflow.dossier.gathering import labels

NO_INTERVAL = "A figure without brackets has no interval: too few patients, or all alike."


def labelled(evidence: Evidence) -> list[Block]:
    """Blocks for the data sheet. Annotators have numbers, never names."""
    return [Heading("Who labelled"), *_annotators(evidence), *_kappa(evidence), *_station(evidence)]


def _annotators(evidence: Evidence) -> list[Block]:
    file, of = labels.FILE, "sequences_by_annotators"
    counts = evidence.figure(file, "rows", of).value
    if not isinstance(counts, dict):
        return [Words(("Who labelled is not on record. ", evidence.figure(file, "why_no_rows")))]
    rows: list[list[Text]] = [
        [evidence.counted(int(number), file, f"rows/{of}"), evidence.figure(file, "rows", of, number)]
        for number in counts
    ]
    return [
        Words(("Annotators of the sequences: ", evidence.figure(file, "rows", "annotators"), ".")),
        Table(["annotators of a sequence", "sequences"], rows),
    ]


def _kappa(evidence: Evidence) -> list[Block]:
    found = evidence.figure(EXTRACT, "kappa").value
    names = found if isinstance(found, dict) else ()
    rows: list[list[Text]] = [[name, evidence.figure(EXTRACT, "kappa", name)] for name in names]
    least = evidence.figure("package/config.json", "extract", "min_agreement", digits=2)
    waiting = evidence.figure(EXTRACT, "quarantined", "disagreement")
    if not isinstance(found, dict):
        return [Words("Agreement in the drop is not on record.")]
    if not rows:
        return [Words("No cine of the drop has labels of two annotators, so nothing is known about their agreement.")]
    words: Text = (
        "Cines on which annotators agree on less than ",
        least,
        " of the frames wait in quarantine for a person",
    )
    return [
        Heading("Agreement in the drop"),
        Words((*words, " (rows: ", waiting, ").") if waiting.value is not None else (*words, ".")),
        Table(["label", "Cohen's kappa"], rows, "Over the frames that two annotators labelled. 1 is full agreement."),
    ]


def _station(evidence: Evidence) -> list[Block]:
    file, place, heading = labels.FILE, "station", Heading("Agreement in the review station")
    why = evidence.figure(file, place, "why")
    if why.value != "":
        return [heading, Words(why)]
    facts = (
        ("accounts", "accounts that labelled"),
        ("cines", "cines that somebody labelled or looked at"),
        ("read_by_several", "cines that two or more submitted"),
        ("decided", "differences that a person decided"),
        ("open", "cines that wait for a decision"),
    )
    rows: list[list[Text]] = [[words, evidence.figure(file, place, key)] for key, words in facts]
    none = evidence.figure(file, place, "why_no_agreement")
    return [
        heading,
        Table(["fact", "value"], rows),
        *([Words(("Agreement is not on record. ", none))] if none.value else _pairs(evidence)),
    ]


def _pairs(evidence: Evidence) -> list[Block]:
    """Kappa, Dice and differences of lengths of each pair; nothing for a kind that no pair has."""
    tables = (
        ("kappa", "kappa", "Cohen's kappa", "Cohen's kappa over frames"),
        ("dice", "dice", "Dice", "Dice of outlines"),
        ("lengths", "bias", "mean difference", "Differences of lengths, the second annotator minus the first"),
    )
    blocks: list[Block] = []
    for key, value, word, title in tables:
        found = evidence.figure(labels.FILE, "station", key).value
        rows = [_pair(evidence, key, i, value) for i in range(len(found) if isinstance(found, list) else 0)]
        if rows:
            head = ["annotators", "label", word, "frames or cines", "patients"]
            blocks += [Heading(title), Table(head, rows, NO_INTERVAL)]
    return blocks or [Words("No two annotators submitted the same cine, so nothing is known about their agreement.")]


def _pair(evidence: Evidence, key: str, number: int, value: str) -> list[Text]:
    place = ("station", key, number)
    one, other, label, n, patients = (
        evidence.figure(labels.FILE, *place, name) for name in ("one", "other", "label", "n", "patients")
    )
    figure = evidence.figure(labels.FILE, *place, value, unit=_unit(evidence, number) if key == "lengths" else "")
    if key != "lengths":  # there the interval is of the neighbours `low` and `high`
        low, high = (evidence.figure(labels.FILE, *place, end).value for end in ("low", "high"))
        figure = replace(figure, low=low, high=high)
    return [(one, " and ", other), label, figure, n, patients]


def _unit(evidence: Evidence, number: int) -> str:
    return str(evidence.figure(labels.FILE, "station", "lengths", number, "unit").value or "")
