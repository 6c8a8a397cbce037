"""Train one variant of a task on every fold and seed, and predict on the validation and test patients.

python -m stages.train movement cnn
"""

import shutil
from contextlib import nullcontext
from itertools import product
from pathlib import Path

import pandas as pd

from fetalflow.artefacts import atomic_folder, write_table
from fetalflow.models.building import segments
from fetalflow.models.weights import save
from fetalflow.settings.params import load_settings
from fetalflow.training.answered_masks import writing
from fetalflow.training.answers import answer_rows, answer_table, familiarity_of
from fetalflow.training.distilling import NOT_TAUGHT, teach
from fetalflow.training.loading import check_sequences
from fetalflow.training.one_run import PARTS, train_once
from fetalflow.training.pretrained import pretrained_in
from fetalflow.training.start import started_from
from fetalflow.training.together import node
from stages.runtime.watching import LIVE, Watching

MASKS = "masks.npz"  # beside a run's checkpoints


def main(task: str, variant: str) -> None:
    loaded = load_settings()
    settings, entry = loaded.blocks[task], loaded.variant(task, variant)
    data = Path("data") / task
    manifest, split = pd.read_parquet(data / "manifest.parquet"), pd.read_parquet(data / "split.parquet")
    check_sequences(manifest, data)
    model = {
        "task": task,
        "variant": variant,
        "network": entry.network,
        "labels": list(settings.extract.labels or sorted(set(manifest["label"]))),
        "frames": settings.extract.frames,
        "size": settings.preprocess.size,
        "options": entry.options,
    }
    train = settings.train
    if variant != loaded.tasks[task].variant:
        train = train.model_copy(update={"start": ""})  # rivals never start warm: they show what these data alone teach
    elif settings.pretrain.folder and not train.start:  # a warm start goes before: that model began with it already
        begin = pretrained_in(Path("pretrained") / task / "network")
        train = train.model_copy(update={"start": begin.as_posix()})
    curves, predictions, runs, folders = [], [], {}, []
    for fold, seed in product(sorted(map(int, split["fold"].unique())), settings.train.seeds):
        # A drop may state parts, too (FETAL_PLANES_DB); those of the split are used.
        rows = manifest.drop(columns="part", errors="ignore")
        rows = rows.merge(split.loc[split["fold"] == fold, ["sequence", "part"]], on="sequence")
        place = Path(LIVE, task, variant, f"fold-{fold}-seed-{seed}")
        watching = Watching(place, f"{variant}, fold {fold}, seed {seed}", f"{settings.register_.experiment}-live")
        taught = teach(model, rows, data, train, fold, seed, loaded.machines) if train.distil else NOT_TAUGHT
        folders += taught.folders
        network, fitted, folder = train_once(
            model, rows, data, train, fold, seed, loaded.machines, watching, taught.targets
        )
        watching.finish()
        if node():
            continue  # only node 0 has the network and writes
        with writing(folder / MASKS) if segments(network) else nullcontext() as write_mask:
            by_part = {part: rows[rows["part"] == part] for part in PARTS}
            answers = {part: answer_rows(network, by_part[part], data, model["labels"], write_mask) for part in PARTS}
        familiarity = familiarity_of(network, answers, settings.train.false_alarms)
        for part in ("validation", "test"):
            predictions.append(answer_table(answers[part], familiarity, model, fold, seed))
        curves.append(fitted.curves.assign(fold=fold, seed=seed))
        if not runs:
            # No times, so that equal runs write equal bytes.
            training = {"fold": fold, "seed": seed, "kept_epoch": fitted.kept_epoch, "epochs": len(fitted.curves)}
            training |= {"device": fitted.device, "precision": fitted.precision}
            training |= {"processes": loaded.machines.trainers}
            known = familiarity.facts | {"false_alarms": settings.train.false_alarms}
            kept = settings.extract.model_dump(mode="json", exclude={"patient_pattern", "near_patients"})  # no patients
            config = model | {"extract": kept, "training": training}
            config |= started_from(train.start) | taught.facts
            save(f"models/{task}/{variant}", network, config | {"familiarity": known}, familiarity.arrays)
        runs[f"{fold}-{seed}.npz"] = folder
        folders.append(folder)
    if node():
        return
    table = pd.concat(curves)
    write_table(f"reports/{task}/curves/{variant}.csv", table[["fold", "seed", *fitted.curves.columns]])
    write_table(data / "predictions" / f"{variant}.csv", pd.concat(predictions))
    with atomic_folder(data / "answers" / variant) as answered:
        for name, folder in runs.items():
            if (folder / MASKS).is_file():
                shutil.copyfile(folder / MASKS, answered / name)
    for folder in folders:  # only now, so that after a kill before this line no finished fold is trained again
        shutil.rmtree(folder)


if __name__ == "__main__":
    from stages.runtime.lifeline import run

    run(main)
