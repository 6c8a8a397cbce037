"""A verb speaks of the workspace that is named, of the current folder, or of the one that was run last."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fetalflow.errors import InputError
from flows.cli.app import app
from flows.workspaces import last_run
from flows.workspaces.last_run import find_workspace, remember

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout without results; the current folder is another one."""
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout" / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    monkeypatch.setattr(last_run, "CHECKOUT", tmp_path / "checkout")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # with a server, some verbs need no workspace
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "checkout"


def ran(folder: Path, *tasks: str) -> Path:
    for task in tasks:
        (folder / "reports" / task / "figures").mkdir(parents=True)
    (folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    return folder


def test_the_last_run_of_the_task_counts_and_not_the_last_run_of_another(checkout):
    old, new = ran(checkout / "workspaces" / "old", "movement"), ran(checkout / "workspaces" / "new", "movement")
    other = ran(checkout / "workspaces" / "other", "planes")
    for workspace, task in ((new, "movement"), (old, "movement"), (other, "planes")):
        remember(workspace, task)
    assert (find_workspace("movement"), find_workspace("planes"), find_workspace(None)) == (old, other, other)
    remember(new, "movement")
    assert (find_workspace("movement"), find_workspace(None)) == (new, new)


def test_named_and_current_folders_come_first(checkout, monkeypatch):
    old, new = ran(checkout / "workspaces" / "old", "movement"), ran(checkout / "workspaces" / "new", "movement")
    remember(new, "movement")
    assert find_workspace("movement", old) == old
    monkeypatch.chdir(old)
    assert find_workspace("movement") == old and find_workspace("movement", new) == new
    monkeypatch.chdir(checkout)  # the checkout without results is no workspace
    assert find_workspace("movement") == new


@pytest.mark.parametrize("record", [None, "{", "[]", '{"movement": "/gone"}'])
def test_it_does_not_guess_between_two(checkout, record):
    first = ran(checkout / "workspaces" / "first", "movement")
    if record:
        (checkout / "workspaces" / last_run.RECORD).write_text(record)
    assert find_workspace("movement") == first  # the only one
    second = ran(checkout / "workspaces" / "second", "movement")
    with pytest.raises(InputError, match=f"(?s){first}, {second}.*--workspace"):
        find_workspace("movement")


def test_a_workspace_that_does_not_exist_or_never_ran_the_task_is_said(checkout):
    made = ran(checkout / "workspaces" / "made", "movement")
    with pytest.raises(InputError, match=f"no workspace: it has no params.yaml. Workspaces: {made}"):
        find_workspace("movement", checkout / "nowhere")
    with pytest.raises(InputError, match="No workspace has results of planes yet. First: fetalflow run --task planes"):
        find_workspace("planes")
    with pytest.raises(InputError, match="no task 'movements'. Its tasks: movement, planes, biometry"):
        find_workspace("movements")


@pytest.mark.parametrize(
    "verb",
    [
        ["predict", "cine.mp4"],
        ["measure", "head.png"],
        ["stream", "cine.mp4"],
        ["promote", "--dry-run"],
        ["rollback"],
        ["quarantine", "list"],
        ["quarantine", "show", "row"],
        ["quarantine", "release", "row", "--by", "a", "--why", "b"],
        ["quarantine", "reject", "row", "--by", "a", "--why", "b"],
        ["ledger", "verify"],
        ["ledger", "history"],
        ["ledger", "accept", "model", "champion", "--reason", "r"],
        ["ledger", "put-back", "model", "champion", "--reason", "r"],
        ["ledger", "repair"],
        ["ledger", "seal", "--key-file", "k"],
        ["lineage", "P1"],
    ],
    ids=lambda verb: " ".join(verb[:2]),
)
def test_every_verb_refuses_to_guess_and_names_the_workspaces(checkout, verb):
    first, second = (ran(checkout / "workspaces" / n, "movement", "biometry") for n in ("first", "second"))
    found = CliRunner().invoke(app, verb)
    assert isinstance(found.exception, InputError) and f"{first}, {second}" in str(found.exception)
    named = CliRunner().invoke(app, [*verb, "--workspace", str(second)])
    assert str(first) not in named.output + str(named.exception)
    assert f"Workspace {second}\n" in named.stderr
