"""The gate on models over an embedded registry: what is judged, what is written, what moves and what does not."""

import contextvars
import json
import re
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from finished_run import FRAMES, LABELS, SIZE, TASK, export, learn, make_finished_run
from typer.testing import CliRunner

import stages.register
import stages.report
from fetalflow.artefacts import file_digest, read_json
from fetalflow.errors import InputError
from fetalflow.evaluation.predictions import read_predictions
from fetalflow.evaluation.scoring import score
from fetalflow.hospital.arrival.withdrawal import add_withdrawn
from fetalflow.inference.package import load
from fetalflow.models.building import build
from fetalflow.models.package_files import read_familiarity
from fetalflow.models.weights import save
from fetalflow.promotion.answers import held_out_rows, predictions
from fetalflow.promotion.approval import PAGE, place
from fetalflow.promotion.speed import Speed, time_in_turns
from fetalflow.promotion.verdict import VERDICT, act, digest, judge
from fetalflow.registry.candidates import alias_versions, candidate
from fetalflow.registry.evidence import evidence_digest, evidence_problems, is_intact
from fetalflow.registry.ledger.decisions import put_back
from fetalflow.registry.ledger.record import history, record_move
from fetalflow.registry.ledger.record import verify as verify_ledger
from fetalflow.settings.params import Evaluate, load_settings
from flows.cli.app import app

MODEL = "fetal-movement"
MAIN = "fetalmovnet"
# The test's own rules: what is asked of lineage depends on the checkout it runs in, latency on the machine.
RULES = {"clean_tree": False, "max_latency_ms": 1e6, "max_latency_ratio": 1e6, "max_ece": 1.0, "max_false_alarms": 1.0}


def with_rules(**rules):
    """The workspace's settings with other rules of promotion."""
    settings = load_settings()
    block = settings.blocks[TASK]
    block = block.model_copy(update={"promote": block.promote.model_copy(update=RULES | rules)})
    return settings.model_copy(update={"blocks": {TASK: block}})


def register() -> str:
    """Register what models/ holds now; the version."""
    stages.register.main(TASK)
    return read_json(Path("reports", TASK, "registered.json"))["version"]


