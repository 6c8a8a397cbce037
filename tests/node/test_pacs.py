"""The node against a real PACS: Orthanc with its DICOMweb plugin, and dcmtk's echoscu, storescu and findscu."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from measured_study import ROOT as OF_IMAGES
from name_search import named_in, searched
from node_studies import STUDY
from processes import ROOT

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
PROGRAMS = ("Orthanc", "storescu", "findscu", "echoscu", "unshare", "ip")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
MISSING = [name for name in PROGRAMS if not shutil.which(name, path=PATH)] + [PLUGIN.name] * (not PLUGIN.is_file())


def alone(*words: str | Path, **options) -> subprocess.CompletedProcess:
    """A process in a network namespace of its own: Orthanc 1.10 listens on every address."""
    return subprocess.run(
        ["unshare", "-rn", *words], capture_output=True, text=True, env=os.environ | {"PATH": PATH}, **options
    )


@pytest.mark.skipif(bool(MISSING), reason=f"missing: {', '.join(MISSING)}; apt-get install orthanc-dicomweb dcmtk")
@pytest.mark.long
def test_a_study_goes_to_the_inbox_and_comes_back_with_report_and_segmentation(tmp_path):
    if alone("true").returncode:
        pytest.skip("this user may make no network namespace (unshare -rn)")
    scene = ROOT / "tests" / "material" / "pacs_scene.py"
    options = {"cwd": ROOT, "timeout": 300}
    done = alone(sys.executable, scene, tmp_path, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout)
    done_by_node = {"taken": [["taken", 2, 2]], "left": []}
    assert seen["by C-STORE"] == seen["by DICOMweb"] == done_by_node
    assert seen["series"] == ["OT", "SEG", "SR", "US"]
    sources = {f"{OF_IMAGES}1.1", f"{OF_IMAGES}1.2"}
    for name, times in (("after C-STORE", 1), ("after STOW", 2)):
        found = seen[name]
        count = Counter(each["Modality"] for each in found)
        assert count == {
            "OT": 2 * times,
            "SEG": 2 * times,
            "SR": times,
            "US": 2,
        }  # nothing twice, no result as a source
        assert {each["StudyInstanceUID"] for each in found} == {STUDY}  # all of them in the study of the scanner
        assert {(each["PatientID"], each["PatientName"]) for each in found} == {("CANARY-4711", "CANARY^JANE")}
        assert {each["StudyDate"] for each in found} == {"20260203"}
        assert not any(each["PatientIdentityRemoved"] for each in found)
        assert set().union(*(each["of"] for each in found if each["Modality"] != "SR")) == sources
        assert all(sources < {*each["of"]} for each in found if each["Modality"] == "SR")
    assert searched(tmp_path / "by-dicom", tmp_path / "by-web") > 10
    assert not named_in(json.dumps(seen["said"]).encode()) and not named_in(done.stderr.encode())
