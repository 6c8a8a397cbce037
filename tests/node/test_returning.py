"""Results go back under the true identifiers, to the right receiver, once; the true identifiers are only in memory."""

from io import BytesIO

import pytest
from cine_files import dicom, speckle
from name_search import named_in, searched
from node_studies import KEY, SCANNER, STUDY, a_node, a_result, as_bytes, node_settings, studied
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence
from pynetdicom import AE, evt
from pynetdicom.sop_class import SecondaryCaptureImageStorage

from fetalflow.errors import InputError
from fetalflow.hospital.deidentify.pseudonyms import Key
from fetalflow.node.delivering import deliver
from fetalflow.node.receipts import Receipts
from fetalflow.node.returning import NotSent, send_back, with_true_identifiers
from fetalflow.node.sending import sender
from fetalflow.node.serving import one_round, opened
from fetalflow.node.taking import Refused, take
from fetalflow.node.vault import Vault

ELEMENTS = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "StudyInstanceUID",
    "StudyDate",
    "AccessionNumber",
    "StudyID",
)


def original() -> Dataset:
    return studied(1, PatientBirthDate="19900203", AccessionNumber="CANARY-7", PatientSex="F", ContentDate="20260204")


def delivered(folder, node) -> Dataset:
    """The pipeline's object of the study."""
    take(node, as_bytes(original()), SCANNER)
    deliver(node)
    return dcmread(next(folder.glob("inbox/*/cines/*")))


def a_report(source: Dataset) -> Dataset:
    """A result that has the pseudonyms of its source in every kind of element."""
    made = a_result(source)
    made.ContentDate, made.AcquisitionDateTime = source.ContentDate, source.StudyDate + "000000"
    deep, deeper = Dataset(), Dataset()
    deeper.ReferencedSOPInstanceUID, deeper.PersonName = source.SOPInstanceUID, source.PatientID
    deep.StudyInstanceUID, deep.SeriesInstanceUID = source.StudyInstanceUID, source.SeriesInstanceUID
    deep.ReferencedSOPSequence, deep.TextValue = Sequence([deeper]), source.PatientID
    made.CurrentRequestedProcedureEvidenceSequence = Sequence([deep])
    return made


def test_a_result_gets_all_true_identifiers_and_loses_none_of_its_own(tmp_path):
    with a_node(tmp_path) as node:
        source = delivered(tmp_path, node)
        report, true = a_report(source), original()
        its_own = report.SOPInstanceUID, report.SeriesInstanceUID
        back = dcmread(BytesIO(as_bytes(with_true_identifiers(node, report))))
        assert [back.get(name) for name in ELEMENTS] == [true.get(name) or "" for name in ELEMENTS]
        assert (back.SOPInstanceUID, back.SeriesInstanceUID) == its_own and "PatientIdentityRemoved" not in back
        assert (back.ContentDate, back.AcquisitionDateTime) == ("20260204", "20260203000000")
        (deep,) = back.CurrentRequestedProcedureEvidenceSequence
        assert (deep.StudyInstanceUID, deep.SeriesInstanceUID) == (STUDY, true.SeriesInstanceUID)
        assert deep.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == true.SOPInstanceUID
        assert deep.ReferencedSOPSequence[0].PersonName == true.PatientName and deep.TextValue == true.PatientID
        assert source.PatientID.encode() not in as_bytes(back) and source.StudyInstanceUID.encode() not in as_bytes(
            back
        )
        stranger = a_report(source)
        stranger.StudyInstanceUID = "1.2.3"
        with pytest.raises(NotSent, match="no identifiers"):
            with_true_identifiers(node, stranger)
    searched(tmp_path)


