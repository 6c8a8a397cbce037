"""People ask for a promotion, approve, and set the champion in MLflow: on a real server with log-in, by its REST API,
as its pages do. Only the comparison of two models is played."""

import contextvars
import json
import logging
import shutil
from pathlib import Path

import httpx
import pytest
import yaml
from finished_run import TASK, small_params
from servers import MLFLOW_LOG_IN, mlflow_server

import flows.answer_requests
import flows.promote
from fetalflow.artefacts import write_json, write_text
from fetalflow.promotion import verdict as gate
from fetalflow.promotion.approval import PAGE, place
from fetalflow.promotion.findings import Finding
from fetalflow.promotion.version_page import as_markdown
from fetalflow.registry.candidates import alias_versions
from fetalflow.registry.evidence import VERDICT, digest, evidence_digest
from fetalflow.registry.ledger.record import history, record_move, verify
from fetalflow.registry.tracking import registry
from fetalflow.registry.version_page import LEAST, ROOM, card_of, described, records_accounts
from flows.workspaces.lock import hold

MODEL, WORD, CARD = "fetal-movement", "a-long-word-of-a-person", "# fetalmovnet\n\nFor research.\n"


class Person:
    """Somebody who works in MLflow's pages."""

    def __init__(self, url: str, name: str, word: str = WORD) -> None:
        self.client = httpx.Client(auth=(name, word), timeout=60, verify=False)
        self.url = f"{url}/ajax-api/2.0/mlflow"

    def __call__(self, path: str, method: str = "POST", **body) -> int:
        return self.client.request(method, f"{self.url}/{path}", json=body).status_code

    def tag(self, version: str, key: str, value: str) -> int:
        return self("model-versions/set-tag", name=MODEL, version=version, key=key, value=value)

    def alias(self, alias: str, version: str) -> int:
        return self("registered-models/alias", name=MODEL, alias=alias, version=version)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """MLflow with log-in, and a model with three versions. ann and bea may write to it, and each is a person."""
    folder = tmp_path_factory.mktemp("asked")
    with mlflow_server(folder / "mlflow") as server, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in server.access.items():
            patch.setenv(name, value)
        with registry() as store:
            begin(store)
        people = {"operator": Person(server.url, *MLFLOW_LOG_IN)}
        granted = {"resource_type": "registered_model", "resource_id": MODEL, "permission": "EDIT"}
        for name in ("ann", "bea"):
            assert people["operator"]("users/create", username=name, password=WORD) == 200
            grant = f"{server.url}/api/3.0/mlflow/users/permissions/grant"
            assert people["operator"].client.post(grant, json=granted | {"username": name}).status_code == 200
            people[name] = Person(server.url, name)
        record_move(MODEL, "champion", "1", None, "the first")
        yield people


class Recorded:
    """The same person at the embedded registry, which takes a tenth of the time: what the server records is played."""

    def __init__(self, name: str) -> None:
        self.name = name

    def tag(self, version: str, key: str, value: str) -> None:
        with registry() as store:
            store.client.set_model_version_tag(MODEL, version, key, value)
            self.record(store, version, f"tag.{key}", value)

    def alias(self, alias: str, version: str) -> None:
        with registry() as store:
            store.client.set_registered_model_alias(MODEL, alias, version)
            self.record(store, version, f"alias.{alias}", version)

    def record(self, store, version: str, what: str, value: str) -> None:
        said = json.dumps({"by": self.name, "name": MODEL, "version": version, "value": value})
        store.client.set_model_version_tag(MODEL, version, f"fetalflow.by.{what}", said)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        (folder / "mlflow.db").touch()  # a store that does not exist is refused
        patch.chdir(folder)
        with registry() as store:
            begin(store)
        record_move(MODEL, "champion", "1", None, "the first")
    return folder


def begin(store) -> str:
    """A model with three versions of one run; the run."""
    run = store.client.create_run(store.client.create_experiment("movement", store.artefacts)).info
    store.client.log_text(run.run_id, "weights", "model/weights")
    store.client.create_registered_model(MODEL)
    for _ in range(3):
        store.client.create_model_version(MODEL, f"{run.artifact_uri}/model", run_id=run.run_id, description=CARD)
    return run.run_id


