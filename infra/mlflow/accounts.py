"""Log-in for the MLflow server that records which account set an alias or asked for a promotion.

MLflow calls `authenticate` for each request (`authorization_function` in its log-in settings, which serve.py writes).
MLflow itself keeps no name beside an alias or a tag. So after such a request the server writes a tag whose key begins
with `RECORD` on the version. No request may write such a tag, not even one of an administrator: only this server does.
"""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

from flask import Response, after_this_request, g, make_response, request
from mlflow.entities.model_registry import ModelVersionTag
from mlflow.exceptions import MlflowException
from mlflow.server.auth import authenticate_request_basic_auth
from mlflow.server.handlers import _get_model_registry_store, _get_normalized_request_json

RECORD = "fetalflow.by."  # fetalflow/registry/version_page.py has the same, because this image has no fetalflow
ASKING = ("candidate", "approve")  # tags of a version that ask for something
SET_ALIAS, SET_TAG = "/mlflow/registered-models/alias", "/mlflow/model-versions/set-tag"

OF_MODELS = ("/mlflow/model-versions/", "/mlflow/registered-models/")  # an artefact's bytes are not read here

log = logging.getLogger(__name__)


def authenticate() -> Any:
    """MLflow's log-in by user and password; a request that would write a record is refused."""
    authorization = authenticate_request_basic_auth()
    writes = request.method not in ("GET", "HEAD", "OPTIONS") and any(part in request.path for part in OF_MODELS)
    if isinstance(authorization, Response) or not writes or "account_seen" in g:
        return authorization
    g.account_seen = True  # MLflow asks several times in one request
    body = _get_normalized_request_json() if request.data else None
    if any(text.lower().startswith(RECORD) for text in texts(body)) and not is_copy(body):
        return make_response({"error_code": "PERMISSION_DENIED", "message": f"only this server writes {RECORD}*"}, 403)
    if request.method == "POST" and isinstance(body, dict):
        if request.path.endswith(SET_ALIAS):
            after_this_request(partial(record, authorization.username, f"alias.{body.get('alias')}", body, "version"))
        elif request.path.endswith(SET_TAG) and body.get("key") in ASKING:
            after_this_request(partial(record, authorization.username, f"tag.{body['key']}", body, "value"))
    return authorization


def is_copy(body: dict[str, Any]) -> bool:
    """Whether the request makes a version with the tags of another one. The records of that one name its number, and so
    count for no other version."""
    if not request.path.endswith("/mlflow/model-versions/create"):
        return False
    records = [tag for tag in body.get("tags", []) if str(tag.get("key")).lower().startswith(RECORD)]
    try:
        for said in [json.loads(tag["value"]) for tag in records]:
            _get_model_registry_store().get_model_version(said["name"], said["version"])
    except (MlflowException, ValueError, KeyError, TypeError):
        return False
    return bool(records)


def texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from texts([key, inner])
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


def record(account: str, what: str, body: dict[str, Any], kept: str, response: Response) -> Response:
    """Write who did `what`, with the value that was set. The request is done already, so an error is only logged."""
    if response.status_code != 200:
        return response
    name, version = str(body.get("name")), str(body.get("version"))
    said = {"by": account, "name": name, "version": version, "value": str(body.get(kept))}
    said |= {"at": datetime.now(UTC).isoformat(timespec="seconds")}
    try:
        store = _get_model_registry_store()
        store.set_model_version_tag(name, version, ModelVersionTag(f"{RECORD}{what}", json.dumps(said)))
    except Exception:
        log.exception("who set %s was not recorded", what)
    return response