def other_package(seed: int = 5) -> None:
    """Another network in the place of the main one, trained as long on the same training part."""
    folder = Path("models", TASK, MAIN)
    config = load(folder).config
    familiarity = read_familiarity(folder, config)  # of the first network: it flags, which is all that is needed here
    data = Path("data", TASK)
    rows = pd.read_parquet(data / "manifest.parquet").merge(
        pd.read_parquet(data / "split.parquet")[["sequence", "part"]], on="sequence"
    )
    torch.manual_seed(seed)
    network = build(MAIN, FRAMES, SIZE, len(LABELS))
    learn(network, rows[rows["part"] == "train"], data)
    given = ("task", "variant", "network", "labels", "frames", "size", "options", "extract", "familiarity")
    save(folder, network, {name: config[name] for name in given}, familiarity)
    export(Path(), MAIN)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Version 1 is the finished run's model, version 2 another network; both registered, nobody champion yet."""
    folder = make_finished_run(tmp_path_factory.mktemp("gate"), variants=(MAIN,), explain=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        Path("dvc.lock").write_text("schema: '2.0'\n")
        stages.report.main(TASK)
        assert register() == "1"
        yield folder


def rule(verdict, words):
    (found,) = [r for r in verdict["rules"] if re.search(words, r["rule"])]
    return found


def the_page_of_a_first_champion_shows_what_a_person_agrees_to(verdict):
    figures = score(read_predictions(place(TASK) / "challenger.csv"), Evaluate(bootstrap=100))
    expected = {"Accuracy": figures["metrics"]["accuracy"], "Mean class F1": figures["metrics"]["mean_class_f1"]}
    expected |= {f"Recall of {row['label']}": row["recall"] for row in figures["per_class"]}
    expected |= {f"Accuracy at {row['site']}": row["accuracy"] for row in figures["slices"]["site"]}
    rules, page = {r["rule"]: r for r in verdict["rules"]}, (place(TASK) / PAGE).read_text()
    assert len(expected) == 2 + 3 + 2
    for name, value in expected.items():
        found = rules[name]
        assert found["challenger"] == pytest.approx(value) and found["patients"] > 0 and name in page
        assert found["low"] is None or found["low"] <= value <= found["high"]
        assert f"{value:.3f}" in page
    ece = rule(verdict, "calibration")
    assert ece["low"] <= ece["challenger"] <= ece["high"] and "Chance alone" in ece["words"]
    assert "both models" not in page and "answered by the challenger" in page and "by Holm" not in page
    assert f"--approve 1 --evidence {verdict['evidence_digest'][:16]}" in page


def test_the_first_champion_needs_a_person(workspace):
    settings = with_rules(approval=False)
    assert judge(TASK, with_rules(max_latency_ms=1e-6))["failed"] == [
        "One sequence takes at most 1e-07 times as long as with the reference network"
    ]
    verdict = judge(TASK, settings)
    assert verdict["decision"] == "promote" and verdict["champion"] is None and verdict["needs_approval"]
    assert rule(verdict, "Mean class F1")["outcome"] == "not applicable"
    assert rule(verdict, "calibration")["outcome"] == "pass"
    the_page_of_a_first_champion_shows_what_a_person_agrees_to(verdict)
    assert act(verdict, settings, None) is False and alias_versions(MODEL, "champion") == (None,)
    assert act(verdict, settings, "a person") is True and alias_versions(MODEL, "champion") == ("1",)
    last = history(MODEL)[-1]
    assert last["evidence"] == verdict["evidence_digest"] and "a person" in last["reason"]
    assert "approved by a person" in (place(TASK) / PAGE).read_text()
    with pytest.raises(InputError, match="nothing to decide"):
        judge(TASK, settings)


@pytest.fixture(scope="module")
def challenged(workspace):
    """Version 1 is champion; version 2, another network, is the challenger."""
    if alias_versions(MODEL, "champion") != ("1",):
        record_move(MODEL, "champion", "1", None, "test")
    other_package()
    assert register() == "2"
    record_move(MODEL, "challenger", "2", None, "test")
    return workspace


def test_both_answer_the_same_sequences_as_the_packages_do(challenged):
    verdict = judge(TASK, with_rules())
    rows = held_out_rows(Path("data", TASK))
    split = pd.read_parquet(Path("data", TASK, "split.parquet"))
    assert set(rows["sequence"]) == set(split.loc[split["part"] == "test", "sequence"])
    for name, alias in (("challenger", "challenger"), ("champion", "champion")):
        table = pd.read_csv(place(TASK) / f"{name}.csv")
        assert list(table["sequence"]) == list(rows["sequence"])
        assert verdict["evidence"][f"{name}.csv"] == file_digest(place(TASK) / f"{name}.csv")
        package = load(candidate(MODEL, alias).folder)
        for i in (0, len(rows) - 1):
            answer = package.predict(np.load(Path("data", TASK, rows["path"][i])))
            assert [answer.probabilities[n] for n in LABELS] == pytest.approx(
                [table[f"p_{n}"][i] for n in LABELS], abs=1e-6
            )
    both = [pd.read_csv(place(TASK) / f"{n}.csv")[f"p_{LABELS[0]}"] for n in ("champion", "challenger")]
    assert not np.allclose(*both)


def test_the_verdict_says_what_was_found(challenged):
    verdict = judge(TASK, with_rules())
    metric = rule(verdict, "Mean class F1")
    tables = {n: pd.read_csv(place(TASK) / f"{n}.csv") for n in ("champion", "challenger")}
    from sklearn.metrics import f1_score

    for name, table in tables.items():
        assert metric[name] == pytest.approx(f1_score(table["y_true"], table["y_pred"], average="macro"))
    assert metric["low"] <= metric["difference"] <= metric["high"]
    assert rule(verdict, "latency|takes at most 1e\\+06 ms")["challenger"] > 0
    assert rule(verdict, "No test patient .* challenger")["outcome"] == "pass"
    assert rule(verdict, "quality checks")["outcome"] == "pass"
    stored = read_json(place(TASK) / VERDICT)
    assert stored == json.loads(json.dumps(verdict))
    assert evidence_digest(stored) == stored["evidence_digest"]
    assert evidence_problems(place(TASK), stored["evidence_digest"]) == []
    assert stored["rules_digest"] == digest(stored["settings"])
    assert judge(TASK, with_rules(alpha=0.1))["rules_digest"] != stored["rules_digest"]


def test_the_page_stands_alone_and_names_every_rule(challenged):
    verdict = judge(TASK, with_rules())
    page = (place(TASK) / PAGE).read_text()
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", page) and "@import" not in page
    from html import unescape

    for found in verdict["rules"]:
        assert found["rule"] in unescape(page) and found["words"] in unescape(page)
    assert verdict["evidence_digest"] in page and verdict["rules_digest"] in page
    patients = set(held_out_rows(Path("data", TASK))["patient"])
    assert not any(re.search(rf"\b{patient}\b", page) for patient in patients)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_ece": 1e-4}, "calibration"),
        ({"max_latency_ratio": 1e-6}, "times as long"),
        ({"max_size_mb": 1e-3}, "MB"),
        ({"min_patients": 100}, "Mean class F1"),
        ({"max_false_alarms": 1e-6}, "unlike the training data"),
    ],
)
def test_each_budget_can_fail_and_then_nothing_moves(challenged, change, words):
    settings = with_rules(**change)
    verdict = judge(TASK, settings)
    assert rule(verdict, words)["outcome"] == "fail"
    assert verdict["decision"] == "keep"
    assert act(verdict, settings, "a person") is False
    assert alias_versions(MODEL, "champion") == ("1",)


