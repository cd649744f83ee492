"""The DIMSE service as a requestor sees it, and a peer that the gateway sends to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, build_role, evt
from pynetdicom.association import Association

from tests.instances import CT, encode
from tests.raw_scu import RawScu
from tests.serving import Gateway

STUDY_FIND, PATIENT_FIND = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_MOVE, PATIENT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2", "1.2.840.10008.5.1.4.1.2.1.2"
STUDY_GET, PATIENT_GET = "1.2.840.10008.5.1.4.1.2.2.3", "1.2.840.10008.5.1.4.1.2.1.3"
Responses = list[tuple[Dataset, Dataset | None]]


def identifier(level: str, **keys: Any) -> Dataset:
    """An identifier; keys by keyword."""
    found = Dataset()
    found.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(found, keyword, value)
    return found


def matches(found: Responses) -> list[Dataset]:
    """The identifiers of pending responses."""
    return [each for _, each in found if each is not None]


def counts(response: Dataset) -> tuple[int, int, int]:
    """Sub-operations: completed, failed, with a warning."""
    return (
        response.NumberOfCompletedSuboperations,
        response.NumberOfFailedSuboperations,
        response.NumberOfWarningSuboperations,
    )


@dataclass
class Destination:
    """A peer that stores what it is sent, and says what a test wants it to say."""

    syntaxes: Sequence[str] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    says: dict[str, int] = field(default_factory=dict)
    """The status of single instances; 0x0000 of the others."""
    received: list[Dataset] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)
    """What was negotiated of each association."""
    port: int = 0

    def start(self) -> Callable[[], None]:
        """Listen; what ends it."""
        application_entity = AE(ae_title="DEST")
        application_entity.supported_contexts = AllStoragePresentationContexts
        for context in application_entity.supported_contexts:
            context.transfer_syntax = list(self.syntaxes)
        handlers: list[Any] = [(evt.EVT_C_STORE, self._stored), (evt.EVT_ACCEPTED, self._accepted)]
        server = application_entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = server.server_address[1]
        return server.shutdown

    def forget(self) -> None:
        """Begin anew."""
        for each in (self.says, self.received, self.requests):
            each.clear()

    def _accepted(self, event: evt.Event) -> None:
        self.requests.append(event.assoc.requestor)

    def _stored(self, event: evt.Event) -> int:
        found = event.dataset
        found.file_meta = event.file_meta
        self.received.append(found)
        return self.says.get(event.request.AffectedSOPInstanceUID, 0)


@dataclass(frozen=True)
class Dimse:
    """A running gateway, by both of its faces."""

    gateway: Gateway
    destination: Destination

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return "127.0.0.1", self.gateway.dimse_port

    def kept(self, found: Dataset) -> list[bytes]:
        """The objects of its archive that are kept of a SOP Instance UID, looked at behind its back."""
        with self.gateway.objects() as store:
            return [store.get(key) for key in self.gateway.object_keys() if found.SOPInstanceUID in key]

    def associate(
        self, *contexts: tuple[str, Sequence[str]], calling: str = "SCU", called: str = "GATEWAY", **more: Any
    ) -> Association:
        """Ask for an association."""
        application_entity = AE(ae_title=calling)
        for abstract, syntaxes in contexts:
            application_entity.add_requested_context(abstract, list(syntaxes))
        return application_entity.associate(*self.address, ae_title=called, **more)

    def store(
        self, *found: Dataset, syntax: str = ExplicitVRLittleEndian, calling: str = "SCU", sop_class: str = CT
    ) -> list[Any]:
        """Store instances of one SOP class over one association; the responses."""
        with RawScu(self.address, sop_class, syntax, calling) as scu:
            assert scu.association.is_established
            return [scu.store(each.SOPInstanceUID, encode(each, syntax)) for each in found]

    def put(self, *found: Dataset, **how: Any) -> None:
        """Store what has to be taken."""
        assert [each.Status for each in self.store(*found, **how)] == [0x0000] * len(found)

    def find(self, level: str, model: str = STUDY_FIND, *, calling: str = "SCU", **keys: Any) -> Responses:
        """Ask by C-FIND; every response with its identifier."""
        association = self.associate((model, [ExplicitVRLittleEndian]), calling=calling)
        assert association.is_established
        found = list(association.send_c_find(identifier(level, **keys), model))
        association.release()
        return found

    def move(
        self, level: str, model: str = STUDY_MOVE, *, to: str = "DEST", calling: str = "SCU", **keys: Any
    ) -> tuple[Dataset, Dataset | None]:
        """Have instances sent to a destination; the final response."""
        association = self.associate((model, [ExplicitVRLittleEndian]), calling=calling)
        assert association.is_established
        found = list(association.send_c_move(identifier(level, **keys), to, model))
        association.release()
        return found[-1]

    def get(
        self, level: str, model: str = STUDY_GET, *, syntaxes: Sequence[str] = (ExplicitVRLittleEndian,), **keys: Any
    ) -> tuple[Dataset, list[Dataset]]:
        """Have CT instances sent back; the final response, and what came."""
        received: list[Dataset] = []

        def stored(event: evt.Event) -> int:
            found = event.dataset
            found.file_meta = event.file_meta
            received.append(found)
            return 0

        association = self.associate(
            (model, [ExplicitVRLittleEndian]), (CT, syntaxes),
            ext_neg=[build_role(CT, scp_role=True)], evt_handlers=[(evt.EVT_C_STORE, stored)],
        )  # fmt: skip
        assert association.is_established
        (last, _) = list(association.send_c_get(identifier(level, **keys), model))[-1]
        association.release()
        return last, received
