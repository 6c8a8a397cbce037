"""A woman who is erased is nowhere in the node, also while it runs, and does not come back."""

from io import BytesIO

import pytest
from cine_files import dicom, speckle
from node_studies import KEY, SCANNER, STUDY, a_node, a_result, as_bytes, send, studied
from pydicom import Dataset, dcmread
from typer.testing import CliRunner

from fetalflow.errors import InputError
from fetalflow.node.delivering import deliver
from fetalflow.node.forgetting import Removed, admit, forget
from fetalflow.node.listening import NOT_AUTHORISED, listening
from fetalflow.node.returning import NotSent, send_back, with_true_identifiers
from fetalflow.node.taking import take
from flows.care.nodes import erase_from_nodes, nodes_elsewhere
from flows.cli.app import app

HER = KEY.pseudonym("patient", "CANARY-4711")


def of_another() -> Dataset:
    made = dicom(speckle(2), PatientID="8", StudyInstanceUID="1.5", SeriesInstanceUID="1.6")
    made.StudyDescription = "CLINIC"
    return made


@pytest.mark.parametrize("at", [None, "north", "south"], ids=["everywhere", "at her site", "at another site"])
def test_a_running_node_forgets_her_and_nobody_else(tmp_path, at):
    said = []
    with a_node(tmp_path) as node, listening(node, ("127.0.0.1", 0), said.append) as port:
        assert send(port, studied(1)) == [0]
        deliver(node)
        assert send(port, studied(2), of_another()) == [0, 0]  # held
        result = a_result(dcmread(next(tmp_path.glob("inbox/*/cines/*"))))
        for folder in ("by another program", "made by the node"):
            (node.folder / "results" / folder).mkdir()
            (node.folder / "results" / folder / "one.dcm").write_bytes(as_bytes(result))
        is_site = None if at is None else (lambda site: site == at)
        removed = Removed() if at == "south" else Removed(2, 1, 2)
        assert forget(node.folder, [HER], is_site, dry=True) == removed == forget(node.folder, [HER], is_site)
        assert forget(node.folder, [HER], is_site) == Removed()  # again
        assert node.receipts.counts() == ({"held": 2, "delivered": 1} if at == "south" else {"held": 1})
        if at == "south":
            return
        assert len(list((node.spool / "cines").iterdir())) == 1
        assert send(port, studied(1), studied(3), of_another()) == [NOT_AUTHORISED, NOT_AUTHORISED, 0]
        with pytest.raises(NotSent):
            with_true_identifiers(node, dcmread(BytesIO(as_bytes(result))))
        late = node.folder / "results" / "late.dcm"  # the examination of her study ended after it
        late.write_bytes(as_bytes(result))
        assert send_back(node, lambda *_: pytest.fail("sent"), said.append) == 0
        assert at is not None or not late.exists()
        assert [len(receipts) for _, receipts in deliver(node)] == [2]  # of the other woman
    late.unlink(missing_ok=True)
    for path in (tmp_path / "node").rglob("*"):
        if path.is_file():
            found = path.read_bytes()
            assert not any(name.encode() in found for name in (HER, KEY.uid(STUDY))), path


def test_a_node_on_another_machine_is_left_alone(tmp_path):
    """Its database is on a shared folder, and SQLite's log is not shared between machines."""
    folder = tmp_path / "node"
    with a_node(tmp_path) as node:
        take(node, as_bytes(studied()), SCANNER)
        (folder / ".host").write_text("pod-7")
        with pytest.raises(InputError, match="runs on pod-7. Run `fetalflow node --forget"):
            forget(folder, [HER])
        assert erase_from_nodes([tmp_path], [HER], (), None, None, plan=False) == {}
        assert "pod-7" in nodes_elsewhere([tmp_path])[0] and node.receipts.counts() == {"held": 1}
    assert nodes_elsewhere([tmp_path]) == [] and forget(folder, [HER]) == Removed(1, 1, 0)  # it ended


def test_the_verb_removes_her_and_takes_her_again(tmp_path):
    with a_node(tmp_path) as node:
        take(node, as_bytes(studied()), SCANNER)

        def verb(*words: str) -> str:
            done = CliRunner().invoke(app, ["node", "--folder", str(node.folder), *words])
            return f"{done.output} {done.exception}"

        assert "Nothing of 4711 is in" in verb("--forget", "4711") and not admit(node.folder, "4711")
        assert "Removed: 1 objects of 1 studies" in verb("--forget", HER)
        assert "taken again" in verb("--admit", HER) and "is not refused" in verb("--admit", HER)
        take(node, as_bytes(studied()), SCANNER)
        for words in (("--forget", " "), ("--forget", HER, "--admit", HER)):
            assert "give one pseudonym" in verb(*words)
        assert node.receipts.counts() == {"held": 1}
    nowhere = CliRunner().invoke(app, ["node", "--folder", str(tmp_path), "--forget", HER])
    assert "no folder in which a node worked" in str(nowhere.exception)
    assert not admit(tmp_path, HER)
