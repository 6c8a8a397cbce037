"""Which rule takes an object, which label it gives, and what wrong rules and settings are refused with."""

import pytest
import yaml
from cine_files import dicom, speckle
from node_studies import SCANNER, a_node, as_bytes, node_settings
from processes import ROOT
from pydicom import Dataset
from pydicom.sequence import Sequence

from fetalflow.artefacts import read_json
from fetalflow.errors import InputError
from fetalflow.hospital.arrival.intake import NO_LABELS, arrive
from fetalflow.hospital.deidentify.drop import RECORD
from fetalflow.hospital.deidentify.sealed import is_sealed, take_sealed
from fetalflow.node.delivering import deliver
from fetalflow.node.rules import place
from fetalflow.node.taking import take
from fetalflow.settings.params import Retrain, Split, checked, load_settings
from flows.workspaces.workspace import prepare

BIOMETRY = {"peer": SCANNER, "modality": "US", "description": "(?i)biometr|HC", "task": "biometry"}
BIOMETRY |= {"labels": {"head": "(?i)\\bhead|HC", "femur": "(?i)femur|FL"}}
SOUTH = {"site": "South", "task": "planes"}
REST = {"modality": "US", "task": "movement"}


def header(**elements) -> Dataset:
    made = Dataset()
    made.Modality = "US"
    for name, value in elements.items():
        setattr(made, name, value)
    return made


def view(meaning: str) -> Sequence:
    code = Dataset()
    code.CodeMeaning = meaning
    return Sequence([code])


@pytest.mark.parametrize(
    ("sender", "elements", "expected"),
    [
        (SCANNER, {"StudyDescription": "Biometry 20w", "SeriesDescription": "head"}, ("biometry", "head", "north")),
        (SCANNER, {"StudyDescription": "biometry", "ViewCodeSequence": view("Femur")}, ("biometry", "femur", "north")),
        (SCANNER, {"ProtocolName": "HC and FL"}, ("biometry", "", "north")),  # two labels: people decide
        (SCANNER, {"StudyDescription": "biometry"}, ("biometry", "", "north")),
        ("PACS", {"StudyDescription": "biometry", "InstitutionName": "South"}, ("planes", "", "South")),
        ("PACS", {"StudyDescription": "biometry", "InstitutionName": "East"}, ("movement", "", "East")),
        (SCANNER, {"InstitutionName": "South"}, ("movement", "", "north")),  # the peer's site counts
        ("PACS", {"Modality": "CT"}, None),
        ("PACS", {}, ("movement", "", "")),
    ],
)
def test_the_first_rule_that_holds_counts(tmp_path, sender, elements, expected):
    peers = {SCANNER: {"site": "north"}, "PACS": {}}
    node = node_settings(tmp_path / "inbox", (BIOMETRY, SOUTH, REST), peers=peers).node
    found = place(header(**elements), sender, node)
    assert (found and (found.rule.task, found.label, found.site)) == expected


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"peers": {"": {}}}, "no AE title"),
        ({"peers": {"SEVENTEEN LETTERS": {}}}, "no AE title"),
        ({"peers": {"A\\B": {}}}, "no AE title"),
        ({"peers": {"A": {"results_to": "B"}}}, "expected one of"),
        ({"title": ""}, "no AE title"),
        ({"rules": [{"task": "movement", "labels": {"nix": "x"}}]}, r"node.rules.0.labels has \['nix'\]"),
        ({"rules": [{"task": "movement", "labels": {"head": "("}}]}, "no regular expression"),
        ({"rules": [{"task": "movement", "peer": "NIX"}]}, "rules.0.peer is 'NIX'"),
        ({"rules": [{"task": "movement", "nix": 1}]}, "node.rules.0.nix"),
        ({"web": {"url": "http://user:word@pacs"}}, "without a user"),
    ],
)
def test_wrong_settings_are_refused_with_their_place(node, message):
    with pytest.raises(InputError, match=message):
        checked(yaml.safe_load((ROOT / "params.yaml").read_text()) | {"node": node}, "params.yaml")


