"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Task = Annotated[str, typer.Option(help="A task of params.yaml.")]
Workspace = Annotated[
    Path | None, typer.Option(help="A workspace; default: the current folder, or the workspace that was run last.")
]
Changes = Annotated[
    list[str] | None, typer.Option("--set", help="KEY.KEY=VALUE: another value for a setting of params.yaml.")
]
Wait = Annotated[
    bool,
    typer.Option("--wait/--no-wait", help="Wait while another command uses the workspace, or end with exit status 75."),
]
Who = Annotated[str, typer.Option("--by", help="The person who decides.")]
Why = Annotated[
    str, typer.Option("--why", "--reason", help="The reason. Do not write a patient's name: it is kept for ever.")
]
Engine = Annotated[
    str,
    typer.Option(
        help="torch, onnx, int8, openvino, or auto: the fastest one that is installed and passed the export stage. "
        "torch takes 2 s to start, so auto chooses it only if no other passed."
    ),
]
