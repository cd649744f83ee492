"""Multipart: what is split, whatever the blocks, and what is refused."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dicomweb import multipart
from gateway.dicomweb.multipart import MultipartReader, PartBegin, PartData, PartEnd
from gateway.errors import InvalidRequest, PayloadTooLarge

BOUNDARY = b"xyz"


def parts(body: bytes, sizes: list[int] | None = None) -> list[tuple[dict[str, str], bytes]]:
    """Whole parts of a body fed in blocks of some sizes."""
    reader = MultipartReader(BOUNDARY)
    found: list[tuple[dict[str, str], bytes]] = []
    headers: dict[str, str] = {}
    data = bytearray()
    sizes = sizes or [len(body) or 1]
    position = number = 0
    while position < len(body):
        size = sizes[number % len(sizes)]
        number += 1
        for event in reader.feed(body[position : position + size]):
            if isinstance(event, PartBegin):
                headers, data = event.headers, bytearray()
            elif isinstance(event, PartData):
                data += event.data
            else:
                assert isinstance(event, PartEnd)
                found.append((headers, bytes(data)))
        position += size
    reader.close()
    return found


def encoded(*bodies: bytes, end: bytes = b"--xyz--\r\n") -> bytes:
    return b"".join(b"--xyz\r\nContent-Type: application/dicom\r\n\r\n" + body + b"\r\n" for body in bodies) + end


@given(
    st.lists(
        st.binary(max_size=60) | st.sampled_from([b"\r\n--xy", b"--xyz", b"\r\n\r\n--", b"\r\n--xyy"]), max_size=4
    ),
    st.lists(st.integers(1, 20), min_size=1, max_size=5),
)
def test_parts_come_out_as_they_went_in_whatever_the_blocks(bodies: list[bytes], sizes: list[int]) -> None:
    whole = [body for body in bodies if b"\r\n--xyz" not in b"\r\n" + body + b"\r\n"]
    assert [data for _, data in parts(encoded(*whole), sizes)] == whole


@pytest.mark.parametrize(
    "body",
    [
        b"a preamble\r\n" + encoded(b"one"),
        encoded(b"one") + b"an epilogue",
        encoded(b"one", end=b"--xyz--"),
        b"\r\n" + encoded(b"one"),
        encoded(b"one").replace(b"--xyz\r\n", b"--xyz \t\r\n"),
        b"--xyz\r\n\r\none\r\n--xyz--",
        b"--xyz\nContent-Type: application/dicom\n\none\r\n--xyz--",
    ],
    ids=["preamble", "epilogue", "no last line end", "empty line first", "padding", "no headers", "bare line feeds"],
)
def test_what_senders_do_is_taken(body: bytes) -> None:
    assert [data for _, data in parts(body)] == [b"one"]
    assert [data for _, data in parts(body, [1])] == [b"one"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no boundary at all",
        encoded(b"one", end=b""),
        encoded(b"one", end=b"--xyz"),
        b"--xyz\r\nContent-Type application/dicom\r\n\r\none\r\n--xyz--",
        b"--xyzzy\r\n\r\none\r\n--xyz--",
        b"x" * 20_000,
        b"--xyz\r\nContent-Type: " + b"a" * 20_000,
    ],
    ids=[
        "empty",
        "no boundary",
        "no end",
        "half an end",
        "no colon",
        "longer boundary",
        "long preamble",
        "long header",
    ],
)
def test_what_is_no_multipart_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parts(body)


@pytest.mark.parametrize("boundary", [None, "", "a" * 71, "a\r\nb", "ä", "a\0"])
def test_boundaries_out_of_form_are_refused(boundary: str | None) -> None:
    with pytest.raises(InvalidRequest):
        multipart.boundary_of(boundary)


def test_two_hundred_thousand_empty_parts_are_refused_early() -> None:
    body = b"--xyz\r\n\r\n\r\n" * 200_000 + b"--xyz--"
    started = time.process_time()
    with pytest.raises(InvalidRequest, match="empty parts"):
        parts(body)
    assert time.process_time() - started < 5


def test_more_parts_than_allowed_are_refused() -> None:
    body = b"--xyz\r\n\r\na\r\n" * (multipart.MAX_PARTS + 1) + b"--xyz--"
    with pytest.raises(PayloadTooLarge):
        parts(body, [1 << 16])


def test_a_block_within_a_part_is_given_on_as_it_came() -> None:
    reader = MultipartReader(BOUNDARY)
    list(reader.feed(b"--xyz\r\n\r\n" + b"begin"))
    block = bytes(1 << 16)
    (event,) = reader.feed(block)
    assert isinstance(event, PartData)
    assert event.data.obj is block
    assert len(event.data) == len(block)


def test_what_may_begin_a_boundary_waits_for_the_next_block() -> None:
    reader = MultipartReader(BOUNDARY)
    list(reader.feed(b"--xyz\r\n\r\n" + b"begin"))
    assert [event.data for event in reader.feed(b"one\r\n--x") if isinstance(event, PartData)] == [b"one"]
    assert [event.data for event in reader.feed(b"xz") if isinstance(event, PartData)] == [b"\r\n--xxz"]


def test_an_epilogue_is_not_held_in_memory() -> None:
    reader = MultipartReader(BOUNDARY)
    assert [type(event) for event in reader.feed(encoded(b"one"))] == [PartBegin, PartData, PartEnd]
    for _ in range(100):
        assert list(reader.feed(bytes(1 << 16))) == []
    assert len(reader._buffer) == 0
