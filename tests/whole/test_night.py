"""A night on real servers: a hospital's drop in an S3 inbox becomes a challenger in the registry, once, and no byte of
anything that fetalflow keeps, shows or says holds a name that its deliveries are full of.

PostgreSQL, an S3 store, MLflow and Prefect with log-in, and a worker, each a process on loopback; the real pipeline
with its smallest settings.
"""

import json
import logging
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import httpx
import numpy as np
import pandas as pd
import pytest
from alone import assert_alone
from canary import BESIDE, HULL, NAME
from hospital_site import MODEL, SMALL, Site, opened_site
from name_search import SECOND, SECRET, named_in, searched
from named_deliveries import TABLES, faulty_delivery, second_delivery
from processes import BIN
from servers import PREFECT_LOG_IN, mlflow_server, needs_postgres, s3_client, s3_store
from small_stages import ORDER, make_small_workspace, ran

import stages.register
from fetalflow.annotation.annotation import Span
from fetalflow.annotation.corrections import correct
from fetalflow.artefacts import file_digest, read_json
from fetalflow.hospital.arrival import intake as arrival
from fetalflow.hospital.arrival.journal import read_journal
from fetalflow.registry.ledger.record import record_move
from fetalflow.station.catalogue import Catalogue
from fetalflow.station.delivery import deliver
from fetalflow.station.labelled import Labelled
from fetalflow.station.place import Place

pytestmark = [pytest.mark.timeout(900), pytest.mark.night]


TRAINED = "Task run 'train@movement' - Finished in state Completed()"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with opened_site(tmp_path_factory.mktemp("site")) as found:
        yield found


def test_nobody_gets_in_without_a_log_in_and_the_doctor_finds_all_well(site):
    api = f"{site.mlflow.url}/api/2.0"
    assert httpx.get(f"{api}/mlflow/experiments/search?max_results=5", timeout=60).status_code == 401
    assert httpx.put(f"{api}/mlflow-artifacts/artifacts/x", content=b"x", timeout=60).status_code == 401
    assert httpx.post(f"{site.prefect.url}/work_pools/filter", json={}, timeout=60).status_code == 401
    found = {f["check"]: f for f in json.loads(site.run(BIN / "fetalflow", "doctor", "--json", "--pool", "cpu"))}
    assert [found[name]["state"] for name in ("mlflow", "prefect")] == ["ok", "ok"], (found["mlflow"], found["prefect"])
    assert "'cpu' with 1 workers" in found["prefect"]["found"]
    # A server states its time in whole seconds; the doctor names the one that seems farther off.
    assert found["clock"]["found"].endswith(("the clock of MLflow", "the clock of Prefect")), found["clock"]


def test_a_drop_in_an_s3_inbox_becomes_a_challenger_in_the_registry(site):
    words = ("--pool", "cpu", "--poll", "0 2 * * *", "--timezone", "Europe/Berlin", "--workspace", site.workspace)
    said = site.run(BIN / "fetalflow", "deploy", *words)
    assert "retrain/movement-night" in said and "the deliveries in s3://drops/in" in said
    (schedule,) = site.ask_prefect("deployments/name/retrain/movement-night")["schedules"]
    assert (schedule["schedule"]["cron"], schedule["schedule"]["timezone"]) == ("0 2 * * *", "Europe/Berlin")
    site.deliver(site.drop, f"{NAME} {SECOND}")
    for name in TABLES:
        if not name.startswith("crash"):
            site.deliver(faulty_delivery(site.folder / "faulty", name), name)
    assert site.look_into_the_inbox().count(TRAINED) == 1
    found = read_json(site.workspace / "arrivals" / "movement" / "last_look.json")["arrivals"]
    assert sorted(a["state"] for a in found) == ["refused"] * 2 + ["taken", "waiting"]

    alias = site.ask_mlflow("registered-models/alias", name=MODEL, alias="challenger")["model_version"]
    assert alias["version"] == "1" and site.versions() == ["1"]
    stored = {found["Key"]: found for found in s3_client(site.store).list_objects_v2(Bucket="fetalflow")["Contents"]}
    assert any(key.endswith("model.safetensors") for key in stored)
    assert f"{MODEL}@challenger" in site.fetalflow("ledger", "history") and len(site.head()) == 64
    with site.as_operator():
        record_move(MODEL, "champion", "1", None, "the first")
    answer = json.loads(site.answer_of_champion())
    assert answer["label"] in ("head", "arm") and abs(sum(answer["probabilities"].values()) - 1) < 1e-5


