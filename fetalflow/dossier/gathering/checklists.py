"""The checklists, so that whoever has the evidence has the questions, too."""

import shutil
from pathlib import Path

from fetalflow.dossier.subject import Subject

FOLDER = "checklists"  # of the evidence, and beside the code
KNOWN = Path(__file__).resolve().parents[1] / FOLDER
NAMES = ("tripod_ai.yaml", "claim_2024.yaml", "future_ai.yaml")


def gather(subject: Subject, folder: Path) -> None:
    """Copy the checklists that belong to the code."""
    (folder / FOLDER).mkdir()
    for name in NAMES:
        shutil.copyfile(KNOWN / name, folder / FOLDER / name)