def slower(monkeypatch, **factors: float) -> None:
    """The challenger or everything takes so many times as long: another moment, another load."""
    from fetalflow.promotion import verdict as gate

    def timed(packages, repeats, device):
        names = (*packages, "reference")
        times = {name: [10.0 * factors.get(name, 1) * factors.get("all", 1)] * 5 for name in names}
        return Speed(times, {"processor": "p", "threads": 2, "device": "cpu", "load": [factors.get("all", 1.0), 0.5]})

    monkeypatch.setattr(gate, "time_in_turns", timed)


def test_the_digest_is_that_of_the_pair_and_not_of_the_moment(challenged, monkeypatch):
    settings = with_rules(max_latency_ms=500, max_latency_ratio=1.5, **EASY)
    digests, outcomes = [], []
    for factors in ({}, {"all": 100}, {"challenger": 1.2}, {"challenger": 2}):
        slower(monkeypatch, **factors)
        verdict = judge(TASK, settings)
        digests.append(verdict["evidence_digest"])
        outcomes.append([r["outcome"] for r in verdict["rules"] if r["unit"] == "ms"])
        assert is_intact(verdict) and is_intact(read_json(place(TASK) / VERDICT))
    assert outcomes == [["pass", "pass"], ["warning", "pass"], ["pass", "pass"], ["pass", "fail"]]
    assert digests[0] == digests[1] == digests[2] != digests[3], "load decides nothing, a slower model does"
    assert verdict["failed"] == ["One sequence takes at most 1.5 times as long as with the champion"]
    page = (place(TASK) / PAGE).read_text()
    assert "system load 1.0 to 0.5" in page and "20.0 ms" in page
    assert not is_intact(verdict | {"words": "The challenger passed every rule."})
    assert judge(TASK, settings.model_copy())["evidence_digest"] == digests[3]


def test_models_and_reference_are_timed_in_the_same_turns():
    speed = time_in_turns({"challenger": Path("models", TASK, MAIN)}, 6)
    assert {len(times) for times in speed.times.values()} == {6} and set(speed.times) == {"challenger", "reference"}
    busy = Speed({"challenger": [10, 300, 12], "champion": [10, 310, 12]}, {})
    assert busy.ratio("champion") == 1.0 and busy.ms("reference") is None


