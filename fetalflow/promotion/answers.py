"""The predictions of a registered version for the held-out sequences, as a table."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fetalflow.cine.letterbox import unfit
from fetalflow.errors import InputError
from fetalflow.evaluation.equal_labels import labels_equally_likely
from fetalflow.evaluation.measurement_rows import known_mask, measurement_row
from fetalflow.inference.package import Package, load
from fetalflow.promotion.own_size import in_size
from fetalflow.registry.candidates import Candidate
from fetalflow.settings.params import Extract
from fetalflow.training.loading import check_sequences

BATCH = 8  # sequences through the network at once
KEPT = ("sequence", "patient", "site", "device")
PICTURE = ("mask_overlays", "mask_sector")  # settings of `extract` that decide what a network sees in a frame
CHOICE = ("fps", "every")  # and, where it sees several, which frames it sees


def held_out_rows(data: Path) -> pd.DataFrame:
    """The manifest's rows of the test part (of the first fold); the sequence files are checked against their digests.

    Raises InputError when the manifest or the split is missing, or a sequence file has changed.
    """
    for name in ("manifest.parquet", "split.parquet"):
        if not (data / name).is_file():
            raise InputError(f"{data / name} is missing: promotion needs the test part. Run `split`.")
    split = pd.read_parquet(data / "split.parquet")
    test = split[(split["part"] == "test") & (split["fold"] == split["fold"].min())]
    rows = pd.read_parquet(data / "manifest.parquet")
    rows = rows[rows["sequence"].isin(test["sequence"])].sort_values("sequence").reset_index(drop=True)
    if rows.empty:
        raise InputError(f"{data / 'split.parquet'} has no test sequence that is in the manifest. Run `split` again.")
    check_sequences(rows, data)
    return rows


def answers_of(
    name: str,
    model: Candidate,
    task: str,
    rows: pd.DataFrame,
    data: Path,
    device: str,
    extract: Extract | None = None,
    workers: int = 1,
) -> pd.DataFrame:
    """`predictions` of the champion or the challenger. Raises InputError naming the version that cannot answer.

    extract: the settings by which the test sequences were made; None leaves the comparison with the model's out.
    """
    which = f"the {name}, version {model.version} of {model.model},"
    try:
        if (other := model.config.get("task")) != task:
            raise InputError(f"it was made for the task {other!r}, not {task!r}")
        if extract is not None:
            _check_read_alike(model.config, extract)
        return predictions(model.folder, rows, data, device, workers)
    except InputError as error:
        to_do = {
            "challenger": "Run the pipeline again to register another one.",
            "champion": "Without its answers nothing can be compared. `fetalflow rollback` gives the alias back to the "
            "previous version; or compare by other means, move the alias by hand and record the reason with `fetalflow "
            "ledger accept`.",
        }[name]
        raise InputError(f"{which} cannot answer: {str(error).rstrip('.')}. {to_do}") from None


def _check_read_alike(config: dict[str, Any], extract: Extract) -> None:
    """Raises InputError when the model in use would see other pictures than the test sequences show."""
    in_use = Extract.model_validate(config["extract"])
    names = PICTURE + (CHOICE if config["frames"] > 1 else ())
    if other := [name for name in names if getattr(in_use, name) != getattr(extract, name)]:
        its, ours = (", ".join(f"{n}: {getattr(each, n)}" for n in other) for each in (in_use, extract))
        raise InputError(
            f"it reads cines with {its}, but the test sequences were made with {ours}, so it would be judged by "
            "pictures that it never gets in use"
        )


def predictions(folder: Path, rows: pd.DataFrame, data: Path, device: str = "cpu", workers: int = 1) -> pd.DataFrame:
    """The predictions of the package in `folder` for `rows` of the manifest, as `fetalflow score` reads them.

    A package of another picture size than the stored sequences gets them from the recorded frames (`own_size`), so it
    answers what it would answer in use. Raises InputError when they have another number of frames, or the recorded
    frames that it needs are not there.
    """
    package = load(folder, device)
    if (wrong := rows["frames"] != package.frames).any():
        found = sorted(set(rows.loc[wrong, "frames"]))
        raise InputError(
            f"it takes {package.frames} frames, {int(wrong.sum())} test sequences have {found}, and both models must "
            "answer the same sequences"
        )
    parts = in_size(package.size, rows, data, workers)
    batches = [
        _batch(package, part.iloc[i : i + BATCH], place) for part, place in parts for i in range(0, len(part), BATCH)
    ]
    p, scores, lengths = zip(*batches, strict=True)
    p = np.concatenate(p)
    table = rows[[c for c in KEPT if c in rows]].assign(part="test", y_true=rows["label"])
    table["y_pred"] = np.array(package.labels)[p.argmax(axis=1)]
    if package.familiarity is not None:
        table["unfamiliarity"] = np.concatenate(scores)
    # A label that this model does not know gets the probability 0.
    known = {f"p_{label}": p[:, i] for i, label in enumerate(package.labels)}
    unknown = {f"p_{label}": 0.0 for label in sorted(set(rows["label"]) - set(package.labels))}
    table = table.assign(**known, **unknown)
    return table.join(pd.concat(lengths)) if package.segments else table


def _batch(package: Package, rows: pd.DataFrame, data: Path) -> tuple[np.ndarray, np.ndarray | None, pd.DataFrame]:
    """Probabilities float64 [B, C], unfamiliarity, and for a segmentation network the columns of `measurement_rows`."""
    stored = np.stack([np.load(data / path) for path in rows["path"]])
    answer = package.answer(stored)
    scores = None if package.familiarity is None else package.familiarity.score(answer.features)
    p = package.calibrated(answer.probabilities.astype(np.float64))  # as in use
    if not package.segments:
        return p, scores, pd.DataFrame(index=rows.index)
    structures = [None if labels_equally_likely(each) else package.labels[each.argmax()] for each in p]
    masks = unfit(answer.mask_probabilities, *stored.shape[-2:])
    facts = [row for _, row in rows.iterrows()]
    lengths = [
        measurement_row(m, known_mask(data, row), row, n) for m, row, n in zip(masks, facts, structures, strict=True)
    ]
    return p, scores, pd.DataFrame(lengths, index=rows.index)
