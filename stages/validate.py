"""The quality gate for manifest, sequences and split. No network is trained before it passes."""

from pathlib import Path

import pandas as pd

from fetalflow.artefacts import atomic_folder, write_json
from fetalflow.quality.gate import build_tables, failure_lines, run_checks, stop_if_failed
from fetalflow.quality.suites import checks
from fetalflow.settings.params import load_settings


def main(task: str) -> None:
    settings = load_settings().blocks[task]
    bounds, labels, size = settings.validation, settings.extract.labels, settings.preprocess.size
    data, report = Path("data") / task, Path("reports") / task / "quality"
    manifest, split = pd.read_parquet(data / "manifest.parquet"), pd.read_parquet(data / "split.parquet")
    tables = build_tables(manifest, split, data, labels, size, bounds.near_duplicate_bits)
    expected = checks(bounds, labels, settings.extract.frames, size, settings.split.kind)
    # Written also when it fails, so that people can read why.
    with atomic_folder(report) as folder:
        verdict = run_checks(task, tables, expected, bounds.warn_only, folder)
        write_json(folder / "verdict.json", verdict)
    failed = [e for e in verdict["expectations"] if not e["success"]]
    for expectation in failed:
        print(failure_lines(expectation))
    total = len(verdict["expectations"])
    print(
        f"{total - len(failed)} of {total} quality checks passed for {len(manifest)} sequences; see {report}/index.html"
    )
    stop_if_failed(verdict, report)


if __name__ == "__main__":
    from stages.runtime.lifeline import run

    run(main)
