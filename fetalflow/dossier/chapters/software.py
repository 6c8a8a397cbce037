"""Software of unknown provenance, licences and known faults, and how the numbers are made again."""

from collections.abc import Mapping
from typing import Any

from fetalflow.dossier import known_faults, licences
from fetalflow.dossier.chapter import Block, Chapter, Heading, Table, Text, Words
from fetalflow.dossier.evidence import Evidence, Figure
from fetalflow.dossier.gathering.packages import RUN
from fetalflow.dossier.gathering.registered import VERSION
from fetalflow.dossier.gathering.software import BILL, SOFTWARE

TAGS = ("run", "tags")  # of the run that made the version, in VERSION
DVC_LOCK = "run/dvc.lock"


def chapter(evidence: Evidence) -> Chapter:
    """Raises InputError when a file of the evidence cannot be read."""
    blocks = [
        Words(
            "The model was trained in one environment, and this dossier was written in another one or in the same. "
            "The packages are those of the environment that wrote the dossier."
        ),
        Heading("Code, data and machine"),
        *_origin(evidence),
        Heading("Versions at the training and now"),
        *_versions(evidence),
        Heading("Software of unknown provenance: packages that fetalflow names"),
        *_named(evidence),
        Heading("All packages, and the locks"),
        *_locks(evidence),
        Heading("Licences that a person must look at"),
        *licences.blocks(evidence),
        Heading("Known security faults"),
        *known_faults.blocks(evidence),
        Heading("Make the numbers again"),
        *_again(evidence),
    ]
    return Chapter("software", "Software, packages and reproducibility", tuple(blocks))


def _tag(evidence: Evidence, name: str) -> Figure:
    return evidence.figure(VERSION, *TAGS, name)


def _origin(evidence: Evidence) -> list[Block]:
    rows: list[tuple[Text, ...]] = [
        ("commit of the code that trained", _tag(evidence, "git_commit")),
        ("files were changed without a commit", _tag(evidence, "git_dirty")),
        ("SHA-256 of dvc.lock, which has the digest of every input and output", _tag(evidence, "dvc_lock_digest")),
        ("digest of the data", _tag(evidence, "data_digest")),
        ("SHA-256 of the weights", evidence.figure("package/config.json", "weights", "sha256")),
        ("machine of the training: processor, cores, memory in GiB, system", _tag(evidence, "machine")),
        ("commit of the code that wrote this dossier", evidence.figure(SOFTWARE, "code", "commit")),
        ("files were changed without a commit then", evidence.figure(SOFTWARE, "code", "dirty")),
        ("processor that wrote this dossier", evidence.figure(SOFTWARE, "machine", "processor")),
        ("system that wrote this dossier", evidence.figure(SOFTWARE, "machine", "system")),
    ]
    found: list[Block] = [Table(("what", "value"), rows)]
    logged = evidence.figure(VERSION, "dvc_lock").value  # as it was before places of the hospital were hidden in it
    stated, kept = _tag(evidence, "dvc_lock_digest").value, logged or evidence.sha256(DVC_LOCK)
    if stated and kept and stated != kept:
        found.append(Words("The dvc.lock in the evidence is not the one that the run names.", "warning"))
    if _tag(evidence, "git_dirty").value not in (None, "False"):
        text = "Files of the code were changed without a commit when the model was trained. The commit alone does not "
        found.append(Words(text + "give that code again.", "warning"))
    return found


def _versions(evidence: Evidence) -> list[Block]:
    tags = evidence.json(VERSION).get("run", {}).get("tags", {}) if evidence.has(VERSION) else {}
    names = sorted(name.removeprefix("version.") for name in tags if name.startswith("version."))
    if not names:
        return [Words("The versions of the packages at the training are not on record.", "warning")]
    then = {name: _tag(evidence, f"version.{name}") for name in names}
    now = {name: evidence.figure(SOFTWARE, "versions", name) for name in names}
    rows = [(name, then[name], now[name], _same(then[name], now[name])) for name in names]
    found: list[Block] = [Table(("package", "at the training", "now", "same"), rows)]
    if changed := [name for name in names if then[name].value != now[name].value]:
        text = f"Other versions than at the training, or none: {', '.join(changed)}. Figures may differ when they are "
        found.append(Words(text + "made again here.", "warning"))
    return found


def _same(then: Figure, now: Figure) -> str:
    return "yes" if then.value == now.value else "no"