def test_the_night_speaks_to_its_servers_alone_and_leaves_the_home_folder_empty(site):
    """Every stage, the worker, and the verbs that the tests above started."""
    assert_alone(site.folder)


def test_no_name_of_a_patient_is_on_any_server(site):
    assert site.versions() == ["1"]
    kept = what_prefect_keeps(site)
    drop = next(line["drop"] for line in read_journal(site.workspace / "arrivals" / "movement") if line["drop"])
    for fact in (drop, "extract@movement", "sequences"):
        assert fact.encode() in kept, "what Prefect keeps was searched"
    if site.database:
        for database in ("mlflow", "mlflow_auth"):
            text = site.database.call("pg_dump", "-U", "postgres", database)
            assert len(text) > 1000 and not named_in(text.encode()), database
    client = s3_client(site.store)
    for found in client.list_objects_v2(Bucket="fetalflow")["Contents"]:
        assert not named_in(found["Key"].encode()), found
        assert not named_in(client.get_object(Bucket="fetalflow", Key=found["Key"])["Body"].read()), found
    assert not named_in(site.worker.log.read_bytes())
    assert searched(site.workspace, site.scratch, site.folder / "mlflow", site.folder / "prefect") > 60
    for part in (".dvc/cache", "dvc.lock", "models", "reports/movement/report.html"):
        assert (site.workspace / part).exists(), part
    beside = (BESIDE > 0) & ~HULL
    frames = sorted((site.workspace / "data" / "movement" / "frames").glob("*.npy"))
    assert len(frames) == 16
    for path in frames:
        assert not np.load(path)[:, beside].any(), path


def what_prefect_keeps(site: Site) -> bytes:
    """Names, parameters, logs, states and artefacts in its database; fails where it names somebody."""
    if site.database:
        kept = site.database.call("pg_dump", "-U", "postgres", "prefect").encode()
    else:
        kept = b"".join(path.read_bytes() for path in sorted((site.folder / "prefect").glob("*.db*")))
    assert not named_in(kept)
    return kept


