"""A workspace with a cine in every state that the station's list knows: extracted by the real stage, with a split and
answers written by hand."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import yaml
from cine_files import speckle, write_video
from finished_run import TASK, small_params, working_in

from fetalflow.artefacts import file_digest
from fetalflow.station.place import Place

SITE, DEVICE = "Canary Bay Hospital", "Finch 3"
FRAMES = 24
FILES = ("good", "tested", "wrong", "a", "b", "late")


def row(video: str, patient: str, label: str = "head", annotator: str = "ann", start: str = "", end: str = "") -> dict:
    return {"video": f"{video}.avi", "patient": patient, "site": SITE, "device": DEVICE, "annotator": annotator,
            "start_frame": start, "end_frame": end, "label": label}  # fmt: skip


ROWS = [
    row("good", "P9"),
    row("tested", "P8", "arm"),
    row("wrong", "P7", "heart"),
    row("a", "P1", annotator="x"),
    row("a", "P1", "arm", annotator="y"),  # disagrees with the row before
    row("b", "P2", "hed"),
    row("b", "P2", start="10", end="24"),  # the cine has frames 0-23
    row("gone", "P3"),
]
LATE = row("late", "P4", "arm")  # arrives after the extraction


def make_review_workspace(
    folder: Path, change: Callable[[dict], dict] = lambda row: row, drop: Path | None = None
) -> tuple[Place, dict[str, str]]:
    """The station of the workspace, and the source of each cine of FILES. change: of every row. drop: of unlabelled
    cines."""
    import stages.extract

    delivered, workspace, sources = folder / "drop", folder / "run", {}
    changed = [change(each) for each in (*ROWS, LATE)]
    path_of = {old["video"]: new["video"] for old, new in zip((*ROWS, LATE), changed, strict=True)}
    for seed, name in enumerate(FILES):
        path = delivered / path_of[f"{name}.avi"]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, speckle(FRAMES, 64, 96, seed=seed), "ffv1")
        sources[name] = file_digest(path)
    pd.DataFrame(changed[:-1]).to_csv(delivered / "annotations.csv", index=False)
    params = small_params(("cnn",), 8)
    params["tasks"][TASK]["drop"] = str(delivered)
    params[TASK]["extract"] |= {"workers": 1, "quarantine_share": 1.0}
    workspace.mkdir()
    (workspace / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    with working_in(workspace):
        stages.extract.main(TASK)
    write_answers(workspace / "data" / TASK, sources)
    pd.DataFrame(changed).to_csv(delivered / "annotations.csv", index=False)
    return Place(workspace, TASK, drop), sources


def write_answers(data: Path, sources: dict[str, str]) -> None:
    """`good` is in training; `tested` is unfamiliar, and `wrong` has a wrong answer for one of its sequences."""
    found = pd.read_parquet(data / "extracted.parquet")
    found["part"] = found["source"].map({sources["good"]: "train"}).fillna("test")
    found.assign(fold=0)[["sequence", "patient", "label", "fold", "part"]].to_parquet(data / "split.parquet")
    table = found[["sequence", "patient", "site", "device", "part"]].assign(
        variant="cnn", fold=0, seed=0, y_true=found["label"], y_pred=found["label"], p_arm=0.2, p_head=0.7, p_heart=0.1,
        unfamiliarity=(found["source"] == sources["tested"]) + 0.5,
    )  # fmt: skip
    table.loc[table.index[found["source"] == sources["wrong"]][-1], "y_pred"] = "arm"
    (data / "predictions").mkdir(exist_ok=True)
    table[table["part"] == "test"].to_csv(data / "predictions" / "cnn.csv", index=False)