@pytest.fixture
def played(monkeypatch):
    """All rules pass unless the list, which it gives back, names a rule that fails."""
    settings_are()
    failed: list[str] = []
    monkeypatch.setattr("fetalflow.promotion.verdict.judge", lambda *given, version: judged(version, failed))
    monkeypatch.setattr(gate, "_of_data", lambda data: {})
    monkeypatch.setattr("fetalflow.registry.ledger.decisions.require_files", lambda *given: None)  # there is no model
    yield failed
    assert verify().wrong == []


@pytest.fixture
def here(template, tmp_path, monkeypatch, request):
    """A workspace with its embedded registry. Version 1 is champion."""
    shutil.copytree(template, tmp_path / "workspace")
    monkeypatch.chdir(tmp_path / "workspace")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", MLFLOW_LOG_IN[0])
    monkeypatch.setattr("flows.answer_requests.records_accounts", lambda *given: True)
    return request.getfixturevalue("played")


def settings_are(**requests) -> None:
    params = small_params(("fetalmovnet",), 4)
    params[TASK]["requests"] = requests
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def judged(version: str, failed: list[str]) -> dict:
    """What `judge` writes and returns."""
    from fetalflow.settings.params import load_settings

    rules = load_settings().blocks[TASK].promote.model_dump(mode="json")
    champion, _ = alias_versions(MODEL, "champion", "challenger")
    with registry() as store:
        run = store.run_of(MODEL, version)
    outcome = "fail" if failed else "pass"
    found = Finding("Mean class F1 is better", "metric", outcome, "words", 0.5, 0.6, 0.1, 0.0, 0.2, 0.0).as_dict()
    core = {"task": TASK, "model": MODEL, "settings": rules, "rules_digest": digest(rules), "evidence": {}}
    core |= {"challenger": {"version": version, "run_id": run}, "champion": {"version": champion, "run_id": run}}
    core |= {"test": {"sequences": 20, "patients": 10}, "rules": [found], "failed": list(failed)}
    core |= {"needs_approval": True, "decision": "keep" if failed else "promote", "words": f"{len(failed)} failed."}
    for one in ("challenger", "champion"):
        core[one] |= {"data_digest": None, "git_commit": None}
    machine = {"processor": "p", "threads": 2, "device": "cpu", "load": [0.1]}
    verdict = core | {"evidence_digest": evidence_digest(core), "made": "2026-12-01T02:00:00+00:00"}
    verdict |= {"machine": machine, "done": "Nothing was moved.", "requested": version}
    write_json(place(TASK) / VERDICT, verdict)
    write_text(place(TASK) / PAGE, "the page")
    return verdict


