"""What a workspace has from the checkout: links to the code, `dvc.yaml`, the configuration of DVC and of git."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

import yaml

from fetalflow.artefacts import write_text
from fetalflow.settings.params import load_settings
from flows.checkout import CHECKOUT
from flows.running.plots_page import use_page

LINKED = ("fetalflow", "stages", "flows")
COPIED = (".dvcignore", ".dvc/plots/by_class.json")
# A link in git must lead to the code on every machine, so it leads to a folder beside the workspace, which has links to
# the checkout and is in no git. DVC runs a queued experiment in a copy of the workspace in one of the other two places.
CODE = ".code"
EXPERIMENTS = (".dvc/tmp/exps", ".dvc/tmp/exps/standalone")
DVC_CONFIG = "[core]\n    analytics = false\n    check_update = false\n    autostage = false\n"
# The folder is an input of every training, and empty without a pretraining. In the checkout git has this file, too.
BEGINNINGS = "/network\n"
NO_SCM = re.compile(r"^\s*no_scm\s*=.*\n?", re.MULTILINE)


def lay_out(folder: Path) -> bool:
    """Give the workspace `folder`, which has its `params.yaml`, the rest, or update it. Returns whether it had another
    `dvc.yaml` before."""
    settings = load_settings(folder / "params.yaml")
    _link_code(folder)
    for name in COPIED:
        _put(folder / name, (CHECKOUT / name).read_text())
    had_pipeline = (folder / "dvc.yaml").is_file()
    is_new = _put(folder / "dvc.yaml", pipeline_of(settings.tasks))
    _configure_dvc(folder)
    use_page(folder)
    for task in settings.tasks:
        if not (reviews := folder / "reviews" / f"{task}.csv").exists():
            from fetalflow.hospital.drop.review import write_decisions

            write_decisions(reviews, [])  # DVC needs every input to exist
        _put(folder / "pretrained" / task / ".gitignore", BEGINNINGS)
    return is_new and had_pipeline


def is_laid_out(folder: Path) -> bool:
    """Whether `folder` is a workspace that takes the code of the checkout: not the checkout, and no data set that was
    checked out, which has its code."""
    return folder.resolve() != CHECKOUT and (folder / LINKED[0]).is_symlink()


def pipeline_of(tasks: Iterable[str]) -> str:
    """The checkout's `dvc.yaml` without the plots of other tasks, for which DVC knows no loop."""
    every = yaml.safe_load((CHECKOUT / "params.yaml").read_text())["tasks"]
    lines = (CHECKOUT / "dvc.yaml").read_text().splitlines(keepends=True)
    others = [f"reports/{task}/" for task in every if task not in tasks]
    return "".join(line for line in lines if not any(part in line for part in others))


def _configure_dvc(folder: Path) -> None:
    """A remote that somebody added stays; the checkout's is not taken, because it may be of other data."""
    config = folder / ".dvc" / "config"
    before = config.read_text() if config.is_file() else DVC_CONFIG
    _put(config, NO_SCM.sub("", before))  # a workspace had no git until 2026-12
    _put(folder / ".dvc" / ".gitignore", "/config.local\n/tmp\n/cache\n/plots/offline.html\n")


def _link_code(folder: Path) -> None:
    places = [folder.parent, *(folder / place for place in EXPERIMENTS)]
    everywhere = all([_link_beside(place) for place in places])
    for name in LINKED:
        link = folder / name
        if link.is_dir() and not link.is_symlink():
            continue  # the code of an earlier state (flows/workspaces/data_sets.py)
        _link(link, f"../{CODE}/{name}" if everywhere else os.path.relpath(CHECKOUT / name, folder))


def _link_beside(place: Path) -> bool:
    """Make the folder CODE in `place`. False if it cannot be made, or is already of another checkout."""
    try:
        code = place / CODE
        code.mkdir(parents=True, exist_ok=True)
        for name in LINKED:
            if (code / name).exists() and (code / name).resolve() != CHECKOUT / name:
                return False
            _link(code / name, os.path.relpath(CHECKOUT / name, code.resolve()))
    except OSError:
        return False
    return True


def _link(link: Path, target: str) -> None:
    if link.is_symlink() and os.readlink(link) == target:
        return
    temporary = link.with_name(f".{link.name}-{os.getpid()}")
    temporary.symlink_to(target, target_is_directory=True)
    os.replace(temporary, link)


def _put(file: Path, text: str) -> bool:
    """Write `text` if the file has another one; returns whether it had. DVC and git look at the time of a file."""
    if file.is_file() and file.read_text() == text:
        return False
    write_text(file, text)
    return True