def test_results_go_once_to_the_receiver_that_is_set_and_wait_while_it_is_away(tmp_path):
    received, said = [], []

    def store(event):
        received.append((event.assoc.requestor.ae_title, event.dataset.PatientID, event.dataset.SOPInstanceUID))
        return 0x0000

    pacs = AE(ae_title="PACS")
    pacs.add_supported_context(SecondaryCaptureImageStorage)
    server = pacs.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    port = server.socket.getsockname()[1]
    peers = {SCANNER: {"results_to": "PACS"}, "PACS": {"host": "127.0.0.1", "port": port}}
    with a_node(tmp_path, peers=peers, timeout=5) as node:
        report = a_report(source := delivered(tmp_path, node))
        results = node.folder / "results" / "study"
        results.mkdir()

        def write() -> None:
            results.mkdir(exist_ok=True)
            (results / "one.dcm").write_bytes(as_bytes(report))
            (results / "note.txt").write_text("no result")

        write()
        (results / "broken.dcm").write_bytes(b"x")
        one_round(node, said.append)
        assert received == [("FETALFLOW", "CANARY-4711", report.SOPInstanceUID)]
        assert sorted(path.name for path in results.iterdir()) == ["broken.dcm", "note.txt"] and len(said) == 1
        write()  # the same result again, as after a kill between sending and removing
        one_round(node, said.append)
        assert len(received) == 1
        report.SeriesNumber = 901  # another content is sent
        write()
        one_round(node, said.append)
        assert len(received) == 2
        with pytest.raises(Refused, match="result"):  # a PACS that forwards it sends it in vain
            take(node, as_bytes(with_true_identifiers(node, dcmread(BytesIO(as_bytes(report))))), SCANNER)
        server.shutdown()
        report.SeriesNumber = 902
        write()
        (results / "two.dcm").write_bytes(as_bytes(a_report(source)))
        for _ in range(2):
            assert send_back(node, sender(node, None), said.append) == 0
        assert (results / "one.dcm").is_file() and (results / "two.dcm").is_file()
        assert sum("does not answer" in line for line in said) == 2  # once for each of them, not in every round
    searched(tmp_path)


def test_half_of_the_results_of_a_study_is_never_sent(tmp_path):
    sent = []

    def fails_in_the_middle(files, out):
        out.mkdir()
        (out / "one.dcm").write_bytes(as_bytes(a_result(dcmread(files[0]))))
        raise RuntimeError

    with a_node(tmp_path, peers={SCANNER: {"host": "127.0.0.1", "port": 9}}) as node:
        delivered(tmp_path, node)
        (node.folder / ".examining-left").mkdir()  # by a node that was killed
        one_round(node, sent.append, None, fails_in_the_middle)
        assert not list((node.folder / "results").iterdir()) and "could not be examined" in "".join(sent)
    with a_node(tmp_path) as node:
        assert sorted(each.name for each in node.folder.glob(".*")) == [".host", ".lock"]


def test_studies_of_the_time_before_it_examined_are_not_examined(tmp_path):
    seen = []
    with a_node(tmp_path, peers={SCANNER: {"host": "127.0.0.1", "port": 9}}) as node:
        for days, made in ((8, original()), (1, dicom(speckle(2), PatientID="8", StudyInstanceUID="1.5"))):
            made.StudyDescription, made.SeriesInstanceUID = "CLINIC", "1.6"
            node.clock = lambda days=days: 1e9 - days * 86_400
            take(node, as_bytes(made), SCANNER)
            deliver(node)
        node.clock = lambda: 1e9
        one_round(node, print, None, lambda files, out: seen.append([dcmread(each).Rows for each in files]))
    assert seen == [[120]]


def test_what_fails_in_one_place_does_not_hold_back_the_rest(tmp_path, monkeypatch):
    """An inbox that is away, a PACS that answers nonsense, and a result that cannot be written: all others go on."""
    away, said, seen, sent = tmp_path / "away", [], [], []
    away.mkdir()
    rules = ({"description": "liver", "task": "planes", "inbox": str(away)}, {"task": "movement"})
    web = {"url": "http://127.0.0.1:9/dicom-web", "every": 0}
    with a_node(tmp_path, rules=rules, web=web, peers={SCANNER: {"host": "127.0.0.1"}}) as node:
        away.rmdir()
        for number, description in ((1, "liver"), (2, "head")):
            made = dicom(speckle(2), PatientID="8", StudyInstanceUID=f"1.{number}", StudyDescription=description)
            made.SeriesInstanceUID = f"1.{number}.1"
            take(node, as_bytes(made), SCANNER)

        def examine(files, out):
            seen.append(len(files))
            out.mkdir()
            for name in ("a", "b"):
                (out / f"{name}.dcm").write_bytes(as_bytes(a_result(dcmread(files[0]))))

        def one_fails(receiver, result):
            if not sent:
                sent.append("failed")
                raise ValueError("cannot be written: CANARY")
            sent.append(result.SOPInstanceUID)

        monkeypatch.setattr("fetalflow.node.serving.sender", lambda *_: one_fails)
        monkeypatch.setattr("fetalflow.node.web._studies", lambda *_: 1 / 0)
        with pytest.raises(InputError, match="needs an inbox for the deliveries of planes"):
            one_round(node, said.append, None, examine)
        assert seen == [1] and len(sent) == 2
    for words in ("in the inbox of movement", "ZeroDivisionError", "cannot be sent (ValueError"):
        assert sum(words in line for line in said) == 1, words
    assert not named_in("".join(said).encode())


