"""The lines of the ledger about the model, and the result of `fetalflow ledger verify` at this moment."""

from pathlib import Path

from fetalflow.artefacts import write_json
from fetalflow.dossier.subject import Subject
from fetalflow.errors import InputError
from fetalflow.registry.ledger.record import Verdict, history, verify

FILE = "ledger.json"


def gather(subject: Subject, folder: Path) -> None:
    """Write `ledger.json`. Sentences name files, not the folders of this machine. A ledger that cannot be read, because
    its run was deleted, is what `wrong` says."""
    try:
        lines, verdict, is_read = history(subject.model), verify(), True
    except InputError as error:
        lines, verdict, is_read = [], Verdict([str(error)], [], 0, None), False
    write_json(
        folder / FILE,
        {
            "lines": lines,
            "read": is_read,
            "verify": {
                "intact": not verdict.wrong,
                "lines": verdict.lines,
                "head": verdict.head,
                "wrong": [without_folders(said) for said in verdict.wrong],
                "notes": [without_folders(said) for said in verdict.notes],
            },
        },
    )


def without_folders(said: str) -> str:
    """A sentence with the name of each file in place of its path."""
    return " ".join(_file_name(word) for word in said.split(" "))


def _file_name(word: str) -> str:
    """A word that is an absolute path, as the name of its file."""
    return word.rpartition("/")[2] if word.startswith(("/", "file:///")) and word.count("/") > 1 else word
