"""UIDs that are the same for the same input and models, so that a result that is sent twice is one result."""

import json
from hashlib import sha256
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from fetalflow.study.result import StudyResult

BY_FILE = ("movement", "no_movement", "warnings", "files")  # not in our objects, or with the names of files in them


def fingerprint(result: StudyResult) -> str:
    """SHA-256 of all that the objects state: the images by their UIDs, the models by their digests, and the figures.
    The names and the order of the files are not in it."""
    uids = {each.name: each.sop_instance_uid or each.sha256 for each in result.files}
    stated = {name: value for name, value in result.as_dict().items() if name not in BY_FILE}
    stated["images"] = list(uids.values())
    return sha256(json.dumps(_sorted(_renamed(stated, uids)), sort_keys=True).encode()).hexdigest()


def uid(*of: str) -> str:
    """The UID of what the words name; the same words have the same UID."""
    return f"2.25.{uuid5(NAMESPACE_OID, ' '.join(of)).int}"


def _renamed(value: Any, uids: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            name: uids.get(each, each) if name == "file" and isinstance(each, str) else _renamed(each, uids)
            for name, each in value.items()
        }
    return [_renamed(each, uids) for each in value] if isinstance(value, list | tuple) else value


def _sorted(stated: dict[str, Any]) -> dict[str, Any]:
    """Lists of the result in an order that does not depend on that of the files."""
    return {
        name: sorted(value, key=lambda each: json.dumps(each, sort_keys=True)) if isinstance(value, list) else value
        for name, value in stated.items()
    }
