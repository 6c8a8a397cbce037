"""validate: the quality gate on manifest, sequences and split. Nothing is trained before it passes."""

from pathlib import Path

import pandas as pd

from fetalflow.artefacts import atomic_folder, write_json
from fetalflow.quality.gate import failure_lines, judge, stop_if_failed, tables
from fetalflow.quality.suites import checks
from fetalflow.settings import load_settings


def main(task: str) -> None:
    settings = load_settings().blocks[task]
    bounds, labels, size = settings.validation, settings.extract.labels, settings.preprocess.size
    data, report = Path("data") / task, Path("reports") / task / "quality"
    manifest, split = pd.read_parquet(data / "manifest.parquet"), pd.read_parquet(data / "split.parquet")
    judged = tables(manifest, split, data, labels, size, bounds.near_duplicate_bits)
    expected = checks(bounds, labels, settings.extract.frames, size, settings.split.kind)
    # Written whether it passes or not: who is stopped must be able to read why.
    with atomic_folder(report) as folder:
        verdict = judge(task, judged, expected, bounds.warn_only, folder)
        write_json(folder / "verdict.json", verdict)
    failed = [e for e in verdict["expectations"] if not e["success"]]
    for expectation in failed:
        print(failure_lines(expectation))
    total = len(verdict["expectations"])
    print(
        f"{total - len(failed)} of {total} quality checks hold for {len(manifest)} sequences; see {report}/index.html"
    )
    stop_if_failed(verdict, report)


if __name__ == "__main__":
    from stages.lifeline import run

    run(main)