@pytest.fixture
def quiet_place(tmp_path, monkeypatch) -> Path:
    """A folder for what this process writes; it has the key, and knows no MLflow server."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("FETALFLOW_PSEUDONYM_KEY", SECRET)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def test_a_look_that_crashes_names_nobody(site, quiet_place, monkeypatch, capfd, caplog):
    """A delivery that cannot be read, one that is a link, and an inbox that may not be listed."""
    from prefect.logging.handlers import APILogWorker
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
    from typer.testing import CliRunner

    from flows.cli.app import app
    from flows.retrain import prepare_workspace, retrain

    inbox = quiet_place / "inbox"
    faulty_delivery(inbox, f"crash {NAME}")
    (inbox / f"link {SECOND}").symlink_to(site.drop, target_is_directory=True)
    folder = prepare_workspace(quiet_place / "night", "movement", str(inbox), None, [SMALL])
    opened = arrival.open_drop

    def crashing(drop: Path, *given):
        if drop.name.startswith("crash"):
            raise RuntimeError(f"cannot parse {NAME} of {SECOND} in {drop}")
        return opened(drop, *given)

    def denied(*given):
        raise PermissionError(13, "Permission denied", f"{inbox}/{NAME} {SECOND}")

    monkeypatch.setattr(arrival, "open_drop", crashing)
    with temporary_settings({PREFECT_API_URL: site.prefect.url, PREFECT_API_AUTH_STRING: ":".join(PREFECT_LOG_IN)}):
        assert retrain(str(folder), "movement") == []
        with monkeypatch.context() as patch:
            patch.setattr(arrival, "deliveries", denied)
            with pytest.raises(RuntimeError, match="PermissionError, Permission denied") as caught:
                retrain(str(folder), "movement")
        APILogWorker.drain_all(timeout=60)
    found = read_json(folder / "arrivals" / "movement" / "last_look.json")["arrivals"]
    assert sorted(a["state"] for a in found) == ["refused", "waiting"]
    assert any(a["said"].startswith("reading it failed: RuntimeError") for a in found)
    kept = what_prefect_keeps(site)
    for fact in ("Permission denied", "reading it failed"):
        assert fact.encode() in kept, "what Prefect keeps was searched"
    searched(folder, quiet_place / "scratch")

    error, causes = caught.value, []
    while error is not None:
        causes.append(str(error))
        error = error.__cause__ or error.__context__
    shown, said = CliRunner(), []
    for words in (["arrivals"], ["arrivals", "--json"], ["quarantine", "list"]):
        said.append(shown.invoke(app, [*words, "--workspace", str(site.workspace)]).output)
    drop = next(line["drop"] for line in read_journal(site.workspace / "arrivals" / "movement") if line["drop"])
    assert drop in said[0] and "waiting" in said[0] and drop in said[1]
    told = capfd.readouterr()
    for text in (*causes, *said, told.out, told.err, caplog.text):
        assert not named_in(text.encode()), text


def test_no_name_is_in_the_embedded_registry(site, quiet_place, monkeypatch, capfd, caplog):
    """The same night as one without a tracking server ends it."""
    folder = quiet_place / "night"
    shutil.copytree(site.workspace, folder, symlinks=True, ignore=shutil.ignore_patterns("cache"))
    (folder / "reports" / "movement" / "registered.json").unlink()
    monkeypatch.chdir(folder)
    with caplog.at_level(logging.INFO):
        stages.register.main("movement")
    assert read_json(folder / "reports" / "movement" / "registered.json")["version"] == "1"
    assert searched(folder, quiet_place / "scratch") > 60
    for part in ("mlflow.db", "mlartifacts"):
        assert (folder / part).exists(), part
    told = capfd.readouterr()
    for text in (told.out, told.err, caplog.text):
        assert not named_in(text.encode()), text


def test_the_same_drop_again_trains_nothing(site):
    package = site.workspace / "models" / "movement" / "fetalmovnet_s" / "model.safetensors"
    before, made = file_digest(package), package.stat().st_mtime_ns
    runs = site.ask_mlflow("runs/search", experiment_ids=["1", "2"])
    site.deliver(site.drop, "tuesday")
    assert site.look_into_the_inbox().count(TRAINED) == 1
    first, second = (line for line in read_journal(site.workspace / "arrivals" / "movement") if line["drop"])
    assert (first["state"], second["state"]) == ("taken", "again") and first["drop"] == second["drop"]
    assert (file_digest(package), package.stat().st_mtime_ns) == (before, made)
    assert site.versions() == ["1"]
    assert site.ask_mlflow("runs/search", experiment_ids=["1", "2"]) == runs


@pytest.mark.long
def test_the_worker_runs_the_pipeline_of_any_workspace(site, tmp_path):
    """Artefacts and a readable run name reach the server, as in tests/flows/test_pipeline.py without a worker."""
    workspace = make_small_workspace(tmp_path / "small")
    run = site.run_deployment("pipeline/workspace", workspace=str(workspace))
    assert run["name"].startswith("small all tasks 20")
    assert ran(workspace) == ORDER
    limits = site.ask_prefect("concurrency_limits/filter", {})
    assert [(limit["tag"], limit["concurrency_limit"]) for limit in limits] == [("gpu", 1)]
    of_the_run = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}}
    artefacts = {a["key"] for a in site.ask_prefect("artifacts/filter", of_the_run)}
    assert {"movement-metrics", "movement-confusion"} <= artefacts


@pytest.mark.long
def test_what_follows_the_night(site):
    """Somebody is told, a person corrects an answer, the next night learns from it, a person approves the new model, a
    patient is erased, and what nobody needs is removed. After each step the registry is whole and the champion answers.
    """
    titles = [title for title, _ in site.alerts]
    assert any("refused delivery" in title for title in titles), titles
    assert not named_in(json.dumps(site.alerts).encode())

    of = pd.read_parquet(site.workspace / "data" / "movement" / "manifest.parquet")
    sides = pd.read_parquet(site.workspace / "data" / "movement" / "split.parquet").set_index("sequence")["part"]
    trained = of[of["sequence"].map(sides).eq("train")].iloc[0]
    wrong = {"head": "arm", "arm": "head"}[trained["label"]]
    given = correct_an_answer(site, trained, wrong)
    assert given == ["corrections"]
    site.deliver(second_delivery(site.folder / "second"), f"second {NAME}")
    before = site.look_into_the_inbox().count(TRAINED)
    assert before == 2 and site.versions() == ["2", "1"]
    table = pd.read_csv(site.workspace / "arrivals" / "movement" / "drop" / "annotations.csv", dtype=str)
    assert wrong in set(table.loc[table["video"].str.contains(trained["source"]), "label"])

    rules = ("clean_tree=false", "max_latency_ratio=100", "max_ece=1", "max_false_alarms=1", "margin=0.9")
    words = [f"--set=movement.promote.{rule}" for rule in (*rules, "aim=non_inferiority", "guards=not_refuted")]
    site.fetalflow("settings", "--workspace", str(site.workspace), *words)
    with pytest.raises(AssertionError, match="a person must approve"):
        site.fetalflow("promote")
    verdict = read_json(site.workspace / "reports" / "promotion" / "movement" / "verdict.json")
    assert verdict["challenger"]["version"] == "2" and verdict["champion"]["version"] == "1"
    said = site.fetalflow("promote", "--approve", "2", "--evidence", verdict["evidence_digest"][:16])
    assert "Version 2 of fetal-movement is the champion now" in said
    head, answer = site.head(), json.loads(site.answer_of_champion())
    assert answer["label"] in ("head", "arm")

    her = str(trained["patient"])
    assert "would" in site.fetalflow("erase", her, "--plan", "--workspace", str(site.workspace))
    said = site.fetalflow("erase", her, "--by", "Ada", "--why", "consent", "--workspace", str(site.workspace))
    assert "champion" in said, "the weights of the model in use saw her, and the certificate says so"
    left = pd.read_parquet(site.workspace / "data" / "movement" / "manifest.parquet")
    assert her not in set(left["patient"].astype(str))
    assert f"Last hash: {site.head()}" in site.fetalflow("ledger", "verify", "--head", head)
    assert json.loads(site.answer_of_champion()) == answer

    site.fetalflow("clean", "--plan", "--workspace", str(site.workspace))
    site.fetalflow("clean", "--workspace", str(site.workspace))
    assert json.loads(site.answer_of_champion()) == answer and site.head()
    assert site.look_into_the_inbox().count(TRAINED) == 3, "the next night trains without her"
    assert searched(site.workspace, site.scratch) > 60


def correct_an_answer(site: Site, row: pd.Series, label: str) -> list[str]:
    """A person at the station says what is right on the frames of a sequence; the names of the new deliveries."""
    first, last = int(row["first_frame"]), int(row["last_frame"])
    mark = Span(id=uuid4().hex, label=label, first_frame=first, last_frame=last).model_dump(mode="json")
    said = {"origin": "test", "model": f"{MODEL} 1", "first_frame": first, "last_frame": last, "answer": row["label"]}
    place = Place(site.workspace, "movement")
    correct(
        place.journal, "movement", row["source"], "ben", said | {"right": False, "marks": [mark], "why": "seen"}, ""
    )
    written = deliver(Labelled(place, Catalogue(place), None), "station", "lea")
    return [each.path.name.removeprefix("station-") for each in written]


@pytest.mark.long
@needs_postgres
def test_a_backup_restored_elsewhere_answers_with_the_same_bytes(site):
    """The steps of docs/operator/operations.md, on another database and another store, with the old ones gone."""
    head, answer, versions = site.head(), site.answer_of_champion(), site.versions()
    for name in ("mlflow", "mlflow_auth"):
        dump = site.database.folder / f"{name}.dump"
        site.database.call("pg_dump", "-Fc", "-f", dump, name)
        site.database.call("createdb", "-O", "mlflow", f"{name}_restored")
        site.database.call("pg_restore", "--clean", "--if-exists", "--exit-on-error", "-d", f"{name}_restored", dump)
    site.mlflow.stop()
    with s3_store(site.folder / "restored") as store:
        copy_bucket(s3_client(site.store), s3_client(store), "fetalflow")
        site.store.stop()
        site.run(BIN / "mlflow", "db", "upgrade", site.database.url("mlflow_restored"))
        databases = ("mlflow_restored", "mlflow_auth_restored")
        with mlflow_server(site.folder / "restored", site.database, store, databases=databases) as server:
            restored = replace(site, mlflow=server)
            assert restored.versions() == versions
            assert f"Last hash: {head}" in restored.fetalflow("ledger", "verify", "--head", head)
            assert restored.answer_of_champion() == answer


def copy_bucket(source, target, name: str) -> None:
    target.create_bucket(Bucket=name)
    for page in source.get_paginator("list_objects_v2").paginate(Bucket=name):
        for found in page["Contents"]:
            body = source.get_object(Bucket=name, Key=found["Key"])["Body"].read()
            target.put_object(Bucket=name, Key=found["Key"], Body=body)
