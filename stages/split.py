"""Divide the sequences of the manifest into train, validation and test."""

from pathlib import Path

from fetalflow.artefacts import read_columns, write_json, write_table
from fetalflow.hospital.drop.unknown_patients import count_unknown, in_words, what_to_do
from fetalflow.sequences.split import BY_PATIENT, PARTS, USED, count, shared_patients, split
from fetalflow.settings.params import load_settings


def main(task: str) -> None:
    settings = load_settings().blocks[task].split
    manifest = read_columns(Path("data") / task / "manifest.parquet", USED)
    table = split(manifest, settings)
    shared, counts = shared_patients(table), count(table)
    patients = {part: int(table.loc[table["part"] == part, "patient"].nunique()) for part in PARTS}
    left_out = len(manifest) - table["sequence"].nunique()
    write_table(Path("data") / task / "split.parquet", table)
    folds = int(table["fold"].nunique())
    summary = {"kind": settings.kind, "folds": folds, "seed": settings.seed, "counts": counts}
    summary |= {"patients": patients, "overlap": shared, "left_out": left_out}
    if unknown := count_unknown(manifest):
        summary["unknown_patients"] = unknown  # sequences whose file counts as a patient: `overlap` cannot find them
        print(f"WARNING: {in_words(unknown, len(manifest), 'sequences')} {what_to_do(task)}")
    write_json(Path("reports") / task / "split.json", summary)
    over = "" if folds == 1 else f" (over {folds} folds)"
    print(f"{settings.kind} split{over}: {left_out} of {len(manifest)} sequences left out")
    for part in PARTS:
        by_label = ", ".join(f"{label} {n}" for label, n in counts[part].items())
        print(f"  {part}: {sum(counts[part].values())} sequences of {patients[part]} patients: {by_label}")
    print("patients in two parts: " + ", ".join(f"{pair} {n}" for pair, n in shared.items()))
    if settings.kind not in BY_PATIENT and any(shared.values()):
        print(f"WARNING: the {settings.kind} split is by sequence: patients in training and test make metrics too good")


if __name__ == "__main__":
    from stages.runtime.lifeline import run

    run(main)
