"""A registered champion of each task, and the evidence that its dossier is written from. They are made once for all
tests of the dossier; a test that changes a file works on a copy."""

import contextlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from dossier_head import HEAD

from fetalflow.artefacts import write_text
from fetalflow.dossier.composing import compose
from fetalflow.dossier.evidence import FOLDER, Evidence
from fetalflow.dossier.gathering import packages, power, software
from fetalflow.dossier.subject import Subject, find_subject
from fetalflow.dossier.writing import GATHERED, write
from fetalflow.registry.tracking import registry
from fetalflow.settings.params import Settings, load_settings

Gather = Callable[[Subject, Path], None]
MODELS = {"movement": "fetal-movement", "planes": "fetal-planes", "biometry": "fetal-biometry"}
# What is asked of lineage depends on the checkout that the test runs in, and the latency on the machine.
RULES = {"clean_tree": False, "max_latency_ms": 1e6, "max_latency_ratio": 1e6, "max_ece": 1.0, "max_false_alarms": 1.0}


@pytest.fixture(scope="session")
def bill() -> dict:
    """The installed packages, listed once for all dossiers of the tests."""
    return packages.bill_of_materials()


@pytest.fixture(scope="session")
def workspace_of(tmp_path_factory, bill) -> Iterator[Callable[[str], Path]]:
    """The workspace of a task. Version 1 of its model is champion, by a verdict where the task is movement."""

    @cache
    def workspace(task: str) -> Path:
        with contextlib.chdir(_finished(task, tmp_path_factory.mktemp("dossier") / task)):
            _register(task)
            return Path.cwd()

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr(power, "RUNS", power.FEWEST)  # fewer draws take less time
        patch.setattr(software, "bill_of_materials", lambda: bill)
        yield workspace


@pytest.fixture(scope="session")
def gathered_of(workspace_of, tmp_path_factory) -> Callable[..., Path]:
    """`gathered_of(task, *gather)`: a new folder with the files that these functions gather; default: all of them."""

    def gathered(task: str, *gather: Gather) -> Path:
        folder = tmp_path_factory.mktemp("dossier") / FOLDER
        folder.mkdir()
        workspace = workspace_of(task)
        with contextlib.chdir(workspace), registry() as store:
            subject = find_subject(store, MODELS[task], "1", workspace)
            for each in gather or GATHERED:
                each(subject, folder)
        return folder

    return gathered


@pytest.fixture(scope="session")
def evidence_of(gathered_of) -> Callable[[str], Path]:
    """The whole evidence of a task's champion. It is not to be changed."""
    return cache(gathered_of)


@pytest.fixture(scope="session")
def dossier_workspace(workspace_of) -> Path:
    """Movement: three labels, two networks, 18 patients, one quarantined row; version 1 was promoted by a person."""
    return workspace_of("movement")


@pytest.fixture(scope="session")
def dossier_evidence(evidence_of) -> Path:
    """The evidence of the champion of `dossier_workspace`. It is not to be changed."""
    return evidence_of("movement")


@pytest.fixture(scope="session")
def composed_of(evidence_of) -> Callable[[str], tuple[dict, str]]:
    """(JSON, HTML) of the dossier of a task's champion."""
    return cache(lambda task: compose(evidence_of(task).parent, HEAD))


@pytest.fixture(scope="session")
def dossier(dossier_workspace, tmp_path_factory) -> Path:
    """The whole dossier of the champion of `dossier_workspace`, unsigned. It is not to be changed."""
    target = tmp_path_factory.mktemp("written") / "dossier"
    with contextlib.chdir(dossier_workspace):
        write(MODELS["movement"], "1", target, dossier_workspace)
    return target


@pytest.fixture
def read_evidence(dossier_evidence) -> Evidence:
    return Evidence(dossier_evidence)


def _finished(task: str, folder: Path) -> Path:
    """A finished run; without the stage of the report, whose figures take longest and are not read here."""
    from finished_biometry_run import MAIN, make_finished_biometry_run
    from finished_planes_run import make_finished_planes_run
    from finished_run import make_finished_run

    match task:
        case "movement":
            made = make_finished_run(folder)
        case "planes":
            made = make_finished_planes_run(folder, explain=False)
        case _:
            made = make_finished_biometry_run(folder, patients=30, variants=(MAIN,))
    write_text(made / "reports" / task / "report.html", "<html></html>")
    write_text(made / "dvc.lock", "schema: '2.0'\n")
    return made


def _register(task: str) -> None:
    import stages.register
    from fetalflow.promotion.verdict import act, judge
    from fetalflow.registry.ledger.record import record_move

    stages.register.main(task)
    if task == "movement":
        settings = _easy(load_settings(), task)
        assert act(judge(task, settings), settings, "a person")
    else:
        record_move(MODELS[task], "champion", "1", None, "a test")


def _easy(settings: Settings, task: str) -> Settings:
    block = settings.blocks[task]
    block = block.model_copy(update={"promote": block.promote.model_copy(update=RULES)})
    return settings.model_copy(update={"blocks": settings.blocks | {task: block}})
