"""What a run logged loses names of people and files, and places of the hospital, before it is evidence of a dossier."""

import re

import pandas as pd
import yaml

from fetalflow.artefacts import read_json, write_json, write_table
from fetalflow.dossier.gathering.counts_only import counts_only
from fetalflow.dossier.gathering.hidden_places import HIDDEN, hide_places

EXTRACT = {"rows": 70, "kappa": {"arm": 0.81}}


def test_what_a_run_logged_loses_names_and_keeps_counts(tmp_path):
    extract = EXTRACT | {"remarks": {"cines/P1.avi": ["odd"]}, "remark_counts": [{"first": "cines/P1.avi", "cines": 1}]}
    extract |= {"recognised": "It was recognised by 2 folders: P1 Doe, P2"}
    extract |= {"kappa_by_pair": [{"annotators": ["ann", "bob"], "frames": 9, "kappa": {}}], "names": ["P1", "P01"]}
    write_json(tmp_path / "extract.json", extract)
    expectation = {"name": "ids", "n_rows": 1, "rows": ["patient P1: twice"]}
    write_json(tmp_path / "quality/verdict.json", {"expectations": [expectation]})
    write_json(tmp_path / "evaluation/net-measurements.json", {"points": {"hc": [1]}, "agreement": [{"outliers": [1]}]})
    score = {"notes": ["Few patients.", "Slices: operator ann (n 3)"], "slices": {"operator": ["ann"], "site": []}}
    write_json(tmp_path / "evaluation/net-score.json", score)
    write_table(tmp_path / "explain/overlap.csv", pd.DataFrame({"sequence": ["s"], "patient": ["P1"], "area": [0.1]}))
    inbox = "s3://ward/inbox"
    (tmp_path / "params.yaml").write_text(
        f"tasks:\n  movement: {{drop: /data/ward-7}}  # kept\nmovement:\n  retrain: {{inbox: '{inbox}'}}\n"
    )
    (tmp_path / "dvc.lock").write_text("deps:\n- path: /data/ward-7\n- path: data/movement/manifest.parquet\n")
    counts_only(tmp_path)
    assert hide_places(tmp_path) == ["s3://ward/inbox", "/data/ward-7"]
    found = read_json(tmp_path / "extract.json")
    assert found["remarks"] == 1 and found["names"] == 2 and found["kappa"] == EXTRACT["kappa"]
    assert read_json(tmp_path / "quality/verdict.json")["expectations"][0] == expectation | {"rows": []}
    for path in tmp_path.rglob("*.*"):
        assert not re.search(r"\bP0?1\b|ann|bob|ward|outliers|points", path.read_text()), path.name
    assert "# kept" in (tmp_path / "params.yaml").read_text() and HIDDEN in (tmp_path / "dvc.lock").read_text()
    assert "data/movement/manifest.parquet" in (tmp_path / "dvc.lock").read_text()


def test_no_place_of_a_hospital_stays_however_it_is_written(tmp_path):
    """Spaces, umlauts and quotes are written in another way in YAML and in JSON; `node` names the scanners."""
    ward = '/srv/Frau M\u00fcller\'s "ward", ' + "a long folder " * 8
    params = {
        "tasks": {"movement": {"drop": f"{ward}/drop"}},
        "scheduler": "tcp://ward:8786",
        "watch": {"folder": ward},
    }
    params |= {"movement": {"train": {"start": "/ward", "epochs": 3}}}
    params |= {"node": {"peers": [{"title": "WARD"}]}}
    (tmp_path / "params.yaml").write_text(yaml.dump(params))
    (tmp_path / "dvc.lock").write_text(yaml.dump({"deps": [{"path": f"{ward}/drop/a.avi"}, {"path": "data/ward"}]}))
    write_json(tmp_path / "export.json", {"from": f"{ward}/drop", "kept": "x/wardrobe"})
    hide_places(tmp_path)
    text = "".join(path.read_text() for path in tmp_path.iterdir())
    assert not re.search(r"ller|WARD|ward:|long folder|/ward\b(?<!data/ward)", text), text
    kept = yaml.safe_load((tmp_path / "params.yaml").read_text())
    assert kept["movement"]["train"] == {"start": HIDDEN, "epochs": 3} and kept["node"] == {}
    assert "data/ward" in text and "x/wardrobe" in text
