"""A night on real servers: a hospital's drop in an S3 inbox becomes a challenger in the registry, once.

PostgreSQL, an S3 store, MLflow and Prefect with log-in, and a worker, each a process on loopback; the real pipeline
with its smallest settings.
"""

import json
import sys
from dataclasses import replace

import httpx
import pytest
from hospital_site import CANARY, MODEL, opened_site
from processes import BIN
from servers import mlflow_server, needs_postgres, s3_client, s3_store

from fetalflow.artefacts import file_digest
from fetalflow.hospital.arrival.journal import read_journal

pytestmark = [needs_postgres, pytest.mark.timeout(900)]


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
    assert "retrain/movement" in site.run(BIN / "fetalflow", "deploy", "--pool", "cpu", "--poll", "0 2 * * *")
    (schedule,) = site.ask_prefect("deployments/name/retrain/movement")["schedules"]
    assert schedule["schedule"]["cron"] == "0 2 * * *"
    site.deliver("monday")
    assert site.look_into_the_inbox().count("train@movement done") == 1

    alias = site.ask_mlflow("registered-models/alias", name=MODEL, alias="challenger")["model_version"]
    assert alias["version"] == "1" and site.versions() == ["1"]
    stored = {found["Key"]: found for found in s3_client(site.store).list_objects_v2(Bucket="fetalflow")["Contents"]}
    assert any(key.endswith("model.safetensors") for key in stored)
    assert f"{MODEL}@challenger" in site.fetalflow("ledger", "history") and len(site.head()) == 64
    move = "from fetalflow.registry.ledger.record import record_move; "
    move += f"record_move({MODEL!r}, 'champion', '1', None, 'the first')"
    site.run(sys.executable, "-c", move)
    answer = json.loads(site.answer_of_champion())
    assert answer["label"] in ("head", "arm") and abs(sum(answer["probabilities"].values()) - 1) < 1e-5


def test_no_name_of_a_patient_is_on_any_server(site):
    assert site.versions() == ["1"]
    for database in ("mlflow", "mlflow_auth", "prefect"):
        text = site.database.call("pg_dump", "-U", "postgres", database)
        assert len(text) > 1000 and CANARY not in text, database
    client = s3_client(site.store)
    for found in client.list_objects_v2(Bucket="fetalflow")["Contents"]:
        assert CANARY.encode() not in client.get_object(Bucket="fetalflow", Key=found["Key"])["Body"].read(), found
    for path in [site.worker.log, *(path for path in site.workspace.rglob("*") if path.is_file())]:
        assert CANARY.encode() not in path.read_bytes(), path


def test_the_same_drop_again_trains_nothing(site):
    package = site.workspace / "models" / "movement" / "fetalmovnet_s" / "model.safetensors"
    before, made = file_digest(package), package.stat().st_mtime_ns
    runs = site.ask_mlflow("runs/search", experiment_ids=["1", "2"])
    site.deliver("tuesday")
    assert site.look_into_the_inbox().count("train@movement done") == 1
    first, second = read_journal(site.workspace / "arrivals" / "movement")
    assert (first["state"], second["state"]) == ("taken", "again") and first["drop"] == second["drop"]
    assert (file_digest(package), package.stat().st_mtime_ns) == (before, made)
    assert site.versions() == ["1"]
    assert site.ask_mlflow("runs/search", experiment_ids=["1", "2"]) == runs


def test_a_backup_restored_elsewhere_answers_with_the_same_bytes(site):
    """The steps of docs/operator/operations.md, on another database and another store, with the old ones gone."""
    head, answer = site.head(), site.answer_of_champion()
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
            assert restored.versions() == ["1"]
            assert f"Last hash: {head}" in restored.fetalflow("ledger", "verify", "--head", head)
            assert restored.answer_of_champion() == answer


def copy_bucket(source, target, name: str) -> None:
    target.create_bucket(Bucket=name)
    for page in source.get_paginator("list_objects_v2").paginate(Bucket=name):
        for found in page["Contents"]:
            body = source.get_object(Bucket=name, Key=found["Key"])["Body"].read()
            target.put_object(Bucket=name, Key=found["Key"], Body=body)