def test_a_study_is_examined_as_a_whole_once_and_again_when_more_of_it_comes(tmp_path):
    seen, said = [], []

    def examine(files, out):
        seen.append(len(files))
        if len(files) == 2:
            raise RuntimeError(f"cannot read {original().PatientName}")
        out.mkdir()
        (out / "one.dcm").write_bytes(as_bytes(a_result(dcmread(files[0]))))

    def round_of(*objects: Dataset) -> None:
        with a_node(tmp_path, peers={SCANNER: {"host": "127.0.0.1", "port": 9}}) as node:
            for each in objects:
                take(node, as_bytes(each), SCANNER)
            for _ in range(2):
                one_round(node, said.append, None, examine)

    round_of(original())
    round_of()
    assert seen == [1] and len(list(tmp_path.glob("node/results/*/*"))) == 1  # nobody receives it yet
    round_of(studied(2))
    assert seen == [1, 2] and "could not be examined: RuntimeError" in "".join(said)
    assert not list(tmp_path.glob("node/results/*/*"))  # that of one object alone would be wrong now
    round_of(studied(3, SeriesDescription="a leg"))  # without a label: it is in another delivery
    assert seen == [1, 2, 3] and len(list((tmp_path / "inbox").iterdir())) == 3
    searched(tmp_path)
    assert not named_in("".join(said).encode())


def test_identifiers_open_only_with_the_key_and_only_under_their_pseudonym(tmp_path):
    vault, other = Vault(KEY), Vault(Key(bytes(range(9, 73))))
    sealed = vault.seal("P1", {"uid": "1.2"})
    assert vault.open("P1", sealed) == {"uid": "1.2"} and b"1.2" not in sealed
    assert len(vault.seal("P1", {"uid": "1.2" * 30})) == len(sealed)  # the length of a name is not seen
    for wrong in (lambda: other.open("P1", sealed), lambda: vault.open("P2", sealed), lambda: vault.open("P1", b"")):
        with pytest.raises(InputError, match="cannot be opened"):
            wrong()
    Receipts(tmp_path / "node" / "node.db", KEY.name).close()
    with pytest.raises(InputError, match=f"used with the key {KEY.name}.*no key"):
        Receipts(tmp_path / "node" / "node.db", "")
    assert (tmp_path / "node" / "node.db").stat().st_mode & 0o077 == 0


def test_a_node_that_could_not_work_is_refused_before_it_listens(tmp_path):
    wrong = [
        ({"rules": ()}, "takes nothing"),
        ({"rules": ({"task": "nix"},)}, "has no task 'nix'"),
        ({"peers": {}, "rules": ({"task": "movement"},)}, "nobody may send"),
        ({"rules": ({"task": "movement", "inbox": str(tmp_path / "nowhere")},)}, "needs an inbox"),
        ({"rules": ({"task": "movement", "inbox": "nix://bucket/inbox"},)}, "no package that reads these"),
        ({"rules": ({"task": "movement", "inbox": ""},)}, "needs an inbox"),
    ]
    for node, message in wrong:
        with (
            pytest.raises(InputError, match=message),
            opened(node_settings(tmp_path / "in", **node), tmp_path / "n", None),
        ):
            pass
    with a_node(tmp_path), pytest.raises(InputError, match="another node"), a_node(tmp_path):
        pass
