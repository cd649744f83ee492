"""A whole server and PDUs of any size: what is stored is what pynetdicom makes of the same bytes.

References
----------
PS3.8 9.3.5 "P-DATA-TF PDU Structure", D.1 "Maximum Length", Annex E "Message Fragments".
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import random
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dsutils import decode, encode
from pynetdicom.pdu import P_DATA_TF

from gateway import assembly
from gateway.assembly import Core
from gateway.config import Settings
from gateway.config.serving import DimseSettings, HttpSettings
from gateway.config.storing import StorageSettings
from gateway.dimse import pdus
from gateway.dimse.server import DimseServer
from storage.dicom import file_meta
from storage.dicom.limits import Limits
from tests import instances, raw_peer
from tests.conformance.claims import claim
from tests.gateway.dimse.conftest import eventually
from tests.gateway.dimse.test_reader import by_pynetdicom, cut
from tests.gateway.http.conftest import Authority
from tests.raw_peer import RawPeer

ECHO, FIND, STORE = 1, 3, 5
CONTEXTS = (
    raw_peer.context(ECHO),
    raw_peer.context(FIND, raw_peer.STUDY_ROOT_FIND, raw_peer.EXPLICIT),
    raw_peer.context(STORE, instances.CT, raw_peer.EXPLICIT),
)
MAX_LENGTH_ITEM = b"\x51\0\0\x04"
ANY_LENGTH = 0
"""PDUs of any length (PS3.8 D.1): no setting offers it, but the terms of an association may be it."""
PENDING = 0xFF00
IN_MEMORY_BYTES = 100_000
"""Longer data sets go through a file."""
PADDING = b"\0\0\0\0"
"""The value of the last element, Data Set Trailing Padding: what is before the element is a whole data set too."""
PADDED = len(instances.element(0xFFFCFFFC, "OB", PADDING))
BEFORE_PADDING = -1 - PADDED
LAST_PDU = len(raw_peer.p_data(raw_peer.fragment(STORE, 0, bytes(PADDED))))


def digest(data: bytes) -> str:
    """In its place, where a difference would be told at length."""
    return hashlib.sha256(data).hexdigest()


class Site:
    """One archive; servers of it come and go."""

    def __init__(self, core: Core, authority: Authority) -> None:
        self.core = core
        self.trust = authority.client()
        self._certificate = authority.issue("gateway")

    @contextlib.contextmanager
    def serving(self, max_pdu_bytes: int, *, tls: bool) -> Iterator[DimseServer]:
        """A server that offers to receive such PDUs."""
        given_: dict[str, object] = {"max_pdu_bytes": max_pdu_bytes}
        if tls:
            given_["tls_certificate_file"], given_["tls_key_file"] = self._certificate
        dimse = self.core.settings.dimse.model_copy(update=given_)
        core = dataclasses.replace(self.core, settings=self.core.settings.model_copy(update={"dimse": dimse}))
        server = DimseServer(core, socket.create_server(("127.0.0.1", 0)))
        server.start()
        try:
            yield server
        finally:
            server.stop(2.0)

    def stored(self, study: str) -> dict[str, str]:
        """The digests of a study's data sets by SOP Instance UID."""
        found: dict[str, str] = {}
        for info in self.core.archive.objects.list(""):
            if f"/{study}/" in info.key:
                whole = self.core.archive.objects.get(info.key)
                meta, offset, _ = file_meta.read(io.BytesIO(whole), Limits())
                assert meta.transfer_syntax_uid == raw_peer.EXPLICIT
                assert meta.sop_uid not in found
                found[meta.sop_uid] = digest(whole[offset:])
        return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    storage = StorageSettings(directory=folder / "data", fsync=False, spool_memory_bytes=IN_MEMORY_BYTES)
    authority = Authority(folder)
    core = assembly.build(Settings(http=HttpSettings(port=0), dimse=DimseSettings(port=0), storage=storage), "test")
    yield Site(core, authority)
    core.close()


@dataclass(frozen=True)
class Request:
    """One message, and how it is cut."""

    context_id: int
    pixel_bytes: int
    seed: int
    places: list[int]
    together: list[bool]


