"""A target of exports that is a peer: C-STORE as a Service Class User, in the transfer syntaxes as stored.

References
----------
PS3.4 B.2.3 "Statuses", PS3.7 9.1.1 "C-STORE Service", PS3.8 7.1.1.13 "Presentation Context Definition List".
"""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from gateway.config import InvalidSettings
from gateway.config.section import MAX_AE_TITLE_CHARACTERS
from gateway.config.serving import DimseSettings
from gateway.dimse import contexts, library
from gateway.exporting.items import ExportError, Item, NotExported, Put
from storage.dicom.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

SCHEME = "dicom"
_MAX_CONTEXTS = 128
_WARNING = 0xB000
_CONNECT_S = 10.0
_RELEASE_S = 5.0

Kind = tuple[str, str]
"""SOP class and transfer syntax."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a peer is, and what it is called."""

    ae_title: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Address:
        """From ``dicom://AET@host:port``. Raises InvalidSettings."""
        fault = InvalidSettings([f"{url}: a peer is dicom://AET@HOST:PORT"])
        try:
            found = urlsplit(url)
            port = found.port
        except ValueError as error:
            raise fault from error
        title = unquote(found.username or "")
        if found.path.strip("/") or not (title and found.hostname and port) or found.scheme != SCHEME:
            raise fault
        if len(title) > MAX_AE_TITLE_CHARACTERS:
            raise InvalidSettings([f"{url}: an AE title has at most {MAX_AE_TITLE_CHARACTERS} characters"])
        return cls(title, found.hostname, port)


class StoragePeer:
    """A peer that stores what it is sent, over one association after the other.

    Parameters
    ----------
    folder
        Where an instance waits while it is sent, one at a time.
    """

    at_once = 1

    def __init__(self, address: Address, settings: DimseSettings, folder: Path) -> None:
        library.configure()
        self._address = address
        self._ae = AE(ae_title=settings.ae_title)
        self._ae.connection_timeout = _CONNECT_S
        self._ae.acse_timeout = settings.acse_timeout_s
        self._ae.network_timeout = settings.network_timeout_s
        self._ae.dimse_timeout = settings.dimse_timeout_s
        self._ae.maximum_pdu_size = settings.max_pdu_bytes
        self._ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        self._ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        self._association: Association | None = None
        self._proposed: dict[Kind, None] = {}
        self._accepted: frozenset[Kind] = frozenset()
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._folder = tempfile.TemporaryDirectory(dir=folder, prefix="export-")
        self._file = Path(self._folder.name) / "instance.dcm"

    def begin(self, items: Sequence[Item]) -> None:
        """See Target: an association on which every instance of the study can be sent, the last one when it will do."""
        kinds = dict.fromkeys(map(_kind, items))
        if self._association is not None and self._association.is_established and kinds.keys() <= self._proposed.keys():
            return
        together = {**self._proposed, **kinds}
        self._proposed = together if len(together) <= _MAX_CONTEXTS else dict(list(kinds.items())[:_MAX_CONTEXTS])
        self._associate()

    def _associate(self) -> None:
        self._release()
        self._accepted = frozenset()
        address = self._address
        proposed = [contexts.context(sop_class_uid, (syntax,)) for sop_class_uid, syntax in self._proposed]
        association = self._ae.associate(address.host, address.port, contexts=proposed, ae_title=address.ae_title)
        if association.rejected_contexts and not association.accepted_contexts:
            return  # it is there, but takes none of these
        if not association.is_established:
            why = "rejects" if association.is_rejected else "does not answer"
            raise ExportError(f"the peer {address.ae_title} at {address.host}:{address.port} {why} the association")
        # Or the last part of each message waits for the acknowledgement of the one before it, 40 ms on Linux.
        connection = association.dul.socket
        assert connection is not None
        assert connection.socket is not None
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._association = association
        self._accepted = frozenset(_kind_of(each) for each in association.accepted_contexts)

    def put(self, item: Item) -> Put:
        """See Target."""
        kind = _kind(item)
        if kind not in self._accepted:
            raise NotExported(f"the peer does not take SOP class {kind[0]} in transfer syntax {kind[1]}")
        with self._file.open("wb") as file:
            for block in item.blocks():
                file.write(block)
        association = self._association
        if association is None or not association.is_established:
            raise ExportError("the peer ended the association")
        try:
            answer = association.send_c_store(self._file)
        except (RuntimeError, OSError) as error:
            raise ExportError("the peer ended the association") from error
        if "Status" not in answer:
            raise ExportError("the peer ended the association, or did not answer in time")
        status = int(answer.Status)
        if status and status & 0xF000 != _WARNING:
            raise NotExported(f"the peer answers 0x{status:04X}")
        return Put("")

    def finish(self, _manifest: BufferedRandom) -> None:
        """See Target: there is no place for a manifest at a peer."""
        self._release()

    def _release(self) -> None:
        if self._association is not None and self._association.is_established:
            self._association.release()
            self._association.join(_RELEASE_S)
        self._association = None

    def close(self) -> None:
        """See Target."""
        if self._association is not None and self._association.is_alive():
            self._association.abort()
        self._association = None
        self._folder.cleanup()


def _kind(item: Item) -> Kind:
    return str(item.located.sop_class_uid), str(item.located.transfer_syntax_uid)


def _kind_of(context: PresentationContext) -> Kind:
    return str(context.abstract_syntax), str(context.transfer_syntax[0])
