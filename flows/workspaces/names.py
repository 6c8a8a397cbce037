"""Which workspace a run gets when nobody names one: two drops never share a workspace because their folders have one
name."""

import hashlib
import sys
from pathlib import Path

import yaml

DIGITS = 6


def workspace_for(workspaces: Path, words: list[str], drop: Path | None) -> Path:
    """The workspace of a run without --name, in the folder `workspaces`. words: the name of the drop and the profiles;
    drop: None if the run uses the synthetic hospital.

    It is WORDS, unless that one was made for other data. Then it is WORDS-DIGITS, where the digits follow from the path
    of the drop; standard error says so.
    """
    name = "-".join(words).lstrip(".") or "drop"
    place = "the synthetic hospital" if drop is None else str(drop.resolve())
    usual = workspaces / name
    other = usual.with_name(f"{name}-{hashlib.sha256(place.encode()).hexdigest()[:DIGITS]}")
    if not (other / "params.yaml").is_file():
        used = _data_of(usual)
        if used in (None, place):
            return usual
        print(
            f"Workspace {usual} is of {used}, so this run has another workspace, {other}. To change the data of the "
            f"first one, give --name {name}.",
            file=sys.stderr,
        )
    return other


def _data_of(folder: Path) -> str | None:
    """What a workspace trains on, in words or as the path of a drop; None if there is no such workspace."""
    try:
        params = yaml.safe_load((folder / "params.yaml").read_text())
        synthetic = {f"data/{task}/drop" for task in params["phantoms"]}
        drops = sorted({entry["drop"] for entry in params["tasks"].values()} - synthetic)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return None  # `prepare` says what is wrong with such a file
    words = (drop if Path(drop).is_absolute() else f"the deliveries in {drop}" for drop in drops)
    return ", ".join(words) or "the synthetic hospital"
