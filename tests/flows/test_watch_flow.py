"""The daily look at the model in use: reports, page, metrics, one alert, and a retraining after some days."""

from contextlib import chdir

import pytest
import yaml
from answer_rows import answers
from finished_run import small_params
from typer.testing import CliRunner

from fetalflow.annotation.annotation import Span
from fetalflow.annotation.corrections import correct
from fetalflow.annotation.journal import JOURNAL, Journal
from fetalflow.registry import tracking
from fetalflow.registry.watched import TAG, log_days
from fetalflow.settings.params import load_settings
from fetalflow.watch.log import AnswerLog
from fetalflow.watch.look import look, page_of, reports_of
from flows import watch_answers as module
from flows.cli.watch import watch
from flows.nights.schedules import Planned, companions

TASK = "movement"
DAYS = [f"2026-11-{day:02d}" for day in range(20, 29)]
FIRST_BAD = DAYS[5]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Nine days of answers; from the sixth on S1 has another device."""
    folder = tmp_path_factory.mktemp("watched")
    settings = {"watch": {"folder": "answers", "before": 4, "min_answers": 10}}
    (folder / "params.yaml").write_text(yaml.safe_dump(small_params(("fetalmovnet", "cnn"), 4) | settings))
    log = AnswerLog(folder / "answers")
    for number, day in enumerate(DAYS):
        for each in answers(day, number, day >= FIRST_BAD):
            log.add(each)
    return folder


@pytest.fixture(scope="module")
def reports(workspace):
    mark = {"id": "0" * 32, "first_frame": 0, "last_frame": 3, "label": "arm"}
    said = {"origin": "service", "model": "m 1", "first_frame": 0, "last_frame": 3, "answer": "arm", "right": True}
    correct(Journal(workspace / JOURNAL), TASK, "a" * 64, "ann", said | {"marks": (Span(**mark),)}, "")
    return look(workspace, TASK, load_settings(workspace / "params.yaml"), "2026-11-29")


def test_every_day_that_is_over_is_judged_once_and_the_change_is_found(workspace, reports):
    assert [each["day"] for each in reports] == DAYS
    bad = [each["day"] for each in reports if each["findings"]]
    assert bad and bad[0] == FIRST_BAD and {f["site"] for f in reports[5]["findings"]} <= {"S1", "all sites"}
    assert look(workspace, TASK, load_settings(workspace / "params.yaml"), "2026-11-29") == []


def test_the_rule_asks_when_enough_days_had_a_finding(reports):
    asked = [each["day"] for each in reports if each["asks"]]
    assert asked and asked[0] == DAYS[7] and "3 of the last 5 days" in reports[7]["asks"]


def test_the_page_says_it_all_and_names_no_patient(workspace, reports):
    page = page_of(AnswerLog(workspace / "answers"), TASK).read_text()
    for words in (reports[-1]["findings"][0]["said"], "A retraining is asked for", "For research", "S0", "<svg", "m 1"):
        assert words in page or words == "<svg" and "image/svg+xml" in page, words
    assert 'service</td><td class="n">1</td>' in page, "what people judged"
    assert f"{DAYS[0]}-S0-1" not in page


def test_the_verb_prints_the_last_days(workspace, reports):
    import typer

    app = typer.Typer()
    app.command()(watch)
    done = CliRunner().invoke(app, ["--workspace", str(workspace), "--today", "2026-11-29"])
    assert done.exit_code == 0, done.output
    assert "nothing changed" not in done.output.splitlines()[-4] and "For research" in done.output
    before = AnswerLog(workspace / "answers").days()
    for today, words in (("x", "no day"), ("2099-01-01", "in the future")):
        refused = CliRunner().invoke(app, ["--workspace", str(workspace), "--today", today])
        assert words in str(refused.exception)
    assert AnswerLog(workspace / "answers").days() == before, "in 2099 all answers are too old"


def test_metrics_of_a_day_are_in_one_run_of_mlflow(workspace):
    with chdir(workspace):
        with tracking._mlflow("sqlite:///mlflow.db"):
            pass
        figures = {"answers": 48, "estimated_accuracy/S 1": 0.5}
        run = log_days("movement-in-use", TASK, {DAYS[0]: figures})
        assert log_days("movement-in-use", TASK, {DAYS[1]: figures}) == run
        with tracking.registry() as store:
            found = store.client.get_run(run)
            history = store.client.get_metric_history(run, "answers")
    assert found.data.tags[TAG] == TASK and found.data.metrics["estimated_accuracy/S 1"] == 0.5
    assert [each.step for each in history] == [20777, 20778]


def test_a_workspace_that_logs_answers_gets_a_daily_look(workspace, tmp_path):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(small_params(("fetalmovnet", "cnn"), 4)))
    planned = [
        Planned("retrain", name, {"workspace": str(folder), "task_name": TASK}, "")
        for name, folder in (("a", workspace), ("b", tmp_path), ("c", tmp_path / "none"))
    ]
    assert [each.full_name for each in companions(planned)] == ["watch_answers/a"]


def test_the_flow_alerts_once_and_asks_once(workspace, reports, prefect_here, monkeypatch):
    told = []
    monkeypatch.setattr(module, "tell", lambda folder, alert, state="": told.append((alert.kind, alert.body)))
    for path in (workspace / "answers" / "reports" / TASK).glob(f"{DAYS[-1]}.json"):
        path.unlink()
    said = module.watch_answers(str(workspace), TASK, "2026-11-29")
    assert any("S1" in each for each in said)
    assert [kind for kind, _ in told] == ["answers changed", "retraining asked"] and all("S1" not in b for _, b in told)
    assert module.watch_answers(str(workspace), TASK, "2026-11-29") == [] and len(told) == 2
    last = reports_of(AnswerLog(workspace / "answers"), TASK)[-1]
    assert "by hand: fetalflow retrain --task movement" in module.ask(workspace, TASK, last), "no such deployment"


def test_the_rule_starts_the_deployed_retraining_once_with_the_reason(workspace, reports, prefect_here, monkeypatch):
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    from flows.nights.deployments import deploy

    monkeypatch.setattr(module, "tell", lambda *said: None)
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="asked", type="process"))
        other = {"workspace": str(workspace), "task_name": "planes"}
        deploy(
            "asked", [Planned("retrain", "other", other, ""), Planned("retrain", "b", other | {"task_name": TASK}, "")]
        )
        first, again = (module.ask(workspace, TASK, reports[-1]) for _ in range(2))
        assert "was started as the run" in first and first == again
        (run,) = [each for each in client.read_flow_runs() if str(each.id) in first]
        deployment = client.read_deployment(run.deployment_id)
        assert deployment.name == "b" and reports[-1]["asks"] in run.parameters["reason"]
        assert run.parameters["workspace"] == str(workspace) and run.state.is_scheduled()