def approved(*words: str):
    done = CliRunner().invoke(app, ["promote", *words])
    return done.exit_code, f"{done.output}{done.exception or ''}"


def test_an_approval_is_of_the_version_and_the_evidence_that_the_page_shows(easy_params, challenged):
    """Also where a night registers another version after the page was read."""
    from fetalflow.registry.tracking import registry

    status, said = approved("--dry-run")
    command = re.search(r"fetalflow promote (--task movement --approve 2 --evidence [0-9a-f]{16})\n", said)
    assert status == 0 and command, said
    assert f"fetalflow promote {command[1]}" in (place(TASK) / PAGE).read_text()
    *_, version, _, evidence = words = command[1].split()
    for wrong in (["--approve", version], ["--evidence", evidence], ["--approve", version, "--evidence", evidence[:8]]):
        status, said = approved(*wrong)
        assert status and "an approval names the version and at least 12 digits of the evidence" in said
    status, said = approved("--approve", version, "--evidence", "0" * 16)
    assert status and f"you approved version 2 with evidence {'0' * 16}" in said and PAGE in said
    assert f"the challenger is now version 2 with evidence {evidence}" in said
    with registry() as store:
        second = store.client.get_model_version(MODEL, "2")
        store.client.create_model_version(MODEL, second.source, run_id=second.run_id, tags=second.tags)
        newest = max((v.version for v in store.client.search_model_versions(f"name = '{MODEL}'")), key=int)
    record_move(MODEL, "challenger", newest, None, "a night")
    try:
        status, said = approved(*words)
        assert status and f"the challenger is now version {newest} with evidence" in said
        assert alias_versions(MODEL, "champion") == ("1",)
    finally:
        record_move(MODEL, "challenger", "2", None, "test")
        with registry() as store:
            store.client.delete_model_version(MODEL, newest)
    status, said = approved(*words)
    assert status == 0 and "Version 2 of fetal-movement is the champion now." in said
    assert history(MODEL)[-1]["evidence"].startswith(evidence)


def test_a_withdrawal_while_a_person_read_stops_the_move(challenged):
    settings = with_rules(**EASY)
    verdict = judge(TASK, settings)
    split = pd.read_parquet(Path("data", TASK, "split.parquet"))
    store = Path("arrivals", TASK)
    store.mkdir(parents=True)
    try:
        add_withdrawn(store, split.loc[split["part"] == "train", "patient"].iloc[0], "ann", "she wished it")
        with pytest.raises(
            InputError, match="1 of the patients that it was trained on were withdrawn since.* No alias"
        ):
            act(verdict, settings, "a person")
    finally:
        shutil.rmtree("arrivals")
    assert alias_versions(MODEL, "champion") == ("1",)


@pytest.mark.parametrize("changed", ["the test part", "the rules"])
def test_what_changed_while_a_person_read_stops_the_move(challenged, changed):
    settings = with_rules(**EASY)
    verdict = judge(TASK, settings)
    path = Path("data", TASK, "split.parquet")
    kept = path.read_bytes()
    try:
        if changed == "the rules":
            settings = with_rules(**EASY | {"margin": 0.5})
        else:
            split = pd.read_parquet(path)
            split.iloc[::-1].to_parquet(path)
        with pytest.raises(InputError, match=f"{changed} of (promotion of )?movement ha(s|ve) changed .* Judge again"):
            act(verdict, settings, "a person")
    finally:
        path.write_bytes(kept)
    assert alias_versions(MODEL, "champion") == ("1",)


