"""What the reader makes of bytes is what pynetdicom makes of them, however they are cut."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.pdu import P_DATA_TF

from gateway.config.storing import StorageSettings
from gateway.dimse import pdus
from gateway.dimse.commands import Command, Element, Field, MalformedCommand
from gateway.dimse.ending import Aborted, Released
from gateway.dimse.messages import Context, Message, Terms
from gateway.dimse.reader import Reader
from gateway.dimse.received import Received
from gateway.dimse.wire import Wire
from gateway.services.spool import Spool
from storage.dicom import file_meta
from tests import raw_peer
from tests.gateway.http.conftest import Authority

CONTEXTS = {
    1: Context(1, raw_peer.VERIFICATION, raw_peer.IMPLICIT),
    3: Context(3, raw_peer.STUDY_ROOT_FIND, raw_peer.EXPLICIT),
    5: Context(5, "1.2.840.10008.5.1.4.1.1.2", raw_peer.EXPLICIT),
}
ANY_LENGTH = 0


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Spool:
    return Spool(tmp_path_factory.mktemp("spool"), 5000, StorageSettings().max_instance_bytes)


@contextlib.contextmanager
def reading(spool: Spool, max_pdu_bytes: int = ANY_LENGTH) -> Iterator[tuple[socket.socket, Reader]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield theirs, Reader(Wire(ours, 10.0), CONTEXTS, Terms(10.0, 10.0, max_pdu_bytes, 0), spool)


@st.composite
def requests(draw: st.DrawFn) -> tuple[int, Command, bytes | None]:
    """A C-ECHO, C-FIND or C-STORE request: context, command set, data set."""
    context_id = draw(st.sampled_from(sorted(CONTEXTS)))
    field = {1: Field.C_ECHO_RQ, 3: Field.C_FIND_RQ, 5: Field.C_STORE_RQ}[context_id]
    values: dict[Element, int | str] = {
        Element.AFFECTED_SOP_CLASS_UID: CONTEXTS[context_id].abstract_syntax,
        Element.MESSAGE_ID: draw(st.integers(0, 0xFFFF)),
    }
    if field != Field.C_ECHO_RQ:
        values[Element.PRIORITY] = draw(st.sampled_from((0, 1, 2)))
    if field == Field.C_STORE_RQ:
        values[Element.AFFECTED_SOP_INSTANCE_UID] = "1.2." + str(draw(st.integers(0, 10**20)))
    data_set = None
    if field != Field.C_ECHO_RQ:
        size = draw(st.sampled_from((0, 1, 2, 100, 4091, 4096, 9000, 70_000))) + draw(st.integers(0, 5))
        data_set = (draw(st.binary(min_size=1, max_size=64)) * (size + 1))[:size]
    return context_id, Command.of(field, values, data_set=data_set is not None), data_set


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Into fragments, some of them empty."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def encoded(request: tuple[int, Command, bytes | None], places: list[int], together: list[bool]) -> bytes:
    """The PDUs of a request that is cut anywhere, its fragments in PDUs of their own or with the one before."""
    context_id, command, data_set = request
    fragments: list[bytes] = []
    for control, value in ((pdus.COMMAND, command.encode()), (0, data_set)):
        if value is not None:
            parts = cut(value, places)
            fragments += [raw_peer.fragment(context_id, control, part) for part in parts[:-1]]
            fragments.append(raw_peer.fragment(context_id, control | pdus.LAST, parts[-1]))
    bodies: list[bytes] = []
    for number, fragment in enumerate(fragments):
        if bodies and together[number % len(together)]:
            bodies[-1] += fragment
        else:
            bodies.append(fragment)
    return b"".join(raw_peer.pdu(4, body) for body in bodies)


def content(message: Message) -> bytes | None:
    """The data set's bytes."""
    if not isinstance(message.data_set, Received):
        return message.data_set
    with message.data_set.spooled() as spooled, spooled.open() as file:
        head = file_meta.write(file_meta.FileMeta(message.context.transfer_syntax))
        assert file.read(len(head)) == head
        return file.read()


def by_pynetdicom(data: bytes) -> tuple[int | None, Dataset, bytes]:
    """The same message by pynetdicom: context, command set, data set."""
    message = DIMSEMessage()
    whole = False
    while data:
        assert not whole
        length = pdus.HEADER.size + int.from_bytes(data[2:6], "big")
        pdu = P_DATA_TF()
        pdu.decode(data[:length])
        whole = message.decode_msg(pdu.to_primitive())
        data = data[length:]
    assert whole
    data_set = message.data_set.getvalue() if message.data_set is not None else b""
    return message.context_id, message.command_set, data_set


def as_pynetdicom(command: Command) -> dict[int, int | str]:
    """The elements by their tags, as text or number."""
    return {
        number: command.text(Element(number)) if number in UIDS else command.number(Element(number))
        for number in command.elements
    }


PLACES = st.lists(st.integers(0, 1 << 20), max_size=6)
TOGETHER = st.lists(st.booleans(), min_size=1, max_size=5)
UIDS = (Element.AFFECTED_SOP_CLASS_UID, Element.AFFECTED_SOP_INSTANCE_UID)


