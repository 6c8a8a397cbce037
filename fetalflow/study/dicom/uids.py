"""UIDs that are the same for the same input and models, so that a result that is sent twice is one result."""

import json
from hashlib import sha256
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from fetalflow.study.dicom.sentences import clean, without_names
from fetalflow.study.result import StudyResult

BY_FILE = ("no_movement", "warnings", "files")  # not in our objects, or with the names of files in them


def fingerprint(result: StudyResult) -> str:
    """SHA-256 of all that the objects state: the images by their UIDs, the models by their digests, and the figures.
    The names and the order of the files are not in it, and no file that was not read: a study comes back with our
    objects in it."""
    stated = {name: value for name, value in result.as_dict().items() if name not in BY_FILE}
    # A study without them keeps the UIDs that it had before they were in the report.
    if not stated["fetus"]:
        del stated["fetus"]
    if cines := stated.pop("movement"):
        stated["movement"] = [each | {"file": each["source"], "source": ""} for each in cines]
    stated["images"] = [each.sop_instance_uid or each.sha256 for each in result.files if each.kind is not None]
    images = {each.name: each.sop_instance_uid or each.sha256 for each in result.files}
    ordered = {name: _ordered(_without_names(value, images, result)) for name, value in stated.items()}
    return sha256(json.dumps(ordered, sort_keys=True).encode()).hexdigest()


def uid(*of: str) -> str:
    """The UID of what the words name; the same words have the same UID."""
    return f"2.25.{uuid5(NAMESPACE_OID, ' '.join(of)).int}"


def _without_names(value: Any, images: dict[str, str], result: StudyResult) -> Any:
    if isinstance(value, dict):
        return {
            name: images.get(each, each) if name == "file" else _without_names(each, images, result)
            for name, each in value.items()
        }
    if isinstance(value, list) and any(isinstance(each, str) for each in value):
        return sorted(clean(value, result))  # sentences, in the order of the files
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        return [_without_names(each, images, result) for each in value]
    return without_names(value, result) if isinstance(value, str) else value  # numbers, which may be many


def _ordered(value: Any) -> Any:
    """A list of the result in an order that does not depend on that of the files."""
    return sorted(value, key=lambda each: json.dumps(each, sort_keys=True)) if isinstance(value, list) else value
