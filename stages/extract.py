"""Read the cines of a drop and cut them into sequences; what cannot be used goes to quarantine."""

from pathlib import Path

from fetalflow.artefacts import write_json, write_table
from fetalflow.errors import InputError
from fetalflow.hospital.drop.fingerprint import state_of
from fetalflow.hospital.drop.quarantine import check_share, describe
from fetalflow.hospital.drop.review import read_decisions
from fetalflow.hospital.drop.unknown_patients import in_words, what_to_do
from fetalflow.sequences.extraction import check_usable, extract_drop
from fetalflow.settings.params import load_settings
from stages.runtime.cluster import spread_over

READINGS = 3  # of a drop that changes while it is read
SHOWN = 20  # kinds of remarks on cines that are printed


def main(task: str) -> None:
    settings = load_settings()
    extract = settings.blocks[task].extract
    drop, data = Path(settings.tasks[task].drop), Path("data") / task
    rates = settings.blocks[task].validation.rates
    reviews = Path("reviews") / f"{task}.csv"
    for _ in range(READINGS):
        # DVC notes the state of the drop after this stage has ended, so a change in between must be seen here. The next
        # run compares what is noted here with the drop as it is then (flows/running/extract_state.py).
        state = state_of(drop, reviews)
        with spread_over(settings.machines.scheduler, drop):
            found = extract_drop(drop, extract, data / "frames", _progress, read_decisions(reviews), rates)
        if state_of(drop, reviews) == state:
            break
        print(f"{drop} or {reviews} changed while it was read.", flush=True)
    else:
        raise InputError(
            f"{drop} or {reviews} changed during each of {READINGS} readings, so no table of it is whole. Let nobody "
            "write there, and run again."
        )
    quarantine = data / "quarantine.csv"
    write_table(quarantine, found.quarantine)
    counts = found.summary
    write_json(f"reports/{task}/extract.json", counts | {"read": state})

    if counts["patients_assumed"]:
        print(f"WARNING: {in_words(counts['patients_assumed'], counts['rows'], 'rows')} {what_to_do(task)}")
    for note in counts["names"]:
        print(f"Note: {note}")
    for warning in counts["warnings"]:
        print(f"WARNING: {warning}")
    for remark in counts["remark_counts"][:SHOWN]:
        others = f" and {remark['cines'] - 1} more" if remark["cines"] > 1 else ""
        print(f"Note: {remark['first']}{others}: {remark['text']}.")
    if len(counts["remark_counts"]) > SHOWN:
        print(f"Note: {len(counts['remarks'])} cines have remarks; all are in reports/{task}/extract.json.")
    print(
        f"{drop}, read as {counts['layout']}: {counts['rows']} rows, {counts['cines']} cines ({found.decoded} decoded "
        "now, the others before), "
        f"{counts['sequences']} sequences of {counts['patients']} patients. Frames according to file headers: "
        f"{counts['promised_frames']}, decoded: {counts['decoded_of_promised']}."
    )
    print(f"Quarantined: {counts['rows_quarantined']} rows ({describe(found.quarantine)}); reasons in {quarantine}.")
    if "rows_released" in counts:
        print(f"By decision of a person: {counts['rows_released']} rows released, {counts['rows_rejected']} rejected.")
    if unused := list(counts["not_used"].items()):
        name, why = unused[0]
        print(f"Not used: {len(unused)} files, the first {name}: {why}. All are in reports/{task}/extract.json.")
    check_share(found.quarantine, counts["rows"], extract.quarantine_share, quarantine)
    check_usable(found, drop)
    write_table(data / "extracted.parquet", found.sequences)


def _progress(what: str, done: int, total: int) -> None:
    if done == total or done % max(1, total // 10) == 0:
        print(f"  {what}: {done} of {total}", flush=True)


if __name__ == "__main__":
    from stages.runtime.lifeline import run

    run(main)
