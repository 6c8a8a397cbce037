"""States of a workspace that have a name, which is a tag of git: data, split, settings and code can be had again.

`fetalflow run` names the state of each registered version of a model. `protected` says what a clean-up must keep.
"""

import json
import re
import stat
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from dulwich import porcelain
from dulwich.object_store import iter_tree_contents, tree_lookup_path
from dulwich.repo import NotGitRepository, Repo

from fetalflow.errors import InputError
from flows.checkout import CHECKOUT
from flows.running.dvc_stages import DVC, stored
from flows.running.plots_page import use_page
from flows.workspaces.layout import LINKED, lay_out
from flows.workspaces.lock import hold
from flows.workspaces.project import INPUTS, TAGS, code, is_project, opened, read_at, record, record_code

NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
KEEPING = (TAGS, b"refs/heads", b"refs/exps")  # what `protected` keeps, besides the newest commit
DATA = ("manifest.parquet", "split.parquet")  # in data/TASK: what decides which sequences are trained and tested
CODE_LINE = re.compile(r"^fetalflow: ([0-9a-f]{40,64})( with changes)?", re.MULTILINE)


@dataclass(frozen=True)
class State:
    """A named state. digests: for each task the MD5 of its manifest and of its split; code: the commit of fetalflow."""

    name: str
    commit: str
    when: datetime
    digests: dict[str, tuple[str, ...]]
    code: str


def states(folder: Path) -> list[State]:
    """The named states of a workspace, the oldest first."""
    with opened(_required(folder)) as git:
        tags = {tag.decode(): _commit(git, commit) for tag, commit in git.refs.as_dict(TAGS).items()}
        found = [_state(git, tag, commit) for tag, commit in tags.items()]
    return sorted(found, key=lambda state: (state.when, state.name))


def name_state(folder: Path, name: str) -> State:
    """Give the state of today a name. Raises InputError if the name is taken or is no name."""
    if not NAME.fullmatch(name) or name.endswith((".", ".lock")) or ".." in name:
        raise InputError(f"{name!r} is no name of a data set. Use letters, digits, -, _ and single points.")
    with hold(_required(folder), "fetalflow data name"):
        record(folder, f"The data set {name}")
        with opened(folder) as git:
            mark = TAGS + b"/" + name.encode()
            if mark in git.refs:
                raise InputError(
                    f"{name} is already a data set of {folder}. `fetalflow data list` shows all. Use another."
                )
            git.refs[mark] = git.head()
            return _state(git, name, git.head())


def check_out(folder: Path, name: str, target: Path) -> list[str]:
    """Make a workspace `target` with the data, split, settings, results and code of a named state of `folder`, on a
    branch with that name. It uses the cache of `folder`. Returns remarks for the person. It holds the lock of `folder`:
    else a patient who is erased from there meanwhile could stay in the copy.

    Raises InputError if there is no such state, if `target` is there already, or if data of the state are neither in
    the cache nor in the remote.
    """
    if (state := next((each for each in states(folder) if each.name == name), None)) is None:
        known = ", ".join(each.name for each in states(folder)) or "none yet"
        raise InputError(f"{folder} has no data set {name!r}. There are: {known}.")
    with hold(folder, "fetalflow data checkout"):
        return _checked_out(folder, state, target)


def _checked_out(folder: Path, state: State, target: Path) -> list[str]:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target} is there already. Give another folder, or remove it.")
    with porcelain.clone(str(folder), target, checkout=False, errstream=porcelain.NoneStream()) as git:
        branch = b"refs/heads/" + state.name.encode()
        git.refs[branch] = state.commit.encode()
        git.refs.set_symbolic_ref(b"HEAD", branch)
        git.get_worktree().reset_index()
    remarks = _put_code(target, state.code)
    use_page(target)
    with open(target / ".dvc" / "config.local", "a") as file:
        file.write(f"[cache]\n    dir = {(folder / '.dvc' / 'cache').resolve()}\n")
    _get_data(target, state.name)
    return remarks


def protected(folder: Path) -> set[str]:
    """MD5 of every object of DVC's cache that the newest commit, a branch, an experiment or a named state of a
    workspace needs, as in `dvc.lock` (folders with `.dir`), and of every file in these folders. A clean-up keeps these
    objects."""
    if not is_project(folder):
        return set()
    with opened(folder) as git:
        marks = {mark for place in KEEPING for mark in git.refs.as_dict(place).values()}
        commits = {git.head(), *(_commit(git, mark) for mark in marks)}
        found = {digest for commit in commits for digest in _digests(git, commit)}
    for digest in [each for each in found if each.endswith(".dir")]:
        if (listed := folder / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:]).is_file():
            found |= {entry["md5"] for entry in json.loads(listed.read_text())}
    return found


