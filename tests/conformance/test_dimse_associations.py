"""Conformance statement 3.1 and 3.2: associations and presentation contexts."""

from __future__ import annotations

import contextlib
import struct

import pytest

from gateway.dimse import status
from tests.conformance.claims import STATEMENT, claim
from tests.conformance.network import STUDY_FIND, Dimse
from tests.instances import CT, data_set
from tests.raw_peer import (
    COMMAND,
    EXPLICIT,
    LAST,
    VERIFICATION,
    RawPeer,
    command,
    context,
    echo,
    element,
    fragment,
    p_data,
    status_of,
)

STORE = command(0x0001, 1, element(0x0700, 0), element(0x1000, b"1.2.3"), sop_class=CT, data_set=True)
COMMITMENT = "1.2.840.10008.1.20.1"
BY_USER = (7, bytes(4))


def element_of(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    """An element in Explicit VR Little Endian."""
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


@claim("X6", "X7")
@pytest.mark.parametrize(
    ("abstract", "syntax", "result"),
    [
        ("1.2.840.10008.5.1.1.9", "1.2.840.10008.1.2", 3),
        ("1.2.840.10008.5.1.1.1", "1.2.840.10008.1.2", 3),
        ("1.2.840.10008.1.20.2", "1.2.840.10008.1.2", 3),
        (VERIFICATION, "1.2.840.10008.1.2.4.70", 4),
        (CT, "1.2.840.113619.5.2", 4),
        (CT, "1.2.840.10008.1.2.4.95", 4),
        (CT, "1.2.840.10008.1.2.4.205", 4),
    ],
)
def test_contexts_that_are_not_accepted_are_told_why(dimse: Dimse, abstract: str, syntax: str, result: int) -> None:
    association = dimse.associate((STUDY_FIND, [EXPLICIT]), (abstract, [syntax]))
    (rejected,) = association.rejected_contexts
    assert (str(rejected.abstract_syntax), rejected.result) == (abstract, result)
    association.release()


@claim("A32")
def test_a_data_set_without_an_end_is_aborted(dimse: Dimse) -> None:
    with RawPeer(dimse.address) as peer:
        peer.associate(context(1, CT, EXPLICIT))
        peer.send(p_data(fragment(1, COMMAND | LAST, STORE)))
        part = p_data(fragment(1, 0, bytes(131_000)))
        # The end may come while something is still under way, of which the peer is told by a reset.
        with contextlib.suppress(ConnectionError):
            for _ in range(150):
                peer.send(part)
            assert peer.receive() == BY_USER
        assert peer.ended_after_s() < 10


@claim("A32")
def test_a_data_set_that_is_just_too_long_is_answered(dimse: Dimse) -> None:
    large, small = data_set(PixelData=bytes(1 << 20)), data_set()
    assert [each.Status for each in dimse.store(large, small)] == [0xA700, 0x0000]


@claim("A33")
@pytest.mark.parametrize(("ahead", "aborts"), [(16, False), (17, True)])
def test_no_more_than_16_requests_come_ahead_of_their_responses(dimse: Dimse, ahead: int, aborts: bool) -> None:
    dimse.put(data_set(PatientID="AHEAD"))
    find = command(0x0020, 100, element(0x0700, 0), sop_class=STUDY_FIND, data_set=True)
    asked = element_of(0x0008, 0x0052, b"CS", b"STUDY ") + element_of(0x0010, 0x0020, b"LO", b"AHEAD ")
    with RawPeer(dimse.address) as peer:
        peer.associate(context(1), context(3, STUDY_FIND, EXPLICIT))
        peer.send(
            p_data(fragment(3, COMMAND | LAST, find), fragment(3, LAST, asked))
            + b"".join(echo(number) for number in range(1, ahead + 1))
        )
        if aborts:
            assert peer.receive() == BY_USER
            return
        answered: list[int] = []
        while answered.count(0) <= ahead:
            answer = peer.receive()
            assert answer is not None
            if answer[1][5] & COMMAND:
                answered.append(status_of(answer[1]))
        peer.release()
    # Those of the search first, of which the last one is no longer pending.
    assert set(answered[: -ahead - 1]) == {0xFF00}


@claim("Z9")
def test_action_information_without_an_end_is_aborted(dimse: Dimse) -> None:
    action = b"".join((
        element(0x0003, COMMITMENT.encode()), element(0x0100, 0x0130), element(0x0110, 1), element(0x0800, 1),
        element(0x1001, b"1.2.840.10008.1.20.1.1"), element(0x1008, 1),
    ))  # fmt: skip
    with RawPeer(dimse.address) as peer:
        peer.associate(context(1, COMMITMENT, EXPLICIT))
        peer.send(p_data(fragment(1, COMMAND | LAST, struct.pack("<HHII", 0, 0, 4, len(action)) + action)))
        part = p_data(fragment(1, 0, bytes(131_000)))
        for _ in range((4 << 20) // 131_000):
            peer.send(part)
        peer.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            peer.receive()
        peer.socket.settimeout(30)
        peer.send(part * 2)
        assert peer.receive() == BY_USER


def test_every_status_of_the_code_is_in_the_statement() -> None:
    text = STATEMENT.read_text(encoding="utf-8")
    section = text[text.index("## 3. ") : text.index("## 4. ")]
    assert {each.code for each in status.STATUSES if f"0x{each.code:04X}" not in section} == set()
