"""How good the version is on patients whom it never saw: as a whole, by label, site, device and age; how sure it is;
and beside other networks."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fetalflow.dossier.chapter import Block, Heading, Picture, Table, Text, Words
from fetalflow.dossier.chapters.speed import engines
from fetalflow.dossier.evidence import Evidence, Figure
from fetalflow.dossier.gathering import ages
from fetalflow.evaluation.measurement_columns import MEASURES

METRICS = (  # key, words; a metric that is not in the file is left out
    ("accuracy", "accuracy"),
    ("top2_accuracy", "the true label is among the two likeliest"),
    ("macro_precision", "precision, mean over labels"),
    ("macro_recall", "recall, mean over labels"),
    ("mean_class_f1", "F1, mean over labels"),
    ("patient_accuracy", "accuracy, mean over patients"),
    ("auc", "area under the ROC curve, mean over labels"),
    ("majority_rate", "accuracy of always the most frequent label"),
    ("dice", "Dice of the outlines"),
    ("iou", "intersection over union of the outlines"),
    ("hausdorff_mm", "Hausdorff distance of the outlines (mm)"),
    ("mae_percent", "mean error of the lengths (% of the truth)"),
    ("measured_well", "share of the lengths with a small error"),
)
NO_INTERVAL = "A figure without brackets has no interval: too few patients, or all answers alike."
SIGNIFICANCE, SPLIT = "run/significance.json", "run/split.json"


def performance(evidence: Evidence, variant: str) -> list[Block]:
    """Blocks for the chapter of the facts."""
    score = f"run/evaluation/{variant}-score.json"
    return [
        *_whole(evidence, variant, score),
        *_by_label(evidence, variant, score),
        *_by_place(evidence, score),
        *_by_age(evidence),
        *_lengths(evidence, variant),
        *_certainty(evidence, score),
        *_unfamiliar(evidence, score),
        *_rivals(evidence),
        *engines(evidence, variant),
    ]


def _whole(evidence: Evidence, variant: str, score: str) -> list[Block]:
    metrics, heading = "run/metrics.json", Heading("Performance on the test part")
    rows: list[list[Text]] = [
        [words, figure] for key, words in METRICS if _known(figure := evidence.figure(metrics, variant, key))
    ]
    if not rows:
        return [
            heading,
            Words("No performance is on record: the run has no metrics of this network. Run the pipeline."),
        ]
    counts = [evidence.figure(metrics, variant, key) for key in ("n_sequences", "n_patients")]
    return [
        heading,
        Words(
            (
                "Measured on ",
                counts[0],
                " sequences of ",
                counts[1],
                " patients of the test part. ",
                *_interval(evidence, score),
            )
        ),
        *_overlap(evidence),
        Table(["metric", "value [interval]"], rows, NO_INTERVAL),
        *_notes(evidence, score),
    ]


def _interval(evidence: Evidence, name: str) -> tuple[str | Figure, ...]:
    said = {key: evidence.figure(name, "interval", key, digits=2) for key in ("confidence", "method", "unit", "draws")}
    words = ("Brackets hold an interval with confidence ", said["confidence"], ", by ", said["method"], " over each ")
    return (*words, said["unit"], " (", said["draws"], " draws).")


def _overlap(evidence: Evidence) -> list[Block]:
    """A warning where patients of the test part were trained on as well, or patients are not known."""
    shared, unknown = evidence.figure(SPLIT, "overlap", "train-test"), evidence.figure(SPLIT, "unknown_patients")
    found: list[Block] = []
    if shared.value:
        words = " patients are in the training and in the test part, so the figures are too good."
        found.append(Words((shared, words), "warning"))
    if unknown.value:
        words = " sequences are of patients whom the drop does not name, so one patient may be in both parts."
        found.append(Words((unknown, words), "warning"))
    if shared.value is None:
        found.append(Words("Whether patients of the test part were trained on is not on record.", "warning"))
    return found


def _notes(evidence: Evidence, score: str) -> list[Block]:
    notes = rows_of(evidence, score, "notes")
    return [Words(evidence.figure(score, "notes", i)) for i in range(len(notes))]


def _by_label(evidence: Evidence, variant: str, score: str) -> list[Block]:
    def rows(*keys: str) -> list[list[Text]]:
        return [
            [evidence.figure(score, "per_class", i, key) for key in ("label", *keys)]
            for i in range(len(rows_of(evidence, score, "per_class")))
        ]

    if not rows():
        return [Heading("By label"), Words("Figures by label are not on record.")]
    picture = f"run/figures/{variant}-confusion.png"
    return [
        Heading("By label"),
        Table(["label", "sequences", "patients", "recall", "precision"], rows("n", "patients", "recall", "precision")),
        Table(["label", "F1", "specificity", "area under the ROC curve"], rows("f1", "specificity", "auc")),
        *([Picture(picture, "Confusion of labels on the test part.")] if evidence.has(picture) else []),
    ]


def _by_place(evidence: Evidence, score: str) -> list[Block]:
    blocks: list[Block] = []
    for name in ("site", "device"):
        groups = rows_of(evidence, score, "slices", name)
        keys = (name, "n", "patients", "accuracy", "false_alarm_rate")
        rows = [[evidence.figure(score, "slices", name, i, key) for key in keys] for i in range(len(groups))]
        head = [name, "sequences", "patients", "accuracy", "false alarms"]
        nothing = Words(
            f"The test part has one {name} or none, so nothing can be said about another."
            if isinstance(evidence.figure(score, "slices").value, dict)
            else f"Figures by {name} are not on record."
        )
        blocks += [Heading(f"By {name}"), Table(head, rows, NO_INTERVAL) if rows else nothing]
    return blocks


def _by_age(evidence: Evidence) -> list[Block]:
    heading, file = Heading("By gestational age"), ages.FILE
    groups, only = rows_of(evidence, file, "bands"), evidence.figure(file, "only")
    if groups:
        keys = ("age", "n", "patients", "accuracy", "false_alarm_rate")
        rows = [[evidence.figure(file, "bands", i, key) for key in keys] for i in range(len(groups))]
        words = "Weeks as the drop states them. A band holds its first week and not its last."
        return [
            heading,
            Words(words),
            Table(["weeks", "sequences", "patients", "accuracy", "false alarms"], rows, NO_INTERVAL),
        ]
    if only.value:
        words = "All test sequences are of one band of weeks, so nothing can be said about another. The band: "
        return [heading, Words((words, only, "."))]
    return [heading, Words(("Performance by gestational age is not on record. ", evidence.figure(file, "why")))]


def _lengths(evidence: Evidence, variant: str) -> list[Block]:
    """Errors of the lengths, of a network that measures; nothing for others."""
    metrics, of = "run/metrics.json", f"run/evaluation/{variant}-measurements.json"
    measured = [name for name in MEASURES if _known(evidence.figure(metrics, variant, f"{name}_n"))]
    if not measured:
        return []
    head = ["length", "measured", "refused", "mean error (mm)", "bias (mm)"]
    keys = ("n", "refused", "mae_mm", "bias_mm")
    rows = [
        [name.upper(), *(evidence.figure(metrics, variant, f"{name}_{key}", digits=2) for key in keys)]
        for name in measured
    ]
    blocks: list[Block] = [Heading("Lengths"), Words(_refused()), Table(head, rows, NO_INTERVAL)]
    for key, title, first in (("by_site", "Lengths by site", "site"), ("by_age", "Lengths by gestational age", "age")):
        found = rows_of(evidence, of, key)
        places = [i for i, row in enumerate(found) if row.get("n")]
        columns = (first, "measure", "n", "patients", "mae")
        rows = [[_in_group(evidence, of, (key, i), column) for column in columns] for i in places]
        if rows:
            words = ["weeks" if first == "age" else first, "length", "measured", "patients", "mean error (mm)"]
            blocks += [Heading(title), Table(words, rows, NO_INTERVAL)]
    return blocks


def _refused() -> str:
    return (
        "A length is refused, with the reason, where the structure is cut off, lies in two pieces, or gets another "
        "label. The errors are those of the lengths that were measured."
    )


def _in_group(evidence: Evidence, name: str, keys: Sequence[Any], column: str) -> Figure:
    return evidence.figure(name, *keys, column, digits=2)


def _certainty(evidence: Evidence, score: str) -> list[Block]:
    sure = ("certainty", "labels")
    rows: list[list[Text]] = [
        ["calibration error (ECE) of the network", evidence.figure(score, "calibration", "ece")],
        ["calibration error that chance alone gives", evidence.figure(score, "calibration", "ece_if_calibrated")],
        ["Brier score", evidence.figure(score, "metrics", "brier")],
        ["temperature of the probabilities in use", evidence.figure(score, *sure, "temperature", 0)],
        ["calibration error in use", evidence.figure(score, *sure, "after", "ece")],
        ["stated level of the sets of labels", evidence.figure(score, *sure, "level")],
        ["test sequences whose set held the true label", evidence.figure(score, *sure, "all", "coverage")],
        ["labels in a set, mean", evidence.figure(score, *sure, "all", "size")],
    ]
    rows = [row for row in rows if _known(row[1])]
    heading = Heading("Calibration and certainty")
    if not rows:
        return [heading, Words("How sure an answer is, is not on record.")]
    return [heading, Table(["figure", "value"], rows), *_promises(evidence, score)]


def _promises(evidence: Evidence, score: str) -> list[Block]:
    place = ("certainty", "labels", "promises")
    keys = ("rate", "promised", "answered", "wrong")
    rows: list[list[Text]] = []
    for i, promise in enumerate(rows_of(evidence, score, *place)):
        rows.append([evidence.figure(score, *place, i, key, digits=2 if key == "rate" else 3) for key in keys])
        if promise.get("answered") == 0:
            rows[-1][-1] = "nothing is answered"
    words = (
        "A rate is promised only if enough validation patients show it. Without a promise, nothing is answered then."
    )
    head = ["error rate", "promised", "share answered", "share wrong of these"]
    return [Heading("Error rates that can be promised"), Words(words), Table(head, rows)] if rows else []


def _unfamiliar(evidence: Evidence, score: str) -> list[Block]:
    place, heading = "familiarity", Heading("Recordings unlike the training data")
    if not isinstance(evidence.figure(score, place).value, dict):
        return [heading, Words("How the network marks what is unlike its training data is not on record.")]
    rows: list[list[Text]] = [
        ["test sequences that were marked", evidence.figure(score, place, "flagged")],
        [
            "share of the test sequences that were marked (false alarms)",
            evidence.figure(score, place, "false_alarm_rate"),
        ],
        ["share of wrong answers among the marked", evidence.figure(score, place, "error_rate_flagged")],
        ["share of wrong answers among the others", evidence.figure(score, place, "error_rate_others")],
        [
            "probability that a wrong answer is less familiar than a right one",
            evidence.figure(score, place, "error_auc"),
        ],
    ]
    words = "The test part has no recordings that are truly unlike, so it does not show how many of these are marked."
    return [heading, Words(words), Table(["figure", "value"], rows)]


def _rivals(evidence: Evidence) -> list[Block]:
    heading, found = Heading("Beside other networks"), evidence.figure(SIGNIFICANCE, "comparisons").value
    if not isinstance(found, dict) or not found:
        return [heading, Words("No comparison with another network is on record.")]
    rows: list[list[Text]] = []
    for name, comparison in found.items():
        test = comparison.get("tests", {}).get("paired_patients") or {}
        place = ("comparisons", name, "tests", "paired_patients")
        difference = evidence.figure(SIGNIFICANCE, *place, "difference")
        difference = replace(difference, low=test.get("low"), high=test.get("high"))
        both = [evidence.figure(SIGNIFICANCE, "comparisons", name, "accuracy", i) for i in (0, 1)]
        rows.append(
            [
                evidence.counted(name, SIGNIFICANCE, "comparisons"),
                *both,
                difference,
                evidence.figure(SIGNIFICANCE, *place, "p_holm"),
            ]
        )
    head = ["other network", "accuracy of this one", "of the other", "difference", "p (Holm)"]
    words = (
        "All networks had the same training part and the same test patients. The test is paired over patients; p is "
        "corrected for the number of networks."
    )
    verdicts = [Words(evidence.figure(SIGNIFICANCE, "comparisons", name, "verdict")) for name in found]
    return [heading, Words(words), Table(head, rows), *verdicts]


def rows_of(evidence: Evidence, name: str, *keys: str | int) -> list[Any]:
    """The list at a place of a JSON file; empty where there is none."""
    found = evidence.figure(name, *keys).value
    return found if isinstance(found, list) else []


def _known(figure: Text) -> bool:
    return isinstance(figure, Figure) and figure.value is not None
