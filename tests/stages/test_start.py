"""How a stage starts: with less work for its imports, and as any Python once they are done."""

import subprocess
import sys

from closures import ROOT

CODE = """
import gc, sys

sys.argv = ["-m"]  # as `python -m stages.STAGE` imports the package
import stages

while_importing = gc.isenabled()
from stages.runtime.lifeline import run  # it imports fetalflow, as every stage does first
import jsonschema

sys.argv = ["stage"]
run(lambda: print(while_importing, gc.isenabled(), gc.get_freeze_count() > 10_000, sys.modules["rfc3987_syntax"]))
"""


def test_a_stage_looks_for_garbage_when_its_imports_are_done_and_builds_no_grammar(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.stdout.split() == ["False", "True", "True", "None"], done.stderr
