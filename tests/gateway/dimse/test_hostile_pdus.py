"""PDUs that no peer sends: each is refused with what PS3.8 has for it, on its header, and costs nothing else.

The classes are D1 (lengths), D3 (order, types, fragments) and D4 (association requests).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from gateway.assembly import Core
from gateway.dimse.server import DimseServer
from tests import instances
from tests.conformance.claims import claim
from tests.gateway.dimse.conftest import eventually
from tests.raw_peer import (
    COMMAND,
    EXPLICIT,
    LAST,
    RELEASE_RQ,
    STUDY_ROOT_FIND,
    RawPeer,
    command,
    context,
    echo,
    element,
    fragment,
    item,
    p_data,
    pdu,
    request,
    user_information,
)

LONG = 1 << 30
BY_USER = (7, b"\0\0\0\0")
WHOLE_ECHO = command(0x0030)


def by_provider(reason: int) -> tuple[int, bytes]:
    return 7, bytes((0, 0, 2, reason))


def rejected(result: int, source: int, reason: int) -> tuple[int, bytes]:
    return 3, bytes((0, result, source, reason))


@pytest.fixture
def peer(server: DimseServer) -> Iterator[RawPeer]:
    """A peer without an association; afterwards everybody else is served, and nothing of it is left."""
    with RawPeer(server.address) as opened:
        yield opened
    with RawPeer(server.address) as good:
        good.associate()
        good.send(echo())
        assert good.response() == 0
        good.release()
    eventually(lambda: server.active == 0)


BEFORE = {
    "P-DATA": p_data(fragment(1, COMMAND | LAST, WHOLE_ECHO)),
    "P-DATA without an end": struct.pack(">BxI", 4, LONG),
    "A-ASSOCIATE-AC": pdu(2, request()[6:]),
    "A-ASSOCIATE-RJ": pdu(3, b"\0\1\1\1"),
    "A-RELEASE-RQ": RELEASE_RQ,
    "A-RELEASE-RP": pdu(6, bytes(4)),
    "unknown type": pdu(8, b"what"),
    "another protocol": b"GET / HTTP/1.1\r\n\r\n",
    "request without an end": struct.pack(">BxI", 1, LONG),
    "request over the limit": struct.pack(">BxI", 1, 262_145),
    "request without its fixed fields": pdu(1, bytes(20)),
    "request whose items run over": pdu(1, request()[6:-1]),
    "context without a syntax": request(item(0x20, b"\1\0\0\0" + item(0x30, b"1.2"))),
    "context of an even number": request(context(2)),
    "context of number 0": request(context(0)),
    "two contexts of one number": request(context(1), context(1)),
    "transfer syntax that is no UID": request(context(1, "1.2.840.10008.1.1", "\x7f.2")),
    "role of no SOP class": request(user=user_information(item(0x54, b"\0\3\1.2\1\1"))),
    "implementation class that is no UID": request(user=item(0x50, item(0x52, b"\x1b[2J"))),
    "empty transfer syntax": request(context(1, "1.2.840.10008.1.1", "")),
    "no context": pdu(1, struct.pack(">HH16s16s32x", 1, 0, b"GATEWAY".ljust(16), b"X".ljust(16))),
}


@claim("A24")
@pytest.mark.parametrize("sent", BEFORE.values(), ids=BEFORE)
def test_what_is_no_request_is_aborted_as_by_the_user(peer: RawPeer, sent: bytes) -> None:
    """D1, D3; PS3.8 9.2.3: AA-1 in Sta2."""
    peer.send(sent)
    assert peer.receive() == BY_USER
    assert peer.receive() is None


FIND = command(0x0020, sop_class=STUDY_ROOT_FIND, data_set=True)

REJECTED = {
    "1,000 contexts": (request(*(context(1 + 2 * n) for n in range(1000))), (1, 2, 1)),
    "16,000 sub-items": (request(user=item(0x50, item(0x60, b"") * 16_000)), (1, 2, 1)),
    "2,000 transfer syntaxes": (request(context(1, "1.2.840.10008.1.1", *("1.2.3",) * 2000)), (1, 2, 1)),
    "60 KB of user identity": (request(user=user_information(item(0x58, b"\1\0" + bytes(60_000)))), (1, 2, 1)),
    "no calling AE title": (request(calling=b""), (1, 1, 3)),
    "calling AE title of zeros": (request(calling=bytes(16)), (1, 1, 3)),
    "control bytes in the calling AE title": (request(calling=b"CT\x1b[2J"), (1, 1, 3)),
    "backslash in the calling AE title": (request(calling=b"CT\\1"), (1, 1, 3)),
    "no called AE title": (request(called=b""), (1, 1, 7)),
    "control bytes in the called AE title": (request(called=b"GATE\nWAY"), (1, 1, 7)),
    "another protocol version": (request(version=2), (1, 2, 2)),
    "another application context": (request(application=b"1.2.3"), (1, 1, 2)),
    "PDUs of 16 bytes": (request(user=user_information(max_length=16)), (1, 2, 1)),
}  # fmt: skip


@claim("A22")
@pytest.mark.parametrize("case", REJECTED)
def test_a_request_beyond_what_can_be_is_rejected(peer: RawPeer, core: Core, case: str) -> None:
    """D4."""
    sent, answer = REJECTED[case]
    peer.send(sent)
    assert peer.receive() == rejected(*answer)
    assert peer.receive() is None
    [file] = (core.settings.storage.directory / "audit").glob("*.jsonl")
    [line] = [each for each in file.read_text().splitlines() if '"associate"' in each]
    assert '"denied"' in line
    assert "\\u001b" not in line


def test_a_user_identity_of_65_kib_does_not_even_fit(peer: RawPeer) -> None:
    """D4: its item's length has 16 bits, so that what follows cannot be followed."""
    peer.send(request(user=struct.pack(">BxH", 0x50, 4) + struct.pack(">BxH", 0x58, 0xFFFF) + bytes(66_560)))
    assert peer.receive() == BY_USER


