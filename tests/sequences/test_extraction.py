"""A whole drop: nothing vanishes, nothing is decoded twice, and every fault has one plain reason."""

import json
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import yaml
from cine_files import dicom, save_dicom, speckle, write_video
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fetalflow.cine.letterbox import fit
from fetalflow.cine.windows import recorded_windows
from fetalflow.errors import InputError
from fetalflow.hospital.drop.annotators import Span, group, kappa
from fetalflow.hospital.drop.quarantine import check_share
from fetalflow.hospital.drop.rows import COLUMNS, read_annotations
from fetalflow.sequences.extraction import check_usable, extract_drop
from fetalflow.sequences.preprocessing import preprocess
from fetalflow.settings.params import Extract, Validate
from stages import extract as stage

SETTINGS = Extract(labels=("head", "arm"), frames=5, stride=5, workers=1)
FRAMES = speckle(24, 64, 96)


def row(video="a.avi", patient="P1", annotator="ann", start="", end="", label="head", **further):
    site = {"site": "north", "device": "convex"}
    return {"video": video, "patient": patient, **site, "annotator": annotator, "start_frame": start, "end_frame": end,
            "label": label, **further}  # fmt: skip


@pytest.fixture
def drop(tmp_path):
    folder = tmp_path / "drop"
    (folder / "sub").mkdir(parents=True)
    write_video(folder / "a.avi", FRAMES, fps=25)
    write_video(folder / "sub" / "b.mp4", speckle(24, 64, 96, seed=3), "libx264")
    save_dicom(folder / "c.dcm", dicom(speckle(24, 64, 96, seed=4), FrameTime="40", PixelSpacing=["0.5", "0.5"]))
    return folder


def annotate(drop, *rows):
    pd.DataFrame(rows).to_csv(drop / "annotations.csv", index=False)


def extract(drop, *rows, using=SETTINGS, **changes):
    annotate(drop, *rows)
    return extract_drop(drop, using.model_copy(update=changes), drop.parent / "frames")


def test_sequences_of_a_good_drop(drop):
    found = extract(drop, row(), row("sub/b.mp4", "P2", label="arm"), row("c.dcm", "P3", start="2", end="12", note="x"))
    table = found.sequences
    assert found.quarantine.empty and found.decoded == 3
    assert list(table.groupby("video").size()) == [4, 2, 4]
    assert list(table[table.video == "c.dcm"].first_frame) == [2, 7]
    assert table.sequence.is_unique and (table.sequence.str.len() == 19).all()
    first = table.iloc[0]
    assert first.sequence == f"{first.source[:12]}-000000" and (first.first_frame, first.last_frame) == (0, 4)
    assert table[table.video == "c.dcm"].mm_per_px.tolist() == [0.5, 0.5]
    assert table[table.video != "c.dcm"].mm_per_px.isna().all()
    assert (table.fps == 25).all() or table.fps.round(1).isin([24, 25]).all()
    assert {"niqe", "phash", "frozen_share", "note", "height", "width"} <= set(table.columns)
    assert found.summary["rows_used"] == 3 and found.summary["promised_frames"] == 72


def test_stored_frames_are_the_recorded_ones(drop):
    found = extract(drop, row("c.dcm"), mask_sector=False, mask_overlays=False)
    stored = np.load(drop.parent / "frames" / f"{found.sequences.source[0]}.npy", mmap_mode="r")
    assert np.array_equal(stored, speckle(24, 64, 96, seed=4))


def test_ids_do_not_depend_on_names_order_or_workers(drop):
    rows = [row(), row("sub/b.mp4", "P2"), row("c.dcm", "P3")]
    one = extract(drop, *rows).sequences
    (drop / "a.avi").rename(drop / "z.avi")
    with joblib.parallel_config(backend="threading"):
        two = extract(drop, *[row("z.avi"), *rows[:0:-1]], workers=2).sequences
    assert set(one.sequence) == set(two.sequence)
    same = one.set_index("sequence").drop(columns="video").sort_index()
    pd.testing.assert_frame_equal(same, two.set_index("sequence").drop(columns="video").sort_index())


# Quarantine


