"""Where a result comes from: the commit, what counts as changed, and the digest of the data."""

import subprocess
from pathlib import Path

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from fetalflow.registry.provenance import data_digest, git_state, provenance

ROOT = Path(__file__).parents[2]


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    return subprocess.run(
        ["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def repository(folder: Path) -> Path:
    git(folder, "init", "-q", "-b", "trunk")
    (folder / "code.py").write_text("a = 1\n")
    (folder / "dvc.lock").write_text("before\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def test_a_clean_checkout_is_its_commit(tmp_path):
    repository(tmp_path)
    assert git_state(tmp_path) == {"commit": git(tmp_path, "rev-parse", "HEAD"), "branch": "trunk", "dirty": False}


def test_changed_code_is_dirty_but_the_runs_own_lock_is_not(tmp_path):
    repository(tmp_path)
    (tmp_path / "dvc.lock").write_text("after\n")
    assert git_state(tmp_path)["dirty"] is False
    (tmp_path / "code.py").write_text("a = 2\n")
    assert git_state(tmp_path)["dirty"] is True


def test_a_folder_that_no_repository_tracks_has_no_commit(tmp_path):
    repository(tmp_path)
    inside = tmp_path / "installed"
    inside.mkdir()
    (inside / "code.py").write_text("a = 1\n")
    assert git_state(inside) is None


def test_a_workspace_without_git_and_lock_still_finds_the_codes_commit(tmp_path):
    (tmp_path / "fetalflow").symlink_to(ROOT / "fetalflow")
    origin = provenance(tmp_path)
    assert origin["dvc_lock"] is None
    assert origin["git"] == git_state(ROOT / "fetalflow")
    assert origin["versions"]["torch"] and origin["machine"]["cores"] >= 1


def test_the_lock_is_known_by_its_content(tmp_path):
    (tmp_path / "dvc.lock").write_text("stages\n")
    digest = provenance(tmp_path)["dvc_lock"]
    (tmp_path / "dvc.lock").write_text("stages!\n")
    assert len(digest) == 64 and provenance(tmp_path)["dvc_lock"] != digest


rows = st.lists(
    st.fixed_dictionaries({c: st.text("abc", min_size=1, max_size=3) for c in ("sequence", "patient", "label")}),
    min_size=1,
    max_size=6,
)


def test_the_data_digest_depends_on_outlines_scale_lengths_and_age_where_they_are():
    bare = pd.DataFrame({"sequence": ["a", "b"], "patient": ["p", "q"], "label": ["head", "femur"]})
    known = {"mask_digest": "1", "mm_per_px": 0.2, "hc_mm": "180", "fl_mm": "", "gestational_age": "20", "seen": "1"}
    table = bare.assign(**known)
    assert data_digest(table.iloc[::-1]) == data_digest(table)
    changed = [data_digest(table.assign(**{column: [value, 7]})) for column, value in known.items()]
    assert len({data_digest(bare), data_digest(table), *changed}) == 8


@given(rows, st.randoms())
def test_the_data_digest_depends_on_the_rows_and_not_on_their_order(rows, random):
    shuffled = rows.copy()
    random.shuffle(shuffled)
    table, other = pd.DataFrame(rows), pd.DataFrame(shuffled)[["label", "sequence", "patient"]]
    assert data_digest(table) == data_digest(other.assign(note="a further column"))
    changed = table.assign(label=[*table["label"][:-1], table["label"].iloc[-1] + "x"])
    assert data_digest(changed) != data_digest(table)
