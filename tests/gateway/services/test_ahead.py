"""Reads that are begun before their turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import islice

import pytest

from gateway.services.ahead import MAX_BYTES, ReadAhead, Span, begun
from gateway.services.content import Content, held, joined
from storage.errors import StorageUnavailable

PATIENCE_S = 30


class Store:
    """Reads that say when they begin, go on when they may, and say when they are closed."""

    def __init__(self, ahead: ReadAhead | None) -> None:
        self.ahead = ahead
        self.begun: list[int] = []
        self.open = 0
        self.changed = threading.Condition()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def content(self, number: int, size: int = 10) -> Content:
        def read(start: int, length: int) -> Iterator[bytes]:
            with self.changed:
                self.begun.append(number)
                self.open += 1
                self.changed.notify_all()
            try:
                for _ in range(length):
                    assert self.may_go_on.wait(PATIENCE_S)
                    yield bytes([number])
            finally:
                with self.changed:
                    self.open -= 1
                    self.changed.notify_all()

        return Content(size, read, self.ahead)

    def wait_for(self, begun_reads: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.begun) >= begun_reads, PATIENCE_S)

    def wait_until_closed(self) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.open == 0, PATIENCE_S)


@pytest.fixture
def ahead() -> Iterator[ReadAhead]:
    ahead = ReadAhead(4)
    yield ahead
    ahead.close()


def room(ahead: ReadAhead) -> int:
    return ahead._room


def test_the_next_reads_are_begun_while_the_first_is_on_its_way(ahead: ReadAhead) -> None:
    store = Store(ahead)
    store.may_go_on.clear()
    # As in a multipart: something that is in memory stands before each.
    pieces = [piece for number in range(20) for piece in (held(b"--"), store.content(number))]
    whole = joined([piece.size for piece in pieces], lambda number: pieces[number])
    reading = whole.read(0, whole.size)
    assert next(reading) == b"--"
    first: list[bytes] = []
    reader = threading.Thread(target=lambda: first.append(next(reading)))
    reader.start()
    store.wait_for(4)
    assert sorted(store.begun) == [0, 1, 2, 3]
    store.may_go_on.set()
    reader.join()
    assert b"".join([*first, *reading]) == b"".join(bytes([number]) * 10 + b"--" for number in range(20))[:-2]
    assert sorted(store.begun) == list(range(20))


def test_a_read_that_is_alone_is_made_by_its_reader(ahead: ReadAhead) -> None:
    """A frame between the borders of its multipart: to ask another thread would only cost."""
    threads: list[str] = []

    def near() -> Iterator[bytes]:
        yield b"-"

    def far() -> Iterator[bytes]:
        threads.append(threading.current_thread().name)
        yield b"x"

    def taken(*spans: Span) -> bytes:
        return b"".join(block for blocks in begun(spans) for block in blocks)

    border, frame = Span(1, near), Span(1, far, ahead)
    assert taken(border, frame, border) == b"-x-"
    assert threads == [threading.current_thread().name]
    threads.clear()
    assert taken(border, frame, border, frame, border) == b"-x-x-"
    assert [name.partition("_")[0] for name in threads] == ["read-ahead"] * 2


def test_any_range_of_the_whole_is_what_it_was_without(ahead: ReadAhead) -> None:
    store, plain = Store(ahead), Store(None)
    sizes = [3, 0, 10, 1, 7, 10]
    both = [
        joined(sizes, lambda number, each=each: each.content(number, sizes[number]))  # type: ignore[misc]
        for each in (store, plain)
    ]
    for start in range(sum(sizes)):
        for length in range(sum(sizes) - start + 1):
            found = [b"".join(each.read(start, length)) for each in both]
            assert found[0] == found[1]


def test_what_was_begun_is_dropped_when_the_reader_leaves(ahead: ReadAhead) -> None:
    before = room(ahead)
    store = Store(ahead)
    whole = joined([10] * 20, store.content)
    reading = whole.read(0, whole.size)
    next(reading)
    store.may_go_on.clear()
    next(reading)
    reading.close()  # type: ignore[attr-defined]
    store.may_go_on.set()
    store.wait_until_closed()
    ahead.close()
    assert room(ahead) == before
    assert len(store.begun) < 12


def test_an_error_comes_in_its_turn(ahead: ReadAhead) -> None:
    before = room(ahead)
    store = Store(ahead)

    def failing(_: int, __: int) -> Iterator[bytes]:
        raise StorageUnavailable("gone")
        yield b""

    pieces = [store.content(0), store.content(1), Content(10, failing, ahead), store.content(3)]
    whole = joined([10] * 4, lambda number: pieces[number])
    reading = whole.read(0, 40)
    assert b"".join(islice(reading, 20)) == bytes(10) + b"\1" * 10
    with pytest.raises(StorageUnavailable, match="gone"):
        next(reading)
    ahead.close()
    assert room(ahead) == before


def test_long_reads_and_those_without_room_wait_for_their_turn() -> None:
    ahead = ReadAhead(4, held_bytes=15)
    store = Store(ahead)
    store.may_go_on.clear()
    spans = [Span(10, lambda number=number: store.content(number).read(0, 10), ahead) for number in range(4)]  # type: ignore[misc]
    reading = begun(spans)
    blocks = next(reading)
    store.wait_for(1)
    assert store.begun == [0]
    store.may_go_on.set()
    assert b"".join(blocks) == bytes(10)
    assert [b"".join(each) for each in reading] == [bytes([number]) * 10 for number in (1, 2, 3)]
    assert ahead.begin(Span(MAX_BYTES + 1, lambda: iter(()))) is None
    ahead.close()
