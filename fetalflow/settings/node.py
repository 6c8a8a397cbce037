"""The block `node` of `params.yaml`: from whom studies come, and into which inbox they go (docs/operator/pacs.md)."""

import re

from pydantic import Field, field_validator, model_validator

from fetalflow.settings.operations import Frozen

AE_TITLE = re.compile(r"(?=.*\S)[ -\[\]-~]{1,16}")  # PS3.5: printable ASCII without a backslash


def _pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression ({error}); a good one is '(?i)biometry|head'") from None
    return pattern


def _title(title: str) -> str:
    """An AE title, or "" where there is none."""
    return _some_title(title) if title else ""


def _some_title(title: str) -> str:
    if not AE_TITLE.fullmatch(title) or title != title.strip():
        raise ValueError(f"{title!r} is no AE title: 1 to 16 characters of ASCII, no backslash, no blank at its ends")
    return title


class Peer(Frozen):
    """A scanner or a PACS, by its AE title."""

    site: str = ""  # name of the hospital; empty: the header's InstitutionName
    host: str = ""  # where it receives results; empty: it only sends
    port: int = Field(104, ge=1, le=65535)
    tls: bool = False  # whether it receives over TLS
    results_to: str = ""  # AE title of another peer that gets the results of its studies; empty: itself

    _results_to = field_validator("results_to")(_title)


class Rule(Frozen):
    """What is taken, and where it goes. The first rule counts whose conditions hold; an empty one always holds."""

    peer: str = ""  # AE title of the sender
    modality: str = ""  # such as US
    description: str = ""  # regular expression, found in a description of the study, series, protocol or view
    site: str = ""  # the peer's site, or the header's InstitutionName
    task: str  # a task of params.yaml
    inbox: str = ""  # folder or URL; empty: the inbox of the task (`retrain.inbox`)
    # label -> regular expression, found in a description. Where none is found, people label the study.
    labels: dict[str, str] = {}

    _description = field_validator("description")(_pattern)
    _peer = field_validator("peer")(_title)

    @field_validator("labels")
    @classmethod
    def _are_patterns(cls, labels: dict[str, str]) -> dict[str, str]:
        return {label: _pattern(pattern) for label, pattern in labels.items()}


class Web(Frozen):
    """A PACS that is reached by DICOMweb. User and password are in FETALFLOW_DICOMWEB_LOGIN, as USER:PASSWORD."""

    url: str = ""  # such as https://pacs/dicom-web; empty: none
    title: str = "DICOMWEB"  # its name in `peers` and rules
    filters: dict[str, str] = {"ModalitiesInStudy": "US"}  # of the query for studies
    days: int = Field(2, ge=0, le=36_500)  # studies of today and of so many days before it are looked for
    every: float = Field(60, ge=0, le=10**6)  # s from one look to the next
    most: int = Field(1000, ge=1, le=10**6)  # studies in one look

    @model_validator(mode="after")
    def _is_an_address(self) -> "Web":
        if self.url and not re.fullmatch(r"https?://[^\s/@]+(/\S*)?", self.url):
            raise ValueError("url must be such as https://pacs/dicom-web, without a user or a password in it")
        return self


class Node(Frozen):
    title: str = "FETALFLOW"  # AE title of this node
    peers: dict[str, Peer] = {}  # only these AE titles may send
    rules: tuple[Rule, ...] = ()
    quiet: float = Field(120, ge=0, le=10**6)  # s; a study of which nothing more came for this time is complete
    max_bytes: int = Field(2_000_000_000, ge=1, le=10**12)  # of one object; more ends the association
    max_associations: int = Field(10, ge=1, le=1000)  # at the same time
    timeout: float = Field(60, gt=0, le=10**5)  # s without a message, after which an association ends
    web: Web = Web()

    _own_title = field_validator("title")(_some_title)

    @field_validator("peers")
    @classmethod
    def _are_titles(cls, peers: dict[str, Peer]) -> dict[str, Peer]:
        return {_some_title(title): peer for title, peer in peers.items()}

    @model_validator(mode="after")
    def _peers_are_known(self) -> "Node":
        known = {*self.peers, self.web.title}
        for title, peer in self.peers.items():
            if peer.results_to and peer.results_to not in known:
                raise ValueError(f"peers.{title}.results_to is {peer.results_to!r}, expected one of {sorted(known)}")
        for number, rule in enumerate(self.rules):
            if rule.peer and rule.peer not in known:
                raise ValueError(f"rules.{number}.peer is {rule.peer!r}, expected one of {sorted(known)}")
        return self
