"""docs/evidence.md is what the result files say, and a claim that lacks something is refused."""

import json
from pathlib import Path

import pytest

from benchmarks.claims import RESULTS, read_claims, write_claims
from benchmarks.studies.evidence import NOT_KEPT, PAGE, page, written
from benchmarks.workspace_claims import claims_of, tasks_of
from fetalflow.errors import InputError

WHOLE = {
    "claim": "Network A is right on {accuracy} {bounds} of the sequences.",
    "figures": {"accuracy": 0.8972602, "bounds": [0.814273, 0.969]},
    "data": "synthetic hospital, seed 7",
    "split_unit": "patient",
    "n": {"test patients": 15},
    "seeds": [0],
    "interval": "95 %, bootstrap over patients",
    "command": "make demo",
    "machine": "AMD EPYC, 2 cores",
    "date": "2026-11-30",
    "outcome": "measured",
}


def refusal(claim: dict, folder: Path) -> str:
    path = folder / "a.json"
    path.write_text(json.dumps([WHOLE, claim]))
    with pytest.raises(InputError) as refused:
        read_claims(path)
    assert str(path) in str(refused.value) and "claim 2" in str(refused.value)
    return str(refused.value)


def test_the_page_is_what_the_command_prints():
    assert PAGE.read_text(encoding="utf-8") == written(), "Write it again: python -m benchmarks evidence"


def test_every_result_file_is_whole():
    assert all(read_claims(path) for path in RESULTS.glob("*.json"))


@pytest.mark.parametrize("change", [{"accuracy": 0.5}, {"bounds": [0.1, 0.969]}, {"further": 12}])
def test_a_changed_figure_changes_the_page(change, tmp_path):
    (tmp_path / NOT_KEPT).write_text("page,text,what\n")
    texts = []
    for figures in (WHOLE["figures"], WHOLE["figures"] | change):
        write_claims("a", [WHOLE | {"figures": figures}], tmp_path)
        texts.append(written(tmp_path))
    assert texts[0] != texts[1] and "0.897 [0.814, 0.969] of the sequences" in texts[0]


@pytest.mark.parametrize("field", WHOLE)
def test_a_claim_without_a_field_is_refused(field, tmp_path):
    assert field in refusal({name: value for name, value in WHOLE.items() if name != field}, tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n": {}}, "n: "),
        ({"n": {"patients": 0}}, "`n` counts nothing"),
        ({"n": {"patients": 1.5}}, "n.patients"),
        ({"interval": ""}, "interval: "),
        ({"interval": "none"}, "must give a reason"),
        ({"interval": "None: "}, "must give a reason"),
        ({"interval": "none: no"}, "must give a reason"),
        ({"figures": {"accuracy": 0.9, "bounds": 0.1}}, "`figures` has no interval"),
        ({"figures": {"accuracy": 0.9, "bounds": [0.9, 0.1]}}, "lower bound of bounds is above"),
        ({"figures": {"accuracy": 0.9, "bounds": [0.1, 0.9, 1]}}, "figures.bounds"),
        ({"figures": {"accuracy": float("nan"), "bounds": [0, 1]}}, "figures.accuracy"),
        ({"figures": {"accuracy": 0.9}}, "`figures` has no bounds"),
        ({"figures": {}}, "figures"),
        ({"claim": "{accuracy:%Q} {bounds}."}, "cannot be filled"),
        ({"claim": "Right on {accuracy.x} {bounds}."}, "accuracy.x"),
        ({"claim": "Right on {} {bounds}."}, "`figures` has no"),
        ({"claim": " "}, "claim: "),
        ({"outcome": "good"}, "outcome"),
        ({"date": "yesterday"}, "date"),
        ({"seeds": "0"}, "seeds"),
        ({"author": "me"}, "author"),
    ],
)
def test_an_incomplete_claim_is_refused_by_file_claim_and_field(change, said, tmp_path):
    assert said in refusal(WHOLE | change, tmp_path)


def test_what_is_no_list_of_claims_is_refused(tmp_path):
    for text in ("{}", "[]", "[1]", "["):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(InputError, match=r"a\.json"):
            read_claims(tmp_path / "a.json")
    with pytest.raises(InputError, match="no claim"):
        write_claims("b", [], tmp_path)
    assert not (tmp_path / "b.json").exists()


def test_lost_attempts_have_their_part(tmp_path):
    claims = [WHOLE | {"outcome": each} for each in ("measured", "better", "no difference", "worse")]
    path = write_claims("a", claims, tmp_path)
    measured, lost = page({"a": read_claims(path)}, []).split("## Tried")
    assert measured.count("- Network A") == 1 and "- **better**" in measured
    assert "- **no difference**" in lost and "- **worse**" in lost