def fill_with_faults(drop):
    (drop / "empty.avi").write_bytes(b"")
    (drop / "text.mp4").write_text("this is no video")
    whole = (drop / "a.avi").read_bytes()
    (drop / "half.avi").write_bytes(whole[: len(whole) // 2])
    return [
        (row("empty.avi", "P5"), "empty"),
        (row("text.mp4", "P6"), "unreadable"),
        (row("half.avi", "P7"), "truncated"),
        (row("gone.avi", "P8"), "missing"),
        (row("../a.avi", "P9"), "outside"),
        (row("/etc/passwd", "P9"), "outside"),
        (row("C:\\a.avi", "P9"), "outside"),
        (row("c.dcm", "P3", mask="../m.npz"), "outside"),
        (row("c.dcm", "P3", label="liver"), "label"),
        (row("c.dcm", "P3", start="three"), "row"),
        (row("c.dcm", "P3", start="-1"), "row"),
        (row("c.dcm", "P3", start="9", end="3"), "row"),
        (row("c.dcm", "", label="arm"), "row"),
        (row("c.dcm", "P3", start="20", end="24"), "span"),
        (row("c.dcm", "P3", start="24"), "span"),
        (row("c.dcm", "P3", start="0", end="3"), "short"),
    ]


def test_every_fault_has_its_kind_and_the_rest_goes_on(drop):
    faults = fill_with_faults(drop)
    found = extract(drop, row(), *(fault for fault, _ in faults))
    expected = sorted((fault["video"], kind) for fault, kind in faults)
    assert sorted(zip(found.quarantine.video, found.quarantine.kind, strict=True)) == expected
    assert len(found.sequences) == 4 and set(found.sequences.video) == {"a.avi"}
    reasons = dict(zip(found.quarantine.kind, found.quarantine.reason, strict=True))
    assert "head, arm" in reasons["label"] and "'liver'" in reasons["label"]
    assert "the cine holds 24" in reasons["span"]
    assert found.quarantine.reason.str.len().between(10, 250).all()
    with pytest.raises(InputError, match="label"):
        check_share(found.quarantine, found.summary["rows"], SETTINGS.quarantine_share, "quarantine.csv")


def test_rows_that_name_two_patients_for_one_cine(drop):
    found = extract(drop, row(end="9"), row(patient="P2", start="10"), row("c.dcm", "P3"))
    assert list(found.quarantine.kind) == ["patient", "patient"] and "P1, P2" in found.quarantine.reason[0]


def one_row_a_frame(first: int, last: int, **kind) -> list[dict]:
    return [row(start=str(n), end=str(n), **kind) for n in range(first, last + 1)]


@pytest.mark.parametrize(
    "rows",
    [
        one_row_a_frame(0, 22),
        [row(start="0", end="3"), row(start="4", end="7"), row(start="8", end="22")],
        [row(start="8", end="22"), row(start="0", end="12")],
        [*one_row_a_frame(0, 9), row(start="10", end="22", annotator="ann")],
    ],
    ids=["frames", "spans", "overlap", "mixed"],
)
def test_a_span_in_several_rows_is_what_it_is_in_one(drop, rows):
    """Also with a second reader, who writes one row."""
    for others in (
        [],
        [row(start="0", end="20", annotator="bob")],
        [row(start="0", end="8", annotator="bob", label="arm")],
    ):
        one, several = extract(drop, row(start="0", end="22"), *others), extract(drop, *rows, *others)
        pd.testing.assert_frame_equal(one.sequences, several.sequences)
        assert (one.quarantine.kind.nunique(), len(one.quarantine) > 0) == (
            several.quarantine.kind.nunique(),
            len(several.quarantine) > 0,
        )
        assert one.summary["kappa"] == several.summary["kappa"]


def test_adjacent_rows_that_say_different_things_stay_two_spans(drop):
    rows = [row(start="0", end="9", hc_mm="180"), row(start="10", end="19", hc_mm="182"), row("c.dcm", "P3", hc_mm="")]
    found = extract(drop, *rows)
    assert list(found.sequences.hc_mm) == ["180", "180", "182", "182", *[""] * 4] and found.quarantine.empty
    two = extract(drop, row(start="0", end="9"), row(start="10", end="19", annotator="bob"), row("c.dcm", "P3"))
    assert set(two.sequences.annotators) == {"ann", "bob"} and two.quarantine.empty


spans = st.tuples(
    st.integers(0, 30), st.integers(0, 30), st.sampled_from(["head", "arm", "liver"]), st.sampled_from("xyz")
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["a.avi", "c.dcm", "text.mp4", "gone.avi"]), spans), min_size=1, max_size=8))
def test_no_row_vanishes(drop, rows):
    fill_with_faults(drop)
    table = [row(v, f"of {v}", who, str(start), str(end), label) for v, (start, end, label, who) in rows]
    found = extract(drop, *table)
    assert found.summary["rows_used"] + len(found.quarantine) == found.summary["rows"] == len(rows)
    for sequence in found.sequences.itertuples():
        covering = [
            r for r in table
            if r["video"] == sequence.video and r["label"] == sequence.label
            and int(r["start_frame"]) <= sequence.first_frame and sequence.last_frame <= int(r["end_frame"])
        ]  # fmt: skip
        assert set(sequence.annotators.split(";")) <= {r["annotator"] for r in table}
        assert covering or len({r["annotator"] for r in table}) < len(table)
    assert found.sequences.sequence.is_unique if len(found.sequences) else True