def test_a_challenger_that_saw_a_withdrawn_patient_fails_and_such_a_champion_is_a_warning(challenged):
    split = pd.read_parquet(Path("data", TASK, "split.parquet"))
    trained, tested = (split.loc[split["part"] == part, "patient"].iloc[0] for part in ("train", "test"))
    store = Path("arrivals", TASK)
    store.mkdir(parents=True)

    def outcomes() -> list[str]:
        rules = judge(TASK, with_rules())["rules"]
        return [r["outcome"] for r in rules if r["rule"].startswith("No withdrawn patient")]

    try:
        add_withdrawn(store, tested, "ann", "asked")
        assert outcomes() == ["pass", "pass"], "she trained nothing"
        add_withdrawn(store, trained, "ann", "asked")
        assert outcomes() == ["fail", "warning"]
        assert trained not in (place(TASK) / PAGE).read_text()
    finally:
        shutil.rmtree("arrivals")


def test_a_package_that_was_swapped_in_the_store_fails(challenged):
    one, two = candidate(MODEL, "champion").folder, candidate(MODEL, "challenger").folder
    kept = {name: (two / name).read_bytes() for name in ("config.json", "model.safetensors")}
    try:
        for name in kept:
            (two / name).write_bytes((one / name).read_bytes())
        found = rule(judge(TASK, with_rules()), "The files of the challenger")
        assert found["outcome"] == "fail" and "was registered" in found["words"]
    finally:
        for name, content in kept.items():
            (two / name).write_bytes(content)
    assert rule(judge(TASK, with_rules()), "The files of the challenger")["outcome"] == "pass"


@pytest.mark.parametrize("name", ["champion", "challenger"])
def test_a_version_whose_files_are_gone_is_named_with_the_way_out(challenged, tmp_path, name):
    folder = candidate(MODEL, name).folder
    kept = shutil.move(folder, tmp_path / "kept")
    try:
        with pytest.raises(InputError, match=f"the files of version . of {MODEL}, the {name}, cannot be .*rollback"):
            judge(TASK, with_rules())
    finally:
        shutil.move(kept, folder)


def test_a_model_that_was_trained_on_the_test_patients_fails(challenged, monkeypatch):
    from fetalflow.promotion import verdict as gate

    real = gate.candidate

    def leaked(model, alias):
        from dataclasses import replace

        found = real(model, alias)
        return replace(found, seen=found.seen | set(held_out_rows(Path("data", TASK))["patient"][:1]))

    monkeypatch.setattr(gate, "candidate", leaked)
    found = rule(judge(TASK, with_rules()), "No test patient .* champion")
    assert found["outcome"] == "fail" and found["words"].startswith("1 of ")


def test_lineage_is_read_from_the_run(challenged):
    from dataclasses import replace

    from fetalflow.promotion.budgets import lineage
    from fetalflow.settings.params import Promote

    real = candidate(MODEL, "challenger")
    whole = {"data_digest": "a" * 64, "git_commit": "b" * 40, "git_dirty": "False", "dvc_lock_digest": "c" * 64}
    whole |= {"quality": "passed"}
    assert {f.outcome for f in lineage(replace(real, tags=whole), Promote())} == {"pass"}
    for name in whole:
        tags = {k: v for k, v in whole.items() if k != name}
        assert [f.outcome for f in lineage(replace(real, tags=tags), Promote())].count("fail") == 1, name
    for wrong in ({"git_dirty": "True"}, {"quality": "failed"}):
        assert [f.outcome for f in lineage(replace(real, tags=whole | wrong), Promote())].count("fail") == 1


def test_an_alias_that_moved_since_the_verdict_stops_the_move(challenged):
    verdict = judge(TASK, with_rules()) | {"failed": []}
    other = dict(verdict, champion=verdict["champion"] | {"version": "7"})
    with pytest.raises(InputError, match="Judge again"):
        act(other, with_rules(), "a person")
    stale = dict(verdict, evidence_digest="0" * 64)
    with pytest.raises(InputError, match="another verdict"):
        act(stale, with_rules(), "a person")
    assert alias_versions(MODEL, "champion") == ("1",)


def test_a_changed_sequence_is_refused(challenged):
    rows = held_out_rows(Path("data", TASK))
    path = Path("data", TASK, rows["path"][0])
    kept = path.read_bytes()
    path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    try:
        with pytest.raises(InputError, match="not those that preprocessing wrote"):
            judge(TASK, with_rules())
    finally:
        path.write_bytes(kept)


