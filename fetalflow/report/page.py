"""One self-contained HTML page with all results of a finished run, readable without an internet connection."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from fetalflow.artefacts import named
from fetalflow.evaluation.certainty.record import in_percent
from fetalflow.evaluation.intervals import LEAST_PATIENTS, no_interval
from fetalflow.models.building import about
from fetalflow.report.drawings import as_image, as_svg
from fetalflow.report.evidence import Evidence
from fetalflow.report.measurements import measurements
from fetalflow.report.template import page_template
from fetalflow.report.written_numbers import number, p_value, percent, thousands

PARTS = ("train", "validation", "test")
MOST_ROWS = 40  # of a table on the page; the files beside it have all rows
TABLE_4 = {
    "accuracy": "Accuracy",
    "top2_accuracy": "Top-2 accuracy",
    "macro_precision": "Precision (macro)",
    "macro_recall": "Recall (macro)",
    "f1_of_macros": "F1 (of the macros)",
    "mean_class_f1": "F1 (mean of classes)",
    "auc": "AUC (mean)",
}
LOSSES = {  # a column is shown only where the network has it
    "macro_f1_loss": "Macro F1, points lost",
    "dice_loss": "Dice, points lost",
    "length_error_percent_loss": "Error of the lengths, points more",
    "unfamiliar_loss": "Unlike the training data, points more",
    "unmeasured_loss": "Without a length, points more",
}
SOME_PAPERS = {"top2_accuracy", "f1_of_macros"}  # a column is shown only where the task's paper has it


def render(evidence: Evidence, figures: Mapping[str, Figure], origin: Mapping[str, Any], digest: str, made: str) -> str:
    """The page as HTML.

    figures: from `fetalflow.report.drawings.draw`; origin: from `fetalflow.registry.provenance.provenance`; digest: of
    the data; made: the date on the page.
    """
    filters = {
        "stated": in_percent,
        "number": number,
        "percent": percent,
        "thousands": thousands,
        "p_value": p_value,
        "no_interval": no_interval,
    }
    main, labels = evidence.metrics[evidence.main], evidence.configs[evidence.main]["labels"]
    published = {name for row in evidence.task.published.values() for name in row}
    wilcoxon_is_theirs = "f1_of_macros" in published and not evidence.measured
    return page_template("report", filters).render(
        run=evidence,
        least_patients=LEAST_PATIENTS,
        variants=variants(evidence),
        main=main,
        score=evidence.scores[evidence.main],
        confidence=evidence.settings.blocks[evidence.name].evaluate.confidence,
        words=words(evidence.still),
        table_4={key: name for key, name in TABLE_4.items() if key in published or key not in SOME_PAPERS},
        published=published,
        wilcoxon_is_theirs=wilcoxon_is_theirs,
        measured=measurements(evidence),
        tests={
            "length_error": "Difference in the lengths' error, over patients",
            "dice": "Difference in Dice, over patients",
            "paired_patients": "Difference in accuracy, over patients",
            "mcnemar": f"McNemar, exact, over {evidence.units}",
            "wilcoxon_classes": "Wilcoxon, exact, over class F1s",
            "wilcoxon_paper": "Wilcoxon as in the paper"
            if wilcoxon_is_theirs
            else "Wilcoxon as in FetalMovNet's paper",
        },
        tests_made={test for each in evidence.comparisons.values() for test in each["tests"]},
        parts=PARTS,
        most_rows=MOST_ROWS,
        counts=label_counts(evidence.manifest, labels),
        split=split_counts(evidence.split, labels),
        facts=data_facts(evidence),
        sites=spread(evidence.manifest, "site"),
        devices=spread(evidence.manifest, "device"),
        operators=spread(evidence.manifest, "operator"),
        alarms=alarms(evidence),
        kappa=kappa(evidence.extract),
        decoded=decoded(evidence.extract),
        remarks=(evidence.extract or {}).get("remark_counts") or [],
        remarked=len((evidence.extract or {}).get("remarks") or {}),
        quarantine=quarantine_kinds(evidence.quarantine),
        checks=checks(evidence.verdict),
        slices=slices(evidence.scores[evidence.main]),
        machine_words=machine_words(evidence.latency),
        engines=engines(evidence.export),
        explained=explained(evidence),
        explained_by_label=explained_by_label(evidence.explain, labels),
        figures={name: as_svg(figure) for name, figure in figures.items()},
        settings=flat_settings(evidence),
        origin=origin,
        digest=digest,
        made=made,
    )


def words(still: bool) -> dict[str, str]:
    """The words on the page for a sequence and for the file that it was cut from."""
    if still:
        return {"one": "image", "many": "images", "sources": "files", "source": "file"}
    return {"one": "sequence", "many": "sequences", "sources": "cines", "source": "cine"}


def variants(evidence: Evidence) -> dict[str, str]:
    """What each variant is, in a line: its network, and the options that it is built with."""
    lines = {}
    for variant, config in evidence.configs.items():
        options = ", ".join(f"{name} {value}" for name, value in config["options"].items())
        name = "" if config["network"] == variant else f"{config['network']}: "
        lines[variant] = f"{name}{about(config['network'])}{f' Options: {options}.' if options else ''}"
    return lines


def alarms(evidence: Evidence) -> dict[str, dict[str, Any]]:
    """The familiarity part of the score by variant; empty where no variant recognises what is unlike its training."""
    rows = {variant: score.get("familiarity") for variant, score in evidence.scores.items()}
    return {variant: row for variant, row in rows.items() if row}


def label_counts(manifest: pd.DataFrame, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Per label, in the order of `labels`: sequences, cines, patients, sites, devices."""
    groups = [(label, manifest[manifest["label"] == label]) for label in labels]
    return [
        {"label": label, "sequences": len(rows)} | {name: _count(rows[column]) for name, column in COUNTED.items()}
        for label, rows in groups
    ]