AFTER = {
    "P-DATA longer than agreed": (struct.pack(">BxI", 4, 131_073), by_provider(6)),
    "P-DATA without an end": (struct.pack(">BxI", 4, 0xFFFFFFFF), by_provider(6)),
    "P-DATA of nothing": (pdu(4, b""), by_provider(6)),
    "P-DATA that ends in a header": (pdu(4, b"\0\0\0\2\1"), by_provider(6)),
    "second request": (request(), by_provider(2)),
    "A-ASSOCIATE-AC": (pdu(2, request()[6:]), by_provider(2)),
    "A-ASSOCIATE-RJ": (pdu(3, b"\0\1\1\1"), by_provider(2)),
    "A-RELEASE-RP": (pdu(6, bytes(4)), by_provider(2)),
    "A-RELEASE-RQ of another length": (pdu(5, bytes(8)), by_provider(6)),
    "unknown type": (pdu(0x2A, b"what"), by_provider(1)),
    "fragment of length 0": (p_data(struct.pack(">IBB", 0, 1, 3)), by_provider(6)),
    "fragment of length 1": (p_data(struct.pack(">IBB", 1, 1, 3)), by_provider(6)),
    "fragment longer than its PDU": (p_data(struct.pack(">IBB", 100, 1, 3) + b"short"), by_provider(6)),
    "fragment after which a header is cut": (p_data(fragment(1, COMMAND, b"") + b"\0\0\0"), by_provider(6)),
    "context of an even number": (p_data(fragment(2, 3, WHOLE_ECHO)), by_provider(6)),
    "context that was not accepted": (p_data(fragment(77, 3, WHOLE_ECHO)), by_provider(5)),
    "data set without a command set": (p_data(fragment(1, LAST, b"data")), by_provider(5)),
    "command set in two contexts": (p_data(fragment(1, COMMAND, b"\0\0"), fragment(3, 3, b"")), by_provider(5)),
    "release within a message": (p_data(fragment(1, COMMAND, b"\0\0")) + RELEASE_RQ, by_provider(2)),
    "command set after data": (
        p_data(fragment(3, 3, FIND), fragment(3, 0, b"ab"), fragment(3, 3, b"")),
        by_provider(5),
    ),
    "data set in another context": (
        p_data(fragment(3, 3, FIND), fragment(1, LAST, b"ab")),
        by_provider(5),
    ),
    "command set without an end": (p_data(fragment(1, COMMAND, bytes(65_000))) * 2, BY_USER),
    "identifier without an end": (
        p_data(fragment(3, 3, FIND))
        + p_data(fragment(3, 0, bytes(100_000))) * 3,
        BY_USER,
    ),
    "command set of nothing": (p_data(fragment(1, 3, b"")), BY_USER),
    "command set with an element twice": (p_data(fragment(1, 3, WHOLE_ECHO + element(0x0110, 2))), BY_USER),
    "command set with another group": (p_data(fragment(1, 3, WHOLE_ECHO + b"\x08\0\x05\0\0\0\0\0")), BY_USER),
    "Message ID of four bytes": (p_data(fragment(1, 3, command(0x0030) + element(0x0700, b"\0\0\0\0"))), BY_USER),
    "response to nothing": (
        p_data(fragment(1, 3, command(0x8001, 1, element(0x0120, 1), element(0x0900, 0)))),
        BY_USER,
    ),
    "message of another service": (p_data(fragment(1, 3, command(0x0150))), BY_USER),
}  # fmt: skip


@claim("A25")
@pytest.mark.parametrize("case", AFTER)
def test_what_is_wrong_on_an_association_is_aborted_with_its_reason(peer: RawPeer, case: str) -> None:
    """D1, D3; PS3.8 9.3.8."""
    sent, answer = AFTER[case]
    peer.associate(context(1), context(3, STUDY_ROOT_FIND))
    peer.send(sent)
    assert peer.receive() == answer
    assert peer.receive() is None


@claim("A30")
def test_a_request_of_another_service_than_its_context_is_not_recognized(peer: RawPeer, core: Core) -> None:
    found = instances.data_set(SOPClassUID="1.2.840.10008.1.1")
    peer.associate(context(1, "1.2.840.10008.1.1", EXPLICIT))
    uid = element(0x1000, found.SOPInstanceUID.encode())
    peer.send(p_data(fragment(1, 3, command(0x0001, 1, uid, data_set=True))))
    peer.send(p_data(fragment(1, LAST, instances.encode(found))))
    assert peer.response() == 0x0211
    peer.send(echo(2))
    assert peer.response() == 0
    assert list(core.archive.objects.list("")) == []
    peer.release()


@claim("A31")
def test_requests_ahead_of_their_responses_are_answered_in_their_order(peer: RawPeer) -> None:
    peer.associate()
    peer.send(b"".join(echo(number) for number in range(1, 51)))
    assert [peer.response() for _ in range(50)] == [0] * 50
    peer.release()


def test_an_abort_ends_it_without_an_answer(peer: RawPeer) -> None:
    peer.associate()
    peer.send(pdu(7, bytes(4)))
    assert peer.receive() is None