def test_another_number_of_frames_is_refused(challenged):
    rows = held_out_rows(Path("data", TASK)).assign(frames=FRAMES + 1)
    with pytest.raises(InputError, match=f"takes {FRAMES} frames"):
        predictions(Path("models", TASK, MAIN), rows, Path("data", TASK))


def repackaged(folder: Path, **changes) -> Path:
    """The champion's network in a package with another configuration."""
    package = load(candidate(MODEL, "champion").folder)
    given = ("task", "variant", "network", "labels", "frames", "size", "options", "extract")
    config = {name: package.config[name] for name in given} | changes
    labels = len(config["labels"])
    network = package.network if labels == len(LABELS) else build(MAIN, FRAMES, SIZE, labels)
    save(folder, network, config)
    return folder


def judged_with(monkeypatch, name: str, folder: Path) -> dict:
    """The verdict with another package in the place of the champion's or the challenger's."""
    from dataclasses import replace

    from fetalflow.promotion import verdict as gate

    real = gate.candidate

    def swapped(model, alias):
        return replace(real(model, alias), folder=folder) if alias == name else real(model, alias)

    monkeypatch.setattr(gate, "candidate", swapped)
    return judge(TASK, with_rules(max_false_alarms=1.0))


def test_a_challenger_that_forgets_a_class_fails_also_where_nobody_is_tested_for_it(challenged, monkeypatch, tmp_path):
    few = [*LABELS[:2], "nose"]
    verdict = judged_with(monkeypatch, "challenger", repackaged(tmp_path / "package", labels=few))
    found = rule(verdict, "It knows every class")
    assert found["outcome"] == "fail" and found["facts"] == {"lost": [LABELS[2]], "new": ["nose"]}
    assert not (pd.read_csv(place(TASK) / "challenger.csv")["y_pred"] == LABELS[2]).any()
    # Nobody in the test part has a nose, so nothing can be said of it.
    assert rule(verdict, "Recall of nose")["outcome"] == "not applicable"


def test_a_challenger_that_knows_more_is_judged_and_the_page_says_so(challenged, monkeypatch, tmp_path):
    verdict = judged_with(monkeypatch, "challenger", repackaged(tmp_path / "package", labels=[*LABELS, "nose"]))
    found = rule(verdict, "It knows every class")
    assert found["outcome"] == "pass" and "New classes: nose" in found["words"]


def test_a_champion_of_another_task_is_refused_by_name(challenged, monkeypatch, tmp_path):
    with pytest.raises(InputError, match="the champion, version 1 of .* made for the task 'planes', not 'movement'"):
        judged_with(monkeypatch, "champion", repackaged(tmp_path / "package", task="planes"))


@pytest.mark.parametrize("name", ["champion", "challenger"])
def test_a_package_that_no_longer_loads_is_refused_and_says_what_to_do(challenged, monkeypatch, tmp_path, name):
    folder = repackaged(tmp_path / "package")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    way_out = {"champion": "fetalflow rollback", "challenger": "Run the pipeline again"}[name]
    with pytest.raises(InputError, match=f"(?s)the {name}, version . of {MODEL}, cannot answer.*{way_out}"):
        judged_with(monkeypatch, name, folder)
    assert alias_versions(MODEL, "champion") == ("1",)


def test_a_champion_that_was_moved_by_hand_is_not_promoted_over(challenged):
    from fetalflow.registry.tracking import registry

    with registry() as store:
        assert rule(judge(TASK, with_rules()), "The ledger is intact")["outcome"] == "pass"
        first = store.client.get_model_version(MODEL, "1")
        store.client.create_model_version(MODEL, first.source, run_id=first.run_id)
        newest = max(int(v.version) for v in store.client.search_model_versions(f"name = '{MODEL}'"))
        store.set_alias(MODEL, "champion", str(newest))
    try:
        found = rule(judge(TASK, with_rules()), "The ledger is intact")
        assert found["outcome"] == "fail" and "moved by hand" in found["words"]
    finally:
        put_back(MODEL, "champion", "test")
        with registry() as store:
            store.client.delete_model_version(MODEL, str(newest))


