"""The part of the library that is logged with a model is whole: it imports nothing that was left out."""

from modulefinder import ModuleFinder

from fetalflow.registry.logged_model import answering_code

STARTS = ("inference", "models")  # models and engines are imported by their names alone, so all of these rooms count


def test_what_answers_imports_nothing_that_is_left_out(tmp_path):
    code = answering_code(tmp_path / "fetalflow")
    finder = ModuleFinder(path=[str(tmp_path)])
    files = [file for room in STARTS for file in (code / room).rglob("*.py") if file.name != "__init__.py"]
    for file in files:
        finder.import_hook(".".join(file.relative_to(tmp_path).with_suffix("").parts))
    assert "fetalflow.inference.serving" in finder.modules and len(files) > 60
    missing, _ = finder.any_missing_maybe()
    assert not [name for name in missing if name.startswith("fetalflow")]
    assert not [file for file in code.rglob("*") if file.is_file() and file.suffix != ".py"]


def test_a_room_that_is_left_out_is_seen(tmp_path):
    code = answering_code(tmp_path / "fetalflow")
    (code / "artefacts.py").unlink()
    finder = ModuleFinder(path=[str(tmp_path)])
    finder.import_hook("fetalflow.inference.package")
    assert "fetalflow.artefacts" in finder.any_missing()
