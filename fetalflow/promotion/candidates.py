"""A registered model as a promotion sees it: its package, its run's tags, whom it was trained on, what it answers."""

import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from fetalflow.artefacts import read_json
from fetalflow.biometry.compared import compare, known_mask
from fetalflow.errors import InputError
from fetalflow.export.choice import EXPORTS
from fetalflow.familiarity import watched
from fetalflow.naming import names_nothing
from fetalflow.package import Package, load
from fetalflow.run_record import START, START_RUN
from fetalflow.sequences import fit
from fetalflow.tracking import fetch_package, registry
from fetalflow.training.loading import check_sequences
from fetalflow.weights import CONFIG

BATCH = 8  # sequences through the network at once
SPLIT = "data/split.parquet"  # in the run of the pipeline
KEPT = ("sequence", "patient", "site", "device")


@dataclass(frozen=True)
class Candidate:
    """A version of the registered model. `seen`: patients of its training and validation parts and of those of the
    models that it was started from, None where one of the runs does not say."""

    model: str
    version: str
    run_id: str
    tags: dict[str, str]
    seen: frozenset[str] | None
    folder: Path  # of the package

    @property
    def megabytes(self) -> float:
        """10^6 bytes of the package's files, without its exports: they say the same once more."""
        files = (f for f in self.folder.rglob("*") if f.relative_to(self.folder).parts[0] != EXPORTS)
        return sum(f.stat().st_size for f in files if f.is_file()) / 1e6

    @property
    def config(self) -> dict[str, Any]:
        """The package's own."""
        return read_json(self.folder / CONFIG)

    @property
    def facts(self) -> dict[str, Any]:
        """What the verdict says of it."""
        names = ("data_digest", "git_commit", "git_dirty", "dvc_lock_digest", "quality")
        return {"version": self.version, "run_id": self.run_id} | {name: self.tags.get(name) for name in names}


def candidate(model: str, alias: str) -> Candidate | None:
    """The version of `model` that bears `alias`; None where none does.

    Raises InputError when there is no such model, TrackingFailed when the registry is out of reach.
    """
    with registry() as store:
        version = store.aliases(model).get(alias)
        if version is None:
            return None
        run_id = store.client.get_model_version(model, version).run_id
        run = store.client.get_run(run_id)
        seen = _seen(store.client, run.data.tags.get("mlflow.parentRunId", run_id))
    return Candidate(model, version, run_id, dict(run.data.tags), seen, fetch_package(f"models:/{model}/{version}"))


def standing(model: str, *aliases: str) -> tuple[str | None, ...]:
    """The version behind each alias, None where it stands nowhere."""
    with registry() as store:
        now = store.aliases(model)
    return tuple(now.get(alias) for alias in aliases)


def keep_evidence(run_id: str, folder: Path, digest: str) -> None:
    """Copy the verdict, its page and the predictions to the challenger's run."""
    with registry() as store:
        store.client.log_artifacts(run_id, str(folder), f"promotion/{digest[:12]}")


def _seen(client: Any, run_id: str) -> frozenset[str] | None:
    """Of a pipeline's run, and of every run that its main model goes back to by warm starts."""
    seen, waiting = frozenset(), run_id
    while waiting:
        own = _trained_on(client, waiting)
        tags = client.get_run(waiting).data.tags
        waiting = tags.get(START_RUN, "")
        if own is None or (START in tags and not waiting):
            return None
        seen |= own
    return seen


def _trained_on(client: Any, run_id: str) -> frozenset[str] | None:
    folder = SPLIT.rpartition("/")[0]
    if SPLIT not in {entry.path for entry in client.list_artifacts(run_id, folder)}:
        return None
    with tempfile.TemporaryDirectory() as place:
        split = pd.read_parquet(client.download_artifacts(run_id, SPLIT, place))
    first = split[split["fold"] == split["fold"].min()]  # the package is of the first fold
    return frozenset(first.loc[first["part"] != "test", "patient"].astype(str))


def held_out_rows(data: Path) -> pd.DataFrame:
    """The manifest's rows of the test part (of the first fold), checked against their digests.

    Raises InputError when the manifest or the split is missing, or a sequence file is not the recorded one.
    """
    for name in ("manifest.parquet", "split.parquet"):
        if not (data / name).is_file():
            raise InputError(f"{data / name} is missing: promotion asks both models about the test part. Run `split`.")
    split = pd.read_parquet(data / "split.parquet")
    test = split[(split["part"] == "test") & (split["fold"] == split["fold"].min())]
    rows = pd.read_parquet(data / "manifest.parquet")
    rows = rows[rows["sequence"].isin(test["sequence"])].sort_values("sequence").reset_index(drop=True)
    if rows.empty:
        raise InputError(f"{data / 'split.parquet'} has no test sequence that is in the manifest. Run `split` again.")
    check_sequences(rows, data)
    return rows


