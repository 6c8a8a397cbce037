"""All results of a task on one HTML page that works offline."""

from datetime import date
from pathlib import Path

from fetalflow.artefacts import atomic_folder, write_text
from fetalflow.registry.provenance import data_digest, provenance
from fetalflow.report.drawings import draw, save
from fetalflow.report.evidence import read_evidence
from fetalflow.report.page import render
from fetalflow.settings.params import load_settings


def main(task: str) -> None:
    evidence = read_evidence(task, load_settings())
    figures = draw(evidence)
    reports = Path("reports") / task
    with atomic_folder(reports / "figures") as folder:
        save(figures, folder)
    origin = provenance(Path())
    page = render(evidence, figures, origin, data_digest(evidence.manifest), date.today().isoformat())
    write_text(reports / "report.html", page)
    print(f"{reports / 'report.html'}: {len(page) / 1e6:.1f} MB, {len(figures)} figures in {reports / 'figures'}")


if __name__ == "__main__":
    from stages.runtime.lifeline import run

    run(main)