def test_both_are_asked_about_patients_who_came_after_the_champion(challenged):
    """The test set grew since: a new test patient is answered by both, and nobody's side is taken from the old run."""
    data = Path("data", TASK)
    kept = {name: (data / name).read_bytes() for name in ("manifest.parquet", "split.parquet")}
    manifest, split = (pd.read_parquet(data / name) for name in kept)
    before = judge(TASK, with_rules())
    old = held_out_rows(data)
    new = manifest[manifest["sequence"].isin(old["sequence"][:2])].assign(
        patient="P99", sequence=["f" * 12 + "-000000", "f" * 12 + "-000004"]
    )
    add = split[split["sequence"].isin(old["sequence"][:2])].assign(patient="P99", sequence=list(new["sequence"]))
    try:
        pd.concat([manifest, new]).to_parquet(data / "manifest.parquet")
        pd.concat([split, add]).to_parquet(data / "split.parquet")
        after = judge(TASK, with_rules())
        tables = [pd.read_csv(place(TASK) / f"{name}.csv") for name in ("champion", "challenger")]
    finally:
        for name, content in kept.items():
            (data / name).write_bytes(content)
    assert after["test"]["patients"] == before["test"]["patients"] + 1
    assert all(len(table) == len(old) + 2 and "P99" in set(table["patient"]) for table in tables)
    assert [f["outcome"] for f in after["rules"] if f["kind"] == "patients"] == ["pass", "pass"]
    assert after["evidence"]["manifest"] != before["evidence"]["manifest"]


def test_a_refusal_is_kept_with_the_challenger_too(challenged):
    from fetalflow.registry.lineage import trace
    from fetalflow.registry.tracking import registry

    settings = with_rules(max_size_mb=1e-3)
    verdict = judge(TASK, settings)
    assert act(verdict, settings, None) is False
    patient = held_out_rows(Path("data", TASK))["patient"][0]
    with registry() as store:
        found = [one for one in trace(store, patient).decisions if one.evidence == verdict["evidence_digest"]]
    assert [(one.version, one.champion, one.decision) for one in found] == [("2", "1", "keep")]


def test_a_version_is_judged_by_its_number_and_its_page_in_mlflow_shows_the_verdict(challenged):
    from fetalflow.registry.tracking import registry

    settings = with_rules(**EASY)
    with registry() as store:
        card = store.client.get_model_version(MODEL, "2").description.partition("# fetalmovnet")[2]
    verdict = judge(TASK, settings, version="2")
    assert verdict["evidence_digest"] == judge(TASK, settings)["evidence_digest"] and verdict["failed"] == []
    assert act(verdict, settings, None) is False and register() == "2", "registered again, the verdict stays"
    with registry() as store:
        page = store.client.get_model_version(MODEL, "2")
    below = page.description.partition("# fetalmovnet")[2]
    assert page.description.startswith("## Promotion") and card.startswith(below), "the card stands below the verdict"
    assert len(below) > 2000, "of a card of 2500 characters and more the end is cut, so that the verdict has its place"
    assert page.tags["fetalflow.evidence"] == verdict["evidence_digest"][:16]
    for version, words in (("1", "version 1 of fetal-movement is champion: nothing"), ("99", "no version 99")):
        with pytest.raises(InputError, match=words):
            judge(TASK, settings, version=version)


def test_the_command_judges_and_moves_nothing_on_a_dry_run(challenged):
    before = alias_versions(MODEL, "champion", "challenger")
    done = CliRunner().invoke(app, ["promote", "--dry-run"])
    assert done.exit_code == 1, done.output
    assert "fail            At most 0.15 of the test sequences are flagged as unlike the training data" in done.stdout
    assert "The champion stays" in done.stdout and "Traceback" not in done.stderr
    assert alias_versions(MODEL, "champion", "challenger") == before
    assert read_json(place(TASK) / VERDICT)["done"] == "Nothing was moved."


