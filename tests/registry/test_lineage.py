"""From a pseudonym to the runs and models that used the patient."""

import io
import json

import pandas as pd
import pytest
from new_registry import registry_in
from typer.testing import CliRunner

from fetalflow.errors import InputError
from fetalflow.registry.lineage import (
    PATIENTS,
    UNUSED,
    Lineage,
    Use,
    is_meant,
    patients_csv,
    sentences,
    trace,
)
from fetalflow.registry.tracking import registry
from flows.cli.app import app

MANIFEST = pd.DataFrame({"sequence": list("abcdef"), "patient": ["P1", "P1", "P2", "P2", "P3", "007"]})
SPLIT = pd.DataFrame(
    {
        "sequence": list("abcd") * 2 + ["f"],
        "patient": ["P1", "P1", "P2", "P2"] * 2 + ["007"],
        "fold": [0] * 4 + [1] * 4 + [0],
        "part": ["train", "train", "test", "test", "test", "test", "train", "validation", "train"],
    }
)

VERDICT = {"model": "net", "challenger": {"version": "2"}, "champion": {"version": "1"}, "decision": "keep"}
VERDICT |= {"made": "2026-11-20T10:00:00+00:00", "evidence_digest": "e" * 64}


def test_the_table_has_every_patient_and_part():
    rows = [line.split(",") for line in patients_csv(MANIFEST, SPLIT).splitlines()]
    assert rows[0] == ["patient", "fold", "part", "sequences"]
    assert sorted(rows[1:]) == [
        ["007", "0", "train", "1"],
        ["P1", "0", "train", "2"],
        ["P1", "1", "test", "2"],
        ["P2", "0", "test", "2"],
        ["P2", "1", "train", "1"],
        ["P2", "1", "validation", "1"],
        ["P3", "0", UNUSED, "1"],
    ]


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """Two datasets, of which the second has no P1; a run without a table; a run of something else."""
    folder = tmp_path_factory.mktemp("lineage")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with registry_in(folder, patch) as store:
            client = store.client
            client.create_registered_model("net")
            experiment = client.create_experiment("movement", (folder / "artefacts").as_uri())
            for number, (manifest, table) in enumerate([(MANIFEST, True), (MANIFEST[2:], True), (MANIFEST, False)]):
                run = client.create_run(
                    experiment,
                    start_time=1000 * (number + 1),
                    tags={"task": "movement", "data_digest": f"digest{number}"},
                )
                if table:
                    client.log_text(run.info.run_id, patients_csv(manifest, SPLIT), PATIENTS)
                tags = {"mlflow.parentRunId": run.info.run_id, "data_digest": f"digest{number}", "variant": "cnn"}
                child = client.create_run(experiment, tags=tags)
                client.create_model_version("net", "file:///nowhere", run_id=child.info.run_id)
                if number == 1:  # judged against version 1, on patients of whom P1 is in no table of its own run
                    place = f"promotion/{'e' * 12}"
                    client.log_text(
                        child.info.run_id, "sequence,patient\na,P1\nb,P1\nf,007\n", f"{place}/challenger.csv"
                    )
                    client.log_text(child.info.run_id, json.dumps(VERDICT), f"{place}/verdict.json")
                    client.log_text(child.info.run_id, "sequence,patient\na,P1\n", "promotion/cut off/challenger.csv")
                client.set_terminated(run.info.run_id)
            client.set_registered_model_alias("net", "champion", "1")
            client.create_run(experiment, tags={"task": "something else"})
        yield f"sqlite:///{folder / 'mlflow.db'}"


