"""The claims of a finished workspace: accuracy, calibration, sets of labels, rivals, engines and times of one task."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from benchmarks.claims import NONE
from fetalflow.artefacts import read_json
from fetalflow.errors import InputError

FILES = ("metrics.json", "significance.json", "export.json", "split.json")
OVER_PATIENTS = "95 %, bootstrap over patients"
TOO_FEW = f"{NONE}too few patients, or all of them are alike"
BOUNDS = "<bounds>"  # in a sentence: where the interval stands, if there is one
SENTENCES = {  # by metric
    "accuracy": f"{{variant}} gives the right label to {{value}}{BOUNDS} of the test sequences.",
    "dice": f"The masks of {{variant}} have a Dice of {{value}}{BOUNDS}.",
    "mae_percent": f"The lengths of {{variant}} are wrong by {{value}} %{BOUNDS} of the truth.",
    "measured_well": f"{{variant}} measures {{value}}{BOUNDS} of the test sequences well.",
    "false_alarm_rate": f"{{variant}} flags {{value}}{BOUNDS} of the test sequences as unlike the training data.",
}
UNITS = {"grouped": "patient", "site": "site", "official": "what the drop states", "random": "sequence"}
UNITS |= {"paper": "sequence, as in the paper"}


def tasks_of(workspace: Path) -> list[str]:
    """The tasks with results. Raises InputError where there is none."""
    found = sorted(path.parent.name for path in workspace.glob("reports/*/metrics.json"))
    if not found:
        raise InputError(f"{workspace} has no reports/TASK/metrics.json. Give the folder of a finished run.")
    return found


def claims_of(workspace: Path, task: str) -> Iterator[dict[str, Any]]:
    """The claims of one task. Raises InputError where the run is not finished."""
    reports = workspace / "reports" / task
    if lacks := [name for name in FILES if not (reports / name).is_file()]:
        raise InputError(f"{reports} has no {', '.join(lacks)}: the run is not finished. Run `fetalflow run` again.")
    settings = yaml.safe_load((workspace / "params.yaml").read_text(encoding="utf-8"))
    machine = read_json(reports / "export.json")["machine"]
    facts = {
        "data": data_of(settings, task),
        "split_unit": UNITS[read_json(reports / "split.json")["kind"]],
        "seeds": settings[task]["train"].get("seeds", [0]),
        "command": f"fetalflow run --task {task}",
        "machine": f"{machine['processor']}, {machine['cores']} cores, torch {machine['torch']}",
        "date": datetime.fromtimestamp((reports / "metrics.json").stat().st_mtime, UTC).date().isoformat(),
    }
    found = {variant: _counted(metrics) for variant, metrics in read_json(reports / "metrics.json").items()}
    for variant, metrics in found.items():
        yield from (each | facts for each in _of_variant(variant, metrics))
    yield from (each | facts for each in _sets(reports, found))
    yield from (each | facts for each in _rivals(read_json(reports / "significance.json")))
    facts |= {"seeds": facts["seeds"][:1]}  # only the first one's network is exported
    yield from (each | facts for each in _engines(read_json(reports / "export.json")))


def data_of(settings: dict[str, Any], task: str) -> str:
    """What a run was made of, in words. settings: its params.yaml."""
    if task not in settings["phantoms"]:
        return f"the drop {Path(settings['tasks'][task]['drop']).name}"
    phantom = settings[task]["phantom"]
    return f"synthetic hospital, seed {phantom['seed']}, {phantom['patients']} patients"


def _counted(metrics: dict[str, Any]) -> dict[str, Any]:
    return metrics | {"n": {"test sequences": metrics["n_sequences"], "test patients": metrics["n_patients"]}}


def _bounded(claim: str, figures: dict[str, Any], low: float | None, high: float | None, how: str) -> dict[str, Any]:
    """The claim with an interval in the place BOUNDS; without one, with the reason."""
    if low is None or high is None:
        return {"claim": claim.replace(BOUNDS, ""), "figures": figures, "interval": TOO_FEW}
    return {"claim": claim.replace(BOUNDS, " {bounds}"), "figures": figures | {"bounds": [low, high]}, "interval": how}


def _of_variant(variant: str, metrics: dict[str, Any]) -> Iterator[dict[str, Any]]:
    base = {"n": metrics["n"], "outcome": "measured"}
    for name, sentence in SENTENCES.items():
        if metrics.get(name) is not None:
            figures = {"variant": variant, "value": metrics[name]}
            limits = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
            yield base | _bounded(sentence, figures, *limits, OVER_PATIENTS)
    if metrics.get("ece") is not None:
        yield base | {
            "claim": "{variant} has an ECE of {ece}; a calibrated network stays under {ece_if_calibrated} in 95 % of "
            "draws.",
            "figures": {"variant": variant, "ece": metrics["ece"], "ece_if_calibrated": metrics["ece_if_calibrated"]},
            "interval": f"{NONE}an ECE is compared with its limit by chance",
        }


def _sets(reports: Path, variants: Iterable[str]) -> Iterator[dict[str, Any]]:
    for variant in variants:
        path = reports / "evaluation" / f"{variant}-score.json"
        labels = (read_json(path).get("certainty") or {}).get("labels") if path.is_file() else None
        if not labels or labels["all"].get("coverage") is None:
            continue
        every = labels["all"]
        yield _bounded(
            "The sets of labels of {variant} promise to hold the true label for {level:.1%} of the sequences, and hold "
            f"it for {{coverage:.1%}}{BOUNDS}, with {{size}} labels in a set.",
            {"variant": variant, "level": labels["level"], "coverage": every["coverage"], "size": every["size"]},
            every["coverage_low"],
            every["coverage_high"],
            OVER_PATIENTS,
        ) | {
            "n": {
                "test sequences": every["n"],
                "test patients": every["patients"],
                "validation patients": labels["patients"],
            },
            "outcome": "measured",
        }


def _rivals(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    by, main = found["verdict_by"], found["reference"]
    by_label = by == "paired_patients"
    words = "accuracy" if by_label else "mean error of the lengths, in % of the truth,"
    for rival, compared in found["comparisons"].items():
        test = compared["tests"][by]
        proven = test["p_holm"] is not None and test["p_holm"] <= found["alpha"]
        better = (test["difference"] > 0) == by_label  # of an error, less is better
        yield _bounded(
            f"{{main}} against {{rival}}: the {words} differs by {{difference}}{BOUNDS}, p = {{p}} (Holm).",
            {"main": main, "rival": rival, "difference": test["difference"], "p": test["p_holm"]},
            test["low"],
            test["high"],
            f"{1 - found['alpha']:.0%}, paired over patients",
        ) | {
            "n": {"test sequences": compared["n_sequences"], "test patients": compared["n_patients"]},
            "outcome": ("better" if better else "worse") if proven else "no difference",
        }


def _engines(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    variant, repeats = found["variant"], found["latency"]["variants"][found["variant"]]["repeats"]
    for row in (each for each in found["engines"] if "agreement" in each):
        judged, named = row["agreement"], {"variant": variant, "engine": row["engine"]}
        if row["engine"] != "torch":
            labels = judged["label_changed"]
            yield {
                "claim": "The engine {engine} of {variant} {verdict}. On validation patients its probabilities differ "
                "from those of torch by {distance}"
                + (", and {changed:.1%} of its labels (at most {possible:.1%} by chance)" if labels else "")
                + "; on test patients {same_label:.1%} of its labels are the same, and macro F1 loses {lost} points.",
                "figures": named
                | {"verdict": "passed" if row["passed"] else "was refused"}
                | {"distance": (judged["distance"] or [None])[0]}
                | (dict(zip(("changed", "possible"), labels, strict=True)) if labels else {})
                | {"same_label": row["same_label"], "lost": row["macro_f1_loss"]},
                "n": {"validation sequences": judged["sequences"], "validation patients": judged["patients"]}
                | {"test sequences": row["sequences"]},
                "interval": f"{NONE}the bound by chance is the upper limit at 95 %",
                "outcome": "measured",
            }
        yield {
            "claim": "One answer of {variant} by {engine} takes {ms} ms (95th percentile {p95} ms) with {threads} "
            "threads at a load of {load}.",
            "figures": named | {"ms": row["ms"], "p95": row["ms_p95"], "threads": row["threads"], "load": row["load"]},
            "n": {"timed calls": repeats},
            "interval": f"{NONE}median of the calls on one machine",
            "outcome": "measured",
        }