def test_cuts_and_label_boundaries_are_not_crossed(drop):
    frames = np.concatenate([speckle(12, 120, 160, seed=1, speed=1), speckle(13, 120, 160, seed=9, speed=1)])
    write_video(drop / "cut.avi", frames, "ffv1")
    found = extract(drop, row("cut.avi"))
    assert list(found.sequences.first_frame) == [0, 5, 12, 17] and found.summary["cuts"] == 1
    found = extract(drop, row("cut.avi", end="7"), row("cut.avi", start="8", label="arm"))
    assert list(zip(found.sequences.first_frame, found.sequences.label, strict=True)) == [
        (0, "head"),
        (12, "arm"),
        (17, "arm"),
    ]


def test_resampling_and_unknown_rates(drop):
    save_dicom(drop / "d.dcm", dicom(speckle(24, 64, 96, seed=5)))
    found = extract(drop, row("c.dcm"), row("d.dcm", "P4"), fps=12.5)
    assert found.sequences[["first_frame", "last_frame"]].values.tolist() == [[0, 8], [10, 18]]
    assert (found.sequences.fps == 12.5).all() and (found.sequences.step == 2).all()
    assert list(found.quarantine.kind) == ["rate"]


def test_a_cine_of_an_impossible_rate_does_not_stop_the_good_ones(drop):
    write_video(drop / "slow.avi", FRAMES, fps=2)
    annotate(drop, row(), row("slow.avi", "P2"), row("c.dcm", "P3"))
    found = extract_drop(drop, SETTINGS, drop.parent / "frames", rates=Validate().rates)
    assert set(found.sequences.video) == {"a.avi", "c.dcm"}
    assert list(found.quarantine.video) == ["slow.avi"] and list(found.quarantine.kind) == ["rate"]
    assert "2 frames/s; expected 5 to 120" in found.quarantine.reason[0]


# Several annotators


def test_agreeing_annotators_give_one_set_over_the_agreed_frames(drop):
    found = extract(drop, row(annotator="b", end="20"), row(annotator="a", start="1", end="22"))
    assert found.quarantine.empty and list(found.sequences.first_frame) == [1, 6, 11, 16]
    assert set(found.sequences.annotators) == {"a;b"}
    assert found.summary["kappa_by_pair"][0]["annotators"] == ["a", "b"]


@pytest.mark.parametrize(
    "second",
    [row(annotator="b", label="arm"), row(annotator="b", end="11"), row(annotator="ann", label="arm", start="9")],
)
def test_disagreement_goes_to_quarantine(drop, second):
    found = extract(drop, row(), second, row("c.dcm", "P3"))
    assert list(found.quarantine.kind) == ["disagreement"] * 2
    assert set(found.sequences.video) == {"c.dcm"}


def test_kappa_by_hand():
    a = [Span(0, "a", "head", 0, 49), Span(1, "a", "arm", 50, 99)]
    b = [Span(2, "b", "head", 0, 59), Span(3, "b", "arm", 60, 99)]
    (found,) = group(a + b)
    # 90 of 100 agree; chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5; kappa 0.8 for both labels.
    assert found.agreement() == 0.9
    assert kappa([found])["labels"] == pytest.approx({"arm": 0.8, "head": 0.8})
    assert [(r.label, r.first, r.last) for r in found.agreed()] == [("head", 0, 49), ("arm", 60, 99)]
    same = group([Span(0, "a", "head", 0, 9), Span(1, "b", "head", 0, 9)])
    assert kappa(same) == {
        "labels": {"head": None},
        "pairs": [{"annotators": ["a", "b"], "frames": 10, "kappa": {"head": None}}],
    }  # noqa: E501


