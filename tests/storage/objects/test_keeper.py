"""Blocks that are written into the read cache beside their readers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.objects.base import Piece
from storage.objects.keeper import Keeper
from storage.objects.read_cache import ReadCache
from tests.storage.objects.conformance import KEY

PATIENCE_S = 30


class SlowCache(ReadCache):
    """A cache that writes when it may, and says which thread wrote what."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, 1 << 30, trusted_s=60)
        self.may_write = threading.Event()
        self.written: list[tuple[str, str]] = []
        self.breaks = False

    def keep(self, key: str, number: int, piece: Piece) -> None:
        name = threading.current_thread().name
        if name != "MainThread":
            assert self.may_write.wait(PATIENCE_S)
        if self.breaks:
            raise RuntimeError("a defect")
        super().keep(key, number, piece)
        self.written.append((key, name.partition("_")[0]))


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[SlowCache]:
    cache = SlowCache(tmp_path / "cache")
    yield cache
    cache.may_write.set()


def block(number: int, size: int = 10) -> Piece:
    return Piece(bytes([number]) * size, size)


def test_nobody_waits_for_the_file_and_what_waits_is_to_be_had(cache: SlowCache) -> None:
    keeper = Keeper(cache)
    keeper.keep(KEY, 0, block(7))
    assert cache.read(KEY, 0) is None
    assert keeper.has(KEY, 0)
    assert keeper.read(KEY, 0) == block(7)
    assert not keeper.has(KEY, 1)
    assert keeper.read(KEY, 1) is None
    cache.may_write.set()
    keeper.settle()
    assert cache.read(KEY, 0) == keeper.read(KEY, 0) == block(7)
    keeper.close()


def test_what_is_brought_twice_is_written_once(cache: SlowCache) -> None:
    keeper = Keeper(cache)
    for _ in range(3):
        keeper.keep(KEY, 0, block(7))
    cache.may_write.set()
    keeper.close()
    assert cache.written == [(KEY, "read-cache")]


def test_who_brings_more_than_may_wait_writes_it(cache: SlowCache) -> None:
    keeper = Keeper(cache, held_bytes=25)
    for number, key in enumerate("abc"):
        keeper.keep(key, 0, block(number))
    assert cache.written == [("c", "MainThread")]
    assert [keeper.read(key, 0) for key in "abc"] == [block(number) for number in range(3)]
    cache.may_write.set()
    keeper.settle()
    cache.may_write.clear()
    # There is room again.
    keeper.keep("d", 0, block(3))
    assert cache.written == [("c", "MainThread"), ("a", "read-cache"), ("b", "read-cache")]
    cache.may_write.set()
    keeper.close()


def test_what_is_deleted_while_it_waits_is_neither_given_out_nor_kept(cache: SlowCache, tmp_path: Path) -> None:
    keeper = Keeper(cache)
    keeper.keep(KEY, 0, block(7))
    ReadCache(tmp_path / "cache", 1 << 30).drop(KEY)  # as another process does
    assert keeper.read(KEY, 0) is None
    assert not keeper.has(KEY, 0)
    cache.may_write.set()
    keeper.close()
    assert cache.written
    assert list((tmp_path / "cache").glob("??/*-*")) == []


def test_nothing_that_waits_is_given_out_while_the_cache_is_not_trusted(cache: SlowCache, tmp_path: Path) -> None:
    keeper = Keeper(cache)
    keeper.keep(KEY, 0, block(7))
    (tmp_path / "cache" / "compared").unlink()
    assert keeper.read(KEY, 0) is None
    cache.may_write.set()
    keeper.close()


def test_a_cache_that_the_file_system_refuses_has_nothing_and_fails_no_read(
    cache: SlowCache, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = Keeper(cache)
    keeper.keep(KEY, 0, block(7))
    (tmp_path / "cache").rename(tmp_path / "gone")
    (tmp_path / "cache").touch()  # each look into it fails now
    with caplog.at_level(logging.WARNING):
        assert keeper.read(KEY, 0) is None
        assert not keeper.has(KEY, 0)
        assert not keeper.has(KEY, 1)
    assert "the read cache does not work" in caplog.text
    cache.may_write.set()
    keeper.close()


def test_closing_waits_until_all_is_written(cache: SlowCache) -> None:
    keeper = Keeper(cache)
    for key in "abcde":
        keeper.keep(key, 0, block(7))
    threading.Timer(0.1, cache.may_write.set).start()
    keeper.close()
    assert cache.written == [(key, "read-cache") for key in "abcde"]
    keeper.close()
    keeper.settle()
    keeper.keep("f", 0, block(7))
    assert cache.written[-1] == ("f", "MainThread")


def test_a_defect_is_told_and_the_next_block_is_kept(cache: SlowCache, caplog: pytest.LogCaptureFixture) -> None:
    keeper = Keeper(cache)
    cache.breaks = True
    cache.may_write.set()
    with caplog.at_level(logging.ERROR):
        keeper.keep(KEY, 0, block(7))
        keeper.settle()
    assert "a block was not kept in the read cache" in caplog.text
    assert not keeper.has(KEY, 0)
    cache.breaks = False
    keeper.keep(KEY, 0, block(7))
    keeper.close()
    assert cache.read(KEY, 0) == block(7)
