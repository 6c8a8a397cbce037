"""A drop's cines to frames and sequences; what cannot be used goes to quarantine."""

from pathlib import Path

from fetalflow.artefacts import write_json, write_table
from fetalflow.cluster import spread_over
from fetalflow.extraction import check_usable, extract_drop
from fetalflow.quarantine import check_share, describe
from fetalflow.review import read_decisions
from fetalflow.settings import load_settings


def main(task: str) -> None:
    settings = load_settings()
    extract = settings.blocks[task].extract
    drop, data = Path(settings.tasks[task].drop), Path("data") / task
    decisions = read_decisions(Path("reviews") / f"{task}.csv")
    with spread_over(settings.machines.scheduler, drop):
        found = extract_drop(drop, extract, data / "frames", _progress, decisions)
    quarantine = data / "quarantine.csv"
    write_table(quarantine, found.quarantine)
    write_json(f"reports/{task}/extract.json", found.summary)

    counts = found.summary
    if counts["patients_assumed"]:
        print(
            f"Warning: patients are not known: {counts['patients_assumed']} of {counts['rows']} files are each taken "
            "for a patient of their own. One woman may stand in training and test; no figure is then honest."
        )
    print(
        f"{drop}, read as {counts['layout']}: {counts['rows']} rows, {counts['cines']} cines ({found.decoded} decoded "
        "now, the others were known), "
        f"{counts['sequences']} sequences of {counts['patients']} patients. Frames promised by headers: "
        f"{counts['promised_frames']}, decoded of these: {counts['decoded_of_promised']}."
    )
    print(f"Quarantined: {counts['rows_quarantined']} rows ({describe(found.quarantine)}), reasons in {quarantine}.")
    if "rows_released" in counts:
        print(f"By decision of a person: {counts['rows_released']} rows used, {counts['rows_rejected']} kept out.")
    if unlisted := counts["cines_without_a_row"]:
        print(f"Not named in the table, not used: {len(unlisted)} files, the first {unlisted[0]}.")
    check_share(found.quarantine, counts["rows"], extract.quarantine_share, quarantine)
    check_usable(found, drop)
    write_table(data / "extracted.parquet", found.sequences)


def _progress(what: str, done: int, total: int) -> None:
    if done == total or done % max(1, total // 10) == 0:
        print(f"  {what}: {done} of {total}", flush=True)


if __name__ == "__main__":
    from stages.lifeline import run

    run(main)