def test_spans_that_do_not_meet_are_separate_groups():
    groups = group([Span(0, "a", "head", 0, 9), Span(1, "b", "arm", 10, 19), Span(2, "b", "arm", 15, 30)])
    assert [(g.first, len(g.spans)) for g in groups] == [(0, 1), (10, 2)]


# The store


def test_known_cines_are_not_decoded_again_unless_what_shapes_them_changes(drop):
    rows = [row(), row("c.dcm", "P3"), row("text.mp4", "P6")]
    (drop / "text.mp4").write_text("this is no video")
    assert extract(drop, *rows).decoded == 3
    again = extract(drop, *rows)
    assert again.decoded == 0 and list(again.quarantine.kind) == ["unreadable"]
    assert extract(drop, *rows, stride=3, min_agreement=0.5).decoded == 0
    assert extract(drop, *rows, mask_overlays=False).decoded == 3
    write_video(drop / "a.avi", speckle(20, 64, 96, seed=8))
    assert extract(drop, *rows, mask_overlays=False).decoded == 1


@pytest.mark.parametrize("damage", ["shorter", "other shape", "record", "gone"])
def test_a_damaged_store_is_noticed_and_mended(drop, damage):
    first = extract(drop, row())
    store = drop.parent / "frames"
    (file,), (record,) = store.glob("*.npy"), [p for p in store.glob("*.json") if "figures" not in p.name]
    before = file.read_bytes()
    if damage == "shorter":
        file.write_bytes(before[:-100])
    elif damage == "other shape":
        np.save(file, np.zeros((24, 96, 64), np.uint8))
    elif damage == "record":
        record.write_text(record.read_text()[:50])
    else:
        file.unlink()
    again = extract(drop, row())
    assert again.decoded == 1 and file.read_bytes() == before
    pd.testing.assert_frame_equal(first.sequences, again.sequences)


# The contract of the drop


def test_a_wrong_path_says_what_was_looked_for(tmp_path, drop):
    with pytest.raises(InputError, match="not a folder.*annotations.csv"):
        extract_drop(tmp_path / "nowhere", SETTINGS, tmp_path / "frames")
    with pytest.raises(InputError, match=r"no annotations.csv.*a\.avi"):
        extract_drop(drop, SETTINGS, tmp_path / "frames")


