"""The Prefect flow over real `dvc` stages: order, nothing done twice, and retries where they help. On a real
server: tests/whole/test_night.py."""

import logging
from pathlib import Path

import pytest
from small_stages import ORDER, STAGE, make_small_workspace, ran

from fetalflow.settings.params import load_settings
from flows.running import terminal
from flows.running.dvc_stages import openable, pending, stage_names
from flows.workspaces.project import begin, opened

ROOT = Path(__file__).parents[2]


@pytest.fixture
def workspace(tmp_path, monkeypatch, python_at_hand):
    monkeypatch.setattr("flows.running.durations.DEMO", tmp_path / "none")  # the small stages have the demo's names
    return make_small_workspace(tmp_path / "small", python_at_hand)


@pytest.fixture
def flows_here(prefect_here, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr("flows.pipeline.RETRY_AFTER_S", 0)


@pytest.fixture
def on_terminal(capsys, monkeypatch):
    """As `fetalflow run` shows flows; a function that gives what was shown since its last call."""
    handlers = list(logging.getLogger().handlers)
    monkeypatch.setattr(terminal, "_terminal", None)

    def shown() -> str:
        found = capsys.readouterr().err
        assert "Finished in state" not in found and "Prefect" not in found and "Traceback" not in found
        return found

    def begin():
        terminal.show_runs_here()
        return shown

    yield begin
    logging.getLogger().handlers[:] = handlers


def test_runs_every_stage_in_order_and_then_nothing(workspace, flows_here):
    from flows.pipeline import pipeline

    begin(workspace)
    assert pending(workspace, "planes") == [], "the stages of another task do not count"
    assert sorted(pipeline(str(workspace))) == sorted(f"{name}@movement" for name in ORDER)
    assert ran(workspace) == ORDER
    assert pipeline(str(workspace)) == []
    assert ran(workspace) == ORDER
    with opened(workspace) as git:
        (message,) = [entry.commit.message.decode() for entry in git.get_walker(max_entries=1)]
    assert (
        message.startswith("all tasks: 3 of 3 stages ran (flow run small all tasks 20") and "train@movement" in message
    )
    assert {"movement-metrics", "movement-confusion"} <= artefacts(message.split("(flow run ")[1].split(")")[0])


MEETING = """
import sys, time
from pathlib import Path

name = sys.argv[1]
others = [path.stem for path in Path().glob("*.begun") if not path.with_suffix(".ended").exists()]
Path(f"{name}.begun").touch()
if other := {"train": "ablate", "ablate": "explain"}.get(name):  # it ends after the other has begun
    end = time.monotonic() + 60
    while not Path(f"{other}.begun").exists() and time.monotonic() < end:
        time.sleep(0.05)
with open("ran.txt", "a") as file:
    file.write(f"{name}:{','.join(others)}\\n")
Path(f"{name}.ended").touch()
if Path(f"{name}.fault").exists():
    sys.exit("no paper left")
Path(f"{name}.done").write_text(name)
"""


def test_a_stage_begins_when_what_it_needs_is_there_and_times_are_measured_alone(
    workspace, flows_here, monkeypatch, python_at_hand
):
    """And after a failure what runs ends whole, nothing else begins, and the next run does the rest alone."""
    from flows.pipeline import pipeline
    from flows.running.dvc_stages import StageFailed

    monkeypatch.setattr("flows.running.side_by_side.cores", lambda: 2)
    monkeypatch.setattr("flows.pipeline.GPU", "no limit")  # the server may be one that lets one training run at a time
    text = "stages:\n"
    for name, needs in {"train": [], "ablate": [], "explain": ["train"], "export": ["train", "ablate"]}.items():
        unit, deps = "movement-cnn" if name == "ablate" else "movement", ", ".join(f"{each}.done" for each in needs)
        text += f"  {name}:\n    foreach: [{unit}]\n    do:\n      cmd: {python_at_hand} meeting.py {name}\n"
        text += f"      deps: [{deps}]\n      outs: [{name}.done]\n"
    (workspace / "dvc.yaml").write_text(text)
    (workspace / "meeting.py").write_text(MEETING)
    (workspace / "explain.fault").touch()
    with pytest.raises(StageFailed, match="no paper left"):
        pipeline(str(workspace))
    first, beside = ran(workspace), {"train:ablate", "ablate:train"}
    assert len(first) == 3 and beside & set(first) and "explain:ablate" in first
    (workspace / "explain.fault").unlink()
    assert pipeline(str(workspace)) == ["explain@movement", "export@movement"]
    assert ran(workspace)[3:] == ["explain:", "export:"]
    assert pending(workspace) == []


def artefacts(flow_run: str) -> set[str]:
    """The keys of what a run, given by its name, shows on the server."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName

    with get_client(sync_client=True) as client:
        of_the_run = FlowRunFilter(name=FlowRunFilterName(any_=[flow_run]))
        return {found.key for found in client.read_artifacts(flow_run_filter=of_the_run)}


def test_a_crash_in_training_is_tried_again_and_bad_input_is_not(workspace, flows_here, on_terminal):
    """And each fault is shown once, beside the number of its stage."""
    from flows.pipeline import pipeline
    from flows.running.dvc_stages import StageFailed

    shown = on_terminal()
    (workspace / "train.fault").write_text("once")
    pipeline(str(workspace))
    assert ran(workspace) == ["phantom", "train", "train", "evaluate"]
    lines = shown().splitlines()
    stages = [line for line in lines if line.startswith("Stage ")]
    assert stages == [f"Stage {number} of 3, {name}@movement" for number, name in enumerate(ORDER, 1)]
    assert sum("out of memory" in line for line in lines) == sum("is tried once more" in line for line in lines) == 1

    (workspace / "stage.py").write_text(STAGE + "\n")
    (workspace / "train.fault").write_text("input")
    with pytest.raises(StageFailed, match="row 3 of annotations.csv: expected a label") as failed:
        pipeline(str(workspace))
    assert failed.value.is_logged and shown().count("row 3 of annotations.csv") == 1
    assert ran(workspace)[4:] == ["phantom", "train"], "the mended input is what can help, not a second try"
    (workspace / "train.fault").unlink()
    pipeline(str(workspace))
    assert ran(workspace)[6:] == ["train", "evaluate"], "what was done stays done"


def test_a_night_without_tracking_server_leaves_registering_to_the_next_run(workspace, flows_here, python_at_hand):
    """The last stage is the real one's way out: no input at fault, so it is tried again, and then said."""
    from flows.pipeline import pipeline
    from flows.running.dvc_stages import StageFailed

    said = "sys.exit('MLflow is out of reach. Only registering is left.') if Path('down').exists() else None"
    body = f"import sys\nfrom pathlib import Path\nopen('ran.txt', 'a').write('register\\n')\n{said}\n"
    (workspace / "register.py").write_text(body + "Path('registered.json').write_text('{}')\n")
    with open(workspace / "dvc.yaml", "a") as file:
        file.write(f"  register:\n    foreach: [movement]\n    do:\n      cmd: {python_at_hand} register.py\n")
        file.write("      deps: [register.py, train.done, evaluate.done]\n      outs: [registered.json]\n")
    (workspace / "down").touch()
    with pytest.raises(StageFailed, match="Only registering is left"):
        pipeline(str(workspace))
    assert ran(workspace) == [*ORDER, "register", "register"]
    (workspace / "down").unlink()
    assert pipeline(str(workspace)) == ["register@movement"]
    assert ran(workspace) == [*ORDER, "register", "register", "register"], "nothing was trained again"


def test_each_stage_belongs_to_one_task():
    """`make demo TASK=planes` runs planes' stages and no other's."""
    of_task = {task: stage_names(ROOT, task) for task in load_settings(ROOT / "params.yaml").tasks}
    assert sorted(name for names in of_task.values() for name in names) == sorted(stage_names(ROOT))
    assert "train@planes" in of_task["planes"] and "ablate@planes-no_attention" in of_task["planes"]
    assert not set(of_task["planes"]) & set(of_task["movement"])


def test_lines_of_a_stage_name_files_that_can_be_opened_from_anywhere(tmp_path):
    for name in ("data/movement/quarantine.csv", "reports/movement/quality/index.html"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    line = "reasons in data/movement/quarantine.csv, see reports/movement/quality/index.html. (data/movement)"
    assert openable(line, tmp_path) == (
        f"reasons in {tmp_path}/data/movement/quarantine.csv, see {tmp_path}/reports/movement/quality/index.html. "
        f"({tmp_path}/data/movement)"
    )
    for same in (f"{tmp_path}/data/movement", "hospital/data/movement", "data/gone.csv", "53 data/s"):
        assert openable(same, tmp_path) == same
