"""A device or a site that has the name of a person of the header is left out, in whatever element the name is."""

import pytest
from pydicom import DataElement, Dataset
from pydicom.dataelem import RawDataElement
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from fetalflow.hospital.deidentify.header import persons
from fetalflow.node.rules import plain

NAME = "Meier^Änne"


def private(header: Dataset) -> None:
    header.private_block(0x0011, "MAKER", create=True).add_new(1, "PN", NAME)


def nested(header: Dataset) -> None:
    item = Dataset()
    item.PersonName = ["Schulz^Ute", NAME]
    header.RequestAttributesSequence = Sequence([item])


def damaged_beside(header: Dataset) -> None:
    tag = Tag(0x0028, 0x0010)
    header[tag] = RawDataElement(tag, "US", 3, b"abc", 0, False, True)  # three bytes are no number
    header.NameOfPhysiciansReadingStudy = NAME


CASES = {
    "the patient": lambda header: setattr(header, "PatientName", NAME),
    "who requested": lambda header: setattr(header, "RequestingPhysician", NAME),
    "a private element": private,
    "a nested element, the second name": nested,
    "beside a damaged element": damaged_beside,
}


@pytest.mark.parametrize("where", CASES)
def test_a_name_is_found_wherever_it_is(where):
    header = Dataset()
    CASES[where](header)
    assert any("Meier" in each for each in persons(header))
    assert plain("Praxis Meier", header) == "" and plain("Voluson E10", header) == "Voluson E10"


def test_a_word_that_is_no_name_stays():
    header = Dataset()
    header.add(DataElement(0x00081030, "LO", "Voluson study"))
    assert plain("Voluson E10", header) == "Voluson E10"
