"""The list of all benchmarks, and the way to run one.

    python -m benchmarks                    lists them
    python -m benchmarks sites --help       tells what one takes
    python -m benchmarks sites --seeds 3    runs it

All from the checkout's root.
"""

import ast
import difflib
import importlib
import sys
from pathlib import Path

ROOM = Path(__file__).parent


def benchmarks() -> dict[str, Path]:
    """Every benchmark's file by its name. A file whose name ends in _jobs is a part of another."""
    return {path.stem: path for path in sorted(ROOM.glob("*/[!_]*.py")) if not path.stem.endswith("_jobs")}


def first_line(path: Path) -> str:
    """Of the docstring; the file is not imported, which takes seconds."""
    return ast.get_docstring(ast.parse(path.read_text())).splitlines()[0]


def listed() -> str:
    found = benchmarks()
    lines = ["python -m benchmarks NAME [--help]"]
    for folder in sorted({path.parent for path in found.values()}):
        lines += ["", f"{folder.name}: {first_line(folder / '__init__.py')}"]
        lines += [f"  {name:22}{first_line(path)}" for name, path in found.items() if path.parent == folder]
    return "\n".join(lines)


def main(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(listed())
        return 0
    name, *arguments = words
    found = benchmarks()
    if name not in found:
        close = "".join(f" Did you mean {each}?" for each in difflib.get_close_matches(name, found, 1))
        print(f"{listed()}\n\nNo benchmark is called {name}.{close}", file=sys.stderr)
        return 2
    sys.argv = [f"python -m benchmarks {name}", *arguments]
    importlib.import_module(f"benchmarks.{found[name].parent.name}.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
