"""The pages tell the truth: links land, and the drawing and the table of the rooms are what the library is."""

import ast
import re
import subprocess
from collections import defaultdict
from itertools import pairwise, permutations, product
from pathlib import Path

import networkx as nx
import yaml

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "fetalflow"
ARCHITECTURE = ROOT / "docs/architecture.md"
# From the end of the data's way to its beginning, which is also the order of the lines in the drawing.
ROOMS = ("dossier", "node", "service", "station", "watch", "study", "annotation")
ROOMS += ("promotion", "registry", "report", "quality", "inference", "evaluation", "training", "sequences", "hospital")
ROOMS += ("models", "biometry", "cine", "settings")

LINK = re.compile(r"\]\(([^)\s]+)\)")
MENTION = re.compile(r"(?<![\w/.-])docs/[\w./-]*\w\.(?:md|png|csv)(?:#[\w-]+)?")
CODE = re.compile(r"`(?:python )?((?:fetalflow|stages|flows|tests|benchmarks)/[a-z0-9_./-]*[a-z0-9_]|test_\w+\.py)")
BENCHMARK = re.compile(r"python -m benchmarks (\w+)")
MODULE = re.compile(r"\b(?:from|python -m) ((?:fetalflow|stages|flows|benchmarks)(?:\.\w+)*)")
DRAWING = re.compile(r"```mermaid\n(.*?)```", re.DOTALL)


