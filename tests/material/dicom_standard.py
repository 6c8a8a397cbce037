"""What dicom-validator finds wrong in an ultrasound file, a secondary capture, a report or a segmentation, without the
network.

dicom-validator fetches the text of the standard when it is first used. The package `dicom-standard` carries that text
(edition 2020b) as JSON. It is read here into the tables that dicom-validator would have made of it.
"""

import json
from functools import cache
from importlib.metadata import files
from pathlib import Path
from typing import Any

from dicom_validator.spec_reader.condition import ConditionType
from dicom_validator.spec_reader.condition_parser import ConditionParser
from dicom_validator.spec_reader.enum_parser import EnumParser
from dicom_validator.validator.dicom_info import DicomInfo
from dicom_validator.validator.iod_validator import IODValidator
from lxml import html
from pydicom import dcmread

OBJECTS = (
    *("US Image", "US Multi-frame Image", "Secondary Capture Image", "Multi-frame Grayscale Byte SC Image"),
    *("Comprehensive SR", "Segmentation"),
)
FRAME_GROUPS = "(5200,9229)", "(5200,9230)"  # their items are the macros of the object
CONTENT, CHILDREN = "sr-document-content", "(0040,A730)"  # an item of content has items of content
# The kinds of items that have an element; `dicom-standard` has all elements of all kinds in one list.
KIND, REFERENCED = "(0040,A040)", "(0008,1199)"
OF_KINDS = {
    "(0040,A160)": ["TEXT"],
    "(0040,A120)": ["DATETIME"],
    "(0040,A121)": ["DATE"],
    "(0040,A122)": ["TIME"],
    "(0040,A123)": ["PNAME"],
    "(0040,A124)": ["UIDREF"],
    "(0040,A168)": ["CODE"],
    "(0040,A300)": ["NUM"],
    "(0040,A050)": ["CONTAINER"],
    "(0040,A130)": ["TCOORD"],
    "(0040,A138)": [],
    "(0040,A13A)": [],
    "(0070,0022)": ["SCOORD", "SCOORD3D"],
    "(0070,0023)": ["SCOORD", "SCOORD3D"],
    "(3006,0024)": ["SCOORD3D"],
    REFERENCED: ["COMPOSITE", "IMAGE", "WAVEFORM"],
}


class Quiet:
    """A handler that prints nothing."""

    def handle_validation_start(self, result):
        pass

    def handle_validation_result(self, result):
        pass


def faults(path: Path) -> list[str]:
    """`module / tag: fault`, sorted, of everything that dicom-validator finds in a file; empty if it conforms."""
    header = dcmread(path, stop_before_pixels=True, force=True)
    result = IODValidator(header, standard(), error_handler=Quiet()).validate()
    if not result.module_errors:
        return [result.status.name] if result.errors else []
    return sorted(
        f"{module} / {'/'.join(f'{t:08x}' for t in (*(tag.parents or ()), tag.tag))}: {error.code.name}"
        for module, errors in result.module_errors.items()
        for tag, error in errors.items()
    )


@cache
def standard() -> DicomInfo:
    """The part of the standard on OBJECTS."""
    dictionary = {
        each["tag"]: {"name": each["name"], "vr": each["valueRepresentation"], "vm": each["valueMultiplicity"]}
        for each in _read("attributes")
    }
    conditions = ConditionParser(dictionary)
    objects = {each["id"]: each["name"] for each in _read("ciods") if each["name"] in OBJECTS}
    uses = [each for each in _read("ciod_to_modules") if each["ciodId"] in objects]
    macros = [each for each in _read("ciod_to_fg_macros") if each["ciodId"] in objects]
    modules = _elements("module", {use["moduleId"] for use in uses}, dictionary, conditions)
    groups = _elements("macro", {macro["macroId"] for macro in macros}, dictionary, conditions)
    for tag in FRAME_GROUPS:
        modules["multi-frame-functional-groups"][tag].setdefault("items", {})["include"] = [{"ref": "FuncGroup"}]
    _separate_kinds(modules[CONTENT], dictionary)
    iods = {
        sop["id"]: {
            "title": sop["ciod"],
            "modules": {u["moduleId"]: _module(u, conditions) for u in uses if objects[u["ciodId"]] == sop["ciod"]},
            "group_macros": {
                m["macroId"]: _module(m, conditions, "macroId") for m in macros if objects[m["ciodId"]] == sop["ciod"]
            },
        }
        for sop in _read("sops")
        if sop["ciod"] in OBJECTS
    }
    return DicomInfo(dictionary, iods, modules | groups)


def _separate_kinds(content: dict, dictionary: dict) -> None:
    """Let an item of content have the elements of its kind, and items of content as children."""
    for place in (content, content[CHILDREN]["items"]):
        for tag, kinds in OF_KINDS.items():
            if tag in place:
                cond = {"type": "MN", "tag": KIND, "index": 0, "op": "=", "values": kinds}
                place[tag] |= {"type": "1C", "cond": cond}
    frame = {"name": dictionary["(0008,1160)"]["name"], "type": "3"}
    content[REFERENCED]["items"] |= {"(0008,1160)": frame}
    content[CHILDREN]["items"]["include"] = [{"ref": CONTENT}]


def _elements(kind: str, wanted: set[str], dictionary: dict, conditions: ConditionParser) -> dict[str, dict]:
    """The elements of modules or macros."""
    made: dict[str, dict] = {name: {} for name in wanted}
    for element in _read(f"{kind}_to_attributes"):
        if element[f"{kind}Id"] in wanted and "xx" not in element["tag"]:  # 60xx: overlays
            *parents, last = element["path"].split(":")[1:]
            place = made[element[f"{kind}Id"]]
            for parent in parents:
                place = place[_tag(parent)].setdefault("items", {})
            place[_tag(last)] = _element(element, dictionary, conditions)
    return made


def _read(name: str) -> Any:
    path = next(file for file in files("dicom-standard") if file.name == f"{name}.json")
    return json.loads(Path(path.locate()).read_text(encoding="utf-8"))


def _tag(digits: str) -> str:
    return f"({digits[:4].upper()},{digits[4:].upper()})"


def _module(use: dict, conditions: ConditionParser, name: str = "moduleId") -> dict:
    module = {"ref": use[name], "use": use["usage"]}
    if use["conditionalStatement"]:
        module["cond"] = conditions.parse(use["conditionalStatement"]).result_dict()
    return module


def _element(element: dict, dictionary: dict, conditions: ConditionParser) -> dict:
    known = dictionary.get(element["tag"], {"name": "", "vr": ""})
    text = html.fromstring(element["description"])
    made = {"name": known["name"], "type": element["type"]}
    if element["type"] in ("1C", "2C", "3"):
        condition = conditions.parse(" ".join(text.text_content().split()))
        if condition.type != ConditionType.UserDefined:
            made["cond"] = condition.result_dict()
    if enums := _enums(text, known["vr"]):
        made["enums"] = enums
    return made


def _enums(text: html.HtmlElement, vr: str) -> list[dict]:
    """The enumerated values in a description of an element."""
    found = []
    for title in text.iter("strong"):
        heading = " ".join(title.text_content().split())
        terms = [term.text_content().strip() for term in title.getparent().getparent().iterfind("dl/dt")]
        one = EnumParser.enum_with_value_regex.match(heading)
        if terms and (one or heading == "Enumerated Values:"):
            numbers = vr in ("US", "SS", "UL", "SL", "IS")
            values = {"val": [int(term.rstrip("H"), 16) if numbers else term for term in terms]}
            found.append(values | ({"index": int(one.group(1) or one.group(2))} if one else {}))
    return found
