"""The order of the house: rooms without circles, doors that are named, and DVC knows what each result depends on."""

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest
from closures import DVC, PARAMS, ROOT, needs, resolve, units

LIBRARY = ROOT / "fetalflow"
STAGES = {
    *("extract", "preprocess", "split", "validate", "train", "ablate"),
    *("evaluate", "significance", "explain", "report", "register"),
}
# A room uses only rooms of the floors before its floor.
FLOORS = [
    ["settings", "biometry", "models"],
    ["cine", "training"],
    ["hospital", "evaluation"],
    ["sequences", "inference", "report"],
    ["quality", "registry", "annotation", "study"],
    ["promotion", "watch"],
    ["station"],
    ["node", "service", "dossier"],
]
ROOMS = [room for floor in FLOORS for room in floor]
NEVER_TRAINED_AGAIN = (
    *("hospital", "sequences", "quality", "evaluation"),
    *("inference", "report", "registry", "promotion", "annotation", "station"),
    *("study", "watch", "node", "service", "dossier"),
)


def test_the_library_has_these_rooms_and_two_loose_files():
    rooms = {path.name for path in LIBRARY.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == set(ROOMS)
    assert {path.name for path in LIBRARY.glob("*.py")} == {"__init__.py", "artefacts.py", "errors.py"}


def test_dvc_yaml_is_short_and_has_every_stage_by_its_name():
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 220
    assert set(DVC) >= STAGES
    assert {unit for _, unit, _, _ in units()} >= {"train@movement", "ablate@movement-cnn_lstm", "export@biometry"}


@pytest.mark.parametrize(("stage", "unit", "do", "values"), units(), ids=[u[1] for u in units()])
def test_dvc_knows_the_import_closure_of_every_unit(stage, unit, do, values):
    listed = {resolve(dep, values) for dep in do["deps"]}
    folders = tuple(d + "/" for d in listed)
    missing = {n for n in needs(do, values) if n not in listed and not n.startswith(folders)}
    assert not missing, f"{unit}: dvc.yaml misses {sorted(missing)}"


@pytest.mark.parametrize("stage", DVC)
def test_no_stage_lists_what_none_of_its_units_needs(stage):
    of_stage = [(do, values) for name, _, do, values in units() if name == stage]
    needed = set().union(*(needs(do, values) for do, values in of_stage))
    listed = {resolve(dep, values) for do, values in of_stage for dep in do["deps"]}
    code = {d for d in listed if d.startswith(("fetalflow/", "stages/"))}
    spare = {d for d in code if d not in needed and not any(n.startswith(d + "/") for n in needed)}
    assert not spare, f"{stage}: dvc.yaml lists what the stage does not import {sorted(spare)}"


@pytest.mark.parametrize("unit", [unit for stage, unit, _, _ in units() if stage in ("train", "ablate")])
def test_a_training_depends_on_no_later_room_and_on_no_other_network(unit):
    do, values = next((do, values) for _, name, do, values in units() if name == unit)
    code = {resolve(dep, values) for dep in do["deps"]}
    code = {dep for dep in code if dep.startswith("fetalflow/")}
    forbidden = tuple(f"fetalflow/{room}/" for room in NEVER_TRAINED_AGAIN)
    assert not [dep for dep in code if (dep + "/").startswith(forbidden)]
    networks = {f"{path.relative_to(ROOT)}" for task in PARAMS["tasks"] for path in LIBRARY.glob(f"models/{task}/*.py")}
    others = {network for network in networks if not network.endswith("__init__.py")} - needs(do, values)
    assert others and not [n for n in others if n in code or n.startswith(tuple(dep + "/" for dep in code))]


@cache
def imports_of(path: Path) -> set[str]:
    """Every dotted name that a file imports, in functions too; `from a import b` gives a and a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@cache
def library_imports() -> dict[str, set[str]]:
    """The files of the library that each of its files imports, both as paths below fetalflow/."""
    found = {}
    for path in LIBRARY.rglob("*.py"):
        files = {LIBRARY.parent.joinpath(*name.split(".")).with_suffix(".py") for name in imports_of(path)}
        used = {str(file.relative_to(LIBRARY)) for file in files if file.is_file()}
        found[str(path.relative_to(LIBRARY))] = used - {str(path.relative_to(LIBRARY))}
    return found


def without_leaves(uses: dict[str, set[str]]) -> dict[str, set[str]]:
    """What is left of a graph when all that leads into no circle is taken out: nothing where there is no circle."""
    uses = {name: set(used) for name, used in uses.items()}
    while free := [name for name in uses if not any(used in uses for used in uses[name])]:
        for name in free:
            del uses[name]
    return {name: used & set(uses) for name, used in uses.items()}


def room_of(file: str) -> str:
    return Path(file).parts[0]


def test_no_file_is_in_a_circle_of_imports():
    assert not (circle := without_leaves(library_imports())), circle


@pytest.mark.parametrize("depth", [1, 2], ids=["rooms", "rooms within rooms"])
def test_no_room_is_in_a_circle_of_imports(depth):
    uses = defaultdict(set)
    for file, used in library_imports().items():
        of_file = "/".join(Path(file).parent.parts[:depth])
        rooms = {"/".join(Path(each).parent.parts[:depth]) for each in used} - {of_file, "."}
        # A room within a room may use the room around it, or be used by it; that is the room's own affair.
        uses[of_file] |= {room for room in rooms if not room.startswith(f"{of_file}/") and not of_file.startswith(room)}
    assert not (circle := without_leaves(uses)), circle


def test_a_room_uses_only_rooms_of_lower_floors():
    floor_of = {room: number for number, floor in enumerate(FLOORS) for room in floor}
    for file, used in library_imports().items():
        for other in used:
            rooms = room_of(file), room_of(other)
            if set(rooms) <= set(ROOMS) and rooms[0] != rooms[1]:
                assert floor_of[rooms[1]] < floor_of[rooms[0]], f"{file} imports {other}"


def docstring_of(room: Path) -> list[str]:
    return (ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or "").splitlines()


def inner_rooms() -> list[Path]:
    return sorted(path.parent for path in LIBRARY.glob("*/**/__init__.py"))


@pytest.mark.parametrize("room", inner_rooms(), ids=lambda room: str(room.relative_to(LIBRARY)))
def test_every_room_says_what_comes_in_and_what_goes_out(room):
    first = docstring_of(room)[0]
    assert re.search(r"\bcomes? in\b", first) and re.search(r"\bgo(es)? out\b", first), first


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_names_the_doors_that_others_come_in_by(room):
    """`Doors: layouts, drop/rows.` names the files that other rooms, stages or flows import."""
    doors = set()
    for path in [p for top in ("fetalflow", "stages", "flows") for p in (ROOT / top).rglob("*.py")]:
        if path.is_relative_to(LIBRARY / room):
            continue
        for name in imports_of(path):
            file = ROOT.joinpath(*name.split(".")).with_suffix(".py")
            if file.is_file() and file.is_relative_to(LIBRARY / room):
                doors.add(file.relative_to(LIBRARY / room).with_suffix("").as_posix())
    text = " ".join(docstring_of(LIBRARY / room))
    named = re.search(r"Doors: ([^.]*)\.", text)
    assert named, f"fetalflow/{room}/__init__.py: add the line\nDoors: {', '.join(sorted(doors))}."
    assert set(named[1].replace(" ", "").split(",")) == doors, f"Doors: {', '.join(sorted(doors))}."


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [("fetalflow", {"flows", "stages", "dvc", "prefect"}), ("stages", {"flows", "dvc", "prefect", "mlflow"})],
)
def test_imports_run_one_way(room, forbidden):
    for path in (ROOT / room).rglob("*.py"):
        wrong = {name for name in imports_of(path) if name.split(".")[0] in forbidden}
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


def test_mlflow_is_imported_in_one_file_of_the_library():
    files = LIBRARY.rglob("*.py")
    assert [f.name for f in files if any(n.split(".")[0] == "mlflow" for n in imports_of(f))] == ["tracking.py"]


def test_flows_reach_stages_only_through_dvc():
    for path in (ROOT / "flows").rglob("*.py"):
        wrong = {n for n in imports_of(path) if n.startswith("stages.") and not n.startswith("stages.runtime")}
        assert not wrong, f"{path.name} imports {sorted(wrong)}"


def test_no_stage_compares_the_name_of_its_task():
    for path in (ROOT / "stages").rglob("*.py"):
        assert not re.search(r"\btask\s*(==|!=|in\b)", path.read_text()), path.name


def test_a_variant_is_written_once():
    """Its network, base and options in one entry; `ablations` repeats the rivals for DVC, by a YAML anchor."""
    rivals = {name: entry for task in PARAMS["tasks"] for name, entry in PARAMS[task]["rivals"].items()}
    assert PARAMS["ablations"] == rivals
    text = (ROOT / "params.yaml").read_text()
    for name in rivals:
        assert len(re.findall(rf"^    {name}: ", text, re.M)) == 1, name
