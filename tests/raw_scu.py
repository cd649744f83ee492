"""An SCU that sends data sets byte for byte, in any transfer syntax and with any command set."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from pydicom.uid import UID
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import P_DATA

from storage.dicom import file_meta, part10
from storage.dicom.limits import Limits
from storage.errors import Unreadable


class RawScu:
    """One association with one presentation context; use it as a context manager.

    ``association`` is established or not: a test may be about the rejection.
    """

    def __init__(
        self,
        address: tuple[str, int],
        sop_class_uid: str,
        transfer_syntax_uid: str,
        calling: str = "RAW_SCU",
        called: str = "GATEWAY",
    ) -> None:
        application_entity = AE(ae_title=calling)
        application_entity.add_requested_context(sop_class_uid, [transfer_syntax_uid])
        self.association: Association = application_entity.associate(*address, ae_title=called)
        self._sop_class_uid = sop_class_uid
        self._message_id = 0

    def __enter__(self) -> RawScu:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.association.is_established:
            self.association.release()

    def send(self, sop_uid: str, data_set: bytes | None, sop_class_uid: str = "") -> None:
        """Send one C-STORE request and do not wait; None sends no data set at all."""
        self.association.dimse.send_msg(self._request(sop_uid, data_set, sop_class_uid), self._context_id())

    def send_beginning(self, sop_uid: str, data_set: bytes) -> None:
        """Send the command set and the first fragment of the data set, and no more."""
        for fragment in itertools.islice(self.fragments(sop_uid, data_set), 2):
            self.association.dul.send_pdu(fragment)

    def fragments(self, sop_uid: str, data_set: bytes) -> Iterator[P_DATA]:
        """A C-STORE request in pieces, to be sent one after the other: the command set, then the data set."""
        message = C_STORE_RQ()
        message.primitive_to_message(self._request(sop_uid, data_set, ""))
        message.context_id = self._context_id()
        yield from message.encode_msg(message.context_id, self.association.dimse.maximum_pdu_size)

    def _request(self, sop_uid: str, data_set: bytes | None, sop_class_uid: str) -> C_STORE:
        request = C_STORE()
        self._message_id += 1
        request.MessageID = self._message_id
        request.AffectedSOPClassUID = UID(sop_class_uid or self._sop_class_uid)
        request.AffectedSOPInstanceUID = UID(sop_uid)
        request.Priority = 2
        request.DataSet = None if data_set is None else io.BytesIO(data_set)
        return request

    def _context_id(self) -> int:
        context_id = self.association.accepted_contexts[0].context_id
        assert context_id is not None
        return context_id

    def store(self, sop_uid: str, data_set: bytes | None, sop_class_uid: str = "") -> C_STORE | None:
        """Send one C-STORE request; the response, or None when the association ended instead."""
        with self.answering():
            self.send(sop_uid, data_set, sop_class_uid)
            return self.answer()

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """As ``Association.send_c_store`` does: the reactor must not take the response."""
        association = self.association
        association._reactor_checkpoint.clear()
        while not association._is_paused and association.is_alive():
            association._reactor_checkpoint.wait(0.001)
        try:
            yield
        finally:
            association._reactor_checkpoint.set()

    def answer(self) -> C_STORE | None:
        """The response to what was sent while ``answering``."""
        _, response = self.association.dimse.get_msg(block=True)
        assert response is None or isinstance(response, C_STORE)
        return response


def data_set_of(path: Path) -> tuple[file_meta.FileMeta, bytes]:
    """A Part 10 file's meta information, and the bytes of its data set as they stand."""
    content = path.read_bytes()
    meta, offset, _ = file_meta.read(io.BytesIO(content), Limits())
    return meta, content[offset:]


def send_file(address: tuple[str, int], path: Path, called: str = "GATEWAY") -> int:
    """Store a Part 10 file as it stands; the status of the response."""
    meta, data_set = data_set_of(path)
    announced: part10.Announced | part10.Extract = part10.Announced(meta.sop_class_uid, meta.sop_uid)
    with contextlib.suppress(Unreadable):
        # As the data set has them: some files' meta information says otherwise.
        announced = part10.extract(io.BytesIO(data_set), meta.transfer_syntax_uid, Limits(), announced)
    with RawScu(address, announced.sop_class_uid, meta.transfer_syntax_uid, called=called) as scu:
        assert scu.association.is_established
        response = scu.store(announced.sop_uid, data_set)
    assert response is not None
    assert response.Status is not None
    return response.Status