def _count(column: pd.Series) -> int:
    return len(set(named(column)) - {""})


COUNTED = {"cines": "source", "patients": "patient", "sites": "site", "devices": "device"}


def split_counts(split: pd.DataFrame, labels: Sequence[str]) -> dict[str, Any]:
    """Sequences by label and part, and patients by part, of the first fold; `folds`: the number of folds."""
    first = split[split["fold"] == split["fold"].min()]
    table = pd.crosstab(first["label"], first["part"]).reindex(list(labels), columns=list(PARTS), fill_value=0)
    patients = {part: first.loc[first["part"] == part, "patient"].nunique() for part in PARTS}
    totals = {part: int(table[part].sum()) for part in PARTS}
    rows = {str(label): row.to_dict() for label, row in table.iterrows()}
    return {"rows": rows, "totals": totals, "patients": patients, "folds": int(split["fold"].nunique())}


def data_facts(evidence: Evidence) -> dict[str, Any]:
    """The numbers at the top of the data section, by name."""
    manifest, names = evidence.manifest, words(evidence.still)
    facts = {
        names["many"]: len(manifest),
        names["sources"]: manifest["source"].nunique(),
        "patients": manifest["patient"].nunique(),
    }
    facts |= {f"{column}s": n for column in ("site", "device", "operator") if (n := len(spread(manifest, column)))}
    if evidence.extract and isinstance(evidence.extract.get("rows"), int):
        facts = {("rows delivered" if evidence.still else "rows of annotations.csv"): evidence.extract["rows"]} | facts
    if evidence.quarantine is not None:
        facts["rows in quarantine"] = len(evidence.quarantine)
    return facts


def spread(manifest: pd.DataFrame, column: str) -> list[dict[str, Any]]:
    """Sequences and patients of each site, device or operator that has a name, the largest first."""
    if column not in manifest:
        return []
    names = named(manifest[column])
    groups = manifest.groupby(names[names != ""], sort=True)
    rows = [{"name": key, "sequences": len(rows), "patients": rows["patient"].nunique()} for key, rows in groups]
    return sorted(rows, key=lambda row: -row["sequences"])


def kappa(extract: Mapping[str, Any] | None) -> dict[str, float | None]:
    """Cohen's kappa by label; empty where no span has two annotators."""
    return (extract or {}).get("kappa") or {}


def decoded(extract: Mapping[str, Any] | None) -> str:
    """In words, how many frames were decoded and how many the headers promised; empty where this was not counted."""
    if not extract or extract.get("decoded_frames") is None:
        return ""
    text = f"{thousands(extract['decoded_frames'])} frames were decoded."
    if promised := extract.get("promised_frames"):
        kept = extract["decoded_of_promised"]
        text += f" Headers promised {thousands(promised)}; of these {thousands(kept)} could be decoded."
    if cuts := extract.get("cuts"):
        text += f" Scene cuts found: {thousands(cuts)}."
    return text