def project_files(*suffixes: str) -> list[Path]:
    """Files that git tracks, or would track: those that are new and not ignored."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    files = {ROOT / name for name in names if name.endswith(suffixes)}
    return sorted(file for file in files if file.is_file())


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings of a page."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def lands(target: str, source: Path, folder: Path) -> bool:
    """Whether `target`, a path from `folder` with or without an anchor, leads somewhere."""
    path, _, anchor = target.partition("#")
    page = folder / path if path else source
    return page.exists() and (not anchor or anchor in anchors(page))


def imports_between_rooms() -> set[tuple[str, str]]:
    """(room, the room that it imports). A room is a folder of the library."""
    found = set()
    for file in LIBRARY.glob("*/**/*.py"):
        room = file.relative_to(LIBRARY).parts[0]
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{file}: a relative import, which this test does not follow"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            parts = [name.split(".") for name in names if name.startswith("fetalflow.")]
            found |= {(room, name[1]) for name in parts if (LIBRARY / name[1]).is_dir() and name[1] != room}
    return found


def drawn_between_rooms() -> set[tuple[str, str]]:
    """The arrows of the second drawing. `a --> b & c` are two."""
    drawing = DRAWING.findall(ARCHITECTURE.read_text())[1]
    lines = (line.split("-->") for line in drawing.splitlines() if "-->" in line)
    return {(a.strip(), b.strip()) for left, right in lines for a in left.split("&") for b in right.split("&")}


def lines_to_draw(arrows: set[tuple[str, str]]) -> str:
    """The lines of the second drawing, to be pasted."""
    used = defaultdict(list)
    for room, other in sorted(arrows, key=lambda arrow: ROOMS.index(arrow[1])):
        used[room].append(other)
    return "\n".join(f"    {room} --> {' & '.join(used[room])}" for room in ROOMS if room in used)


def test_every_link_and_every_mention_of_a_page_lands():
    lost = []
    for file in project_files(".md", ".py", ".yaml", ".yml", ".j2", ".toml", "Makefile"):
        text, name = file.read_text(), file.relative_to(ROOT)
        lost += [f"{name}: {m}" for m in MENTION.findall(text) if not lands(m, file, ROOT)]
        if file.suffix == ".md":
            links = (link for link in LINK.findall(text) if not re.match(r"[a-z]+:", link))
            lost += [f"{name}: {link}" for link in links if not lands(link, file, file.parent)]
    assert not lost, "These lead nowhere:\n" + "\n".join(lost)


def test_every_file_of_code_that_a_page_names_exists():
    tests = {file.name for file in project_files(".py") if file.is_relative_to(ROOT / "tests")}
    lost = []
    for page in project_files(".md"):
        text, name = page.read_text(), page.relative_to(ROOT)
        lost += [f"{name}: {p}" for p in CODE.findall(text) if not (ROOT / p).exists() and p not in tests]
        lost += [f"{name}: {b}" for b in BENCHMARK.findall(text) if not [*ROOT.glob(f"benchmarks/*/{b}.py")]]
        modules = (module.replace(".", "/") for module in MODULE.findall(text))
        lost += [f"{name}: {m}" for m in modules if not (ROOT / m).is_dir() and not (ROOT / f"{m}.py").is_file()]
    assert not lost, "There are no such files:\n" + "\n".join(lost)


def test_every_page_stands_in_the_list_of_pages():
    docs = ROOT / "docs"
    listed = set(LINK.findall((docs / "README.md").read_text()))
    pages = {page.relative_to(docs).as_posix() for page in project_files(".md") if page.is_relative_to(docs)}
    assert pages - listed == {"README.md"}


def test_the_drawing_of_the_rooms_has_the_arrows_of_the_imports():
    drawn, imported = drawn_between_rooms(), imports_between_rooms()
    assert drawn == imported, (
        f"The second drawing of docs/architecture.md lacks {sorted(imported - drawn)} and has too many "
        f"{sorted(drawn - imported)}. The lines that it needs:\n{lines_to_draw(imported)}"
    )


def test_the_table_of_the_rooms_says_what_the_rooms_say():
    table = ARCHITECTURE.read_text().split("\n## The rooms\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)/` \| (.+?) \|", table, re.MULTILINE)
    rooms = [folder.parent for folder in LIBRARY.glob("*/__init__.py")]
    said = {room.name: ast.get_docstring(ast.parse((room / "__init__.py").read_text())) for room in rooms}
    assert len(rows) == len(rooms) == len(ROOMS)
    assert dict(rows) == {name: text.splitlines()[0] for name, text in said.items()}


def test_nobody_cites_a_page_that_only_the_makers_have():
    pattern = re.compile(r"DESIGN(?:\.md)?,? \(?[\d§]")
    files = [f for f in project_files(".md", ".py", ".yaml", ".yml", ".j2", ".toml") if f != Path(__file__)]
    citing = [str(file.relative_to(ROOT)) for file in files if pattern.search(file.read_text())]
    assert not citing, f"Cite the paper or a page of docs/ in {citing}"


def test_the_drawing_in_the_readme_has_the_arrows_of_the_pipeline():
    bodies = {name: stage["do"] for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items()}

    def paths(stage: str, key: str) -> list[str]:
        """Files of one task. A variant is the main one for `train` and `export`, and a rival for `ablate`."""
        variant = "rival" if stage == "ablate" else "main"
        names = [entry if isinstance(entry, str) else next(iter(entry)) for entry in bodies[stage][key]]
        filled = [name.replace("${item.variant}", variant).replace("${item.drop}", "data/T/drop") for name in names]
        return [re.sub(r"\$\{[\w.]+\}", "T", name) for name in filled]

    needs = nx.DiGraph()
    for before, after in permutations(bodies, 2):
        pairs = product(paths(before, "outs"), paths(after, "deps"))
        if any(dep == out or dep.startswith(f"{out}/") or out.startswith(f"{dep}/") for out, dep in pairs):
            needs.add_edge(before, after)
    drawn = set()
    for line in DRAWING.findall((ROOT / "README.md").read_text())[0].splitlines():
        steps = [[name.strip() for name in step.split("&")] for step in line.split("-->")]
        drawn |= {pair for left, right in pairwise(steps) for pair in product(left, right)}
    assert drawn == set(nx.transitive_reduction(needs).edges)