def test_a_figure_without_a_file_is_listed_while_its_page_has_it(tmp_path, capsys):
    write_claims("a", [WHOLE], tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "x.md").write_text("# X\n\n## Speed\n\nIt takes 12 ms.\n")
    (tmp_path / NOT_KEPT).write_text("page,text,what\nx.md,takes 12 ms,time\nx.md,takes 13 ms,time\n")
    lines = written(tmp_path, tmp_path).splitlines()
    assert lines[-1] == '- [x.md](x.md), Speed: time ("takes 12 ms")'
    assert "takes 13 ms" in capsys.readouterr().err


def finished(workspace: Path) -> Path:
    """The files of a finished run that claims are made of: two networks, of which one is worse, and two engines."""
    reports = workspace / "reports/movement"
    bounds = {"accuracy_low": 0.8, "accuracy_high": 0.95}
    network = {"accuracy": 0.9, "ece": 0.05, "ece_if_calibrated": 0.06, "n_sequences": 146, "n_patients": 15}
    test = {"difference": 0.2, "low": 0.1, "high": 0.3, "p": 0.002, "p_holm": 0.004}
    engine = {"passed": True, "same_label": 0.97, "macro_f1_loss": 1.4, "sequences": 146, "ms": 2.2, "ms_p95": 2.8}
    engine |= {"threads": 2, "load": 1.5}
    engine |= {"agreement": {"sequences": 51, "patients": 5, "label_changed": [0.0, 0.057], "distance": [0.011, 0.017]}}
    sets = {"coverage": 1.0, "coverage_low": None, "coverage_high": None, "size": 3.4, "n": 134, "patients": 15}
    files = {
        "metrics.json": {"a": network | bounds, "b": network | {"accuracy_low": None}},
        "significance.json": {"verdict_by": "paired_patients", "reference": "a", "alpha": 0.05}
        | {
            "comparisons": {
                rival: {"n_sequences": 146, "n_patients": 15, "tests": {"paired_patients": test | change}}
                for rival, change in {
                    "b": {},
                    "c": {"p_holm": 0.4},
                    "d": {"difference": -0.2, "low": -0.3, "high": -0.1},
                }.items()
            }
        },
        "export.json": {
            "variant": "a",
            "machine": {"processor": "AMD EPYC", "cores": 2, "torch": "2.13"},
            "engines": [engine | {"engine": "torch"}, engine | {"engine": "int8"}, {"engine": "onnx", "passed": False}],
            "latency": {"variants": {"a": {"repeats": 40}}},
        },
        "split.json": {"kind": "grouped"},
        "evaluation/a-score.json": {"certainty": {"labels": {"level": 0.83, "patients": 5, "all": sets}}},
    }
    for name, value in files.items():
        (reports / name).parent.mkdir(parents=True, exist_ok=True)
        (reports / name).write_text(json.dumps(value))
    phantom = {"phantom": {"seed": 7, "patients": 48}, "train": {}}
    (workspace / "params.yaml").write_text(json.dumps({"phantoms": ["movement"], "movement": phantom}))
    return workspace


def test_a_finished_workspace_gives_whole_claims(tmp_path):
    workspace = finished(tmp_path / "demo")
    assert tasks_of(workspace) == ["movement"]
    claims = read_claims(write_claims("demo_movement", claims_of(workspace, "movement"), tmp_path))
    said = {claim.sentence: claim.outcome for claim in claims}
    assert "a gives the right label to 0.9 [0.8, 0.95] of the test sequences." in said
    assert "b gives the right label to 0.9 of the test sequences." in said
    rivals = [outcome for sentence, outcome in said.items() if " against " in sentence]
    assert rivals == ["better", "no difference", "worse"]
    assert any("83.0% of the sequences, and hold it for 100.0%, with 3.4 labels" in sentence for sentence in said)
    assert sum("takes 2.2 ms" in sentence for sentence in said) == 2
    assert {claim.data for claim in claims} == {"synthetic hospital, seed 7, 48 patients"}


def test_an_unfinished_workspace_is_refused(tmp_path):
    workspace = finished(tmp_path / "demo")
    (workspace / "reports/movement/export.json").unlink()
    with pytest.raises(InputError, match=r"no export\.json: the run is not finished"):
        list(claims_of(workspace, "movement"))
    with pytest.raises(InputError, match="Give the folder of a finished run"):
        tasks_of(tmp_path)
