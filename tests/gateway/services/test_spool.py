"""Arrivals that wait until they are whole."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import PayloadTooLarge
from gateway.services.spool import Spool, Spooled
from storage.objects.base import body_blocks

MEMORY_BYTES = 100_000


def read(spooled: Spooled) -> bytes:
    with spooled.open() as stream:
        whole = stream.read()
    assert b"".join(map(bytes, body_blocks(spooled.segments(0), 1 << 16))) == whole
    return whole


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([1, 7, 16_383, 16_384, 40_000]), st.sampled_from(["bytes", "view", "changing"])),
        max_size=8,
    )
)
def test_what_was_written_comes_out_whatever_its_pieces(tmp_path: Path, pieces: list[tuple[int, str]]) -> None:
    spooling, written = Spool(tmp_path, MEMORY_BYTES, 1 << 30).begin(), []
    for number, (size, kind) in enumerate(pieces):
        data = bytes([number + 1]) * size
        written.append(data)
        if kind == "bytes":
            spooling.write(data)
        elif kind == "view":
            spooling.write(memoryview(b"before" + data + b"behind")[6:-6])
        else:
            changing = bytearray(data)
            spooling.write(memoryview(changing))
            changing[:] = bytes(size)
    whole = b"".join(written)
    with spooling.finish() as spooled:
        assert read(spooled) == whole
        assert spooled.size == len(whole)
        assert len(list(tmp_path.iterdir())) == (len(whole) > MEMORY_BYTES)
    assert list(tmp_path.iterdir()) == []


def test_an_arrival_in_drops_takes_no_more_memory_than_its_bytes(tmp_path: Path) -> None:
    spooling = Spool(tmp_path, 1 << 20, 1 << 30).begin()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(200_000):
            spooling.write(memoryview(number.to_bytes(4, "little"))[:2])
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    spooling.discard()
    assert after - before < 2 * 400_000


def test_an_instance_that_is_too_long_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    spooling = Spool(tmp_path, 10, 100).begin()
    spooling.write(bytes(60))
    with pytest.raises(PayloadTooLarge):
        spooling.write(bytes(60))
    assert list(tmp_path.iterdir()) == []