def look() -> list[str]:
    """One look, without Prefect: its runs take a second each."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (flows.promote, flows.answer_requests):
            patch.setattr(module, "get_run_logger", lambda: logging.getLogger("test"))
        patch.setattr(flows.promote, "task", lambda body, **options: body)
        patch.setattr(flows.promote, "show", lambda *given: None)
        patch.setattr(flows.answer_requests, "promote", flows.promote.promote.fn)
        return flows.answer_requests.answer_requests.fn(".", TASK)


def page(version: str) -> tuple[str, dict[str, str]]:
    with registry() as store:
        found = store.client.get_model_version(MODEL, version)
    return found.description, found.tags


def champion() -> str:
    return alias_versions(MODEL, "champion")[0]


def test_the_server_says_who_and_nobody_else_can(server):
    """An administrator neither; but a version may be copied with its tags, which count for the copied one alone."""
    ann, operator = server["ann"], server["operator"]
    assert ann.alias("other", "2") == ann.tag("2", "approve", "abc") == ann.tag("2", "note", "x") == 200
    tags = page("2")[1]
    said = {key: json.loads(text) for key, text in tags.items() if key.startswith("fetalflow.by.")}
    assert {key: (one["by"], one["value"]) for key, one in said.items() if "champion" not in key} == {
        "fetalflow.by.alias.other": ("ann", "2"), "fetalflow.by.tag.approve": ("ann", "abc")
    }  # fmt: skip
    forged = json.dumps({"by": "bea", "name": MODEL, "version": "4", "value": "abc"})
    tag = {"name": MODEL, "version": "2", "key": "fetalflow.by.tag.approve", "value": forged}
    made = {"name": MODEL, "source": "runs:/x", "tags": [{"key": tag["key"], "value": forged}]}
    assert operator("model-versions/set-tag", **tag) == ann("model-versions/set-tag", **tag) == 403
    assert ann("model-versions/set-tag", **tag | {"key": "fetalflow.by.new"}) == 403
    assert (
        operator("model-versions/delete-tag", "DELETE", **{key: tag[key] for key in ("name", "version", "key")}) == 403
    )
    assert operator("model-versions/create", **made) == 403
    again = operator.client.post(f"{operator.url}/model-versions/set-tag", json=json.dumps(tag))
    assert again.status_code == 403, "a body that is encoded twice"
    assert page("2")[1] == tags
    with registry() as store:
        second = store.client.get_model_version(MODEL, "2")
        copy = store.client.create_model_version(MODEL, second.source, run_id=second.run_id, tags=second.tags)
        assert copy.tags["fetalflow.by.tag.approve"] == tags["fetalflow.by.tag.approve"]
        store.client.delete_model_version(MODEL, copy.version)
        store.client.delete_registered_model_alias(MODEL, "other")
        store.client.delete_model_version_tag(MODEL, "2", "approve")


def test_a_candidate_is_judged_and_a_person_who_read_the_page_approves(server, played, prefect_here):
    """As Prefect runs it."""
    ann = server["ann"]

    def look_now() -> list[str]:
        return flows.answer_requests.answer_requests(".", TASK)

    assert ann.alias("candidate", "2") == 200
    assert verify().wrong == [], "to ask is no move by hand"
    assert look_now() == [f"{MODEL}, version 2, candidate: Version 2 waits for a person."]
    text, tags = page("2")
    assert tags["fetalflow.verdict"] == "waits" and "candidate" not in tags and champion() == "1"
    evidence = tags["fetalflow.evidence"]
    assert "| Mean class F1 is better | pass | 0.500 | 0.600 | +0.100 |" in text and text.endswith(CARD)
    assert f"set the tag `approve` of this version to `{evidence}`" in text and card_of(text) == CARD
    with registry() as store:
        assert store.aliases(MODEL).get("candidate") is None
        folder = f"promotion/{evidence[:12]}"
        kept = {one.path for one in store.client.list_artifacts(store.run_of(MODEL, "2"), folder)}
    assert kept == {f"{folder}/{name}" for name in (VERDICT, PAGE)}
    assert look() == [], "once"
    assert ann.tag("2", "approve", evidence) == 200
    assert look_now() == [f"{MODEL}, version 2, approve: Version 2 is the champion now."]
    last, tags = history(MODEL)[-1], page("2")[1]
    assert champion() == "2" and "approved by ann (account of MLflow)" in last["reason"]
    assert last["evidence"].startswith(evidence) and tags["fetalflow.verdict"] == "champion" and "approve" not in tags


@pytest.mark.parametrize("how", ["alias", "tag"])
def test_a_version_that_fails_says_why(here, how):
    here.append("Mean class F1 is better")
    if how == "alias":
        Recorded("bea").alias("candidate", "3")
    else:
        Recorded("bea").tag("3", "candidate", "please")
    assert look() == [f"{MODEL}, version 3, candidate: 1 failed."]
    text, tags = page("3")
    assert (tags["fetalflow.verdict"], tags["fetalflow.why"]) == ("refused", "Mean class F1 is better")
    assert "Does not become champion" in text and "approve" not in text and champion() == "1"


@pytest.mark.parametrize(
    "case", ["another digest", "the workers' account", "not among approvers", "no record", "short"]
)
def test_an_approval_that_does_not_count_says_so_on_the_page(here, monkeypatch, case):
    ann = Recorded("ann")
    ann.alias("candidate", "2")
    look()
    evidence = page("2")[1]["fetalflow.evidence"]
    words = {"another digest": "you approved version 2 with evidence", "short": "at least 12 digits"}
    words |= {"the workers' account": "is that of the workers", "not among approvers": "requests.approvers"}
    words |= {"no record": "does not record which account asks"}
    if case == "not among approvers":
        settings_are(approvers=["bea"])
    if case == "no record":
        monkeypatch.setattr("flows.answer_requests.records_accounts", records_accounts)
    who = Recorded(MLFLOW_LOG_IN[0]) if case == "the workers' account" else ann
    who.tag("2", "approve", {"another digest": "0" * 16, "short": evidence[:4]}.get(case, evidence))
    (said,) = look()
    text, tags = page("2")
    assert champion() == "1" and words[case] in said and words[case] in text and "approve" not in tags
    assert str(Path.cwd()) not in text, "a path of the worker"
    assert "| Mean class F1 is better | pass |" in text and tags["fetalflow.evidence"] == evidence, (
        "it can be read still"
    )
    assert look() == []


@pytest.mark.parametrize(
    ("who", "setting", "fails", "kept"),
    [
        ("ann", "put_back", False, "1"),
        ("ann", "keep", False, "3"),
        ("ann", "keep", True, "1"),
        ("operator", "keep", False, "1"),
    ],
)
def test_a_champion_that_is_set_by_hand_is_judged(here, who, setting, fails, kept):
    settings_are(champion_by_hand=setting)
    here += ["Mean class F1 is better"] * fails
    Recorded(who).alias("champion", "3")
    (said,) = look()
    lines = [line for line in history(MODEL) if line["kind"] == "put back"]
    assert (lines[-1]["from"], lines[-1]["to"]) == ("3", "1") and f"account {who} set it" in lines[-1]["reason"]
    text, tags = page("3")
    state = {"3": "champion"}.get(kept, "refused" if fails else "waits")
    assert champion() == kept and tags["fetalflow.verdict"] == state and "Mean class F1" in text, said
    assert look() == [], "once"


def test_a_look_while_a_night_trains_puts_the_champion_back_and_leaves_the_rest_for_the_next_look(here):
    Recorded("ann").alias("candidate", "2")
    Recorded("ann").alias("champion", "3")
    with hold(Path(), "a long training"):
        said = contextvars.Context().run(look)  # as another process, which does not hold the lock
    assert len(said) == 2 and all("the next look answers" in one and "a long training of" in one for one in said)
    assert champion() == "1" and not {"fetalflow.verdict"} & {*page("2")[1], *page("3")[1]}
    assert sorted(look()) == [f"{MODEL}, version {n}, candidate: Version {n} waits for a person." for n in "23"]
    assert look() == []


def test_a_champion_that_is_removed_by_hand_is_put_back(here):
    with registry() as store:
        store.client.delete_registered_model_alias(MODEL, "champion")
    (said,) = look()
    assert champion() == "1" and "was put back" in said


def test_the_page_of_a_first_champion_has_the_figures_to_which_a_person_agrees(here):
    """Their outcome is "not applicable", and they were cut off behind rules that have no figure. The card is long."""
    figures = [Finding(f"Accuracy at site {n}", "site", "not applicable", "w", None, 0.9) for n in range(9)]
    facts = [Finding(f"The digest {n} is recorded", "lineage", "pass", "w", unit="") for n in range(9)]
    budgets = [Finding("One sequence takes at most 9 ms", "budget", "pass", "w", None, 3.2, unit="ms")]
    failed = [Finding("It was trained from committed code", "lineage", "fail", "w", unit="")]
    verdict = judged("2", []) | {"champion": None, "rules": [f.as_dict() for f in facts + figures + budgets + failed]}
    text = described("x" * ROOM, as_markdown(verdict, "waits", "Waits.", "#"))
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert rows[0] == "| It was trained from committed code | fail |  |  |  |", "what failed comes first"
    assert len(rows) == 11 and "| Accuracy at site 8 | for a person |  | 0.900 |  |" in rows
    assert rows[-1].endswith("|  | 3.2 ms |  |") and "whole page alone: 9 pass." in text and "02:00 UTC as the" in text
    many = described("x" * ROOM, as_markdown(verdict | {"rules": verdict["rules"] * 9}, "waits", "Waits.", "#"))
    assert len(many) == ROOM and "more lines are on the whole page." in many


@pytest.mark.parametrize("card", ["", CARD, "x" * 4990, "x" * 9000])
@pytest.mark.parametrize("rows", [0, 3, 400])
def test_a_description_fits_into_the_database(card, rows):
    text = described(card, "\n".join(["words", "", "| a |", "|---|", *["| row of the table |"] * rows]))
    assert len(text) <= ROOM and text.startswith("## Promotion\n\nwords")
    assert card.startswith(card_of(text)) and len(card_of(text)) >= min(len(card), ROOM - LEAST)
    assert card_of(card) == card and described(card_of(text), "other").count("## Promotion") == 1
