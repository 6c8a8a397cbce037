"""Known security faults of the packages, as `make audit` found them."""

from collections.abc import Iterator
from typing import Any

from fetalflow.dossier.chapter import Block, Table, Text, Words
from fetalflow.dossier.evidence import Evidence
from fetalflow.dossier.gathering.software import AUDIT, SOFTWARE
from fetalflow.dossier.licences import plain

HOW = "Run `make audit` on a machine with network, and write the dossier again."


def of(evidence: Evidence, name: str, version: str) -> Text:
    """The faults of a version of a package: a figure with their names, or that nobody checked it."""
    asked = plain(name), version
    looked = [each for each in _packages(evidence) if (plain(each["name"]), each.get("version")) == asked]
    if not looked:
        return "not checked"
    faults = sorted({fault["id"] for each in looked for fault in each.get("vulns", [])})
    return evidence.counted(", ".join(faults) or "none known", AUDIT, f"vulns of {name}")


def blocks(evidence: Evidence) -> list[Block]:
    """The result of the audit, or that it was not done."""
    if not evidence.has(AUDIT):
        return [Words(f"Not done: nobody looked for known faults. {HOW}", "warning")]
    packages = list(_packages(evidence))
    count = evidence.counted(sum("version" in each for each in packages), AUDIT, "packages with a version")
    made = evidence.figure(AUDIT, "made")
    found: list[Block] = [Words(("On ", made, " the package index was asked about ", count, " locked packages."))]
    unlike = _other_locks(evidence)
    if unlike:
        text = f"The audit was of other locks than those of today: {', '.join(unlike)}. {HOW}"
        found.append(Words(text, "warning"))
    rows = [_row(evidence, each, fault) for each in packages for fault in each.get("vulns", [])]
    if rows:
        found += [
            Words("These faults are known. A person decides what each means for the product.", "warning"),
            Table(("package", "version", "fault", "other names", "mended in"), rows),
        ]
    else:
        found.append(Words("No fault was known that day."))
    return found


def _row(evidence: Evidence, package: dict[str, Any], fault: dict[str, Any]) -> tuple[Text, ...]:
    lists = (", ".join(fault.get(key, [])) for key in ("aliases", "fix_versions"))
    cells = (package["version"], fault["id"], *lists)
    where = f"vulns of {package['name']}"
    return (package["name"], *(evidence.counted(text or None, AUDIT, where) for text in cells))


def _packages(evidence: Evidence) -> Iterator[dict[str, Any]]:
    """What the audit says about each package of each lock, once for each."""
    seen = []
    for record in (evidence.json(AUDIT)["locks"] if evidence.has(AUDIT) else {}).values():
        for each in record["packages"]:
            if each not in seen:
                seen.append(each)
                yield each


def _other_locks(evidence: Evidence) -> list[str]:
    """The locks whose content changed since the audit. A lock of which this environment knows nothing is left out."""
    today = evidence.json(SOFTWARE).get("locks", {}) if evidence.has(SOFTWARE) else {}
    audited = evidence.json(AUDIT)["locks"]
    return sorted(name for name in audited if name in today and audited[name]["sha256"] != today[name])