def forget_version(folder: Path, model: str, version: str) -> list[str]:
    """Remove the names that the state of a version got by itself, MODEL-vVERSION; returns them. Those that people gave
    stay."""
    if not is_project(folder):
        return []
    own = re.compile(rf"{re.escape(model)}-v{re.escape(version)}(-[0-9a-f]{{6}})?")
    with opened(folder) as git:
        names = [tag for tag in git.refs.as_dict(TAGS) if own.fullmatch(tag.decode())]
        for tag in names:
            del git.refs[TAGS + b"/" + tag]
    return [tag.decode() for tag in names]


def _required(folder: Path) -> Path:
    if not is_project(folder):
        raise InputError(f"{folder} has no history yet. The next `fetalflow run` begins one.")
    return folder


def _commit(git: Repo, mark: bytes) -> bytes:
    """The commit of a tag, also of one with a message, which is an object that names the commit."""
    while (found := git[mark]).type_name == b"tag":
        mark = found.object[1]
    return mark


def _state(git: Repo, name: str, commit: bytes) -> State:
    text = git[commit].message.decode(errors="replace")
    digests: dict[str, tuple[str, ...]] = {}
    outs = {out["path"]: out["md5"] for out in _outs(git, commit) if "md5" in out}
    for task in sorted({path.split("/")[1] for path in outs if path.endswith(f"/{DATA[0]}")}):
        digests[task] = tuple(outs.get(f"data/{task}/{file}", "") for file in DATA)
    used = CODE_LINE.search(text)
    when = datetime.fromtimestamp(git[commit].commit_time, UTC)
    return State(name, commit.decode(), when, digests, used[0].removeprefix("fetalflow: ") if used else "")


def _outs(git: Repo, commit: bytes) -> list[dict[str, Any]]:
    """Outputs in `dvc.lock`, and inputs, as they were in a commit."""
    stages = (yaml.safe_load(read_at(git, commit, "dvc.lock") or b"") or {}).get("stages", {})
    found = [out for stage in stages.values() for out in stage.get("outs", [])]
    try:
        folder = git[tree_lookup_path(git.__getitem__, git[commit].tree, INPUTS.encode())[1]]
    except KeyError:
        return found
    return found + [out for item in folder.items() for out in yaml.safe_load(git[item.sha].data)["outs"]]


def _digests(git: Repo, commit: bytes) -> set[str]:
    return {out["md5"] for out in _outs(git, commit) if "md5" in out}


def _put_code(target: Path, wanted: str) -> list[str]:
    """Write the code of a commit of fetalflow in the place of the links; links to the code of today if that is not
    possible. Returns remarks."""
    commit, _, changes = wanted.partition(" ")
    if wanted == code():
        lay_out(target)
        return []
    try:
        with Repo.discover(str(CHECKOUT)) as git:
            tree = git[commit.encode()].tree
            for name in LINKED:
                (target / name).unlink()
                root = tree_lookup_path(git.__getitem__, tree, name.encode())[1]
                for entry in iter_tree_contents(git.object_store, root):
                    file = target / name / entry.path.decode()
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(git[entry.sha].data)
                    file.chmod(stat.S_IMODE(entry.mode) or 0o644)
        record_code(target, LINKED, f"The code is that of fetalflow {commit}, and no link")
    except (NotGitRepository, KeyError):
        lay_out(target)
        return [
            f"Its code was commit {wanted or 'unknown'} of fetalflow, which {CHECKOUT} does not have. The workspace "
            "has the code of today; `dvc status` there shows the stages for which it is another one."
        ]
    return ["The code of then had changes that are in no commit; they are lost."] if changes else []


def _get_data(target: Path, name: str) -> None:
    targets = stored(target)
    for verb in ("checkout", "pull"):
        done = subprocess.run([DVC, verb, "--quiet", "--force", *targets], cwd=target, capture_output=True, text=True)
        if done.returncode == 0:
            return
    raise InputError(
        f"not all data of {name} could be had: they are neither in the cache nor in the remote. {target} has the rest. "
        f"DVC says: {(done.stdout + done.stderr).strip()[-1000:]}"
    )