@pytest.fixture
def store(uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with registry() as found:
        yield found


def test_a_patient_is_traced_to_runs_and_versions(store):
    found = trace(store, "P1")
    assert found.runs_read == 2 and len(found.runs_without_table) == 1
    (use,) = found.uses
    assert (use.dataset, use.task, use.status, use.started) == (
        "digest0",
        "movement",
        "FINISHED",
        "1970-01-01T00:00:01Z",
    )
    assert use.parts == {"train (fold 0)": 2, "test (fold 1)": 2}
    assert [(v.model, v.version, v.variant, v.aliases) for v in use.versions] == [("net", "1", "cnn", ("champion",))]
    assert use.variants.keys() == {"cnn"}
    text = "\n".join(sentences(found))
    assert "1 datasets, 1 runs, 1 model versions and 1 promotions" in text and "now champion" in text
    assert f"1 runs have no table of patients, so nothing is known about them: {found.runs_without_table[0]}" in text


def test_the_promotions_that_tested_a_patient_are_named(store):
    (one,) = trace(store, "P1").decisions
    assert (one.model, one.version, one.champion, one.decision, one.sequences) == ("net", "2", "1", "keep", 2)
    (line,) = [line for line in sentences(trace(store, "007")) if line.startswith("promotion")]
    assert line == (
        "promotion of net version 2 against champion 1, 2026-11-20T10:00:00Z, decided keep: 1 sequences in the test; "
        f"evidence {'e' * 64}"
    )
    assert trace(store, "P2").decisions == []


def test_an_identifier_is_asked_for_and_turned_into_the_pseudonym(store, tmp_path):
    from fetalflow.hospital.deidentify.pseudonyms import read_key

    path = tmp_path / "key"
    path.write_text(bytes(range(32)).hex())
    path.chmod(0o600)
    words = ["lineage", "--identifier", "--key-file", str(path)]
    done = CliRunner().invoke(app, words, input="  Jane Doe 1984\n")
    assert done.exit_code == 0 and "Jane" not in done.output
    assert read_key(path).pseudonym("patient", "Jane Doe 1984") in done.stderr
    for wrong in (["lineage"], [*words, "P1"]):
        with pytest.raises(InputError, match="needs either a pseudonym"):
            CliRunner().invoke(app, wrong, catch_exceptions=False)


def test_a_patient_of_two_datasets_and_one_in_no_part(store):
    assert [use.dataset for use in trace(store, "P2").uses] == ["digest0", "digest1"]
    assert [use.parts for use in trace(store, "P3").uses] == [{f"{UNUSED} (fold 0)": 1}] * 2
    assert [v.version for use in trace(store, "P3").uses for v in use.versions] == ["1", "2"]


def test_a_pseudonym_is_taken_as_text(store):
    assert len(trace(store, "007").uses) == 2
    assert trace(store, "7").uses == [] and trace(store, "P").uses == []


def test_a_deleted_run_is_still_named(store):
    run = trace(store, "P1").uses[0].run
    store.client.delete_run(run)
    try:
        assert trace(store, "P1").uses[0].status == "FINISHED, deleted"
    finally:
        store.client.restore_run(run)


def test_the_verb_answers_in_words_and_as_json(store):
    said = CliRunner().invoke(app, ["lineage", "P1"])
    assert said.exit_code == 0 and "dataset digest0" in said.stdout and "2 sequences in train (fold 0)" in said.stdout
    found = json.loads(CliRunner().invoke(app, ["lineage", "P1", "--json"]).stdout)
    assert found["uses"][0]["versions"][0]["version"] == "1" and found["asked"] == 2
    none = CliRunner().invoke(app, ["lineage", "nobody"])
    assert none.exit_code == 0
    nothing = "No dataset, run, model or promotion used a patient with this pseudonym.\n"
    assert none.stdout.startswith(nothing + "The patients of 2 runs were")


def test_a_pseudonym_of_two_sites_may_be_two_patients():
    both = MANIFEST.assign(
        site=["North", "North", "South", "", "South", "North"], patient=["P1"] * 3 + ["P2", "South/P1", "P3"]
    )
    table = pd.read_csv(io.StringIO(patients_csv(both, SPLIT)), keep_default_na=False)
    counted = {site: int(rows["sequences"].sum()) for site, rows in table[is_meant(table, "P1", None)].groupby("site")}
    assert counted == {"North": 4, "South": 3}  # the first four are in two folds
    assert set(table[is_meant(table, "P1", "north")]["site"]) == {"North"}
    assert set(table[is_meant(table, "P2", "North")]["site"]) == {""}  # nobody knows where she was
    uses = [
        Use("t", "d", run, "FINISHED", "", {}, {}, (), sites=(site,)) for run, site in (("1", "North"), ("2", "South"))
    ]
    assert any("North, South" in line and "--site" in line for line in sentences(Lineage(uses, 2, [], [])))
    assert not any("--site" in line for line in sentences(Lineage(uses[:1], 1, [], [])))