def _named(evidence: Evidence) -> list[Block]:
    if not evidence.has(BILL):
        made = evidence.figure(SOFTWARE, "listing")
        return [Words(("The packages are not on record. The list of packages: ", made, "."), "warning")]
    components = licences.components(evidence)
    named = evidence.json(SOFTWARE)["direct"] if evidence.has(SOFTWARE) else []
    if not named:
        return [Words("The packages that fetalflow names are not on record.", "warning")]
    found = [(each["name"], components.get(licences.plain(each["name"]))) for each in named]
    rows = [_package(evidence, place, name, component) for place, (name, component) in enumerate(found)]
    caption = "What a package is for is said by pyproject.toml, or else by the summary of the package."
    return [Table(("package", "version", "licence", "what it is for", "known faults"), rows, caption)]


def _package(evidence: Evidence, place: int, name: str, component: Mapping[str, Any] | None) -> tuple[Text, ...]:
    purpose = evidence.figure(SOFTWARE, "direct", place, "purpose")
    if component is None:
        return name, "not installed", "not installed", purpose, "not installed"
    if purpose.value is None:
        purpose = evidence.counted(component.get("description"), BILL, f"description of {name}")
    faults = known_faults.of(evidence, name, component.get("version", ""))
    return name, licences.version(evidence, component), licences.licence(evidence, component), purpose, faults


def _locks(evidence: Evidence) -> list[Block]:
    found: list[Block] = []
    if evidence.has(BILL):
        count = evidence.counted(len(licences.components(evidence)), BILL, "number of components")
        spec = evidence.figure(BILL, "specVersion")
        text = f" Python packages are installed. The file {BILL} of the evidence lists all of them as CycloneDX "
        found.append(Words((count, text, spec, ". Libraries of the operating system are not listed.")))
    facts = evidence.json(SOFTWARE) if evidence.has(SOFTWARE) else {}
    if not facts.get("locks"):
        text = "There are no lock files here, because fetalflow was installed without its checkout. So nothing says "
        text += "whether these are the locked packages. Write the dossier in a checkout."
        return [*found, Words(text, "warning")]
    rows = [(name, evidence.figure(SOFTWARE, "locks", name)) for name in sorted(facts["locks"])]
    found.append(Table(("lock file", "SHA-256"), rows))
    packages = facts.get("packages")
    if packages is None:
        return [*found, Words("The packages were not compared with the locks.", "warning")]
    as_locked = evidence.figure(SOFTWARE, "packages", "as_locked")
    tests = evidence.counted(len(packages["development"]), SOFTWARE, "entries of packages/development")
    found.append(Words((as_locked, " packages have the version of a lock; ", tests, " of them are only for tests.")))
    other = [
        (each["name"], evidence.figure(SOFTWARE, "packages", kind, place, "installed"), locked)
        for kind in ("differs", "not_locked")
        for place, each in enumerate(packages[kind])
        for locked in [evidence.figure(SOFTWARE, "packages", kind, place, "locked") if kind == "differs" else "no lock"]
    ]
    other += [(name, "not installed", f"in {RUN}") for name in packages["missing"]]
    if other:
        found += [
            Words("These packages are not as the locks say.", "warning"),
            Table(("package", "installed", "locked"), other),
        ]
    return found


def _again(evidence: Evidence) -> list[Block]:
    task, data_set = evidence.figure(VERSION, "task"), evidence.figure(SOFTWARE, "data_set")
    drop, profile, changes = (_tag(evidence, name) for name in ("drop", "profile", "changes"))
    rows: list[tuple[Text, Text]] = [
        ("the code", ("git checkout ", _tag(evidence, "git_commit"))),
        ("the environment", "make setup"),
    ]
    if data_set.value is not None:
        rows += [
            ("data, split, settings and results, in the workspace", ("fetalflow data checkout ", data_set)),
            ("every stage again", ("cd ", data_set, " && dvc repro --force")),
        ]
    else:
        of_drop = () if drop.value == "demo" else (" --drop ", drop)  # the demo makes its drop
        rows.append(("every stage", ("fetalflow run --task ", task, *of_drop)))
        rows += [("profiles of that run", profile)] * (profile.value is not None)
        rows += [("settings that were changed for it", changes)] * (changes.value is not None)
    text = (
        "All settings are in run/params.yaml of the evidence. The run was made again from the same data if its digest "
    )
    return [
        Words(text + "of the data is that of the first table."),
        Table(("what", "command"), rows),
        _spread(evidence),
    ]


def _spread(evidence: Evidence) -> Words:
    variant = evidence.json(VERSION).get("variant", "") if evidence.has(VERSION) else ""
    spread = evidence.figure("run/metrics.json", variant, "accuracy_seed_sd")
    if spread.value is not None:
        text = "Standard deviation of the accuracy between trainings with other seeds: "
        return Words((text, spread, ". Another processor moves the figures, too."))
    text = "How far the figures move when the training is repeated is not on record. A run with several seeds "
    return Words(text + "(the setting train.seeds of the task) records it.", "warning")