def asked(name: str, model: Candidate, task: str, rows: pd.DataFrame, data: Path, device: str) -> pd.DataFrame:
    """`predictions` of the champion or the challenger. Raises InputError naming the version that cannot be asked."""
    which = f"the {name}, version {model.version} of {model.model},"
    try:
        if (other := model.config.get("task")) != task:
            raise InputError(f"it was made for the task {other!r}, not {task!r}")
        return predictions(model.folder, rows, data, device)
    except InputError as error:
        to_do = {
            "challenger": "Run the pipeline again, which registers another.",
            "champion": "Without its answers nothing can be compared. `fetalflow rollback` gives the alias to the one "
            "before; or move the alias by hand after a comparison of your own, and say why: `fetalflow ledger accept`.",
        }[name]
        raise InputError(f"{which} cannot be asked: {str(error).rstrip('.')}. {to_do}") from None


def predictions(folder: Path, rows: pd.DataFrame, data: Path, device: str = "cpu") -> pd.DataFrame:
    """What the package in `folder` answers to `rows` of the manifest: a table as `fetalflow score` reads it.

    Sequences are fitted to the package's own size. Raises InputError when they have another number of frames.
    """
    package = load(folder, device)
    if (wrong := rows["frames"] != package.frames).any():
        found = sorted(set(rows.loc[wrong, "frames"]))
        raise InputError(
            f"it takes {package.frames} frames, {int(wrong.sum())} test sequences have {found}, and both models must "
            "answer the same sequences"
        )
    parts = [_ask(package, rows.iloc[i : i + BATCH], data, device) for i in range(0, len(rows), BATCH)]
    p, scores, lengths = zip(*parts, strict=True)
    p = np.concatenate(p)
    table = rows[[c for c in KEPT if c in rows]].assign(part="test", y_true=rows["label"])
    table["y_pred"] = np.array(package.labels)[p.argmax(axis=1)]
    if package.familiarity is not None:
        table["unfamiliarity"] = np.concatenate(scores)
    # A label that this model does not know has the probability 0 with it.
    known = {f"p_{label}": p[:, i] for i, label in enumerate(package.labels)}
    unknown = {f"p_{label}": 0.0 for label in sorted(set(rows["label"]) - set(package.labels))}
    table = table.assign(**known, **unknown)
    return table.join(pd.concat(lengths)) if package.segments else table


def _ask(
    package: Package, rows: pd.DataFrame, data: Path, device: str
) -> tuple[np.ndarray, np.ndarray | None, pd.DataFrame]:
    """Probabilities, unfamiliarity, and of a network that segments what `biometry.compared` makes of its masks."""
    stored = np.stack([np.load(data / path) for path in rows["path"]])
    batch = torch.from_numpy(np.stack([fit(sequence, package.size) for sequence in stored])).to(device).float() / 255
    watch = nullcontext() if package.familiarity is None else watched(package.network, package.familiarity.layer)
    with watch as features, torch.inference_mode():
        answer = package.network(batch)
    scores = None if package.familiarity is None else package.familiarity.score(features.take())
    logits = answer.label if package.segments else answer
    p = logits.softmax(dim=1).double().cpu().numpy()
    if not package.segments:
        return p, scores, pd.DataFrame(index=rows.index)
    named = [None if names_nothing(each) else package.labels[each.argmax()] for each in p]
    masks = _at_size(answer.mask.float().sigmoid(), stored.shape[-1]).cpu().numpy()
    facts = [row for _, row in rows.iterrows()]
    found = [compare(m, known_mask(data, row), row, n) for m, row, n in zip(masks, facts, named, strict=True)]
    return p, scores, pd.DataFrame(found, index=rows.index)


def _at_size(masks: torch.Tensor, size: int) -> torch.Tensor:
    """Undoes `fit` from sequences of `size` px to the package's: large ones were made smaller, small ones padded."""
    beyond = masks.shape[-1] - size
    if beyond < 0:
        return nn.functional.interpolate(masks, (size, size), mode="bilinear", align_corners=False)
    start = beyond // 2
    return masks[..., start : start + size, start : start + size]
