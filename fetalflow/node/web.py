"""A PACS that is reached by DICOMweb (dicomweb-client): query and retrieve its studies, and store results in it."""

import io
import os
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlsplit

from dicomweb_client.api import DICOMwebClient
from pydicom import Dataset, dcmwrite
from requests import HTTPError, PreparedRequest, RequestException, Response
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from requests.exceptions import SSLError

from fetalflow.errors import InputError
from fetalflow.hospital.arrival.intake import crash_in_words
from fetalflow.node.returning import Away, NotSent
from fetalflow.node.running_node import Node, in_short
from fetalflow.node.taking import FULL, Refused, is_full, take
from fetalflow.settings.node import Web

LOGIN = "FETALFLOW_DICOMWEB_LOGIN"  # USER:PASSWORD
STUDY, OBJECT, SERIES, MODALITY = "0020000D", "00080018", "0020000E", "00080060"
AS_STORED = (("application/dicom", "*"),)  # in the transfer syntax that the PACS has
TAKEN = ("US", "IVUS", "OT", "SC")
PATIENCE = 60  # s without a byte
PAGE = 1000  # instances in one answer
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class _Patient(HTTPAdapter):
    """A PACS that says nothing more must not stop the node: without a limit, requests waits for ever."""

    def send(self, request: PreparedRequest, **options: Any) -> Response:
        return super().send(request, **options | {"timeout": options.get("timeout") or PATIENCE})


def client(web: Web) -> DICOMwebClient:
    """Raises InputError when a password would be sent without TLS to another machine."""
    from requests import Session

    session, login = Session(), os.environ.get(LOGIN, "")
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Patient())
    address = urlsplit(web.url)
    if login and address.scheme != "https" and address.hostname not in LOOPBACK:
        raise InputError(f"{LOGIN} is set and node.web.url is {web.url}: give an https URL, so that nobody reads it.")
    if login:
        session.auth = HTTPBasicAuth(*login.partition(":")[::2])
    made = DICOMwebClient(web.url.rstrip("/"), session=session)
    made.set_http_retry_params(retry=False)  # the next look tries again, and the node has other work meanwhile
    return made


def fetch(node: Node, say: Callable[[str], None]) -> int:
    """Take every object of new studies that the node does not have yet, if the last look is long enough ago. Returns
    how many were taken.

    A PACS that gives no answer, and a disk without room, are said, and tried again in the next look. An object that the
    PACS cannot give does not hold back the others.
    """
    web, taken = node.settings.node.web, 0
    if not web.url or node.clock() - node.looked < web.every:
        return 0
    node.looked = node.clock()
    pacs = client(web)
    try:
        studies = _studies(pacs, web)
        if len(studies) >= web.most:
            most = f"{web.title}: only the first {web.most} studies are looked at"
            say(f"{most}; raise node.web.most, or lower node.web.days")
        for study in studies:
            taken += _fetch_study(node, pacs, study, say)
    except Exception as error:  # noqa: BLE001 - a PACS may answer anything, and a message may quote it
        if is_full(error):
            say(f"{web.title}: {FULL}; the next look tries again")
        else:
            say(f"the PACS {web.title} gives no answer that can be used ({_why(error)}); the next look tries again")
    return taken


def _studies(pacs: DICOMwebClient, web: Web) -> list[str]:
    first = (date.today() - timedelta(days=web.days)).strftime("%Y%m%d")
    filters = {"StudyDate": f"{first}-", **web.filters}
    found: dict[str, None] = {}
    while len(found) < web.most:  # a PACS may give fewer than were requested
        page = pacs.search_for_studies(search_filters=filters, limit=web.most - len(found), offset=len(found))
        new = dict.fromkeys(study for each in page if (study := _value(each, STUDY)) not in found)
        if not new:
            break
        found |= new
    return list(found)


def _value(found: dict, tag: str) -> str:
    return str((found.get(tag, {}).get("Value") or [""])[0])


def _fetch_study(node: Node, pacs: DICOMwebClient, study: str, say: Callable[[str], None]) -> int:
    """An object whose modality the answer does not state is retrieved, too: its header decides."""
    listed = _instances(pacs, study)
    wanted = [each for each in listed if _value(each, MODALITY) in ("", *TAKEN)]
    taken, title = 0, node.settings.node.web.title
    for each in wanted:
        name = _value(each, OBJECT)
        known = node.receipts.find(node.name(study), node.name(name))
        if known is not None or name in node.passed_over:  # also a refused one: it would be refused again
            continue
        try:
            found = pacs.retrieve_instance(study, _value(each, SERIES), name, media_types=AS_STORED)
            take(node, _bytes(found), title)
            taken += 1
        except Refused as refused:
            node.passed_over.add(name)
            say(f"{title}: an object of study {in_short(node.name(study))} was refused: {refused.reason}")
        except HTTPError as error:  # of this object; the next look asks again
            if name not in node.not_given:
                say(f"{title}: an object of study {in_short(node.name(study))} is not given ({_why(error)})")
            node.not_given.add(name)
        except RequestException:
            raise
        except Exception as error:  # noqa: BLE001 - its message may quote the object
            if is_full(error):
                raise
            node.passed_over.add(name)  # until the node is started again
            say(f"{title}: an object of study {in_short(node.name(study))} was not taken: {crash_in_words(error)}")
    return taken


def _instances(pacs: DICOMwebClient, study: str) -> list[dict]:
    found: dict[str, dict] = {}
    while True:
        page = pacs.search_for_instances(study, fields=["Modality"], limit=PAGE, offset=len(found))
        new = {_value(each, OBJECT): each for each in page if _value(each, OBJECT) not in found}
        if not new:
            return list(found.values())
        found |= new


def _why(error: Exception) -> str:
    """Without the message of the error, which may quote what the PACS has."""
    if isinstance(error, SSLError):
        return "its certificate is not trusted: REQUESTS_CA_BUNDLE names the file of its authority"
    if isinstance(error, RequestException):
        response = error.response
        return type(error).__name__ if response is None else f"HTTP {response.status_code}"
    return crash_in_words(error)


def _bytes(found: Dataset) -> bytes:
    with io.BytesIO() as file:
        dcmwrite(file, found, enforce_file_format=True)
        return file.getvalue()


def store(web: Web, result: Dataset) -> None:
    """Raises NotSent when the PACS did not store it."""
    try:
        answer = client(web).store_instances([result])
    except (RequestException, OSError) as error:
        raise Away(f"{web.title} did not store it ({_why(error)})") from None
    if answer.get("FailedSOPSequence"):
        raise NotSent(f"{web.title} refused it")