PLACES = st.lists(st.one_of(st.integers(0, 1 << 21), st.sampled_from((0, -1, BEFORE_PADDING))), max_size=6)
"""Where a value is cut; 0 makes an empty fragment at its beginning, -1 one at its end."""
REQUESTS = st.builds(
    Request,
    st.sampled_from((ECHO, FIND, STORE, STORE)),
    st.builds(
        lambda about, more: about + 2 * more,
        st.sampled_from((0, 3000, 15_500, 130_000, 260_000, 1_400_000)),
        st.integers(0, 500),
    ),
    st.integers(0, 1 << 32),
    PLACES,
    st.lists(st.booleans(), min_size=1, max_size=5),
)


def values(request: Request, message_id: int, study: str) -> tuple[bytes, bytes | None]:
    """Command set and data set."""
    if request.context_id == ECHO:
        return raw_peer.command(0x0030, message_id), None
    if request.context_id == FIND:
        asked = Dataset()
        asked.QueryRetrieveLevel = "STUDY"
        asked.StudyInstanceUID = study
        asked.NumberOfStudyRelatedInstances = None
        identifier = encode(asked, is_implicit_vr=False, is_little_endian=True)
        assert identifier is not None
        command = raw_peer.command(
            0x0020, message_id, raw_peer.element(0x0700, 0), sop_class=raw_peer.STUDY_ROOT_FIND, data_set=True
        )
        return command, identifier
    pixels = random.Random(request.seed).randbytes(request.pixel_bytes)
    found = instances.data_set(StudyInstanceUID=study, SeriesInstanceUID=f"{study}.1", PixelData=pixels)
    found.DataSetTrailingPadding = PADDING
    sop_uid = raw_peer.element(0x1000, str(found.SOPInstanceUID).encode())
    command = raw_peer.command(
        0x0001, message_id, raw_peer.element(0x0700, 0), sop_uid, sop_class=instances.CT, data_set=True
    )
    return command, instances.encode(found)


def fragments(context_id: int, control: int, value: bytes, places: list[int], most: int) -> list[bytes]:
    """A command set or data set that is cut at places, and wherever a fragment would be longer than a PDU."""
    parts = [part[start : start + most] for part in cut(value, places) for start in range(0, max(len(part), 1), most)]
    last = len(parts) - 1
    return [
        raw_peer.fragment(context_id, control | (pdus.LAST if number == last else 0), part)
        for number, part in enumerate(parts)
    ]


def encoded(request: Request, message_id: int, study: str, max_pdu_bytes: int) -> list[bytes]:
    """The PDUs of a message; fragments share one as far as they fit."""
    longest = max_pdu_bytes or 1 << 31
    most = longest - pdus.PDV_HEADER.size
    command, data_set = values(request, message_id, study)
    every = fragments(request.context_id, pdus.COMMAND, command, request.places[:3], most)
    if data_set is not None:
        every += fragments(request.context_id, 0, data_set, request.places, most)
    bodies: list[bytes] = []
    for number, each in enumerate(every):
        if bodies and request.together[number % len(request.together)] and len(bodies[-1]) + len(each) <= longest:
            bodies[-1] += each
        else:
            bodies.append(each)
    return [raw_peer.pdu(4, body) for body in bodies]


class Client:
    """An association with all contexts; its bytes leave in segments that end anywhere."""

    def __init__(self, site: Site, server: DimseServer, segments: Sequence[int], *, tls: bool) -> None:
        self._segments = segments
        self.peer = RawPeer(server.address)
        self.peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.peer.socket = site.trust.wrap_socket(self.peer.socket, server_hostname="localhost")
        self.peer.send(raw_peer.request(*CONTEXTS))
        answer = self.peer.receive()
        assert answer is not None
        assert answer[0] == 2, answer
        at = answer[1].index(MAX_LENGTH_ITEM) + len(MAX_LENGTH_ITEM)
        (self.max_pdu_bytes,) = struct.unpack_from(">I", answer[1], at)

    def send(self, data: bytes) -> None:
        """All of it."""
        for segment in cut(data, list(self._segments)):
            self.peer.send(segment)

    def response(self) -> tuple[int, int, Dataset | None]:
        """The next one, by pynetdicom: the message that it answers, status, identifier."""
        message = DIMSEMessage()
        whole = False
        while not whole:
            found = self.peer.receive()
            assert found is not None, "the server closed"
            assert found[0] == 4, found
            pdu = P_DATA_TF()
            pdu.decode(raw_peer.pdu(*found))
            whole = message.decode_msg(pdu.to_primitive())
        identifier = None
        if message.command_set.CommandDataSetType != raw_peer.NO_DATA_SET:
            identifier = decode(message.data_set, is_implicit_vr=False, is_little_endian=True)
        return message.command_set.MessageIDBeingRespondedTo, message.command_set.Status, identifier

    def answered(self, request: Request, message_id: int, count: int) -> None:
        """The request is answered with success; a C-FIND finds as many instances as were stored before."""
        answered_id, status, identifier = self.response()
        if request.context_id == FIND and count:
            assert (answered_id, status) == (message_id, PENDING)
            assert identifier is not None
            assert identifier.NumberOfStudyRelatedInstances == count
            answered_id, status, identifier = self.response()
        assert (answered_id, status, identifier) == (message_id, 0x0000, None)


