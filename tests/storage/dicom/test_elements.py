"""The bounded tokenizer: what it refuses, and that it costs little to refuse it."""

from __future__ import annotations

import contextlib
import io
import resource
import struct
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.dicom.elements import Encoding, InflatingSource, Kind, Tokenizer
from storage.dicom.limits import Limits
from storage.errors import LimitExceeded, MalformedDataSet, Truncated, Unreadable
from tests.instances import ITEM, ITEM_END, SEQUENCE_END, element, encapsulated, extract, fragment, identity, text

DEFLATED = "1.2.840.10008.1.2.1.99"


def events(body: bytes, limits: Limits | None = None, encoding: Encoding | None = None) -> list[Kind]:
    return [each.kind for each in Tokenizer(io.BytesIO(body), encoding or Encoding(), limits or Limits())]


def nested(depth: int) -> bytes:
    opening = element(0x00400275, "SQ", b"", 0xFFFFFFFF) + ITEM
    return opening * depth + (ITEM_END + SEQUENCE_END) * depth


def test_a_value_longer_than_the_stream_is_truncated() -> None:
    with pytest.raises(Truncated):
        events(element(0x00100010, "PN", b"abc", 100))


def test_a_length_of_four_gigabytes_with_three_bytes_behind_it_is_truncated_without_allocation() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Truncated):
        extract(identity() + element(0x7FE00010, "OW", b"abc", 0xFFFFFFFE))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_a_header_cut_in_two_is_truncated() -> None:
    with pytest.raises(Truncated):
        events(text(0x00080018, "UI", "1.2.3")[:5])


def test_an_encapsulated_value_without_its_end_is_truncated() -> None:
    with pytest.raises(Truncated):
        events(element(0x7FE00010, "OB", fragment(b"") + fragment(b"abcd"), 0xFFFFFFFF))


def test_nesting_is_accepted_up_to_the_limit_and_refused_beyond_it() -> None:
    assert events(nested(64)).count(Kind.SEQUENCE) == 64
    with pytest.raises(LimitExceeded, match="64 deep"):
        events(nested(65))


def test_five_thousand_levels_are_refused_without_recursion() -> None:
    with pytest.raises(LimitExceeded):
        events(nested(5000))


def test_more_elements_than_allowed_are_refused() -> None:
    with pytest.raises(LimitExceeded, match="10 elements"):
        events(b"".join(element(0x00091000 + n, "UN", b"") for n in range(20)), Limits(max_elements=10))


def test_a_million_empty_items_cost_less_than_a_second_of_cpu() -> None:
    body = element(0x00400275, "SQ", struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 1_000_000)
    started = time.process_time()
    found = extract(identity() + body)
    assert time.process_time() - started < 5  # liveness with a wide margin; the figure is in benchmarks/
    assert found.metadata.count(b"{}") == 1_000_000


def test_empty_items_count_towards_the_limit() -> None:
    body = element(0x00400275, "SQ", struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 1000)
    with pytest.raises(LimitExceeded):
        events(body, Limits(max_elements=999))


def test_a_deflated_stream_that_inflates_beyond_the_ratio_is_stopped() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(identity() + element(0x7FE00010, "OW", bytes(64 << 20))) + packer.flush()
    assert len(bomb) < 128 << 10
    with pytest.raises(LimitExceeded, match="ratio"):
        extract(bomb, DEFLATED)


def test_inflating_gives_no_more_than_is_asked_for() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(bytes(10 << 20)) + packer.flush()
    source = InflatingSource(io.BytesIO(packed), Limits())
    assert len(source.read(1000)) <= 1000


def test_a_deflated_stream_that_ends_early_is_truncated() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(identity()) + packer.flush()
    with pytest.raises(Truncated):
        extract(packed[:-4], DEFLATED)


@pytest.mark.parametrize(
    "body",
    [
        ITEM_END,
        SEQUENCE_END,
        element(0x00400275, "SQ", text(0x00100010, "PN", "Not^An^Item")),
        element(0x00100010, "UT", b"abcd", 0xFFFFFFFF),
        text(0x00020010, "UI", "1.2.840.10008.1.2"),
        element(0x00400275, "SQ", struct.pack("<HHI", 0xFFFE, 0xE000, 100) + b"abcd"),
        element(0x00400275, "SQ", ITEM + ITEM_END + text(0x00100010, "PN", "ab"), 20),
    ],
    ids=[
        "item end outside", "sequence end outside", "no item", "undefined length of text", "group 0002",
        "item beyond its sequence", "sequence ends inside an item",
    ],
)  # fmt: skip
def test_structure_that_contradicts_itself_is_refused(body: bytes) -> None:
    with pytest.raises(Unreadable):
        events(body)


def test_zero_bytes_after_the_last_element_are_padding() -> None:
    assert events(text(0x00080018, "UI", "1.2.3") + bytes(512)) == [Kind.ELEMENT]


def test_an_attribute_that_stands_twice_is_refused() -> None:
    with pytest.raises(MalformedDataSet, match="PatientID"):
        extract(text(0x00100020, "LO", "A") + text(0x00100020, "LO", "B") + identity())


def test_a_private_sequence_of_vr_un_is_read_as_implicit() -> None:
    inner = struct.pack("<HHI", 0x0010, 0x0020, 4) + b"ABCD"
    body = element(0x00091010, "UN", ITEM + inner + ITEM_END + SEQUENCE_END, 0xFFFFFFFF)
    found = extract(body + identity())
    assert b'"00100020":{"vr":"LO","Value":["ABCD"]}' in found.metadata


def test_implicit_elements_in_a_data_set_declared_explicit_are_read() -> None:
    implicit = struct.pack("<HHI", 0x0010, 0x0020, 4) + b"ABCD"
    assert extract(implicit + identity()).data_set["00100020"]["Value"] == ["ABCD"]


def test_fragments_are_offered_without_their_item_headers() -> None:
    body = encapsulated(b"abcd", b"efgh")
    tokenizer = Tokenizer(io.BytesIO(body), Encoding(), Limits())
    taken = []
    for event in tokenizer:
        if event.kind is Kind.FRAGMENT:
            value = b"".join(tokenizer.blocks())
            taken.append(value)
            assert body[event.offset : event.offset + event.length] == value
    assert taken == [b"", b"abcd", b"efgh"]


@given(st.binary(max_size=400), st.booleans(), st.booleans())
def test_arbitrary_bytes_end_in_events_or_in_a_domain_error(body: bytes, implicit: bool, big_endian: bool) -> None:
    with contextlib.suppress(Unreadable):
        events(body, encoding=Encoding(implicit, big_endian))


@given(st.integers(0, 2000), st.binary(min_size=1, max_size=8))
def test_a_real_instance_with_changed_bytes_ends_in_an_extract_or_a_domain_error(place: int, change: bytes) -> None:
    from pydicom.data import get_testdata_file

    path = get_testdata_file("MR_small.dcm")
    assert isinstance(path, str)
    body = bytearray(Path(path).read_bytes()[346:])
    body[place : place + len(change)] = change
    with contextlib.suppress(Unreadable):
        extract(bytes(body))
