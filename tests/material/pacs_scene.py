"""One study on its way through Orthanc, dcmtk's programs and the node; prints as JSON what each of them then has.

Run in a network namespace of its own, because Orthanc 1.10 listens on every address:
`unshare -rn python pacs_scene.py FOLDER`.
"""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

sys.path.insert(0, str(Path(__file__).parent))

from node_studies import KEY, SCANNER, STUDY, a_node, a_result, as_bytes, studied
from processes import running
from pydicom import dcmread

from fetalflow.hospital.arrival.intake import arrive
from fetalflow.node.listening import listening
from fetalflow.node.serving import one_round
from fetalflow.settings.params import Retrain, Split
from flows.retrain import deidentifier

HTTP, DICOM, NODE = 8042, 4242, 11112
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@contextmanager
def orthanc(folder: Path):
    folder.mkdir()
    (folder / "orthanc.json").write_text(
        json.dumps(
            {"Name": "pacs", "HttpPort": HTTP, "DicomPort": DICOM, "DicomAet": "PACS", "StorageDirectory": str(folder)}
            | {"IndexDirectory": str(folder), "AuthenticationEnabled": False, "Plugins": [str(PLUGIN)]}
            | {"DicomAlwaysAllowFind": True, "DicomModalities": {"node": ["FETALFLOW", "127.0.0.1", NODE]}, "DicomWeb": {"Enable": True}}
        )
    )
    words = ["Orthanc", folder / "orthanc.json"]
    with running(words, dict(os.environ), f"http://127.0.0.1:{HTTP}", folder / "log", f"http://127.0.0.1:{HTTP}/system"):
        yield


def ask(path: str, body: bytes | None = None):
    return json.load(urlopen(Request(f"http://127.0.0.1:{HTTP}/{path}", body), timeout=60))


def in_pacs() -> list[dict]:
    """Study, patient, modality and reference of every object that Orthanc has."""
    found = []
    for name in ask("instances"):
        tags = ask(f"instances/{name}/simplified-tags")
        sources = tags.get("SourceImageSequence") or [{}]
        kept = ("StudyInstanceUID", "PatientID", "PatientName", "StudyDate", "Modality", "PatientIdentityRemoved")
        found.append({key: tags.get(key, "") for key in kept} | {"of": sources[0].get("ReferencedSOPInstanceUID", "")})
    return sorted(found, key=lambda each: (each["Modality"], each["of"]))


def call(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout + done.stderr


def results_for(node, inbox: Path) -> None:
    """What the pipeline makes of a delivery: a result for one object of the study."""
    delivered = sorted(inbox.glob("*/cines/*.dcm"))
    (node.folder / "results" / "one.dcm").write_bytes(as_bytes(a_result(dcmread(delivered[0]))))


def main(folder: Path) -> dict:
    seen: dict = {}
    lines: list[str] = []
    peers = {SCANNER: {"site": "north", "results_to": "PACS"}, "PACS": {"site": "north", "host": "127.0.0.1", "port": DICOM}}
    rules = ({"task": "movement", "description": "CLINIC", "labels": {"head": "(?i)head"}},)
    originals = folder / "originals"
    originals.mkdir()
    for number in (1, 2):
        (originals / f"{number}.dcm").write_bytes(as_bytes(studied(number)))
    with orthanc(folder / "pacs"):
        place = folder / "by-dicom"
        place.mkdir()
        with a_node(place, peers=peers, rules=rules) as node, listening(node, ("127.0.0.1", NODE), lines.append):
            call("echoscu", "-aet", SCANNER, "-aec", "FETALFLOW", "127.0.0.1", str(NODE))
            call("storescu", "-aet", SCANNER, "-aec", "PACS", "127.0.0.1", str(DICOM), *map(str, originals.iterdir()))
            call("storescu", "-aet", SCANNER, "-aec", "FETALFLOW", "127.0.0.1", str(NODE), str(originals / "1.dcm"))
            ask("modalities/node/store", json.dumps(ask("studies")).encode())  # the same again, and the second object
            one_round(node, lines.append)
            seen["delivered"] = sorted(p.name for p in (place / "inbox").glob("*/*"))
            store = place / "store"
            prepare = deidentifier(store, node.settings.block("movement"))
            taken = arrive(str(place / "inbox"), store, Retrain(), Split(), prepare)
            seen["taken"] = [(each.state, each.rows, each.cines) for each in taken]
            results_for(node, place / "inbox")
            one_round(node, lines.append)
            seen["left"] = [path.name for path in (node.folder / "results").iterdir()]
        seen["after C-STORE"] = in_pacs()
        query = ("-k", "QueryRetrieveLevel=SERIES", "-k", f"StudyInstanceUID={STUDY}", "-k", "Modality")
        said = call("findscu", "-v", "-S", "-aet", SCANNER, "-aec", "PACS", *query, "127.0.0.1", str(DICOM))
        seen["findscu"] = sorted(line.split("[")[1].split("]")[0].strip() for line in said.splitlines() if "(0008,0060)" in line and "[" in line)
        place = folder / "by-web"
        place.mkdir()
        web = {"url": f"http://127.0.0.1:{HTTP}/dicom-web", "title": "WEB", "filters": {"ModalitiesInStudy": "US"}, "days": 36500}
        with a_node(place, peers={}, rules=rules, web=web) as node:
            one_round(node, lines.append)
            seen["by web"] = sorted(p.name for p in (place / "inbox").glob("*/cines/*"))
            results_for(node, place / "inbox")
            one_round(node, lines.append)
            seen["web again"] = sorted(p.name for p in (place / "inbox").glob("*/cines/*"))
            seen["web left"] = [path.name for path in (node.folder / "results").iterdir()]
        seen["after STOW"] = in_pacs()
    return seen | {"said": lines}


if __name__ == "__main__":
    call("ip", "link", "set", "lo", "up")
    os.environ["FETALFLOW_PSEUDONYM_KEY"] = KEY.secret.hex()
    print(json.dumps(main(Path(sys.argv[1]))))
