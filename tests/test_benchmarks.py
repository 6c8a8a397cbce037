"""Every benchmark is found by its name, says what it measures, and can be started; none is run."""

import ast
from pathlib import Path

import pytest

from benchmarks.__main__ import benchmarks, listed, main

ROOT = Path(__file__).parents[1]
FILES = [path for path in sorted((ROOT / "benchmarks").rglob("*.py")) if not path.name.startswith("__")]
PROJECT = ("benchmarks", "fetalflow", "flows", "stages")


def test_the_list_names_every_file():
    named = {line.split()[0] for line in listed().splitlines() if line.startswith("  ")}
    parts = {path.stem for path in FILES if path.stem.endswith("_jobs")} | {"claims", "workspace_claims"}
    assert named | parts == {path.stem for path in FILES}


@pytest.mark.parametrize("path", benchmarks().values(), ids=benchmarks())
def test_a_benchmark_says_what_it_measures_and_how_it_is_started(path):
    tree = ast.parse(path.read_text())
    first, _, command, *_ = ast.get_docstring(tree).splitlines()
    assert first.endswith(".") and len(first) <= 100
    assert command.startswith(f"    python -m benchmarks {path.stem}")
    (entry,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main"]
    assert not entry.args.args


def defined(path: Path) -> set[str]:
    """What a module's top level names, without running it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_what_a_benchmark_imports_of_the_project_is_there(path):
    """Also within its functions. Read, not imported: torch, Lightning and MLflow take seconds each."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in PROJECT:
            place = ROOT.joinpath(*node.module.split("."))
            file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
            known = defined(file) if file.is_file() else set()
            known |= {each.stem for each in place.glob("*")}
            missing = {alias.name for alias in node.names} - known
            assert not missing, f"{node.module} has no {', '.join(sorted(missing))}"


def test_a_benchmark_gets_its_arguments(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", [])  # restored afterwards
    with pytest.raises(SystemExit) as end:
        main(["growth", "cines", "--help"])
    assert end.value.code == 0
    assert "usage: python -m benchmarks growth" in capsys.readouterr().out


def test_a_wrong_name_is_a_message_and_status_2(capsys):
    assert main(["latencies"]) == 2
    shown = capsys.readouterr().err
    assert listed() in shown
    assert shown.endswith("No benchmark is called latencies. Did you mean latency?\n")
    assert main(["nothing like it"]) == 2
    assert capsys.readouterr().err.endswith("No benchmark is called nothing like it.\n")


def test_without_a_name_all_are_listed(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out == listed() + "\n"
