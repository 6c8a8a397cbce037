"""`measure` joins no files that say they are of two fetuses."""

import numpy as np
import pytest
from cine_files import dicom, save_dicom

from fetalflow.errors import InputError
from fetalflow.study.contents import check_one_fetus_named


def written(folder, *files: tuple[str, str]):
    image = np.zeros((1, 8, 8), np.uint8)
    return [save_dicom(folder / name, dicom(image, SeriesDescription=said)) for name, said in files]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([("fetus_A_head.dcm", ""), ("fetus_B_abdomen.dcm", "")], "files are of 2 fetuses"),
        ([("1.dcm", "Twin 1 HC"), ("2.dcm", "Twin 2 AC")], "files are of 2 fetuses"),
        ([("1.dcm", "Twin 1 HC"), ("2.dcm", "AC")], "not every file says which.*2.dcm|1.dcm"),
    ],
)
def test_files_of_two_fetuses_are_refused_before_they_are_measured(tmp_path, files, words):
    from flows.cli.answers import measure

    paths = written(tmp_path, *files)
    with pytest.raises(InputError, match=words):
        measure(paths, model="no such model", csv=None, overlay=None, mm_per_px=None, weeks=None, structure=None)


def test_files_of_one_fetus_one_file_and_missing_files_pass(tmp_path):
    one, two, plain = written(tmp_path, ("a.dcm", "Twin A HC"), ("b.dcm", "Twin A AC"), ("c.dcm", ""))
    for files in ([one, two], [one], [plain, plain], [plain, tmp_path / "missing.png"]):
        check_one_fetus_named(files)
