"""Commands for several people: `open` a workspace that was cloned, and `data`, states of a workspace with a name."""

from pathlib import Path
from typing import Annotated

import typer

from fetalflow.errors import InputError
from flows.cli.options import Workspace

Name = Annotated[str, typer.Argument(help="The name of the data set.")]
data = typer.Typer(
    name="data",
    no_args_is_help=True,
    help="Data sets: states of a workspace with a name, whose data, split, settings and code can be had again.",
)


def open(folder: Annotated[Path, typer.Argument(help="The workspace, cloned by git or moved.")] = Path()) -> None:
    """Make a workspace that was cloned or moved ready: link the code, pull the data, decode the cines."""
    from flows.workspaces.opening import open_workspace

    for line in open_workspace(folder.resolve()):
        print(line, flush=True)


@data.command("list")
def list_(workspace: Workspace = None) -> None:
    """List the data sets: name, day, commit, and for each task the digests of its manifest and its split."""
    from flows.workspaces.data_sets import states
    from flows.workspaces.last_run import announced_workspace

    folder = announced_workspace(None, workspace)
    for state in states(folder):
        digests = "; ".join(f"{task} {' '.join(each[:8] for each in both)}" for task, both in state.digests.items())
        print(f"{state.name}  {state.when:%Y-%m-%d %H:%M}  {state.commit[:10]}  {digests}")
    if not states(folder):
        print("There is no data set yet. `fetalflow run` names the state of each registered version of a model.")


@data.command("name")
def name_(name: Name, workspace: Workspace = None) -> None:
    """Give the state of a workspace a name, so that it can be had again."""
    from flows.workspaces.data_sets import name_state
    from flows.workspaces.last_run import announced_workspace

    state = name_state(announced_workspace(None, workspace), name)
    print(f"{state.name} is commit {state.commit[:10]}")


@data.command()
def checkout(
    name: Name,
    to: Annotated[Path | None, typer.Option(help="The new folder; default: workspaces/NAME.")] = None,
    workspace: Workspace = None,
) -> None:
    """Make another workspace with the data, split, settings, results and code of a data set."""
    from flows.checkout import CHECKOUT
    from flows.workspaces.data_sets import check_out
    from flows.workspaces.last_run import announced_workspace

    folder = announced_workspace(None, workspace)
    if to is None and Path(name).name != name:
        raise InputError(f"{name!r} is no name of a data set.")
    target = (to or CHECKOUT / "workspaces" / name).resolve()
    for remark in check_out(folder, name, target):
        print(remark)
    print(f"{target} has {name}. The decoded cines are not in it: `fetalflow open {target}` decodes them.")
