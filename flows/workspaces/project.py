"""A workspace is a project of git and DVC with its history: what ran, with which settings, on which data.

git has settings, digests and metrics; DVC's cache and remote have the data. So no name of a patient and of no file of a
hospital is in git. dulwich makes the commits, because the image of the worker has no git.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

import yaml
from dulwich.file import FileLocked as FileLocked
from dulwich.object_store import tree_lookup_path
from dulwich.repo import Repo

from fetalflow.artefacts import read_json, write_text
from fetalflow.errors import InputError
from fetalflow.settings.params import load_settings
from flows.checkout import CHECKOUT

INPUTS = "inputs"  # folder of DVC's files for what comes from outside: the deliveries, and the decisions of people
# All that git has. A person's `git add .` adds nothing else either, because the rest is ignored.
TRACKED = (
    *(".gitignore", ".dvcignore", ".dvc/.gitignore", ".dvc/config", ".dvc/plots/by_class.json"),
    *("fetalflow", "stages", "flows", "dvc.yaml", "dvc.lock", "params.yaml"),
    *("origin.yaml", "settings.jsonl", ".params-written.yaml"),
    *(f"{INPUTS}/*.dvc", "metrics/*/*.json", "reports/*/registered.json", "pretrained/*/.gitignore"),
)
IGNORED = """# git has settings, digests and metrics; DVC has the data (docs/data-engineer/team.md)
/*
!/.gitignore
!/.dvcignore
!/.dvc
!/fetalflow
!/stages
!/flows
!/dvc.yaml
!/dvc.lock
!/params.yaml
!/origin.yaml
!/settings.jsonl
!/.params-written.yaml
!/inputs
!/metrics
!/reports
/reports/*/*
!/reports/*/registered.json
!/pretrained
/pretrained/*/*
!/pretrained/*/.gitignore
__pycache__
"""
TAGS = b"refs/tags"
AUTHOR = b"fetalflow <fetalflow@localhost>"


@contextmanager
def opened(folder: Path) -> Iterator[Repo]:
    """The repository of a workspace."""
    git = Repo(str(folder))
    try:
        yield git
    finally:
        git.close()


def is_project(folder: Path) -> bool:
    return folder.resolve() != CHECKOUT and (folder / ".git").exists()


def begin(folder: Path) -> None:
    """Make the workspace `folder` a repository of git with a first commit, unless it is one."""
    if is_project(folder):
        return
    write_text(folder / ".gitignore", IGNORED)
    Repo.init(folder).close()
    record(folder, "The workspace was made")


def record(folder: Path, message: str) -> str | None:
    """Commit all files of TRACKED. Returns the commit; None if nothing changed, or if the folder is no project.

    The message gets a line with the commit of fetalflow. Raises OSError if git's files cannot be written.
    """
    if not is_project(folder):
        return None
    with opened(folder) as git:
        files = (path for name in TRACKED for path in folder.glob(name) if path.is_symlink() or path.is_file())
        found = {path.relative_to(folder).as_posix() for path in files}
        gone = {name.decode() for name in git.open_index() if not (folder / name.decode()).is_symlink()}
        gone = {name for name in gone if not (folder / name).exists()}
        git.get_worktree().stage(sorted(found | gone))
        tree = git.open_index().commit(git.object_store)
        if _head(git) and git[git.head()].tree == tree:
            return None
        return _commit(git, f"{message}\n\nfetalflow: {code()}\n")


def record_code(folder: Path, links: Iterable[str], message: str) -> None:
    """Commit the folders that are in the place of links to the code: DVC runs an experiment on what is in git."""
    with opened(folder) as git:
        index = git.open_index()
        for name in links:
            del index[name.encode()]
        index.write()
        files = (path for name in links for path in (folder / name).rglob("*") if path.is_file())
        git.get_worktree().stage(sorted(path.relative_to(folder).as_posix() for path in files))
        _commit(git, message)


def _commit(git: Repo, message: str) -> str:
    who = _author(git)
    return git.get_worktree().commit(message.encode(), committer=who, author=who, no_verify=True, sign=False).decode()


def code() -> str:
    """The commit of fetalflow that runs, in words."""
    from fetalflow.registry.provenance import code_state  # it imports pandas

    try:
        state = code_state()
    except InputError:  # a stage that needs the commit says what is wrong
        state = None
    if state is None:
        return "unknown"
    return f"{state['commit']}{' with changes that are in no commit' if state['dirty'] else ''}"


def share_inputs(folder: Path) -> None:
    """Let DVC keep what comes from outside, so that another engineer can pull it: the accumulated drop of each task,
    and the decisions on its quarantine. A drop that lies outside of the workspace stays where it is."""
    if not is_project(folder):
        return
    settings, paths = load_settings(folder / "params.yaml"), {}
    for task, entry in settings.tasks.items():
        paths[f"{task}-reviews"] = f"reviews/{task}.csv"
        if task not in settings.phantoms and not Path(entry.drop).is_absolute():
            paths[f"{task}-drop"] = entry.drop
    present = {f"{INPUTS}/{name}.dvc": path for name, path in paths.items() if (folder / path).exists()}
    if not present:
        return
    from dvc.repo import Repo as DvcRepo

    for file, path in present.items():
        if not (folder / file).is_file():
            write_text(folder / file, yaml.safe_dump({"wdir": "..", "outs": [{"path": path}]}))
    with chdir(folder), DvcRepo() as repo:  # DVC takes paths as seen from the current folder
        for file in repo.status(list(present)):
            repo.commit(file, force=True)


def record_run(folder: Path, message: str) -> None:
    """Commit a finished run; the state that registered a version of a model gets the tag MODEL-vVERSION."""
    record(folder, message)
    for file in sorted(folder.glob("reports/*/registered.json")):
        registered = read_json(file)
        if is_project(folder) and "version" in registered:
            _name_version(folder, file.relative_to(folder).as_posix(), registered)


def _name_version(folder: Path, file: str, registered: dict[str, Any]) -> None:
    name = f"{registered['name']}-v{registered['version']}"
    with opened(folder) as git:
        for tag in (name, f"{name}-{registered['evidence'][:6]}"):  # a new registry begins with version 1 again
            if (commit := git.refs.as_dict(TAGS).get(tag.encode())) is None:
                git.refs[TAGS + b"/" + tag.encode()] = git.head()
                return
            if json.loads(read_at(git, commit, file) or "{}").get("evidence") == registered["evidence"]:
                return


def read_at(git: Repo, commit: bytes, path: str) -> bytes | None:
    """A file as it was in a commit; None if the commit has no such file."""
    try:
        return git[tree_lookup_path(git.__getitem__, git[commit].tree, path.encode())[1]].data
    except KeyError:
        return None


def _author(git: Repo) -> bytes:
    config = git.get_config_stack()
    try:
        return b"%s <%s>" % (config.get((b"user",), b"name"), config.get((b"user",), b"email"))
    except KeyError:
        return AUTHOR


def _head(git: Repo) -> bool:
    try:
        return bool(git.head())
    except KeyError:
        return False