def checks(verdict: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The verdict of the quality gate and the number of passed checks; failed checks come first."""
    if not verdict:
        return None
    rows = sorted(verdict["expectations"], key=lambda row: (row["success"], row["severity"] != "critical"))
    return {"passed": verdict["success"], "met": sum(row["success"] for row in rows), "rows": rows}


def quarantine_kinds(quarantine: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Per kind, the most frequent first: number of rows, and video and reason of one row as an example."""
    if quarantine is None or quarantine.empty:
        return []
    kinds = quarantine.groupby("kind", sort=True)
    rows = [
        {"kind": k, "rows": len(rows), "video": rows["video"].iloc[0], "reason": rows["reason"].iloc[0]}
        for k, rows in kinds
    ]
    return sorted(rows, key=lambda row: -row["rows"])


def slices(score: Mapping[str, Any]) -> list[tuple[str, list[str], list[dict[str, Any]]]]:
    """(title, key columns, rows) of the groups that have scores of their own."""
    groups = [(f"By {name}", [name], rows) for name, rows in score["slices"].items() if rows]
    if score["runs"]:
        groups.append(("By fold and seed", [c for c in ("fold", "seed") if c in score["runs"][0]], score["runs"]))
    return groups


def engines(export: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """machine: in words; sequences: of test patients, how many were answered; answering: the row of the default engine,
    None where that is torch; losses: titles of the columns that apply; tables: rows for
    a whole sequence, and for one new frame of a stream that reuses earlier frames. None where nothing was exported."""
    if not export:
        return None
    rows, streamed = export["engines"], export.get("stream") or []
    losses = {key: title for key, title in LOSSES.items() if any(row.get(key) is not None for row in rows)}
    tables = {"whole": _losses_rounded(rows, losses)} | (
        {"frame": _losses_rounded(streamed, losses)} if streamed else {}
    )
    answering = next((row for row in rows if row["default"] and row["engine"] != "torch"), None)
    facts = {"machine": machine_words(export), "sequences": rows[0]["sequences"], "answering": answering}
    return facts | {"losses": losses, "tables": tables}


def _losses_rounded(rows: Sequence[Mapping[str, Any]], losses: Iterable[str]) -> list[dict[str, Any]]:
    # + 0.0 turns -0.0 into 0.0: an engine may be better by less than the rounding.
    return [row | {k: round(row[k], 2) + 0.0 for k in losses if row.get(k) is not None} for row in rows]


def machine_words(latency: Mapping[str, Any] | None) -> str:
    """The machine on which the times were measured, in words."""
    if not latency:
        return ""
    machine = latency["machine"]
    device = "" if machine["device"] == "cpu" else f"{machine['device']}, "
    threads = "" if machine["threads"] is None else f", {machine['threads']} threads"
    return f"{device}{machine['processor']}, {machine['cores']} cores{threads}, torch {machine['torch']}"


def explained(evidence: Evidence) -> dict[str, list[dict[str, str]]]:
    """The pictures of the explain stage by kind, each with caption and `image` as a data URI."""
    kinds: dict[str, list[dict[str, str]]] = {}
    for entry in (evidence.explain or {}).get("figures", []):
        picture = entry | {"image": as_image(evidence.explain_folder / entry["file"])}
        kinds.setdefault(entry["kind"], []).append(picture)
    return kinds


def explained_by_label(explain: Mapping[str, Any] | None, labels: Sequence[str]) -> dict[str, Any] | None:
    """map: the name of the first map; rows: its overlap with the anatomy, by label. None where nothing was measured.

    A label without a known anatomy has the number of sequences that were `left_out`.
    """
    overlap = (explain or {}).get("overlap") or {}
    if not overlap.get("by_label"):
        return None
    name, by_label = next(iter(overlap["by_label"].items()))
    left_out = overlap.get("unmeasured") or {}
    rows = {label: by_label.get(label) or {"left_out": left_out.get(label)} for label in labels}
    return {"map": name, "rows": rows}


def flat_settings(evidence: Evidence) -> list[tuple[str, str, Any]]:
    """(stage, setting, value) of the task in params.yaml."""
    block = evidence.settings.blocks[evidence.name].model_dump(mode="json", by_alias=True)
    return [(stage, key, value) for stage, values in block.items() for key, value in values.items()]