@dataclass(frozen=True)
class End:
    """Of an association: by "release", "abort" or "close", the last two within a message where there is one."""

    how: str
    within: Request | None
    place: int

    def of(self, client: Client, message_id: int, study: str) -> None:
        """Do it."""
        if self.how == "release":
            client.peer.release()
            return
        if self.within is not None:
            begun = encoded(self.within, message_id, study, client.max_pdu_bytes)
            if self.how == "abort":
                # Between two PDUs: bytes within one would be its own.
                client.send(b"".join(begun[: self.place % len(begun)]))
            else:
                whole = b"".join(begun)
                client.send(whole[: self.place % len(whole)])
        if self.how == "abort":
            # At once: its header is enough for the server, which closes.
            client.peer.send(raw_peer.pdu(7, bytes(4)))


ENDS = st.builds(
    End,
    st.sampled_from(("release", "abort", "close")),
    st.one_of(st.none(), REQUESTS, REQUESTS),
    st.one_of(st.integers(0, 1 << 21), st.just(-1)),
)
SHORT = Request(STORE, 3000, 1, [0, 20, -1], [True, False])
LONG = Request(STORE, 260_000, 2, [BEFORE_PADDING], [False])
ASKING = Request(FIND, 0, 0, [3, -1], [False])
ECHOING = Request(ECHO, 0, 0, [], [True])


@claim("A4")
@settings(max_examples=60, deadline=None)
@given(
    max_pdu_bytes=st.one_of(st.sampled_from((4096, 16_384, 131_072, 1 << 20, ANY_LENGTH)), st.integers(4096, 1 << 20)),
    tls=st.booleans(),
    requests=st.lists(REQUESTS, min_size=1, max_size=5),
    ahead=st.booleans(),
    segments=st.lists(st.integers(0, 1 << 22), max_size=12),
    end=ENDS,
)
# Several requests wait while a C-FIND is answered.
@example(4096, False, [SHORT, ASKING, LONG, ECHOING, ASKING], True, [], End("release", None, 0))
# What has come when it breaks off could be stored.
@example(16_384, True, [SHORT], False, [], End("abort", LONG, -1))
@example(ANY_LENGTH, False, [ECHOING, SHORT], False, [], End("close", LONG, -LAST_PDU))
def test_whole_messages_are_stored_as_they_are_and_broken_ones_not_at_all(
    site: Site,
    max_pdu_bytes: int,
    tls: bool,
    requests: list[Request],
    ahead: bool,
    segments: list[int],
    end: End,
) -> None:
    study = instances.uid()
    expected: dict[str, str] = {}
    with site.serving(max_pdu_bytes, tls=tls) as server:
        client = Client(site, server, segments, tls=tls)
        with client.peer:
            assert client.max_pdu_bytes == max_pdu_bytes
            messages = [
                b"".join(encoded(request, number, study, max_pdu_bytes)) for number, request in enumerate(requests)
            ]
            if ahead:
                # The answers are short: they wait in the kernel.
                client.send(b"".join(messages))
            for number, (request, message) in enumerate(zip(requests, messages, strict=True)):
                if not ahead:
                    client.send(message)
                client.answered(request, number, len(expected))
                context_id, command_set, data_set = by_pynetdicom(message)
                assert context_id == request.context_id
                if context_id == STORE:
                    expected[command_set.AffectedSOPInstanceUID] = digest(data_set)
            end.of(client, len(requests), study)
        eventually(lambda: server.active == 0)
        assert site.stored(study) == expected
        after = Client(site, server, [], tls=tls)
        with after.peer:
            asked = Request(FIND, 0, 0, [], [False])
            after.send(b"".join(encoded(asked, 1, study, max_pdu_bytes)))
            after.answered(asked, 1, len(expected))
            after.peer.release()
    assert list(site.core.spool.directory.iterdir()) == []
