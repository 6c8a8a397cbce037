"""One study on its way through Orthanc, dcmtk's programs and the node; prints as JSON what each of them then has.

Run in a network namespace of its own, because Orthanc 1.10 listens on every address:
`unshare -rn python pacs_scene.py FOLDER`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

sys.path.insert(0, str(Path(__file__).parent))

import cv2
import numpy as np
from bright_biometry import shown
from canary import CANARY, NAME
from measured_study import image, measured
from node_studies import KEY, SCANNER, STUDY, a_node, as_bytes
from processes import running

from fetalflow.hospital.arrival.intake import arrive
from fetalflow.node.listening import listening
from fetalflow.node.serving import one_round
from fetalflow.settings.params import Retrain, Split
from fetalflow.study.dicom.writing import write_dicom
from flows.retrain import deidentifier

HTTP, DICOM, NODE = 8042, 4242, 11112
HERE = f"http://127.0.0.1:{HTTP}"
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
RULES = ({"task": "biometry", "description": "CLINIC", "labels": {"head": "head", "femur": "femur"}},)
PEERS = {
    SCANNER: {"site": "north", "results_to": "PACS"},
    "PACS": {"site": "north", "host": "127.0.0.1", "port": DICOM},
}
WEB = {"url": f"{HERE}/dicom-web", "title": "WEB", "days": 36500, "every": 0}
SHOWN = ("Modality", "StudyInstanceUID", "PatientID", "PatientName", "StudyDate", "PatientIdentityRemoved")


@contextmanager
def orthanc(folder: Path) -> Iterator[None]:
    folder.mkdir()
    settings = {"HttpPort": HTTP, "DicomPort": DICOM, "DicomAet": "PACS", "StorageDirectory": str(folder)}
    settings |= {"IndexDirectory": str(folder), "AuthenticationEnabled": False, "Plugins": [str(PLUGIN)]}
    settings |= {"DicomAlwaysAllowFind": True, "DicomModalities": {"node": ["FETALFLOW", "127.0.0.1", NODE]}}
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with running(["Orthanc", folder / "orthanc.json"], dict(os.environ), HERE, folder / "log", f"{HERE}/system"):
        yield


def ask(path: str, body: bytes | None = None) -> Any:
    return json.load(urlopen(Request(f"{HERE}/{path}", body), timeout=60))


def referred(tags: Any) -> set[str]:
    """All ReferencedSOPInstanceUIDs in the tags of an object."""
    if isinstance(tags, list):
        return set().union(*map(referred, tags)) if tags else set()
    if not isinstance(tags, dict):
        return set()
    found = {tags["ReferencedSOPInstanceUID"]} if "ReferencedSOPInstanceUID" in tags else set()
    return found.union(*map(referred, tags.values()))


def in_pacs() -> list[dict[str, Any]]:
    """SHOWN, and the sources that it refers to, of every object that Orthanc has."""
    found = []
    for name in ask("instances"):
        tags = ask(f"instances/{name}/simplified-tags")
        found.append({key: tags.get(key, "") for key in SHOWN} | {"of": sorted(referred(tags))})
    return sorted(found, key=lambda each: (each["Modality"], each["of"]))


def call(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout + done.stderr


def with_speckle(frames: np.ndarray) -> np.ndarray:
    """As tissue has it: an even picture counts as a page of text."""
    grain = cv2.GaussianBlur(np.random.default_rng(6).normal(0, 1, frames.shape[1:]), (0, 0), 2)
    return np.clip(frames * (1 + 0.12 * grain / grain.std()), 0, 255).astype(np.uint8)


def originals(folder: Path) -> list[str]:
    """A head and a cine of a femur, as a scanner sends them."""
    folder.mkdir()
    who = {"StudyInstanceUID": STUDY, "PatientName": NAME, "PatientID": f"{CANARY}-4711", "StudyDate": "20260203"}
    who |= {"StudyDescription": f"{CANARY} CLINIC", "AccessionNumber": f"{CANARY}-7"}
    head = image(1, with_speckle(shown("head", axes=(78, 62))), SeriesDescription="head", **who)
    femur = image(2, with_speckle(shown("femur", 6, axes=(43, 14))), SeriesDescription="femur", **who)
    for name, made in (("head", head), ("femur", femur)):
        (folder / f"{name}.dcm").write_bytes(as_bytes(made))
    return sorted(map(str, folder.iterdir()))


def examine(weeks: float, files: list[Path], out: Path) -> None:
    """As `fetalflow examine --dicom`, with a network that needs no training."""
    write_dicom(measured(files, weeks), out)


def taken(place: Path, node: Any) -> list[list]:
    """What the next night takes of the inbox."""
    prepare = deidentifier(place / "store", node.settings.block("biometry"))
    found = arrive(str(place / "inbox"), place / "store", Retrain(), Split(), prepare)
    return [[each.state, each.rows, each.cines] for each in found]


def by_dicom(place: Path, files: list[str], say: Any) -> dict[str, Any]:
    """The scanner sends to the node and to the PACS, and the PACS forwards all to the node."""
    place.mkdir()
    local = ("127.0.0.1", str(NODE))
    with a_node(place, peers=PEERS, rules=RULES) as node, listening(node, ("127.0.0.1", NODE), say):
        call("echoscu", "-aet", SCANNER, "-aec", "FETALFLOW", *local)
        call("storescu", "-aet", SCANNER, "-aec", "PACS", "127.0.0.1", str(DICOM), *files)
        call("storescu", "-aet", SCANNER, "-aec", "FETALFLOW", *local, files[0])
        ask("modalities/node/store", json.dumps(ask("studies")).encode())
        one_round(node, say, None, partial(examine, 24.0))
        return {"taken": taken(place, node), "left": [path.name for path in (node.folder / "results").rglob("*")]}


def by_web(place: Path, say: Any) -> dict[str, Any]:
    """Another node fetches the study from the PACS, where results are in it, and stores its results there."""
    place.mkdir()
    with a_node(place, peers={}, rules=RULES, web=WEB) as node:
        one_round(node, say, None, partial(examine, 20.0))
        one_round(node, say, None, partial(examine, 20.0))
        return {"taken": taken(place, node), "left": [path.name for path in (node.folder / "results").rglob("*")]}


def series() -> list[str]:
    query = ("-k", "QueryRetrieveLevel=SERIES", "-k", f"StudyInstanceUID={STUDY}", "-k", "Modality")
    said = call("findscu", "-v", "-S", "-aet", SCANNER, "-aec", "PACS", *query, "127.0.0.1", str(DICOM))
    found = [line for line in said.splitlines() if "(0008,0060)" in line and "[" in line]
    return sorted({line.split("[")[1].split("]")[0].strip() for line in found})


def main(folder: Path) -> dict[str, Any]:
    said: list[str] = []
    files = originals(folder / "originals")
    with orthanc(folder / "pacs"):
        seen = {"by C-STORE": by_dicom(folder / "by-dicom", files, said.append), "after C-STORE": in_pacs()}
        seen["series"] = series()
        seen |= {"by DICOMweb": by_web(folder / "by-web", said.append), "after STOW": in_pacs()}
    return seen | {"said": said}


if __name__ == "__main__":
    call("ip", "link", "set", "lo", "up")
    os.environ["FETALFLOW_PSEUDONYM_KEY"] = KEY.secret.hex()
    print(json.dumps(main(Path(sys.argv[1]))))