def sending(theirs: socket.socket, data: bytes, chunk: int) -> threading.Thread:
    def run() -> None:
        with contextlib.suppress(OSError):
            for start in range(0, len(data), chunk):
                theirs.sendall(data[start : start + chunk])

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(requests(), PLACES, TOGETHER), min_size=1, max_size=4),
    st.integers(7, 70_000),
    st.sampled_from(("release", "abort", "close")),
)
def test_messages_cut_anywhere_are_what_pynetdicom_makes_of_them(
    spool: Spool, sent: list[tuple[tuple[int, Command, bytes | None], list[int], list[bool]]], chunk: int, end: str
) -> None:
    messages = [encoded(*each) for each in sent]
    last = {"release": raw_peer.RELEASE_RQ, "abort": raw_peer.pdu(7, bytes(4)), "close": b""}[end]
    with reading(spool) as (theirs, reader):
        thread = sending(theirs, b"".join(messages) + last, chunk)
        for (request, _, _), data in zip(sent, messages, strict=True):
            message = reader.read(10.0)
            context_id, command_set, data_set = by_pynetdicom(data)
            assert message.context.id == context_id == request[0]
            assert content(message) == request[2]
            assert data_set == (request[2] or b"")
            theirs_read = {each.tag.element: each.value for each in command_set if each.tag.element}
            assert as_pynetdicom(message.command) == theirs_read
        if end == "close":
            thread.join()
            theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(Released if end == "release" else Aborted):
            reader.read(10.0)
        if end == "release":
            assert theirs.recv(10) == raw_peer.RELEASE_RP
        thread.join()
    assert list(spool.directory.iterdir()) == []


@settings(max_examples=30, deadline=None)
@given(requests(), st.sampled_from((0, 4096, 16_384, 131_072, 1 << 20)), st.integers(1, 70_000))
def test_what_we_send_is_read_by_pynetdicom_and_by_us(
    spool: Spool, request_: tuple[int, Command, bytes | None], most: int, block: int
) -> None:
    context_id, command, data_set = request_
    blocks = None if data_set is None else [data_set[at : at + block] for at in range(0, len(data_set), block)]
    data = b"".join(pdus.message(context_id, command.encode(), blocks, most))
    read_id, command_set, read_data = by_pynetdicom(data)
    assert read_id == context_id
    assert read_data == (data_set or b"")
    assert {each.tag.element: each.value for each in command_set if each.tag.element} == as_pynetdicom(command)
    with reading(spool, most) as (theirs, reader):
        thread = sending(theirs, data, 1 << 16)
        assert content(reader.read(10.0)) == data_set
        thread.join()


@settings(max_examples=60, deadline=None)
@given(requests(), st.data())
def test_a_message_that_breaks_off_anywhere_leaves_nothing(
    spool: Spool, request_: tuple[int, Command, bytes | None], data: st.DataObject
) -> None:
    whole = encoded(request_, [], [False])
    part = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with reading(spool) as (theirs, reader):
        thread = sending(theirs, part, 70_000)
        with theirs.dup() as ending:
            closing = threading.Thread(target=lambda: (thread.join(), ending.shutdown(socket.SHUT_WR)))
            closing.start()
            with pytest.raises(Aborted):
                reader.read(10.0)
            closing.join()
    assert list(spool.directory.iterdir()) == []


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_a_command_set_of_any_bytes_is_decoded_or_malformed(data: bytes) -> None:
    with contextlib.suppress(MalformedCommand):
        Command.decode(data)


@pytest.mark.parametrize("ahead", [1, 3])
def test_messages_over_tls_are_read_though_they_wait_in_the_library(spool: Spool, tmp_path: Path, ahead: int) -> None:
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("server"))
    echoed = raw_peer.echo()
    stored = encoded(
        (5, Command.of(Field.C_STORE_RQ, STORED, data_set=True), bytes(range(256)) * 1000), [70_000, 140_000], [False]
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connecting = threading.Thread(target=lambda: secured.append(context.wrap_socket(ours, server_side=True)))
        secured: list[ssl.SSLSocket] = []
        connecting.start()
        client = authority.client().wrap_socket(theirs, server_hostname="localhost")
        connecting.join()
        with client, secured[0]:
            reader = Reader(Wire(secured[0], 10.0), CONTEXTS, Terms(10.0, 10.0, ANY_LENGTH, 0), spool)
            assert not reader.has_arrived()
            # One record of TLS, of which the first PDU is taken: the others wait where no poll sees them.
            client.sendall(echoed * ahead)
            for _ in range(ahead):
                assert reader.read(10.0).command.field == Field.C_ECHO_RQ
            assert not reader.has_arrived()
            sender = sending(client, stored, 1 << 16)
            assert content(reader.read(10.0)) == bytes(range(256)) * 1000
            sender.join()
            client.close()
            with pytest.raises(Aborted):
                reader.read(10.0)


STORED: dict[Element, int | str] = {
    Element.AFFECTED_SOP_CLASS_UID: CONTEXTS[5].abstract_syntax,
    Element.MESSAGE_ID: 1,
    Element.PRIORITY: 0,
    Element.AFFECTED_SOP_INSTANCE_UID: "1.2.3",
}
