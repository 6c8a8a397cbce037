"""The node as a C-STORE and C-ECHO provider (pynetdicom), with TLS, allowed AE titles and limits.

Storage commitment is not offered: a scanner that gets it may delete its originals, and the node keeps only masked
copies (docs/decisions.md).
"""

import logging
import ssl
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom import Dataset
from pydicom.pixels import get_decoder
from pydicom.uid import MPEGTransferSyntaxes
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    EnhancedUSVolumeStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    Verification,
)

from fetalflow.errors import InputError
from fetalflow.hospital.arrival.intake import crash_in_words
from fetalflow.node.running_node import Node, in_short
from fetalflow.node.taking import FULL, Refused, is_full, take

OBJECTS = (
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    "1.2.840.10008.5.1.4.1.1.6",  # ultrasound image, retired
    "1.2.840.10008.5.1.4.1.1.3",  # ultrasound multi-frame image, retired
    EnhancedUSVolumeStorage,
    SecondaryCaptureImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
)
LARGEST_PDU = 1 << 20  # bytes; a peer may state 4 GB for one, and pynetdicom would wait for them
SLACK = 1 << 16  # bytes of a message beside its object
OUT_OF_RESOURCES, NOT_AUTHORISED, CANNOT_UNDERSTAND, NOT_THIS_CLASS = 0xA700, 0x0124, 0xC000, 0xA900
STATUS = {"rule": NOT_AUTHORISED, "forgotten": NOT_AUTHORISED, "image": NOT_THIS_CLASS}  # by kind of refusal
LONGEST_COMMENT = 64  # characters of ErrorComment (LO)


def syntaxes() -> list[str]:
    """The transfer syntaxes whose pixels can be decoded with what is installed."""
    return [uid for uid in ALL_TRANSFER_SYNTAXES if uid in MPEGTransferSyntaxes or _is_decoded(uid)]


def _is_decoded(uid: str) -> bool:
    try:
        return get_decoder(uid).is_available
    except NotImplementedError:
        return False


def keep_quiet() -> None:
    """Nothing that pydicom or pynetdicom logs is shown: it quotes names, also in tracebacks of handlers. Warnings quote
    them as well, and `warnings.catch_warnings` of one thread ends that of another, so they are off in this process."""
    warnings.simplefilter("ignore")
    for name in ("pydicom", "pynetdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def server_tls(certificate: Path, private_key: Path, authority: Path | None) -> ssl.SSLContext:
    """authority: certificates by which those of senders are checked; None: senders need no certificate.

    Raises InputError when a file is no certificate or key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, private_key)
        if authority:
            context.load_verify_locations(authority)
            context.verify_mode = ssl.CERT_REQUIRED
    except (ssl.SSLError, OSError) as error:
        raise InputError(
            f"TLS cannot use {certificate}, {private_key} and {authority}: {error.strerror or error}. Give a "
            "certificate with its unencrypted private key, and certificates of an authority, all as PEM."
        ) from None
    return context


@contextmanager
def listening(
    node: Node, address: tuple[str, int], say: Callable[[str], None], tls: ssl.SSLContext | None = None
) -> Iterator[int]:
    """Receive objects until the block ends; yields the port. Raises InputError when the address cannot be used."""
    keep_quiet()
    settings = node.settings.node
    entity = AE(ae_title=settings.title)
    entity.require_calling_aet = list(settings.peers)
    entity.require_called_aet = True
    entity.maximum_associations = settings.max_associations
    entity.network_timeout = entity.dimse_timeout = entity.acse_timeout = settings.timeout
    entity.maximum_pdu_size = 1 << 17  # larger than the usual 16 kB: fewer steps for a cine
    entity.add_supported_context(Verification)
    known = syntaxes()
    for storage in OBJECTS:
        entity.add_supported_context(storage, known)
    handlers = [(evt.EVT_CONN_OPEN, _bound, [settings.max_bytes]), (evt.EVT_C_STORE, _store, [node, say])]
    handlers += [(evt.EVT_C_ECHO, _echo), (evt.EVT_REJECTED, _rejected, [say])]
    try:
        server = entity.start_server(address, block=False, evt_handlers=handlers, ssl_context=tls)
    except OSError as error:
        raise InputError(
            f"the node cannot listen on {address[0]} port {address[1]}: {error.strerror}. Choose another port."
        ) from None
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()


def _rejected(event: evt.Event, say: Callable[[str], None]) -> None:
    say(f"an association from {event.assoc.requestor.address} was refused: unknown AE titles, or too many at once")


def _bound(event: evt.Event, most: int) -> None:
    """End the connection when a peer sends a message of more than `most` bytes. pynetdicom has no such limit."""
    transport = event.assoc.dul.socket
    receive, event.assoc.bytes_of_message = transport.recv, 0

    def bounded(count: int) -> bytearray:
        event.assoc.bytes_of_message += count
        if count > LARGEST_PDU or event.assoc.bytes_of_message > most + SLACK:
            raise OSError("more bytes than are allowed")
        return receive(count)

    transport.recv = bounded


def _echo(event: evt.Event) -> int:
    event.assoc.bytes_of_message = 0
    return 0x0000


def _store(event: evt.Event, node: Node, say: Callable[[str], None]) -> int | Dataset:
    """The status of one C-STORE. Nothing that is raised or logged here quotes the object."""
    association: Association = event.assoc
    association.bytes_of_message = 0
    sender = association.requestor.ae_title.strip()
    began = time.monotonic()
    try:
        receipt = take(node, event.encoded_dataset(), sender)
    except Refused as refused:
        say(f"{sender}: an object of study {refused.study or 'unknown'} was refused: {refused.reason}")
        return _status(STATUS.get(refused.kind, CANNOT_UNDERSTAND), refused.reason)
    except Exception as error:  # noqa: BLE001 - pynetdicom would log it with its message
        if not is_full(error):
            return _crashed(error, sender, say)
        say(f"{sender}: {FULL}, so an object was refused; the sender tries again later")
        return _status(OUT_OF_RESOURCES, FULL)
    say(f"{sender}: an object of study {in_short(receipt.study)} is held ({time.monotonic() - began:.1f} s)")
    return 0x0000


def _crashed(error: Exception, sender: str, say: Callable[[str], None]) -> Dataset:
    said = crash_in_words(error)
    say(f"{sender}: an object could not be taken: {said}")
    return _status(CANNOT_UNDERSTAND, f"the node failed: {said}")


def _status(code: int, comment: str) -> Dataset:
    status = Dataset()
    status.Status, status.ErrorComment = code, comment[:LONGEST_COMMENT]
    return status
