"""Frame tables: where each frame lies."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.dicom.frames import CHUNK_FRAMES, FragmentRecorder, FrameKind, first_fragments, pack_chunks, unpack_frame
from storage.errors import FramesNotLocatable
from tests.instances import data_set, element, encapsulated, encode, extract, identity, text


def recorded(lengths: list[int], starts: list[bool] | None = None, table: bytes = b"") -> FragmentRecorder:
    recorder, offset = FragmentRecorder(), 1000
    for number, length in enumerate(lengths):
        begins = starts[number] if starts is not None else True
        recorder.add(offset + 8, length, b"\xff\xd8\xff\xe0" if begins else b"data")
        offset += 8 + length
    recorder.basic_offset_table = table
    return recorder


def words(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "little") for value in values)


def test_native_frames_lie_at_a_stride() -> None:
    found = data_set(NumberOfFrames=3, PixelData=bytes(96))
    extracted = extract(encode(found))
    table = extracted.frames
    assert (table.kind, table.count, table.stride) == (FrameKind.NATIVE, 3, 32)
    assert encode(found)[table.offset - 12 : table.offset - 8] == b"\xe0\x7f\x10\x00"


def test_frames_that_do_not_end_on_a_byte_take_the_decoding_way() -> None:
    found = data_set(Rows=3, Columns=3, BitsAllocated=1, BitsStored=1, HighBit=0, NumberOfFrames=5, PixelData=bytes(6))
    table = extract(encode(found)).frames
    assert (table.kind, table.count, table.stride_bits) == (FrameKind.DECODE, 5, 9)


def test_missing_pixels_are_missing_frames() -> None:
    assert extract(encode(data_set(NumberOfFrames=3, PixelData=bytes(70)))).frames.count == 2


def test_ybr_full_422_has_two_samples_a_pixel() -> None:
    found = data_set(
        PhotometricInterpretation="YBR_FULL_422", SamplesPerPixel=3, BitsAllocated=8, BitsStored=8, HighBit=7,
        PlanarConfiguration=0, PixelData=bytes(32),
    )  # fmt: skip
    assert extract(encode(found)).frames.stride == 32


def test_the_basic_offset_table_groups_fragments_into_frames() -> None:
    recorder = recorded([10, 10, 20, 30], table=words(0, 36))
    assert list(first_fragments(recorder, 2, None)) == [0, 2]


def test_the_extended_offset_table_wins_over_the_basic_one() -> None:
    recorder = recorded([10, 10, 20], table=words(0, 18))
    assert list(first_fragments(recorder, 2, ([0, 36], [28, 20]))) == [0, 2]


def test_without_a_table_one_fragment_is_one_frame() -> None:
    assert list(first_fragments(recorded([5, 6, 7]), 3, None)) == [0, 1, 2]


def test_one_frame_takes_all_fragments() -> None:
    assert list(first_fragments(recorded([5, 6, 7], [True, False, False]), 1, None)) == [0]


def test_codestream_starts_tell_frames_of_several_fragments_apart() -> None:
    recorder = recorded([5, 6, 7, 8], [True, False, True, False])
    assert list(first_fragments(recorder, 2, None)) == [0, 2]


def test_a_wrong_offset_table_does_not_win_over_the_fragments() -> None:
    assert list(first_fragments(recorded([5, 6, 7], table=words(0, 3, 9)), 3, None)) == [0, 1, 2]


def test_fragments_that_fit_no_rule_are_not_located() -> None:
    with pytest.raises(FramesNotLocatable, match="4 fragments for 3 frames"):
        first_fragments(recorded([5, 6, 7, 8]), 3, None)
    with pytest.raises(FramesNotLocatable, match="no fragment"):
        first_fragments(FragmentRecorder(), 1, None)


def test_an_instance_with_such_fragments_is_kept_and_says_so() -> None:
    body = identity() + text(0x00280008, "IS", "3") + encapsulated(b"aaaa", b"bbbb")
    table = extract(body).frames
    assert table.kind is FrameKind.DECODE
    assert "2 fragments for 3 frames" in table.reason


def test_an_instance_without_pixels_has_no_frames() -> None:
    assert extract(identity()).frames.kind is FrameKind.NONE


def test_ranges_hold_exactly_the_codestreams() -> None:
    frames = [b"\xff\xd8\xffone!", b"\xff\xd8\xffsecond", b"\xff\xd8\xff3\0"]
    body = identity() + text(0x00280008, "IS", "3") + encapsulated(*frames)
    (chunk,) = extract(body).frame_chunks
    for number, frame in enumerate(frames, 1):
        ((offset, length),) = unpack_frame(chunk, number).ranges
        assert body[offset : offset + length] == frame


@given(st.lists(st.lists(st.integers(0, 1 << 31), min_size=1, max_size=3), min_size=1, max_size=40))
def test_packing_and_unpacking_give_the_same_ranges(frames: list[list[int]]) -> None:
    recorder, first, expected, offset = FragmentRecorder(), array("I"), [], 0
    for lengths in frames:
        first.append(len(recorder.offsets))
        ranges = []
        for length in lengths:
            recorder.add(offset + 8, length, b"")
            ranges.append((offset + 8, length))
            offset += 8 + length
        expected.append(tuple(ranges))
    (chunk,) = pack_chunks(recorder, first)
    assert [unpack_frame(chunk, number).ranges for number in range(1, len(frames) + 1)] == expected


def test_a_million_frames_are_a_few_hundred_chunks() -> None:
    recorder = FragmentRecorder()
    count = 1_000_000
    recorder.offsets = array("Q", range(8, count * 16, 16))
    recorder.lengths = array("I", [8]) * count
    chunks = list(pack_chunks(recorder, array("I", range(count))))
    assert len(chunks) == -(-count // CHUNK_FRAMES)
    assert unpack_frame(chunks[-1], count).ranges == ((8 + (count - 1) * 16, 8),)


def test_a_bulk_value_of_another_sequence_is_not_the_instances_pixels() -> None:
    icon = element(
        0x00880200, "SQ", b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + encapsulated(b"icon") + b"\xfe\xff\x0d\xe0\0\0\0\0"
    )
    found = extract(identity() + icon)
    assert found.frames.kind is FrameKind.NONE
    assert [item.path for item in found.bulk] == ["00880200.1.7FE00010"]