EASY = {
    "aim": "non_inferiority",
    "guards": "not_refuted",
    "margin": 0.99,
    "class_margin": 0.99,
    "site_margin": 0.99,
    "min_patients": 3,
}


@pytest.fixture
def easy_params(challenged):
    """params.yaml with rules that these two networks pass; champion and challenger as before afterwards."""
    kept = Path("params.yaml").read_text()
    params = yaml.safe_load(kept)
    params[TASK]["promote"] = RULES | EASY
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    yield
    Path("params.yaml").write_text(kept)
    record_move(MODEL, "champion", "1", None, "test")


def answered(approve: bool, seen: list) -> threading.Thread:
    """A person who fills in the form as soon as the run waits for it."""
    from prefect.client.orchestration import get_client
    from prefect.flow_runs import resume_flow_run

    def answer():
        deadline = time.monotonic() + 90
        with get_client(sync_client=True) as client:
            while time.monotonic() < deadline:
                waiting = [run for run in client.read_flow_runs() if run.state and run.state.is_paused()]
                if waiting:
                    resume_flow_run(waiting[0].id, run_input={"approve": approve, "name": "the ML lead"})
                    seen.append(waiting[0].id)
                    return
                time.sleep(0.3)

    # In this context, or the thread would ask another server than the harness's.
    person = threading.Thread(target=contextvars.copy_context().run, args=(answer,), daemon=True)
    person.start()
    return person


@pytest.mark.parametrize(("approve", "champion"), [(False, "1"), (True, "2")])
def test_the_flow_waits_for_a_person(easy_params, prefect_here, approve, champion, monkeypatch):
    from prefect.client.orchestration import get_client

    from flows.promote import promote

    monkeypatch.setattr("flows.promote.POLL_S", 0.3)
    seen = []
    person = answered(approve, seen)
    verdict = promote(".", TASK, wait_s=80)
    person.join(10)
    assert len(seen) == 1, "the run did not pause for the form"
    assert verdict["promoted"] is approve and alias_versions(MODEL, "champion") == (champion,)
    if approve:
        assert "approved by the ML lead" in history(MODEL)[-1]["reason"]
    with get_client(sync_client=True) as client:
        assert {f"{TASK}-promotion", f"{TASK}-promotion-verdict"} <= {a.key for a in client.read_artifacts()}


def test_the_flow_moves_nothing_on_a_dry_run(easy_params, prefect_here):
    from flows.promote import promote

    with pytest.raises(InputError, match="an approval names the version"):
        promote(".", TASK, approved_by="a person")
    verdict = promote(".", TASK, dry_run=True, approved_by="a person")
    assert verdict["failed"] == [] and verdict["promoted"] is False and alias_versions(MODEL, "champion") == ("1",)


def test_a_challenger_that_passes_every_rule_becomes_champion(challenged):
    easy = with_rules(**EASY)
    verdict = judge(TASK, easy)
    assert verdict["failed"] == [] and rule(verdict, "Mean class F1")["outcome"] == "pass"
    assert act(verdict, easy, None) is False
    assert act(verdict, easy, "a person") is True
    assert alias_versions(MODEL, "champion", "challenger") == ("2", "2")
    last = history(MODEL)[-1]
    assert (last["from"], last["to"], last["evidence"]) == ("1", "2", verdict["evidence_digest"])
    assert verify_ledger().wrong == []
    with_run = candidate(MODEL, "champion").run_id
    from fetalflow.registry.tracking import registry

    with registry() as store:
        folder = Path(store.client.download_artifacts(with_run, f"promotion/{last['evidence'][:12]}"))
    assert {file.name for file in folder.iterdir()} == {VERDICT, PAGE, "champion.csv", "challenger.csv"}
    assert "approved by a person" in read_json(folder / VERDICT)["done"]
    assert read_json(place(TASK) / VERDICT)["done"].startswith("Version 2 became champion")
