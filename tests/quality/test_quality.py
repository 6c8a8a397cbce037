"""The quality gate: each expectation is shown failing on data that violates it, and names the rows."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import scipy.ndimage
from report_page import Page, fits

from fetalflow.artefacts import file_digest
from fetalflow.cine.image_quality import figures
from fetalflow.cine.letterbox import fit
from fetalflow.errors import InputError
from fetalflow.quality.duplicates import candidates, duplicate_of, near_duplicate_of
from fetalflow.quality.evidence import people_table, robust_z
from fetalflow.quality.gate import SHOWN, build_tables, failure_lines, run_checks, stop_if_failed
from fetalflow.quality.pages import write_index
from fetalflow.quality.suites import checks
from fetalflow.sequences.split import split
from fetalflow.settings.params import Split, Validate

LABELS, FRAMES, SIZE, PATIENTS = ("arm", "head", "leg"), 4, 48, 9
BOUNDS = Validate()
KINDS = get_args(Split.model_fields["kind"].annotation)
ROOT = Path(__file__).parents[2]


@dataclass
class Workspace:
    root: Path  # data/T: sequences lie in it
    manifest: pd.DataFrame
    split: pd.DataFrame

    def judge(self, kind: str = "grouped", labels=LABELS, warn_only=(), names=None, frames=FRAMES) -> dict:
        judged = build_tables(self.manifest, self.split, self.root, labels, SIZE, BOUNDS.near_duplicate_bits)
        chosen = checks(BOUNDS, labels, frames, SIZE, kind)
        chosen = [c for c in chosen if names is None or c.name in names]
        return run_checks("movement", judged, chosen, warn_only)


def cine(seed: int) -> np.ndarray:
    """uint8 [FRAMES, 200, 220] of drifting speckle, another one for every seed."""
    random = np.random.default_rng(seed)
    texture = scipy.ndimage.gaussian_filter(random.normal(size=(200, 240)), 2) * 9
    texture += scipy.ndimage.zoom(random.normal(size=(5, 6)), 40, order=3)
    return np.stack([np.clip(60 + 30 * texture[:, i : i + 220], 1, 255) for i in range(FRAMES)]).astype(np.uint8)


def add_sequence(root: Path, frames: np.ndarray, patient: str, label: str) -> dict:
    source = hashlib.sha256(frames.tobytes()).hexdigest()
    name = f"{source[:12]}-000000"
    path, mask_path = f"sequences/{name}.npy", f"masks/{name}.npy"
    np.save(root / path, fit(frames, SIZE))
    mask = np.zeros((len(frames), SIZE, SIZE), np.uint8)
    mask[:, 20:30, 20:40] = 1
    np.save(root / mask_path, mask)
    return {
        "sequence": name, "video": f"cines/{patient}-{label}.avi", "source": source, "patient": patient,
        "site": "north", "device": "A", "label": label, "annotators": "ana;ben", "first_frame": 0,
        "last_frame": len(frames) - 1, "frames": len(frames), "fps": 30.0, "mm_per_px": 0.4 * 220 / SIZE, "height": 200,
        "width": 220, **figures(frames), "path": path, "digest": file_digest(root / path), "mask_source": source,
        "mask_path": mask_path, "mask_digest": file_digest(root / mask_path), "sector": "", "gestational_age": "20.4",
    }  # fmt: skip


@pytest.fixture(scope="module")
def drop(tmp_path_factory) -> tuple[Path, pd.DataFrame]:
    root = tmp_path_factory.mktemp("data")
    (root / "sequences").mkdir()
    (root / "masks").mkdir()
    wanted = [(f"P{i}", label) for i in range(PATIENTS) for label in LABELS]
    rows = [add_sequence(root, cine(seed), patient, label) for seed, (patient, label) in enumerate(wanted)]
    return root, pd.DataFrame(rows)


@pytest.fixture
def workspace(drop) -> Workspace:
    root, manifest = drop
    return Workspace(root, manifest.copy(), split(manifest, Split()))


def put(column: str, value, row: int = 0) -> Callable[[Workspace], list[str]]:
    """Breaks one cell of the manifest; returns what the failure must name."""

    def break_(workspace: Workspace) -> list[str]:
        workspace.manifest[column] = workspace.manifest[column].astype(object)
        workspace.manifest.loc[row, column] = value
        workspace.manifest = workspace.manifest.infer_objects()
        return [workspace.manifest.loc[row, "video"], workspace.manifest.loc[row, "patient"]]

    return break_


def drop_column(workspace: Workspace) -> list[str]:
    workspace.manifest = workspace.manifest.drop(columns="digest")
    return ["column digest: expected text, found missing"]


def text_for_numbers(workspace: Workspace) -> list[str]:
    workspace.manifest["fps"] = "thirty"
    return ["column fps: expected number, found text"]


def repeat_id(workspace: Workspace) -> list[str]:
    workspace.manifest.loc[1, "sequence"] = workspace.manifest.loc[0, "sequence"]
    return list(workspace.manifest.loc[:1, "video"])


def unbalance(workspace: Workspace) -> list[str]:
    arms = workspace.manifest[workspace.manifest["label"] == "arm"]
    more = [arms.assign(sequence=arms["sequence"] + f"-{i}") for i in range(40)]
    workspace.manifest = pd.concat([workspace.manifest, *more], ignore_index=True)
    return ["label head: ratio 41", "label leg: ratio 41"]


def one_patient_of_a_label(workspace: Workspace) -> list[str]:
    workspace.manifest.loc[workspace.manifest["label"] == "leg", "patient"] = "P1"
    return ["label leg: patients 1"]


def lose_file(workspace: Workspace) -> list[str]:
    workspace.manifest.loc[2, "path"] = "sequences/gone.npy"
    return [workspace.manifest.loc[2, "sequence"], "file_fault no such file"]


def change_bytes(workspace: Workspace) -> list[str]:
    np.save(workspace.root / "sequences/changed.npy", np.zeros((FRAMES, SIZE, SIZE), np.uint8))
    workspace.manifest.loc[2, "path"] = "sequences/changed.npy"
    return [workspace.manifest.loc[2, "video"], "SHA-256 differs"]


def change_shape(workspace: Workspace) -> list[str]:
    np.save(workspace.root / "sequences/float.npy", np.zeros((FRAMES, SIZE, SIZE - 1), np.float32))
    workspace.manifest.loc[2, "path"] = "sequences/float.npy"
    return ["holds float32 [4, 48, 47], expected uint8 [4, 48, 48]"]


def put_mask(workspace: Workspace, mask: np.ndarray) -> list[str]:
    np.save(workspace.root / "masks/other.npy", mask)
    digest = file_digest(workspace.root / "masks/other.npy")
    workspace.manifest.loc[2, ["mask_path", "mask_digest"]] = ["masks/other.npy", digest]
    return [workspace.manifest.loc[2, "sequence"]]


def mask_of_other_values(workspace: Workspace) -> list[str]:
    words = put_mask(workspace, np.full((FRAMES, SIZE, SIZE), 255, np.uint8))
    return [*words, "holds values up to 255, expected 0 and 1"]


def mask_of_fewer_frames(workspace: Workspace) -> list[str]:
    words = put_mask(workspace, np.ones((FRAMES - 1, SIZE, SIZE), np.uint8))
    return [*words, "holds uint8 [3, 48, 48], expected uint8 [4, 48, 48]"]


def change_mask(workspace: Workspace) -> list[str]:
    workspace.manifest.loc[2, "mask_digest"] = "0" * 64
    return [workspace.manifest.loc[2, "video"], "SHA-256 differs"]


def no_mask_written(workspace: Workspace) -> list[str]:
    workspace.manifest.loc[2, "mask_path"] = ""
    return [workspace.manifest.loc[2, "video"], "preprocess wrote no mask"]


def empty_mask(workspace: Workspace) -> list[str]:
    return [*put_mask(workspace, np.zeros((FRAMES, SIZE, SIZE), np.uint8)), "mask_share 0"]


def mask_of_everything(workspace: Workspace) -> list[str]:
    return [*put_mask(workspace, np.ones((FRAMES, SIZE, SIZE), np.uint8)), "mask_share 1"]


def cut_off(workspace: Workspace) -> list[str]:
    (workspace.root / "sequences/half.npy").write_bytes(b"\x93NUMPY\x01")
    workspace.manifest.loc[2, "path"] = "sequences/half.npy"
    return [workspace.manifest.loc[2, "sequence"], "not a NumPy array"]


def same_bytes(workspace: Workspace) -> list[str]:
    workspace.manifest.loc[3, "source"] = workspace.manifest.loc[0, "source"]
    return ["duplicate_of cines/P1-arm.avi of patient P1", "duplicate_of cines/P0-arm.avi of patient P0"]


def same_picture(workspace: Workspace) -> list[str]:
    # The first cine once more under another patient: brighter, another file, two bits of the hash differ.
    frames = np.clip(cine(0) * 1.1, 0, 255).astype(np.uint8)
    np.save(workspace.root / "sequences/copy.npy", fit(frames, SIZE))
    bits = int(workspace.manifest.loc[0, "phash"], 16) ^ 0b101
    workspace.manifest.loc[3, ["path", "phash"]] = ["sequences/copy.npy", f"{bits:016x}"]
    return [f"near_duplicate_of {workspace.manifest.loc[0, 'sequence']} (cines/P0-arm.avi) of patient P0: 2 of 64"]


def forget_in_split(workspace: Workspace) -> list[str]:
    lost = workspace.split.iloc[4]
    workspace.split = workspace.split.drop(index=4)
    return [f"sequence {lost['sequence']}, patient {lost['patient']}, fold 0: times 0"]


def twice_in_split(workspace: Workspace) -> list[str]:
    workspace.split = pd.concat([workspace.split, workspace.split.iloc[[4]]])
    return [f"sequence {workspace.split.iloc[4]['sequence']}", "times 2"]


def unknown_in_split(workspace: Workspace) -> list[str]:
    workspace.split.loc[len(workspace.split)] = ["stranger-000000", "P77", "arm", 0, "train"]
    return ["sequence stranger-000000, patient P77"]


def other_patient_in_split(workspace: Workspace) -> list[str]:
    was, workspace.split.loc[0, "patient"] = workspace.split.loc[0, "patient"], "P77"
    return [f"fault patient P77 in the split, {was} in the manifest"]


def unknown_part(workspace: Workspace) -> list[str]:
    workspace.split.loc[0, "part"] = "exam"
    return [f"sequence {workspace.split.loc[0, 'sequence']}", "part exam"]


def share_patient(workspace: Workspace) -> list[str]:
    row = workspace.split.index[workspace.split["part"] == "test"][0]
    workspace.split.loc[row, "part"] = "train"
    return [f"patient {workspace.split.loc[row, 'patient']}, fold 0: parts test + train"]


def without(part: str) -> Callable[[Workspace], list[str]]:
    def break_(workspace: Workspace) -> list[str]:
        there = (workspace.split["part"] == part) & (workspace.split["label"] == "leg")
        workspace.split.loc[there, "part"] = "validation"
        return ["label leg, fold 0"]

    return break_


BROKEN = [
    ("schema", drop_column),
    ("schema", text_for_numbers),
    ("values_given", put("phash", None)),
    ("unique_ids", repeat_id),
    ("frames_per_sequence", put("frames", FRAMES - 1)),
    ("frame_span", put("last_frame", -1)),
    ("fps", put("fps", 2000.0)),
    ("shorter_side", put("height", 60)),
    ("longer_side", put("width", 9000)),
    ("mm_per_px", put("mm_per_px", 40.0)),
    ("label_set", put("label", "toe")),
    ("class_balance", unbalance),
    ("patients_per_class", one_patient_of_a_label),
    ("sequence_files", lose_file),
    ("sequence_files", change_bytes),
    ("sequence_files", change_shape),
    ("sequence_files", cut_off),
    ("blank_frames", put("blank_share", 0.5)),
    ("frozen_frames", put("frozen_share", 0.9)),
    ("mean_intensity", put("mean_intensity", 1.5)),
    ("intensity_range", put("max_intensity", 0.0)),
    ("niqe_outliers", put("niqe", 4000.0)),
    ("brisque_outliers", put("brisque", 900.0)),
    ("duplicate_cines", same_bytes),
    ("near_duplicate_cines", same_picture),
    ("mask_files", mask_of_other_values),
    ("mask_files", mask_of_fewer_frames),
    ("mask_files", change_mask),
    ("mask_files", no_mask_written),
    ("mask_share", empty_mask),
    ("mask_share", mask_of_everything),
    ("split_complete", forget_in_split),
    ("split_once", twice_in_split),
    ("split_known", unknown_in_split),
    ("split_agrees", other_patient_in_split),
    ("split_parts", unknown_part),
    ("patient_disjoint", share_patient),
    ("labels_trained", without("train")),
    ("labels_tested", without("test")),
]


def test_a_good_drop_passes_every_check(workspace, tmp_path):
    verdict = workspace.judge()
    assert [e["name"] for e in verdict["expectations"] if not e["success"]] == []
    assert verdict["success"]
    stop_if_failed(verdict, tmp_path)


def test_every_check_is_shown_failing():
    names = {c.name for c in checks(BOUNDS, LABELS, FRAMES, SIZE, "grouped") if not c.warns}
    assert names == {name for name, _ in BROKEN}


@pytest.mark.parametrize(("name", "break_"), BROKEN, ids=[f"{n}-{getattr(b, '__name__', '')}" for n, b in BROKEN])
def test_a_violation_fails_its_check_and_names_the_rows(workspace, tmp_path, name, break_):
    words = break_(workspace)
    verdict = workspace.judge(names={name})
    (expectation,) = verdict["expectations"]
    assert not expectation["success"], expectation["found"]
    assert not verdict["success"]
    printed = failure_lines(expectation)
    for word in (*words, f"FAILED {name}", expectation["expected"], "what to do: "):
        assert word in printed
    with pytest.raises(InputError, match=rf"1 of 1 quality checks failed:\n  {name}: "):
        stop_if_failed(verdict, tmp_path)


def test_a_manifest_without_columns_is_judged_to_the_end(workspace):
    workspace.manifest = workspace.manifest[["sequence", "patient", "label", "path"]]
    verdict = workspace.judge()
    failed = {e["name"]: e for e in verdict["expectations"] if not e["success"]}
    assert failed["schema"]["n_rows"] == 30 - 4
    assert failed["values_given"]["n_rows"] == failed["sequence_files"]["n_rows"] == 27
    assert "the check could not run" not in str(verdict)


def test_a_drop_without_masks_is_judged_without_them(workspace):
    workspace.manifest[["mask_source", "mask_path", "mask_digest", "sector", "gestational_age"]] = ""
    workspace.manifest[["mm_per_px", "hc_mm"]] = np.nan
    names = {"schema", "mask_files", "mask_share", "mask_scale", "gestational_age", "seen"}
    verdict = workspace.judge(names=names)
    assert [e["name"] for e in verdict["expectations"] if not e["success"]] == []
    assert "mask_share is not known for any of 27 sequences" in [e["found"] for e in verdict["expectations"]]


def test_what_was_done_to_masks_is_counted_and_open_lines_are_reported(workspace, tmp_path):
    workspace.manifest["mask_source"] = ["a", "a", "b"] * 9
    workspace.manifest["mask_done"] = ["outline filled", "outline filled", "open line, as delivered"] * 9
    verdict = workspace.judge(names={"mask_lines"})
    assert verdict["masks"] == {"open line, as delivered": 1, "outline filled": 1}, "each file counts once"
    assert verdict["success"] and verdict["expectations"][0]["n_rows"] == 9
    write_index(tmp_path, verdict)
    assert "<tr><td>outline filled</td><td>1</td></tr>" in (tmp_path / "index.html").read_text()


def test_masks_without_a_scale_and_ages_that_are_no_numbers_are_reported(workspace):
    workspace.manifest.loc[3, "mm_per_px"] = np.nan
    assert workspace.judge(names={"mask_scale"})["expectations"][0]["success"]  # the drop states no length
    workspace.manifest["hc_mm"] = ""
    workspace.manifest.loc[5, "gestational_age"] = "20+3"
    verdict = workspace.judge(names={"mask_scale", "gestational_age"})
    assert verdict["success"] and [e["n_rows"] for e in verdict["expectations"]] == [1, 1]
    scale, age = verdict["expectations"]
    assert workspace.manifest.loc[3, "video"] in failure_lines(scale) and failure_lines(scale).startswith("WARNING")
    assert "age_fault '20+3' is not a number of weeks" in failure_lines(age)
    workspace.manifest["seen"] = ["80", "1.0", ""] * 9
    (seen,) = workspace.judge(names={"seen"})["expectations"]
    assert not seen["success"] and seen["n_rows"] == 9
    assert failure_lines(seen).startswith("WARNING") and "seen_fault '80' is not a share from 0 to 1" in failure_lines(
        seen
    )


def test_at_most_ten_rows_are_named_and_the_rest_is_counted(workspace):
    workspace.manifest["fps"] = 900.0
    verdict = workspace.judge(names={"fps"})
    (expectation,) = verdict["expectations"]
    assert expectation["n_rows"] == 27 and len(expectation["rows"]) == SHOWN
    assert "and 17 more" in failure_lines(expectation)
    assert "27 of 27 sequences fail this check; fps is 900 to 900" in expectation["found"]


def test_unknown_figures_and_small_or_single_frames_do_not_fail(workspace):
    workspace.manifest[["fps", "mm_per_px", "niqe", "brisque"]] = np.nan
    workspace.manifest[["site", "device"]] = None
    workspace.manifest["frozen_share"] = 0.0
    verdict = workspace.judge(labels=None)
    assert [e["name"] for e in verdict["expectations"] if not e["success"]] == []
    found = {e["name"]: e["found"] for e in verdict["expectations"]}
    assert found["fps"] == "fps is not known for any of 27 sequences"


def test_a_label_with_blanks_fails_when_any_label_set_is_taken(workspace):
    workspace.manifest.loc[0, "label"] = "arm "
    (expectation,) = workspace.judge(labels=None, names={"label_set"})["expectations"]
    assert "cines/P0-arm.avi" in failure_lines(expectation)


def test_a_drop_of_single_images_is_judged_without_rate_scale_and_repeats(workspace, tmp_path):
    (tmp_path / "sequences").mkdir()
    (tmp_path / "masks").mkdir()
    rows = [
        add_sequence(tmp_path, cine(seed)[:1], patient, label)
        for seed, (patient, label) in enumerate(workspace.manifest[["patient", "label"]].itertuples(index=False))
    ]
    images = pd.DataFrame(rows).assign(fps=np.nan, mm_per_px=np.nan, part="train")
    workspace = Workspace(tmp_path, images, split(images, Split()))
    verdict = workspace.judge(frames=1)
    assert [e["name"] for e in verdict["expectations"] if not e["success"]] == []
    found = {e["name"]: e["found"] for e in verdict["expectations"]}
    assert found["fps"] == "fps is not known for any of 27 sequences"
    assert found["mm_per_px"] == "recorded_mm_per_px is not known for any of 27 sequences"
    assert found["frozen_frames"] == "frozen_share is not known for any of 27 sequences"
    names = {"frames_per_sequence", "sequence_files", "blank_frames"}
    workspace.manifest.loc[4, ["frames", "blank_share"]] = [2, 1.0]
    verdict = workspace.judge(frames=1, names=names)
    assert {e["name"] for e in verdict["expectations"] if not e["success"]} == names


def test_images_of_the_sizes_of_fetal_planes_db_are_within_the_bounds(workspace):
    workspace.manifest["height"], workspace.manifest["width"] = 200, 1100
    workspace.manifest.loc[0, ["height", "width"]] = [1100, 1400]
    verdict = workspace.judge(names={"shorter_side", "longer_side"})
    assert verdict["success"] and len(verdict["expectations"]) == 2


@pytest.mark.parametrize("kind", ["grouped", "site", "official"])
def test_a_split_that_promises_patients_apart_stops_when_one_is_shared(workspace, kind):
    share_patient(workspace)
    verdict = workspace.judge(kind=kind, names={"patient_disjoint"})
    assert not verdict["success"] and verdict["expectations"][0]["severity"] == "critical"


def test_only_the_papers_split_may_leave_sequences_out(workspace):
    forget_in_split(workspace)
    passed = {kind: workspace.judge(kind=kind, names={"split_complete"})["success"] for kind in KINDS}
    assert passed == {"grouped": False, "site": False, "paper": True, "official": False, "random": False}


@pytest.mark.parametrize("kind", ["paper", "random"])
def test_a_split_by_sequence_reports_shared_patients_and_goes_on(workspace, kind):
    share_patient(workspace)
    verdict = workspace.judge(kind=kind, names={"patient_disjoint"})
    (expectation,) = verdict["expectations"]
    assert verdict["success"] and not expectation["success"]
    assert failure_lines(expectation).startswith("WARNING patient_disjoint")
    assert "1 of 9 patients are in two parts of a fold" in expectation["found"]


def test_warn_only_reports_and_does_not_stop(workspace):
    put("fps", 900.0)(workspace)
    verdict = workspace.judge(warn_only=("fps",), names={"fps"})
    assert verdict["success"] and verdict["expectations"][0]["severity"] == "warning"
    with pytest.raises(InputError, match="there is no check speed"):
        workspace.judge(warn_only=("speed",))


def test_duplicates_of_one_patient_are_no_finding(workspace):
    workspace.manifest["patient"] = "P0"
    workspace.manifest["source"] = "same"
    assert set(duplicate_of(workspace.manifest)) == {None}
    assert set(near_duplicate_of(workspace.manifest, workspace.root, 64)) == {None}


def test_a_hash_that_agrees_by_chance_is_no_duplicate(workspace):
    workspace.manifest["phash"] = "00ff00ff00ff00ff"
    assert len(candidates(workspace.manifest, 2)[0]) == 27 * 26 - 9 * 3 * 2
    assert set(near_duplicate_of(workspace.manifest, workspace.root, 2)) == {None}


def test_of_several_near_duplicates_the_most_alike_is_named(workspace):
    for row, gain in ((1, 1.0), (4, 0.5)):  # of P0 like the first row, and of P1; row 8 of P2 shows the same
        frames = np.clip(cine(8) * gain + np.random.default_rng(row).normal(0, 20 * row, (FRAMES, 200, 220)), 0, 255)
        np.save(workspace.root / f"sequences/like{row}.npy", fit(frames.astype(np.uint8), SIZE))
        workspace.manifest.loc[row, "path"] = f"sequences/like{row}.npy"
    workspace.manifest["phash"] = "00ff00ff00ff00ff"
    found = near_duplicate_of(workspace.manifest, workspace.root, 2)
    assert "of patient P0: 0 of 64 bits differ, correlation 0.9" in found[8]
    assert "of patient P2" in found[1] and found[0] is None


@pytest.mark.parametrize("block", [1, 5, 27, 512])
def test_candidates_are_those_of_a_plain_loop(workspace, monkeypatch, block):
    monkeypatch.setattr("fetalflow.quality.duplicates.BLOCK", block)
    random = np.random.default_rng(3)
    workspace.manifest["phash"] = [f"{random.integers(0, 2**16):016x}" for _ in range(27)]
    rows = list(workspace.manifest[["patient", "phash"]].itertuples(index=False))
    plain = [
        (i, j, (int(a.phash, 16) ^ int(b.phash, 16)).bit_count())
        for i, a in enumerate(rows)
        for j, b in enumerate(rows)
        if a.patient != b.patient
    ]
    for bits in (0, 2, 6, 20):
        found = list(zip(*candidates(workspace.manifest, bits), strict=True))
        assert found == [pair for pair in plain if pair[2] <= bits]
    assert found


@pytest.mark.parametrize("seed", range(8))
def test_cines_of_two_patients_are_those_of_a_plain_loop(seed):
    random = np.random.default_rng(seed)
    rows = pd.DataFrame({"source": random.choice(["a", "b", "c", None], 12), "patient": random.choice(["P", "Q"], 12)})
    rows["video"] = [f"{number}.avi" for number in range(12)]
    first = rows.drop_duplicates(["source", "patient"]).dropna()
    expected = [
        next((f"{o.video} of patient {o.patient}" for o in first.itertuples() if o[1] == r[1] and o[2] != r[2]), None)
        for r in rows.itertuples()
    ]
    assert duplicate_of(rows) == expected
    assert duplicate_of(rows.astype({"source": "category", "video": "category"})) == expected


def test_near_duplicates_among_12_400_images_are_found_in_seconds(workspace):
    count, random = 12_400, np.random.default_rng(5)
    hashes = [f"{value:016x}" for value in random.integers(0, 2**64, count, dtype=np.uint64)]
    rows = [workspace.manifest.iloc[i % 27] for i in range(count)]
    many = pd.DataFrame({"sequence": [f"s{i}" for i in range(count)], "video": "v", "phash": hashes})
    many["patient"] = [f"Q{i % 1792}" for i in range(count)]
    many["source"], many["path"] = [f"c{i}" for i in range(count)], [row["path"] for row in rows]
    many.loc[12_000, "phash"] = many.loc[3, "phash"]  # the pictures are those of rows 3 and 12 000 % 27: they differ
    many.loc[12_001, ["phash", "path"]] = many.loc[4, ["phash", "path"]]
    began = time.perf_counter()
    found = near_duplicate_of(many, workspace.root, 2)
    assert time.perf_counter() - began < 20
    assert {i for i, other in enumerate(found) if other} == {4, 12_001}


def test_robust_z_by_hand():
    values = pd.Series(np.exp([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 100.0, np.nan]))
    z = robust_z(values)  # median 5, deviations 5 4 3 2 1 0 1 2 3 4 95: median 3
    assert z[10] == pytest.approx(95 / (1.4826 * 3))
    assert np.isnan(z[11])
    assert robust_z(values[:5]).isna().all()  # too few to call one an outlier


def test_the_stage_stops_and_leaves_its_report(workspace, tmp_path):
    data = tmp_path / "data" / "movement"
    data.mkdir(parents=True)
    (data / "sequences").symlink_to(workspace.root / "sequences")
    (data / "masks").symlink_to(workspace.root / "masks")
    put("fps", 900.0)(workspace)
    workspace.manifest.to_parquet(data / "manifest.parquet")
    workspace.split.to_parquet(data / "split.parquet")
    (tmp_path / "params.yaml").write_text(
        "tasks: {movement: {task: movement, drop: d, variant: fetalmovnet, network: fetalmovnet, base: fetalmovnet}}\n"
        "phantoms: []\n"
        f"movement: {{phantom: {{sequences: {{}}}}, extract: {{frames: {FRAMES}, labels: {list(LABELS)}}}, "
        f"preprocess: {{size: {SIZE}}}, split: {{}}, validate: {{}}, train: {{}}, register: {{}}}}\n"
    )
    command = [sys.executable, "-m", "stages.validate", "movement"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert "cines/P0-arm.avi" in ended.stdout and "fps 900" in ended.stdout
    assert "quality checks failed" in ended.stderr and "Traceback" not in ended.stderr
    report = tmp_path / "reports" / "movement" / "quality"
    verdict = json.loads((report / "verdict.json").read_text())
    assert [e["name"] for e in verdict["expectations"] if not e["success"]] == ["fps"]
    pages = list(report.rglob("*.html"))
    assert report / "index.html" in pages and len(pages) > 10
    assert "cines/P0-arm.avi" in (report / "index.html").read_text()
    for page in pages:
        fits(Page(page.read_text()))
        assert "https://" not in page.read_text() and "<script" not in page.read_text()


@pytest.mark.parametrize(
    ("patients", "assumed", "failing"),
    [
        (list("ABCDEFGHIJKL"), 0, "patients_per_cine"),
        (list("AABBCCDDEEFF"), 0, None),
        (list("ABCDEFGHIJKL"), 12, "patients_known"),
        (list("ABC"), 0, None),
    ],
    ids=["a patient per cine", "two cines each", "unknown", "too few to say"],
)
def test_names_of_patients_that_may_be_those_of_files_are_a_warning(patients, assumed, failing):
    rows = pd.DataFrame({"source": [f"s{n}" for n in range(len(patients))], "patient": patients})
    chosen = [c for c in checks(BOUNDS, None, FRAMES, SIZE, "grouped") if c.table == "people"]
    verdict = run_checks("movement", {"people": people_table(rows, assumed)}, chosen, ())
    assert verdict["success"] and [e["name"] for e in verdict["expectations"] if not e["success"]] == [failing] * bool(
        failing
    )