def test_the_rules_of_a_workspace_stay_when_it_is_run_again(tmp_path):
    block = {"peers": {SCANNER: {}}, "rules": [{"task": "movement"}, {"task": "planes"}]}  # planes is not run here
    file = prepare(tmp_path / "w", "movement") / "params.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"node": block}))
    changed = [{"movement": {"train": {"epochs": 3}}}]
    settings = load_settings(prepare(tmp_path / "w", "movement", changes=changed) / "params.yaml")
    assert [rule.task for rule in settings.node.rules] == ["movement", "planes"]
    assert settings.block("movement").train.epochs == 3


def studies(node) -> None:
    """One object of a study for each of two tasks, one with a label and one without, and one of nobody."""
    for number, (description, patient) in enumerate([("head", "7"), ("biometry", "7"), ("biometry", " UNKNOWN ")], 1):
        made = dicom(speckle(4, seed=number), PatientID=patient, StudyInstanceUID=f"1.2.{len(patient)}")
        made.SeriesInstanceUID, made.StudyDescription = f"1.5.{number}", f"biometry {description}"
        take(node, as_bytes(made), SCANNER)


def test_objects_without_a_label_wait_for_people_and_their_labels_are_taken(tmp_path, monkeypatch):
    with a_node(tmp_path, rules=(BIOMETRY,)) as node:
        studies(node)
        made = {name: receipts for name, receipts in deliver(node)}
        assert sorted(len(receipts) for receipts in made.values()) == [1, 1, 1]
        key = node.key
    monkeypatch.setenv("FETALFLOW_PSEUDONYM_KEY", key.secret.hex())
    from flows.retrain import deidentifier

    def look() -> dict[str, str]:
        prepare = deidentifier(tmp_path / "store", node.settings.block("biometry"))
        found = arrive(str(tmp_path / "inbox"), tmp_path / "store", Retrain(), Split(), prepare)
        return {each.state: each.said for each in found}

    assert look() == {"taken": "", "waiting": NO_LABELS}
    unlabelled = next(name for name, (first, *_) in made.items() if not first.label and not first.assumed)
    folder = tmp_path / "inbox" / unlabelled
    (cine,) = read_json(folder / RECORD)["cines"]
    patient = made[unlabelled][0].patient
    rows = [
        f"{cine},{patient},north,,CANARY ann,,,femur",
        f"{cine},somebody else,north,,ann,,,femur",
    ]
    rows.append(f"{cine},{patient},CANARY CLINIC,,ann,,,thigh")
    (folder / "annotations.csv").write_text(
        "video,patient,site,device,annotator,start_frame,end_frame,label\n" + "\n".join(rows)
    )
    assert is_sealed(folder, key)
    assert sorted(look()) == ["known", "taken", "waiting"]
    taken = (tmp_path / "store" / "drop" / "annotations.csv").read_text()
    assert "femur" in taken and "CANARY" not in taken and "thigh" not in taken and "somebody" not in taken


def test_a_seal_holds_only_for_what_was_sealed_and_only_with_the_key(tmp_path):
    with a_node(tmp_path, rules=(BIOMETRY,)) as node:
        studies(node)
        deliver(node)
        key = node.key
    folder = next(path.parent for path in tmp_path.glob("inbox/*/annotations.csv"))
    assert is_sealed(folder, key) and not is_sealed(folder, type(key)(bytes(range(9, 73))))
    record = (folder / RECORD).read_text()
    (folder / RECORD).write_text(record.replace('"site": "north"', '"site": "south"'))
    assert not is_sealed(folder, key)  # so it would be de-identified like any other drop
    (folder / RECORD).write_text(record)
    cine = next((folder / "cines").iterdir())
    cine.write_bytes(cine.read_bytes() + b"\0")
    with pytest.raises(InputError, match="cine 1 of 1 .* changed"):
        take_sealed(folder, tmp_path / "out", key, ("head", "femur"))
