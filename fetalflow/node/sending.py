"""Sends results to a scanner or PACS: by C-STORE to a peer with a host, by STOW-RS to the DICOMweb PACS."""

import ssl
from pathlib import Path

from pydicom import Dataset
from pynetdicom import AE

from fetalflow.node.returning import Away, NotSent
from fetalflow.node.running_node import Node
from fetalflow.node.web import store
from fetalflow.settings.node import Peer

WARNINGS = range(0xB000, 0xC000)  # stored, with a change


def client_tls(certificate: Path | None, private_key: Path | None, authority: Path | None) -> ssl.SSLContext:
    """TLS of a sender, with its certificate. authority: None for those of this machine."""
    context = ssl.create_default_context(cafile=authority)
    context.check_hostname = False  # AE titles name peers, and certificates of scanners seldom state their address
    if certificate:
        context.load_cert_chain(certificate, private_key)
    return context


def sender(node: Node, tls: ssl.SSLContext | None):
    """The function that `fetalflow.node.returning.send_back` sends with."""

    def send(receiver: str, result: Dataset) -> None:
        settings = node.settings.node
        if receiver == settings.web.title and settings.web.url:
            return store(settings.web, result)
        peer = settings.peers.get(receiver)
        if peer is None or not peer.host:
            raise NotSent(f"node.peers.{receiver}.host is not set, so the node does not know where {receiver} receives")
        if peer.tls and tls is None:
            raise NotSent(f"{receiver} receives over TLS: give --certificate, --private-key and --authority")
        return _c_store(settings.title, receiver, peer, result, tls if peer.tls else None, settings.timeout)

    return send


def _c_store(
    title: str, receiver: str, peer: Peer, result: Dataset, tls: ssl.SSLContext | None, timeout: float
) -> None:
    entity = AE(ae_title=title)
    entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = timeout
    entity.add_requested_context(result.SOPClassUID, result.file_meta.TransferSyntaxUID)
    # A host name is sent along in TLS, and not compared: see `client_tls`.
    association = entity.associate(peer.host, peer.port, ae_title=receiver, tls_args=(tls, peer.host) if tls else None)
    if not association.is_established:
        raise Away(f"{receiver} at {peer.host}:{peer.port} does not answer, or refuses the AE title {title}")
    try:
        if not association.accepted_contexts:
            raise NotSent(f"{receiver} takes no objects of the class {result.SOPClassUID.name}")
        status = association.send_c_store(result)
    finally:
        association.release()
    code = status.get("Status")
    if code is None or (code != 0 and code not in WARNINGS):
        answer = "nothing" if code is None else f"0x{code:04X}"
        raise NotSent(f"{receiver} answered {answer}; the next round tries again")
