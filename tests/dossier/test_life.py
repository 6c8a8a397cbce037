"""Approvals and life: ledger, verdict, monitoring, alerts and incidents, also where one of them is missing."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from finished_run import small_params

from fetalflow.artefacts import write_json
from fetalflow.dossier.chapter import Table, Words, parts, texts_of
from fetalflow.dossier.chapters import life
from fetalflow.dossier.evidence import Evidence
from fetalflow.dossier.gathering import ledger, promotions, watched
from fetalflow.dossier.gathering.registered import VERSION
from fetalflow.errors import InputError
from fetalflow.watch.alerted import keep_alert

MODEL, TASK = "fetal-movement", "movement"
DAY = "2026-11-2{}"


def report(number: int, version: str, findings: int = 0, asks: str = "") -> dict:
    """A report as `fetalflow.watch.judged.judge_day` gives it."""
    estimated = {"accuracy": 0.8 + number / 100, "low": 0.7, "high": 0.9, "of_test": 0.9, "answers": 30, "patients": 9}
    said = [
        {"kind": "changed", "site": "A", "said": f"A: blank frames differ (p = 0.0{k + 1})."} for k in range(findings)
    ]
    return {
        "task": TASK,
        "day": DAY.format(number),
        "models": [f"{MODEL} {version}"],
        "sites": {"all sites": {"answers": 30, "patients": 9, "unfamiliar": 0.1, "refused": None}},
        "tests": [],
        "estimated": {"all sites": estimated} if number else {},
        "shadows": [],
        "findings": said,
        "asks": asks,
    }


def workspace(folder: Path, reports: list[dict], logs: bool = True) -> SimpleNamespace:
    """A workspace that logs answers, and the subject of a dossier about version 1."""
    settings = small_params(("fetalmovnet",), 4) | ({"watch": {"folder": "answers"}} if logs else {})
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))
    for each in reports:
        write_json(folder / "answers" / "reports" / TASK / f"{each['day']}.json", each)
    return SimpleNamespace(workspace=folder, task=TASK, model=MODEL, version="1")


def seen(folder: Path, subject: SimpleNamespace) -> Evidence:
    (folder / "evidence").mkdir(exist_ok=True)
    watched.gather(subject, folder / "evidence")
    return Evidence(folder / "evidence")


def said(evidence: Evidence) -> str:
    return " | ".join(
        "".join(map(str, parts(text))) for block in life.chapter(evidence).blocks for text in texts_of(block)
    )


def table(evidence: Evidence, head: str) -> Table:
    (found,) = [each for each in life.chapter(evidence).blocks if isinstance(each, Table) and each.head[0] == head]
    return found


def test_days_findings_and_requests_of_this_version_are_shown(tmp_path):
    reports = [report(0, "1"), report(1, "1", 2), report(2, "1", 1, "3 of the last 5 days"), report(3, "2", 1)]
    evidence = seen(tmp_path, workspace(tmp_path, reports))
    words = said(evidence)
    assert "looked: 3, from 2026-11-20 to 2026-11-22. Answers: 90. Days with a finding: 2." in words
    assert "asked for a retraining: 1. Days of other versions: 1." in words
    days = next(each for each in life.chapter(evidence).blocks if isinstance(each, Table) and "Answers" in each.head)
    rows = [[str(cell) for cell in row] for row in days.rows]
    assert rows[0] == [DAY.format(0), "30", "not on record", "0", "no"]
    assert rows[2] == [DAY.format(2), "30", "0.820 [0.700, 0.900]", "1", "yes"]
    assert "A: blank frames differ (p = 0.02)." in words and DAY.format(3) not in words


def test_a_day_of_two_versions_is_named(tmp_path):
    both = report(1, "1")
    both["models"] = [f"{MODEL} 1", f"{MODEL} 2"]
    assert "On 1 of these days other versions answered, too." in said(seen(tmp_path, workspace(tmp_path, [both])))


WHY = {
    "nothing is logged": (lambda f: workspace(f, [], logs=False), "watch.folder is empty. So nobody looked"),
    "nobody looked": (
        lambda f: workspace(f, []),
        "no day was looked at. The command is: fetalflow watch. So nobody looked",
    ),
    "no workspace": (
        lambda f: SimpleNamespace(workspace=f / "none", task=TASK, model=MODEL, version="1"),
        "There is no workspace here, so there is no log of answers. So nobody looked",
    ),
    "another version": (lambda f: workspace(f, [report(1, "2")]), "this version answered on none of them"),
}


@pytest.mark.parametrize("name", WHY)
def test_where_nobody_looked_the_chapter_says_so(tmp_path, name):
    make, words = WHY[name]
    found = said(seen(tmp_path, make(tmp_path)))
    assert words in found and "Nobody judged an answer of this version" in found


@pytest.mark.parametrize("text", ["{", "[]", '{"day": "2026-11-20"}', "null"])
def test_a_damaged_report_is_named(tmp_path, text):
    subject = workspace(tmp_path, [report(1, "1")])
    (tmp_path / "answers" / "reports" / TASK / "2026-11-20.json").write_text(text)
    with pytest.raises(InputError, match="a report of `fetalflow watch` about movement cannot be read"):
        seen(tmp_path, subject)


def test_what_people_judged_has_its_interval(tmp_path, monkeypatch):
    rows = [
        {"model": f"{MODEL} {version}", "origin": "service", "right": right, "wrong": 2, "patients": 9}
        | {"accuracy": right / (right + 2), "low": 0.5, "high": 0.95}
        for version, right in (("1", 8), ("2", 3))
    ]
    monkeypatch.setattr(watched, "corrected", lambda workspace, task: rows)
    evidence = seen(tmp_path, workspace(tmp_path, []))
    assert [[str(cell) for cell in row] for row in table(evidence, "Answers of").rows] == [
        ["service", "8", "2", "9", "0.800 [0.500, 0.950]"]
    ]


def test_alerts_are_counted_by_kind(tmp_path):
    subject = workspace(tmp_path, [])
    assert "No alert is on record" in said(seen(tmp_path, subject))
    for kind, task, sent in (("quarantine", TASK, True), ("quarantine", TASK, False), ("silent", "planes", True)):
        keep_alert(tmp_path, kind, task, "30 % of the rows", "", sent)
    evidence = seen(tmp_path, subject)
    ((kind, often, _, _, sent),) = table(evidence, "Alert").rows
    assert (kind, often.value, sent.value) == ("quarantine", 2, 1)


def test_incidents_are_those_that_the_team_states(tmp_path):
    subject = workspace(tmp_path, [])
    path = watched.incidents_file(tmp_path, TASK)
    path.parent.mkdir()
    assert "Incidents: To be stated by the maker." in said(seen(tmp_path, subject))
    path.write_text("[]\n")
    assert "The maker states that there were no incidents." in said(seen(tmp_path, subject))
    path.write_text(
        "- {date: 2026-11-03, happened: a wrong plane was measured in 0.5 % of studies, done: rolled back}\n"
    )
    evidence = seen(tmp_path, subject)
    assert [str(cell) for cell in table(evidence, "Date").rows[0]] == [
        *("2026-11-03", "a wrong plane was measured in 0.5 % of studies", "rolled back")
    ]
    assert evidence.counted(1, watched.INCIDENTS, "entries").sha256


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- {date: 2026-11-03, happened: x, done: y, who: z}", "entry 1, who"),
        ("- {date: soon, happened: x, done: y}", "entry 1, date"),
        ("- {date: 2026-11-03, happened: x, done: y}\n- {date: 2026-11-04, happened: ''}", "entry 2, happened"),
        ("date: 2026-11-03", "the file"),
        ("- a\n- b: [", "while parsing"),
        ("- a", "entry 1"),
    ],
)
def test_a_wrong_list_of_incidents_is_refused_with_its_entry(tmp_path, text, words):
    path = tmp_path / "incidents.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match="incidents.yaml is no list of incidents") as raised:
        watched.read_incidents(path)
    assert words in str(raised.value)


def line(number: int, before: str | None, to: str | None, **other) -> dict:
    return {
        "number": number,
        "time": f"2026-11-{number:02d}T12:00:00.123+00:00",
        "step": "done",
        "kind": "move",
        "move": str(number),
        "who": "ml@10.0.0.7",
        "model": MODEL,
        "alias": "champion",
        "from": before,
        "to": to,
        "evidence": None,
        "reason": "it is better by 0.05",
    } | other


def ledger_of(folder: Path, lines: list[dict], wrong: tuple[str, ...] = ()) -> Evidence:
    verify = {"intact": not wrong, "lines": len(lines), "head": "f" * 64, "wrong": list(wrong), "notes": ["a note 0.1"]}
    write_json(folder / ledger.FILE, {"lines": lines, "verify": verify})
    return Evidence(folder)


def test_the_ledger_is_told_in_words(tmp_path):
    lines = [
        line(1, None, "1", alias="challenger"),
        line(2, None, "1", step="intent"),
        line(3, None, "1"),
        line(4, "1", "2", step="found", kind="accept"),
        line(5, "2", "1", kind="rollback", signature="s"),
        line(6, "1", "3", step="intent", move="open"),
    ]
    evidence = ledger_of(tmp_path, lines)
    words = said(evidence)
    first, rollbacks = [each for each in life.chapter(evidence).blocks if isinstance(each, Table)]
    assert [row[1] for row in first.rows] == [
        "no version to version 1",
        "version 1 to version 2, accepted by a person, moved by hand",
        "version 2 to version 1, rollback, signed",
    ]
    assert [row[1] for row in rollbacks.rows] == ["champion: version 2 to version 1, rollback, signed"]
    assert "the alias challenger: 1." in words and "A move to version 3 was begun and has no end." in words
    assert "the ledger was intact" in words and "Note: a note 0.1" in words


def test_a_damaged_ledger_is_a_warning_and_an_empty_one_a_sentence(tmp_path):
    evidence = ledger_of(tmp_path, [], ("line 3 was edited: its hash is 0.5.",))
    found = [block for block in life.chapter(evidence).blocks if isinstance(block, Words) and block.kind == "warning"]
    assert "line 3 was edited: its hash is 0.5." in [str(block.parts) for block in found]
    assert "The ledger has no move of the alias champion" in said(evidence)
    assert "The ledger has no rollback" in said(evidence)


def test_folders_of_the_machine_are_left_out_of_sentences():
    said = "line 2 was exported to /data/clinic/w/ledger-heads.jsonl at 12:00, 3/4 and/or file:///a/b.json"
    assert ledger.without_folders(said) == "line 2 was exported to ledger-heads.jsonl at 12:00, 3/4 and/or b.json"


def judged(folder: Path, champion: str | None, events: list[dict]) -> Evidence:
    rule = {"kind": "metric", "outcome": "pass", "words": "Better by 0.05.", "unit": "share", "bound": 0.0}
    figures = {"champion": 0.8, "challenger": 0.85, "difference": 0.05, "low": 0.01, "high": 0.09}
    size = {"champion": None, "challenger": 4.21, "difference": None, "low": None, "high": None}
    rules = [
        rule | {"rule": "Mean class F1 is better than the champion's"} | (figures if champion else size),
        rule
        | {"rule": "At most 0.15 MB", "kind": "budget", "outcome": "fail", "words": "4.2 MB.", "unit": "MB"}
        | size,
    ]
    verdict = {"made": "2026-11-30T12:00:00+00:00", "rules": rules, "words": "One rule failed: 0.15.", "champion": None}
    verdict |= {"test": {"patients": 15, "sequences": 146}, "evidence_digest": "a" * 64}
    (folder / "promotions").mkdir()
    write_json(folder / "promotions" / "1-a.json", verdict | {"champion": champion and {"version": champion}})
    found = {"alias": "champion", "events": events, "last_verdict": "promotions/1-a.json"}
    write_json(folder / promotions.FILE, found)
    write_json(folder / VERSION, {"version": "1", "task": TASK})
    return Evidence(folder)


def test_the_verdict_has_every_rule_with_its_interval(tmp_path):
    event = line(3, "0", "1") | {"approved_by": "A. Person", "verdict": "promotions/1-a.json"}
    evidence = judged(tmp_path, "0", [event])
    words = said(evidence)
    tables = [each for each in life.chapter(evidence).blocks if isinstance(each, Table) and each.head[0] == "Rule"]
    rows = [[str(cell) for cell in row] for each in tables for row in each.rows]
    assert rows == [
        ["Mean class F1 is better than the champion's", "pass", "0.850", "0.800", "0.050 [0.010, 0.090]"],
        ["At most 0.15 MB", "fail", "4.2 MB"],
    ]
    assert "Approved by A. Person on 2026-11-03 12:00 UTC." in words and "against version 0." in words
    assert "At most 0.15 MB: 4.2 MB." in words


def test_a_version_that_was_only_judged_shows_its_verdict_and_no_approval(tmp_path):
    words = said(judged(tmp_path, None, []))
    assert "never champion, so nobody approved it" in words and "as the first champion" in words
    (tmp_path / "promotions.json").write_text(json.dumps({"alias": "champion", "events": [], "last_verdict": None}))
    assert "never judged this version, or their verdict is gone" in said(Evidence(tmp_path))


def test_a_champion_without_an_approval_is_a_warning(tmp_path):
    event = line(3, "0", "1") | {"approved_by": None, "verdict": None}
    assert "the ledger names nobody who approved it" in said(judged(tmp_path, "0", [event]))


def test_a_chapter_without_any_evidence_is_sentences(tmp_path):
    words = said(Evidence(tmp_path))
    assert "no ledger" in words and "nobody looked at the answers in use" in words
