"""Two engineers share a workspace by git and DVC: docs/data-engineer/team.md."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dvc.api
import pytest
import yaml
from dulwich.repo import Repo
from dvc.utils.serialize import modify_yaml
from servers import s3_client, s3_store
from small_project import TASK, make_project, set_epochs
from small_project import dvc as call

from fetalflow.errors import InputError
from flows.checkout import CHECKOUT
from flows.workspaces import data_sets
from flows.workspaces.data_sets import check_out, name_state, protected, states
from flows.workspaces.layout import lay_out
from flows.workspaces.opening import open_workspace
from flows.workspaces.project import record, record_run, share_inputs
from flows.workspaces.workspace import parse_changes, prepare


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=B", "-c", "user.email=b@localhost", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Iterator[Path]:
    """Engineer A ran, committed and pushed to git and to a remote of DVC."""
    home = tmp_path_factory.mktemp("engineers")
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield _pushed(home, make_project(home / "a" / "ws", monkeypatch))


def _pushed(home: Path, folder: Path) -> Path:
    git(home, "init", "--quiet", "--bare", str(home / "server.git"))
    call(folder, "remote", "add", "--quiet", "--default", "store", str(home / "store"))
    assert record(folder, "A remote")
    name_state(folder, "spring")
    git(folder, "remote", "add", "origin", str(home / "server.git"))
    git(folder, "push", "--quiet", "origin", "HEAD")
    call(folder, "push", "--quiet")
    return folder


@pytest.fixture(scope="module")
def second(first) -> Path:
    """Engineer B cloned and opened it."""
    home = first.parents[1]
    (home / "b").mkdir()
    git(home / "b", "clone", "--quiet", str(home / "server.git"), "ws")
    (home / "b" / "ws" / "data" / TASK / "frames").mkdir(parents=True)  # the small pipeline decodes nothing
    assert list(open_workspace(home / "b" / "ws"))[0] == "The code is linked."
    return home / "b" / "ws"


def test_the_second_engineer_has_nothing_to_do_and_both_see_a_change(first, second):
    assert git(second, "status", "--porcelain") == ""
    assert "up to date" in call(second, "repro").stdout
    set_epochs(second, 4)
    call(second, "repro", "--quiet")
    record_run(second, f"{TASK}: 1 of 1 stages ran")
    git(second, "push", "--quiet", "origin", "HEAD")
    call(second, "push", "--quiet")
    git(first, "pull", "--quiet", "--ff-only", "origin", "HEAD")
    call(first, "pull", "--quiet")
    for folder in (first, second):
        metrics = json.loads(call(folder, "metrics", "diff", "HEAD~1", "--json").stdout)
        accuracy = metrics["metrics/planes/net.json"]["accuracy"]
        assert (accuracy["old"], accuracy["new"]) == (0.1, 0.04)
        params = json.loads(call(folder, "params", "diff", "HEAD~1", "--json").stdout)
        assert params["params.yaml"]["planes.train.epochs"] == {"old": 10, "new": 4, "diff": -6}
        plots = call(folder, "plots", "diff", "HEAD~1", "--json").stdout
        assert '"data"' in plots and "HEAD~1" in plots and '"errors"' not in plots
    assert "up to date" in call(first, "status").stdout


@pytest.fixture(scope="module")
def bucket(first) -> Iterator[str]:
    """A bucket of an S3 store on loopback. The usual variables name store and key, so that git has neither."""
    pytest.importorskip("dvc_s3", reason="dvc-s3 is not installed: pip install dvc-s3")
    with s3_store(first.parents[1]) as store, pytest.MonkeyPatch.context() as patch:
        no_file = str(first.parent / "none")  # dvc-s3 stops at os.devnull, which is no file
        for name, value in (store.access | {"AWS_CONFIG_FILE": no_file}).items():
            patch.setenv(name, value)
        s3_client(store).create_bucket(Bucket="team")
        yield "s3://team/fetalflow"


def test_the_remote_may_be_in_s3(first, bucket, tmp_path):
    call(first, "remote", "add", "--quiet", "bucket", bucket)
    call(first, "push", "--quiet", "--remote", "bucket")
    git(tmp_path, "clone", "--quiet", str(first), "ws")
    clone = tmp_path / "ws"
    (clone / "data" / TASK / "frames").mkdir(parents=True)  # the small pipeline decodes nothing
    (clone / ".dvc" / "config.local").write_text(
        f"[core]\n    remote = bucket\n['remote \"bucket\"']\n    url = {bucket}\n"
    )
    assert list(open_workspace(clone))[1] == "The data are here, from the remote bucket."
    assert "up to date" in call(clone, "repro").stdout and git(clone, "status", "--porcelain") == ""
    call(first, "remote", "remove", "--quiet", "bucket")


def test_an_experiment_runs_here_and_in_a_queue_and_is_shown(second):
    # A queue runs experiments one after another in copies as --temp does, by a process that would outlive the test.
    call(second, "exp", "run", "--quiet", "--set-param", "planes.train.epochs=5")
    call(second, "exp", "run", "--quiet", "--temp", "--set-param", "planes.train.epochs=6")
    call(second, "exp", "run", "--queue", "--set-param", "planes.train.epochs=7")
    shown = json.loads(call(second, "exp", "show", "--json").stdout)
    rows = [row for commit in shown for group in commit["experiments"] or () for row in group["revs"]]
    found = [
        row["data"]["metrics"]["metrics/planes/net.json"]["data"]["accuracy"] for row in rows if row["data"]["metrics"]
    ]
    assert sorted(found) == [0.05, 0.06]
    assert [row["experiments"] for row in shown[1:]] and '"error": {' not in json.dumps(shown)
    assert len(rows) == 3, "the queued one waits"
    assert dvc.api.metrics_show(repo=str(second)) == {"accuracy": 0.05}


@pytest.mark.parametrize("place", ["checkout", "workspace"])
def test_dvc_can_write_the_settings(place, tmp_path):
    """`dvc exp run -S` writes params.yaml again, by ruamel, which folds lines of more than 80 characters."""
    source = CHECKOUT if place == "checkout" else prepare(tmp_path / "ws", profiles=["paper"])
    copy = tmp_path / "params.yaml"
    copy.write_bytes((source / "params.yaml").read_bytes())
    expected = yaml.safe_load(copy.read_text())
    with modify_yaml(copy) as params:
        params["planes"]["train"]["epochs"] = expected["planes"]["train"]["epochs"] = 3
    assert yaml.safe_load(copy.read_text()) == expected


def test_a_remote_stays_and_the_checkouts_remote_is_not_taken(tmp_path, monkeypatch):
    folder = prepare(tmp_path / "ws", TASK)
    with open(folder / ".dvc" / "config", "a") as config:
        config.write("    remote = store\n['remote \"store\"']\n    url = /srv/store\n    no_scm = true\n")
    prepare(folder, TASK, changes=[parse_changes(["planes.train.epochs=3"])])
    text = (folder / ".dvc" / "config").read_text()
    assert "url = /srv/store" in text and "no_scm" not in text, "a workspace had no git before"


def test_git_holds_no_name_of_a_patient_or_of_a_file(tmp_path):
    folder = prepare(
        tmp_path / "ws", TASK, changes=[{"phantoms": [], "tasks": {TASK: {"drop": "arrivals/planes/drop"}}}]
    )
    drop = folder / "arrivals" / TASK / "drop"
    (drop / "Maria_Huber").mkdir(parents=True)
    (drop / "Maria_Huber" / "head.png").write_bytes(b"Maria_Huber")
    (drop / "annotations.csv").write_text("video,patient\nMaria_Huber/head.png,Maria_Huber\n")
    (folder / "reviews" / f"{TASK}.csv").write_text("video\nMaria_Huber/head.png\n")
    share_inputs(folder)
    git(folder, "add", ".")  # of a person who does not look
    assert record(folder, "A delivery") is not None
    with Repo(str(folder)) as repository:
        assert b"Maria_Huber" not in b"".join(repository[sha].as_raw_string() for sha in repository.object_store)
    listed = git(folder, "ls-files").split()
    assert {"inputs/planes-drop.dvc", "inputs/planes-reviews.dvc", "params.yaml", "dvc.yaml", "stages"} <= set(listed)
    call(folder, "status", "--json", "inputs/planes-drop.dvc")
    assert len(protected(folder)) == 4, "the drop as a folder, its two files, and the decisions"


@pytest.mark.parametrize(
    ("call_", "message"),
    [
        (lambda folder: name_state(folder, "spring"), "already a data set"),
        (lambda folder: name_state(folder, "../x"), "no name of a data set"),
        (lambda folder: check_out(folder, "autumn", folder / "x"), "There are: spring"),
        (lambda folder: check_out(folder, "spring", folder), "is there already"),
        (lambda folder: states(folder / "data"), "has no history yet"),
    ],
)
def test_a_wrong_name_is_refused(first, call_, message):
    with pytest.raises(InputError, match=message):
        call_(first)


def test_a_moved_workspace_finds_the_code_and_one_of_another_checkout_is_not_touched(tmp_path):
    folder = prepare(tmp_path / "here" / "ws", TASK)
    assert git(folder, "status", "--porcelain") == ""
    moved = folder.rename(tmp_path / "ws")
    assert not (moved / "stages").exists()
    lay_out(moved)
    assert (moved / "stages").resolve() == CHECKOUT / "stages" and git(moved, "status", "--porcelain") == ""
    other = tmp_path / "other"
    (other / ".code").mkdir(parents=True)
    (other / "stages").mkdir()
    (other / ".code" / "stages").symlink_to("../stages")
    beside = prepare(other / "ws", TASK)
    assert (other / ".code" / "stages").resolve() == other / "stages"
    assert (beside / "stages").resolve() == CHECKOUT / "stages"


def test_a_named_state_can_be_had_again_until_its_data_are_lost(first, tmp_path, monkeypatch):
    (state,) = states(first)
    assert state.name == "spring"
    monkeypatch.setattr(data_sets, "code", lambda: "another commit is checked out")
    check_out(first, "spring", tmp_path / "again")
    if state.code != "unknown":
        assert not (tmp_path / "again" / "stages").is_symlink(), "the code of then, which git has too"
    assert git(tmp_path / "again", "status", "--porcelain") == ""
    assert (tmp_path / "again" / "data" / TASK / "manifest.parquet").read_text() == "10"
    digest = state.digests[TASK][0]
    assert digest in protected(first)
    for cache in (first / ".dvc" / "cache", first.parents[1] / "store"):
        (cache / "files" / "md5" / digest[:2] / digest[2:]).unlink()
    with pytest.raises(InputError, match="neither in the cache nor in the remote"):
        check_out(first, "spring", tmp_path / "late")
