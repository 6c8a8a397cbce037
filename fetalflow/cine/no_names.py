"""What people and programs write where they know no name. Nothing here needs a table."""

import re

# Besides `artefacts.NO_NAMES` and signs such as - or ?. The last ones are what programs that remove names from DICOM
# write for every patient. A site may be called NA.
NO_PLACE = frozenset(("n/a", "#n/a", "unknown", "unbekannt", "(blank)", "(empty)", "(leer)"))
NO_PATIENT = NO_PLACE.union(
    ("na", "n.a.", "nil", "n/k", "not known", "not available", "missing", "none given", "tbd", "k.a.", "keine angabe"),
    ("inconnu", "inconnue", "desconocido", "anon", "anonym", "anonymous", "anonymized", "anonymised"),
    ("anonymous patient", "deidentified", "de-identified"),
)
NO_LETTER = re.compile(r"[^\w#]*_*")  # of ##### Excel made it, and the rows' own check says so
NOTHING = re.compile(r"nan|none|null|<na>|#?n\.?/?a\.?|[-.?]+", re.IGNORECASE)  # as R and pandas write an empty cell


def names_nobody(patient: str) -> bool:
    """Whether the text of a patient's name or number stands for no patient."""
    return bool(patient.casefold() in NO_PATIENT or NO_LETTER.fullmatch(patient) or NOTHING.fullmatch(patient))
