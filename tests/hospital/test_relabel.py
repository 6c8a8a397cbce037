"""Labels that are corrected in bulk: each wrong row is named, nothing is half done, and a recall takes it back."""

import hashlib
import shutil

import pytest
from inbox_folder import HEADER, deliver, rows_of, taken

from fetalflow.errors import InputError
from fetalflow.hospital.arrival import relabel as bulk
from fetalflow.hospital.arrival.journal import listing
from fetalflow.hospital.arrival.patient_sides import read_sides
from fetalflow.hospital.arrival.recall import recall
from fetalflow.hospital.arrival.recall_record import lines
from fetalflow.hospital.arrival.relabel import plan, relabel
from fetalflow.settings.params import Split

LABELS = ("head", "arm", "leg")
CINES = {f"{i}.avi": b"cine %d" % i for i in range(4)}
DIGEST = [hashlib.sha256(content).hexdigest() for content in CINES.values()]


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Two deliveries: four cines with heads, and the first cine again with an arm later in it."""
    folder = tmp_path_factory.mktemp("template")
    deliver(folder / "inbox", "first", [f"{i}.avi,P{i},north,U7,A,0,9,head" for i in range(4)], CINES)
    deliver(folder / "inbox", "second", ["0.avi,P0,north,U7,B,20,29,arm"], CINES)
    assert taken(folder / "inbox", folder / "store") == {"first": "taken", "second": "taken"}
    return folder


@pytest.fixture
def store(template, tmp_path):
    return shutil.copytree(template, tmp_path / "of_one_test") / "store"


def table(store, *rows: str, header: str = "digest,old,new,reason"):
    file = store.parent / "corrections.csv"
    file.write_text("\n".join([header, *rows]) + "\n")
    return file


def labels(store) -> dict[str, list[str]]:
    return rows_of(store).groupby("patient")["label"].agg(list).to_dict()


def everything(store) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()}


def test_labels_of_several_deliveries_are_corrected_and_that_is_taken_back(store):
    before, sides = labels(store), read_sides(store).to_dict("records")
    rows = table(
        store,
        f"videos/{DIGEST[0][:2]}/{DIGEST[0]}.avi;HEAD;leg;wrong probe",  # a path of the store, another spelling
        f"{DIGEST[0][:12]}-000020;arm;head;swapped",  # the name of a sequence
        f"{DIGEST[2]};head;arm;wrong probe",
        header="file;old;new;reason",
    )
    found = plan(store, rows, LABELS)
    assert found.changed == {("head", "leg"): 1, ("arm", "head"): 1, ("head", "arm"): 1} and found.cines == 2
    assert labels(store) == before, "a plan changes nothing"
    name, _ = relabel(store, rows, LABELS, "ada@host", Split())
    assert labels(store) == before | {"P0": ["leg", "head"], "P2": ["arm"]}
    assert read_sides(store).to_dict("records") == sides
    assert sorted(rows_of(store)["annotator"]) == [*"AAAAB"]
    assert {(line.by, line.why) for line in lines(store)} == {("ada@host", "wrong probe; swapped")}
    last = listing(store)["happened"][-1]
    assert (last["name"], last["state"], last["rows"]) == (name, "corrected", 3) and "ada@host" in last["said"]
    recall(store, name, "Eve", "it was right before", Split())
    assert labels(store) == before


def test_a_correction_is_corrected_back_and_forth(store):
    """Then the rows are those of the first delivery again, whose name must not be taken for theirs."""
    before = labels(store)
    for old, new in (("head", "arm"), ("arm", "head"), ("head", "leg"), ("leg", "head")):
        relabel(store, table(store, f"{DIGEST[3]},{old},{new},try"), LABELS, "ada", Split())
        assert labels(store) == before | {"P3": [new]}


def test_two_labels_of_one_cine_change_places(store):
    relabel(store, table(store, f"{DIGEST[0]},head,arm,swapped", f"{DIGEST[0]},arm,head,swapped"), None, "ada", Split())
    assert labels(store)["P0"] == ["arm", "head"]


def test_a_cine_may_be_named_by_its_file_beside_the_table(store):
    (store.parent / "scan.avi").write_bytes(CINES["1.avi"])
    rows = table(store, "scan.avi,head,leg,x", header="file,old,new,reason")
    assert plan(store, rows, LABELS).rows["label"].tolist() == ["leg"]


def test_rows_of_a_recalled_delivery_are_no_rows(store):
    recall(store, "second", "Ada", "bad", Split())
    with pytest.raises(InputError, match="no row with the label 'arm'; it has head"):
        plan(store, table(store, f"{DIGEST[0]},arm,leg,x"), LABELS)


WRONG = {
    "no such cine": (f"{'0' * 64},head,arm,x", "no cine of this store has the name"),
    "a name that is no digest": ("IMG_1.avi,head,arm,x", "no cine of this store has the name 'IMG_1.avi'"),
    "too few digits": (f"{DIGEST[1][:8]},head,arm,x", "at least 12 digits"),
    "another old label": (f"{DIGEST[1]},arm,leg,x", "the cine has no row with the label 'arm'; it has head"),
    "no label of the task": (f"{DIGEST[1]},head,nose,x", "'nose' is not one of head, arm, leg"),
    "no change": (f"{DIGEST[1]},head,Head,x", "would stay as it is"),
    "no reason": (f"{DIGEST[1]},head,arm,", "reason must be filled in"),
    "nothing but a cine": (f"{DIGEST[1]},,,", "old and new and reason must be filled in"),
    "a quote": (f'{DIGEST[1]},head,arm,"x', "its quotation marks are not in pairs"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_row_is_named_and_nothing_is_changed(store, case):
    row, why = WRONG[case]
    rows, before = table(store, f"{DIGEST[0]},head,leg,right", row), everything(store)
    for call in (lambda: plan(store, rows, LABELS), lambda: relabel(store, rows, LABELS, "ada", Split())):
        with pytest.raises(InputError, match=r"line 3 of corrections\.csv") as refused:
            call()
        assert why in str(refused.value) and "line 2" not in str(refused.value)
    assert everything(store) == before


def test_two_rows_that_contradict_each_other_are_named(store):
    rows = table(store, f"{DIGEST[0]},head,leg,x", f"{DIGEST[1]},head,leg,x", f"{DIGEST[0][:20]},Head,arm,x")
    with pytest.raises(InputError, match=r"line 4 of corrections\.csv: line 2 of corrections\.csv says already"):
        plan(store, rows, LABELS)


@pytest.mark.parametrize("text", ["", "digest,old,new,reason\n", "digest,old,new\na,b,c\n", HEADER])
def test_a_file_that_is_no_table_of_corrections_is_refused(store, text):
    (store.parent / "corrections.csv").write_text(text)
    with pytest.raises(InputError, match="corrections.csv"):
        plan(store, store.parent / "corrections.csv", LABELS)


@pytest.mark.parametrize("step", ["write_table", "add_lines", "accumulate", "Journal"])
def test_a_correction_that_was_killed_is_done_as_a_whole_or_not_at_all(store, monkeypatch, step):
    rows, before = table(store, f"{DIGEST[0]},head,leg,x", f"{DIGEST[1]},head,leg,x"), labels(store)
    whole = before | {"P0": ["leg", "arm"], "P1": ["leg"]}

    def die(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(bulk, step, die)
        relabel(store, rows, LABELS, "ada", Split())
    taken(store.parent / "inbox", store)  # the next look writes the drop again
    is_done = step in ("accumulate", "Journal")
    assert labels(store) == (whole if is_done else before)
    if not is_done:
        relabel(store, rows, LABELS, "ada", Split())
        assert labels(store) == whole and not list(store.rglob("*.waiting"))
