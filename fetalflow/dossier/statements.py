"""What only the maker of a product can state, such as its intended use. It is never invented: where it is missing, the
dossier says that it has to be stated."""

from pathlib import Path

import yaml

from fetalflow.artefacts import write_text
from fetalflow.dossier.chapter import Words
from fetalflow.dossier.evidence import Evidence
from fetalflow.errors import InputError
from fetalflow.settings.params import Loader

FILE = "statements.yaml"  # in the evidence
MISSING = "To be stated by the maker."
QUESTIONS = {  # key: (title, what to write)
    "maker": ("Maker", "name and address of who is responsible for the product"),
    "intended_use": ("Intended use", "for what, on whom, where, and what a person does with the answer"),
    "users": ("Intended users", "who uses it, with what training"),
    "population": ("Intended patients", "weeks of gestation, single or multiple, devices, sites"),
    "inputs": ("Inputs in use", "how cines or images are acquired for it"),
    "outputs": ("Outputs in use", "how the answer is shown, and to whom"),
    "contraindications": ("Contraindications", "when it must not be used"),
    "limits": ("Further limits", "limits that the maker knows of, besides those that the evidence shows"),
    "benefit": ("Expected benefit", "and how it was or will be shown"),
    "ethics": ("Ethics approval", "committee, number and date, for each source of data"),
    "consent": ("Consent", "how the patients agreed, for each source of data"),
    "registration": ("Registration and protocol", "where the study protocol is, and its number"),
    "funding": ("Funding and interests", "who paid, and conflicts of interest"),
    "availability": ("Availability", "where data, code and model can be had, and under which terms"),
    "monitoring": ("Monitoring plan", "who looks at the watch page, how often, and what follows"),
    "contact": ("Contact", "to whom faults are reported"),
    "background": ("Background", "the healthcare context, today's practice, and existing models"),
    "study": (
        "Study",
        "aims, prospective or retrospective, dates, setting, who was included and who not, what patients are like",
    ),
    "reference_standard": (
        "Reference standard",
        "why these labels are the truth, who gave them, with what training, how alike one person labels twice",
    ),
    "sample_size": ("Sample size", "why this number of patients is enough for training and test"),
    "deidentification": ("De-identification", "how names were removed from images and files, and who checked it"),
    "fairness": ("Fairness", "known inequalities between groups, sources of bias, and what was done about them"),
    "involvement": ("Involvement", "of patients, the public, users and others, and how"),
    "training": ("Training of users", "courses and manuals, and how the use was tried with users"),
    "governance": ("Governance", "who answers for risks, audits, upkeep and supervision"),
    "regulation": ("Regulation and society", "laws and standards that apply, effects on work and the environment"),
    "interpretation": ("Interpretation", "what the results mean beside earlier studies, and the next steps"),
}


def statement_file(workspace: Path, task: str) -> Path:
    """Where a team writes its statements; the file is kept with the project."""
    return workspace / "dossier" / f"{task}-{FILE}"


def write_template(path: Path) -> None:
    """A file with every key and no text, for the team to fill. An existing file stays as it is."""
    if path.exists():
        return
    lines = ["# Statements of the maker, for the dossier. Text that is missing is printed as to be stated."]
    for key, (title, what) in QUESTIONS.items():
        lines += ["", f"# {title}: {what}.", f'{key}: ""']
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "\n".join(lines) + "\n")


def read_statements(path: Path) -> dict[str, str]:
    """Key to text, for the keys of QUESTIONS that have one. Raises InputError when the file cannot be read, when it has
    another key, or when a value is no text."""
    if not path.is_file():
        return {}
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f'{path} cannot be read ({error}). Expected lines such as: users: "sonographers"') from None
    if not isinstance(found, dict):
        raise InputError(f'{path} is no list of keys with texts. Expected lines such as: users: "sonographers"')
    for key, text in found.items():
        if key not in QUESTIONS:
            raise InputError(f"{path} has the key {key!r}, which is not known. Known keys: {', '.join(QUESTIONS)}.")
        if text is not None and not isinstance(text, str):
            raise InputError(f"{path}: {key} must be a text in quotation marks, found {text!r}.")
    return {key: text.strip() for key, text in found.items() if text and text.strip()}


def stated(evidence: Evidence, key: str) -> Words:
    """The maker's text of a key, or the sentence that it has to be stated. Raises KeyError for an unknown key."""
    title, what = QUESTIONS[key]
    text = (evidence.yaml(FILE) or {}).get(key) if evidence.has(FILE) else None
    return Words(f"{title}: {text.strip()}" if text and text.strip() else f"{title}: {MISSING} ({what})", "maker")
