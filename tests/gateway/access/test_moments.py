"""Moments that processes share: none is lost, whoever dies holds nobody up, and there is room for so many."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from gateway.access import moments
from gateway.access.moments import Moments, Tables
from storage.errors import StorageFull, StorageUnavailable

_spawned = multiprocessing.get_context("spawn")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "limits" / "sources"


@pytest.fixture(params=["shared", "own"])
def table(request: pytest.FixtureRequest, path: Path) -> Moments:
    return Moments(path if request.param == "shared" else None)


def add(path: Path, name: str, times: int) -> None:
    found = Moments(path)
    for _ in range(times):
        found.change(name, lambda before: before + 1.0)


def hold(path: Path, held: Event) -> None:
    descriptor = os.open(path, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    held.set()
    time.sleep(600)


@pytest.fixture
def holder(path: Path) -> Iterator[Callable[[], int]]:
    """Starts a process that stands still with the lock of the table; gives its id."""
    started = []

    def start() -> int:
        held = _spawned.Event()
        process = _spawned.Process(target=hold, args=(path, held))
        process.start()
        started.append(process)
        assert held.wait(30)
        assert process.pid is not None
        return process.pid

    yield start
    for each in started:
        each.kill()
        each.join()


def test_a_moment_is_kept_by_name(table: Moments) -> None:
    assert table.get("a") == 0.0
    table.put("a", 17.5)
    table.change("b", lambda before: before + 2.0)
    table.change("b", lambda before: before + 2.0)
    table.change("c", lambda _: None)
    assert [table.get(each) for each in ("a", "b", "c", "\ud800")] == [17.5, 4.0, 0.0, 0.0]
    assert len(table) == 2


def test_what_one_process_writes_the_others_read(path: Path) -> None:
    one, other = Moments(path), Moments(path)
    one.put("a", 3.0)
    assert other.get("a") == 3.0
    other.put("a", 4.0)
    assert one.get("a") == 4.0


def test_no_change_is_lost_however_many_processes_and_threads_make_them(path: Path) -> None:
    Moments(path)
    processes = [_spawned.Process(target=add, args=(path, f"name {number % 2}", 2000)) for number in range(4)]
    for each in processes:
        each.start()
    own = Moments(path)
    threads = [threading.Thread(target=add, args=(path, "name 0", 500)) for _ in range(2)]
    threads += [
        threading.Thread(target=lambda: [own.change("name 1", lambda before: before + 1.0) for _ in range(500)])
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in processes:
        each.join(120)
        assert each.exitcode == 0
    assert [own.get("name 0"), own.get("name 1")] == [5000.0, 5000.0]


def test_a_process_that_stands_still_with_the_lock_holds_nobody_up(path: Path, holder: Callable[[], int]) -> None:
    found = Moments(path)
    found.put("a", 1.0)
    pid = holder()
    os.kill(pid, signal.SIGSTOP)
    before_s = time.monotonic()
    for _ in range(20):
        found.change("a", lambda before: before + 1.0)
        found.get("a")
    assert time.monotonic() - before_s < 5.0
    assert found.get("a") == 21.0


def test_a_process_that_is_killed_leaves_no_lock_behind(path: Path, holder: Callable[[], int]) -> None:
    found = Moments(path)
    os.kill(holder(), signal.SIGKILL)
    descriptor = os.open(path, os.O_RDWR)
    try:
        deadline_s = time.monotonic() + 30
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                assert time.monotonic() < deadline_s
    finally:
        os.close(descriptor)
    found.put("a", 1.0)
    assert found.get("a") == 1.0


def test_a_flood_of_names_takes_no_more_room_and_not_the_place_of_who_is_held_back_longest(table: Moments) -> None:
    for number in range(50):
        table.put(f"locked {number}", 1e9 + number)
    for number in range(5 * moments.MOST):
        table.put(f"flood {number}", float(number))
    assert len(table) <= moments.MOST
    assert [table.get(f"locked {number}") for number in range(50)] == [1e9 + number for number in range(50)]
    assert table.get(f"flood {5 * moments.MOST - 1}") == 5.0 * moments.MOST - 1, "whoever comes is counted"


def test_the_room_is_there_from_the_start_and_of_one_size(path: Path) -> None:
    Moments(path)
    found = path.stat()
    assert found.st_size == moments._FILE_BYTES
    assert found.st_blocks * 512 >= found.st_size, "a page without a block on a full disk would end the process"
    Moments(path).put("a", 1.0)
    assert path.stat().st_size == found.st_size


def test_a_file_whose_making_was_cut_off_is_made(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"x" * 10)
    Moments(path).put("a", 1.0)
    assert Moments(path).get("a") == 1.0


def test_tables_are_opened_once_and_all_let_go(path: Path) -> None:
    tables = Tables(path.parent)
    assert not path.parent.exists(), "before anybody asks"
    assert tables.of("a") is tables.of("a")
    tables.of("b").put("x", 1.0)
    assert tables.of("a").get("x") == 0.0
    assert opened(path.parent) >= 2
    for _ in range(2):
        tables.close()
    assert opened(path.parent) == 0


def opened(folder: Path) -> int:
    """How many files of a folder this process has open; others come and go with threads of other tests."""
    found = (os.path.realpath(each) for each in Path("/proc/self/fd").iterdir())
    return sum(Path(each).parent == folder for each in found)


def test_names_of_one_table_mean_nothing_in_another(tmp_path: Path) -> None:
    one, other = Moments(tmp_path / "one"), Moments(tmp_path / "other")
    one.put("a", 1.0)
    assert other.get("a") == 0.0
    assert one._place("a") != other._place("a")


def test_what_an_earlier_run_left_is_cleared(path: Path) -> None:
    Moments(path).put("a", 1.0)
    moments.clear(path.parent)
    assert Moments(path).get("a") == 0.0


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, StorageFull), (errno.EIO, StorageUnavailable)])
def test_a_disk_that_gives_no_room_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(kind):
        Moments(path)