def test_a_drop_without_a_usable_cine_is_an_error(drop):
    found = extract(drop, row("gone.avi"))
    with pytest.raises(InputError, match=r"3 cine files.*\.avi.*1 missing"):
        check_usable(found, drop)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("video;patient;site\n", "missing: annotator, label"),
        (",".join(COLUMNS[:-1]) + "\na,b\n", "missing: label"),
        (",".join(COLUMNS) + "\n", "no row below.*3 cine files"),
        (",".join((*COLUMNS, "label")) + "\na.avi,P1,s,d,x,,,head,arm\n", "found twice: label"),
        (b"video\xff\n", "UTF-8"),
    ],
)
def test_annotations_that_break_the_contract(drop, text, message):
    (drop / "annotations.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message):
        read_annotations(drop)


def test_columns_called_like_ours_are_kept_under_another_name(drop):
    taken = dict.fromkeys(["path", "digest", "sector", "mask_path", "niqe", "patient_assumed"], "mine")
    found = extract(drop, row(fps="99", licence="CC", annotations_fps="98", **taken))
    table = preprocess(found.sequences, drop.parent / "frames", drop.parent / "sequences", 32, workers=1)
    assert set(table.annotations_annotations_fps) == {"99"} and set(table.annotations_fps) == {"98"}
    assert set(table.licence) == {"CC"} and "mine" not in set(table.path) | set(table.digest) | set(table.sector)
    assert all(set(table[f"annotations_{column}"]) == {"mine"} for column in taken if column != "patient_assumed")
    assert (found.sequences.fps == 25).all()


# What the networks get


def test_preprocess_writes_what_the_manifest_says(drop, tmp_path):
    found = extract(drop, row(), row("c.dcm", "P3"))
    folder = tmp_path / "sequences"
    folder.mkdir()
    (folder / "old.npy").write_bytes(b"left over")
    manifest = preprocess(found.sequences, tmp_path / "frames", folder, 48, workers=1)
    assert sorted(p.name for p in folder.iterdir()) == sorted(f"{s}.npy" for s in manifest.sequence)
    assert manifest.digest.str.len().eq(64).all() and manifest.digest.is_unique
    one = manifest[manifest.video == "c.dcm"].iloc[1]
    frames = np.load(tmp_path / one.path, mmap_mode="r")
    store = np.load(tmp_path / "frames" / f"{one.source}.npy")
    assert frames.dtype == np.uint8 and np.array_equal(frames, fit(store[5:10], 48))
    assert one.mm_per_px == pytest.approx(0.5 * 96 / 48)
    with pytest.raises(InputError, match="Run extract again"):
        preprocess(found.sequences, tmp_path / "nowhere", folder, 48, workers=1)
    assert len(list(folder.iterdir())) == len(manifest)


def test_a_flipped_bit_in_the_store_is_refused_and_mended(drop, tmp_path):
    found = extract(drop, row())
    (file,) = (tmp_path / "frames").glob("*.npy")
    good = file.read_bytes()
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(
        InputError, match=r"changed since extract wrote it.*Remove the file .* decodes the cine again\.$"
    ):
        preprocess(found.sequences, tmp_path / "frames", tmp_path / "sequences", 48, workers=1)
    file.unlink()
    extract(drop, row())
    assert file.read_bytes() == good
    assert len(preprocess(found.sequences, tmp_path / "frames", tmp_path / "sequences", 48, workers=1))


def test_one_cine_is_read_as_the_drop_is(drop, tmp_path):
    found = extract(drop, row(), fps=12.5)
    spans, frames = zip(*recorded_windows(drop / "a.avi", SETTINGS.model_copy(update={"fps": 12.5})), strict=True)
    assert list(spans) == list(zip(found.sequences.first_frame, found.sequences.last_frame, strict=True))
    manifest = preprocess(found.sequences, tmp_path / "frames", tmp_path / "sequences", 48, workers=1)
    for path, sequence in zip(manifest.path, frames, strict=True):
        assert np.array_equal(np.load(tmp_path / path), fit(sequence, 48))
    (drop / "bad.avi").write_bytes(b"x" * 100)
    with pytest.raises(InputError, match="bad.avi cannot be used"):
        list(recorded_windows(drop / "bad.avi", SETTINGS))


@pytest.mark.parametrize(("every", "starts"), [(2, [0, 4, 13, 17]), (3, [0, 13])])
def test_one_frame_in_so_many_is_taken_and_none_across_a_cut(tmp_path, every, starts):
    drop, sampled = tmp_path / "drop", SETTINGS.model_copy(update={"every": every, "stride": 2})
    drop.mkdir()
    scenes = np.concatenate([speckle(13, 64, 96), speckle(13, 64, 96, seed=9)])
    save_dicom(drop / "a.dcm", dicom(scenes, FrameTime="40"))
    found = extract(drop, row("a.dcm"), using=sampled, mask_sector=False)
    table, span = found.sequences, 4 * every
    assert list(table.first_frame) == starts and list(table.last_frame - table.first_frame) == [span] * len(starts)
    assert set(table.step) == {every} and table.fps.to_numpy() == pytest.approx(25 / every)
    manifest = preprocess(table, tmp_path / "frames", tmp_path / "sequences", 96, workers=1)
    taken = [scenes[first : first + span + 1 : every] for first in starts]
    for path, frames in zip(manifest.path, taken, strict=True):
        assert np.array_equal(np.load(tmp_path / path), fit(frames, 96))
    spans, read = zip(*recorded_windows(drop / "a.dcm", sampled.model_copy(update={"mask_sector": False})), strict=True)
    assert list(spans) == list(zip(table.first_frame, table.last_frame, strict=True))
    assert all(np.array_equal(one, other) for one, other in zip(read, taken, strict=True))


def test_too_short_says_how_many_frames_are_passed_over(drop):
    found = extract(drop, row(), row("c.dcm", "P3", end="11"), every=3)
    assert "hold no 5 consecutive frames (one in 3) without" in found.quarantine.reason[0]


def test_the_stage_writes_the_quarantine_before_it_stops(drop, tmp_path, monkeypatch):

    annotate(drop, row(), row("gone.avi"))
    params = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    params["tasks"]["movement"]["drop"] = str(drop)
    params["movement"]["extract"] = SETTINGS.model_dump(mode="json")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(InputError, match=r"(?s)1 of 2 rows.*quarantine.csv"):
        stage.main("movement")
    assert pd.read_csv("data/movement/quarantine.csv").kind.tolist() == ["missing"]
    assert json.loads((tmp_path / "reports/movement/extract.json").read_text())["rows_quarantined"] == 1
    assert not (tmp_path / "data/movement/extracted.parquet").exists()
