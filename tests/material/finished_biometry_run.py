"""A small finished run of biometry: lengths as the measure stage writes them, drawn from known errors, beside untrained
networks; everything after them by the real stages."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from finished_run import curves, working_in
from variant_entries import entry, put_variants

from fetalflow.artefacts import write_json, write_table
from fetalflow.biometry.growth import median_mm
from fetalflow.evaluation.measurement_columns import COLUMNS
from fetalflow.hospital.drop.quarantine import quarantine_table
from fetalflow.models.building import build
from fetalflow.models.weights import save
from fetalflow.settings.params import load_settings

ROOT = Path(__file__).parents[2]
TASK = "biometry"
LABELS = ("head", "abdomen", "femur")
OF = {"head": ("hc", "bpd", "ofd"), "abdomen": ("ac",), "femur": ("fl",)}
PATIENTS, FRAMES, SIZE = 60, 2, 64
MAIN, RIVAL, MASK_ONLY = "fetalnet_lite", "no_temporal", "mask_only"
OPTIONS = {MAIN: {}, RIVAL: {"temporal": False}, MASK_ONLY: {"label": False}}
ERRORS = {MAIN: 0.01, RIVAL: 0.04, MASK_ONLY: 0.01}  # of a length, 1 SD
FLOOR = 0.004  # bias of the annotated mask
WRONG = 7  # every such sequence is called the next label, and is therefore not measured
CUT = 11  # every such sequence is cut off and is refused


def predictions(variant: str, labels: tuple[str, ...] = LABELS, patients: int = PATIENTS) -> pd.DataFrame:
    """A row per sequence; every patient has one of each label. All of the test part."""
    random = np.random.default_rng(len(variant))
    rows = []
    for i in range(patients * len(labels)):
        patient, label = i // len(labels), labels[i % len(labels)]
        weeks = 16.0 + patient % 21
        says = label
        p = np.full(len(labels), 0.1 / max(1, len(labels) - 1))
        if len(labels) > 1 and i % WRONG == 3:
            says = labels[(i + 1) % len(labels)]
        p[labels.index(says)] = 0.9 if len(labels) > 1 else 1.0
        if variant == MASK_ONLY:
            p, says = np.full(len(labels), 1 / len(labels)), label  # it is told the true structure
        cut = i % CUT == 5
        row = {"sequence": f"{i:012x}-000000", "patient": f"P{patient:02d}", "site": f"Site {patient % 3}"}
        row |= {"device": f"D{patient % 2}", "variant": variant, "fold": 0, "seed": 0}
        row |= {"part": "test", "y_true": label}
        row |= {"y_pred": labels[int(p.argmax())], "unfamiliarity": float(random.uniform(0, 1.05))}
        row |= {f"p_{name}": value for name, value in zip(labels, p, strict=True)}
        row |= dict.fromkeys(COLUMNS) | {"weeks": weeks, "seen": 0.8 if cut else 1.0}
        dice = float(1 - abs(random.normal(0, ERRORS[variant])))
        row |= {"dice": dice, "iou": dice / (2 - dice), "hausdorff_mm": float(abs(random.normal(1, 0.3)))}
        refused = cut or says != label
        for measure in OF[label]:
            true = median_mm(measure, weeks)
            row |= {f"true_{measure}_mm": true, f"mask_{measure}_mm": None if cut else true * (1 + FLOOR)}
            found = true * (1 + random.normal(0, ERRORS[variant]))
            if i == 1:  # far out
                found = 1.5 * true
            row |= {} if refused else {f"found_{measure}_mm": found, f"spread_{measure}_mm": 0.3}
        row["measured_frames"] = 0 if refused else FRAMES
        warnings = [f"called {says}"] if says != label else []
        warnings += ["cut off: 9% of the outline lies on the edge of what the probe sees"] if cut else []
        rows.append(row | {"warnings": "; ".join(warnings)})
    return pd.DataFrame(rows)


def make_finished_biometry_run(
    workspace: Path,
    labels: tuple[str, ...] = LABELS,
    patients: int = PATIENTS,
    variants: tuple[str, ...] = tuple(OPTIONS),
) -> Path:
    """Write what every stage before the report writes; without explain."""
    import stages.evaluate
    import stages.significance
    import stages.split

    workspace.mkdir(parents=True, exist_ok=True)
    (workspace / "params.yaml").write_text(yaml.safe_dump(_params(variants, labels), sort_keys=False))
    data, reports = workspace / "data" / TASK, workspace / "reports" / TASK
    tables = {variant: predictions(variant, labels, patients) for variant in variants}
    write_table(data / "manifest.parquet", _manifest(tables[MAIN]))
    write_table(data / "quarantine.csv", quarantine_table([]))
    write_json(reports / "extract.json", {"rows": len(tables[MAIN]), "decoded_frames": 99, "kappa": {}})
    with working_in(workspace):
        stages.split.main(TASK)
        part = pd.read_parquet(data / "split.parquet").set_index("sequence")["part"]
        extract = load_settings().blocks[TASK].extract.model_dump(mode="json")
        for variant, table in tables.items():
            table = table.assign(part=table["sequence"].map(part))
            table = table[table["part"] != "train"]
            write_table(data / "predictions" / f"{variant}.csv", table.drop(columns=[*COLUMNS, "warnings"]))
            write_table(data / "measured" / f"{variant}.csv", table)
            torch.manual_seed(0)
            options = OPTIONS[variant] | {"pretrained": False}
            config = {"task": TASK, "variant": variant, "network": MAIN, "labels": list(labels), "frames": FRAMES}
            config |= {"size": SIZE, "options": options, "training": {"epochs": 3, "kept_epoch": 3}}
            network = build(MAIN, FRAMES, SIZE, len(labels), **options)
            save(workspace / "models" / TASK / variant, network, config | {"extract": extract})
            of_variant = curves().assign(val_dice=[0.5, 0.8, 0.9])
            write_table(reports / "curves" / f"{variant}.csv", of_variant)
        stages.evaluate.main(TASK)
        stages.significance.main(TASK)
    return workspace


def _params(variants: tuple[str, ...], labels: tuple[str, ...]) -> dict:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params.pop("profiles")
    for other in [name for name in params["tasks"] if name != TASK]:
        del params["tasks"][other], params[other]
    params["phantoms"] = [TASK]
    put_variants(params, TASK, [entry(TASK, variant, MAIN, **OPTIONS[variant]) for variant in variants])
    block = params[TASK]
    block["extract"] |= {"labels": list(labels), "frames": FRAMES, "stride": FRAMES}
    block["preprocess"]["size"] = SIZE
    block["evaluate"] = {"bootstrap": 200, "latency_repeats": 5}
    return params


def _manifest(rows: pd.DataFrame) -> pd.DataFrame:
    table = rows[["sequence", "patient", "site", "device"]].assign(label=rows["y_true"], source=rows["sequence"] * 2)
    table = table.assign(video=[f"cines/{s}.avi" for s in rows["sequence"]], annotators="a", first_frame=0)
    table = table.assign(last_frame=FRAMES - 1, frames=FRAMES, fps=30.0, mm_per_px=0.5, height=SIZE, width=SIZE)
    table = table.assign(path=[f"sequences/{s}.npy" for s in rows["sequence"]], digest=rows["sequence"])
    return table.assign(mask_path=[f"masks/{s}.npy" for s in rows["sequence"]], mask_digest=rows["sequence"], sector="")
