"""The licences of the packages, from the list in CycloneDX, and those that a person must look at."""

import re
from collections.abc import Mapping
from typing import Any

from packaging.utils import canonicalize_name

from fetalflow.dossier.chapter import Block, Table, Words
from fetalflow.dossier.evidence import Evidence, Figure
from fetalflow.dossier.gathering.software import BILL, SOFTWARE

COPYLEFT = re.compile(
    r"[AL]?GPL|AFFERO|GENERAL PUBLIC|MPL|MOZILLA PUBLIC|EPL|ECLIPSE PUBLIC|EUPL|CDDL|CPL-|OSL-|SSPL|CC-BY-(SA|NC)|SHARE"
)
RESTRICTED = re.compile(r"PROPRIETARY|COMMERCIAL|NON-?COMMERCIAL|BUSL|EULA|ALL RIGHTS RESERVED")
SAYS_NOTHING = {"OSI APPROVED", "DFSG APPROVED", "OTHER", "DUAL LICENSE", "LICENSE", "SEE LICENSE", "SEE LICENSE FILE"}


def components(evidence: Evidence) -> dict[str, Mapping[str, Any]]:
    """The packages of the list, by canonical name."""
    return {plain(each["name"]): each for each in evidence.json(BILL).get("components", [])}


def plain(name: str) -> str:
    """`Great_Expectations` -> `great-expectations`."""
    return canonicalize_name(name)


def version(evidence: Evidence, component: Mapping[str, Any]) -> Figure:
    return evidence.counted(component.get("version"), BILL, f"version of {component['name']}")


def licence(evidence: Evidence, component: Mapping[str, Any]) -> Figure:
    """All licences that a package states, None without one."""
    return evidence.counted("; ".join(stated(component)) or None, BILL, f"licenses of {component['name']}")


def stated(component: Mapping[str, Any]) -> list[str]:
    """The SPDX expressions, SPDX names or other names of the licences of a package."""
    found = []
    for each in component.get("licenses", []):
        inner = each.get("license", {})
        text = each.get("expression") or inner.get("id") or inner.get("name") or ""
        found.append(text.rpartition("::")[2].strip())  # of a classifier, the last part
    return [text for text in found if text]


def reason(component: Mapping[str, Any]) -> str:
    """Why a person must look at the licence of a package, "" if not. A free choice between licences, `A OR B`, is fine
    if one of them is."""
    texts = [text.upper() for text in stated(component)]
    if not any(text not in SAYS_NOTHING for text in texts):
        return "no licence is stated"
    if any(_everywhere(COPYLEFT, text) for text in texts):
        return "copyleft: the licence has conditions for what is passed on"
    if any(_everywhere(RESTRICTED, text) for text in texts):
        return "restricted: the use may be limited"
    return ""


def _everywhere(pattern: re.Pattern, text: str) -> bool:
    """Whether every licence that may be chosen fits. With brackets the choice may be of a part, so any fit counts."""
    return all(pattern.search(part) for part in ([text] if "(" in text else text.split(" OR ")))


def blocks(evidence: Evidence) -> list[Block]:
    """The packages whose licence is unknown, copyleft or restricted."""
    if not evidence.has(BILL):
        return [Words("The licences are not on record, because the packages are not.", "warning")]
    facts = evidence.json(SOFTWARE) if evidence.has(SOFTWARE) else {}
    tests = set((facts.get("packages") or {}).get("development", ()))
    listed = components(evidence)
    found = {name: why for name, each in sorted(listed.items()) if (why := reason(each))}
    count = evidence.counted(len(found), BILL, "components without a licence, or with one that has conditions")
    text = "The licences are those that the packages state. "
    if not found:
        return [Words((text, count, " packages state none, or one with conditions for what is passed on."))]
    rows = [
        (
            name,
            version(evidence, listed[name]),
            licence(evidence, listed[name]),
            why,
            "tests" if name in tests else "work",
        )
        for name, why in found.items()
    ]
    text += "Before the product is passed on, a person must look at these: "
    return [
        Words((text, count, " packages."), "warning"),
        Table(("package", "version", "licence", "why", "needed for"), rows),
    ]
