"""The object store in a local directory, and what it does to survive a crash."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import ObjectExists, ObjectNotFound, StorageFull, StorageUnavailable
from storage.objects import local
from storage.objects.base import MadeSegment, ObjectStore
from storage.objects.local import LocalObjectStore
from storage.objects.memory import MemoryObjectStore
from tests.programs import in_ci, need_program
from tests.storage.objects.conformance import KEY, KEYS_IN_ORDER, ObjectStoreContract


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def store(root: Path) -> Iterator[LocalObjectStore]:
    store = LocalObjectStore(root)
    yield store
    store.close()


WITHOUT_UNNAMED_FILES = """
import errno, os
def opened(path, flags, *more, open=os.open, **other):
    if flags & os.O_TMPFILE == os.O_TMPFILE:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    return open(path, flags, *more, **other)
os.open = opened
"""
"""Before a program, it has a file system such as NFS, where every file has a name."""
WHERE_FIRST_LINKS_ARE_SLOW = """
from storage.objects import local
local._SLOW_FIRST_LINKS = {line.partition(" - ")[2].split(" ")[0] for line in open("/proc/self/mountinfo")}
"""
"""Before a program, whatever is mounted is like ZFS."""


class TestLocalObjectStore(ObjectStoreContract):
    def stored_bytes(self, store: ObjectStore, key: str) -> bytes | None:
        assert isinstance(store, LocalObjectStore)
        path = Path(f"/proc/self/fd/{store._objects.handle}").readlink() / key
        return path.read_bytes() if path.exists() else None


def temporary_files(root: Path) -> list[Path]:
    return list((root / "tmp").iterdir())


def test_put_leaves_the_object_alone_with_narrow_modes_and_its_digest(store: LocalObjectStore, root: Path) -> None:
    before = os.umask(0)
    try:
        info = store.put("a/b", [b"data"])
    finally:
        os.umask(before)
    path = root / "objects/a/b"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750
    assert path.stat().st_nlink == 1
    assert temporary_files(root) == []
    digest = hashlib.sha256(b"data").hexdigest()
    assert info.sha256 == digest
    assert os.getxattr(path, "user.sha256") == digest.encode()


def test_where_no_attributes_are_kept_the_digest_is_unknown(
    store: LocalObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bytes:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", refuse)
    monkeypatch.setattr(os, "getxattr", refuse)
    assert store.put(KEY, [b"data"]).sha256 == hashlib.sha256(b"data").hexdigest()
    assert store.head(KEY).sha256 is None


def test_a_put_that_fails_leaves_no_temporary_file(store: LocalObjectStore, root: Path) -> None:
    store.put(KEY, [b"data"])
    with pytest.raises(ObjectExists):
        store.put(KEY, [b"data"])
    assert temporary_files(root) == []


def test_an_object_in_the_path_of_a_key_is_left_alone(store: LocalObjectStore, root: Path) -> None:
    store.put("a/b", [b"data"])
    for key in ("a/b/c", "a/b/c/d", "a"):
        with pytest.raises(ObjectExists):
            store.put(key, [b"other"])
    assert (root / "objects/a/b").read_bytes() == b"data"


def test_only_stale_temporary_files_are_removed_at_construction(root: Path) -> None:
    LocalObjectStore(root).close()
    stale, fresh = root / "tmp/stale", root / "tmp/fresh"
    for path in (stale, fresh):
        path.write_bytes(b"x")
    os.utime(stale, (time.time() - 3700, time.time() - 3700))
    LocalObjectStore(root).close()
    assert temporary_files(root) == [fresh]


def test_delete_removes_folders_that_become_empty_and_no_others(store: LocalObjectStore, root: Path) -> None:
    store.put("t/study/series/one", [b"1"])
    store.put("t/other/series/one", [b"1"])
    store.delete("t/study/series/one")
    assert sorted(path.name for path in (root / "objects/t").iterdir()) == ["other"]
    store.delete("t/other/series/one")
    assert list((root / "objects").iterdir()) == []
    store.put("t/study/series/one", [b"again"])
    assert store.get("t/study/series/one") == b"again"


def test_another_process_may_remove_and_make_folders_meanwhile(store: LocalObjectStore, root: Path) -> None:
    other = LocalObjectStore(root)
    store.put("t/s/one", [b"1"])
    other.delete("t/s/one")
    other.put("t/s/two", [b"2"])
    store.put("t/s/three", [b"3"])
    assert [info.key for info in other.list("")] == ["t/s/three", "t/s/two"]
    other.close()


@pytest.mark.parametrize("inside", [True, False])
def test_symbolic_links_are_never_followed(store: LocalObjectStore, root: Path, tmp_path: Path, inside: bool) -> None:
    store.put("real/object", [b"real"])
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "object").write_bytes(b"secret")
    folder = root / "objects/real" if inside else outside
    (root / "objects/link").symlink_to(folder)
    (root / "objects/real/file").symlink_to(folder / "object")

    for key in ("link/object", "real/file"):
        with pytest.raises(ObjectNotFound):
            store.get(key)
        with pytest.raises(ObjectNotFound):
            store.head(key)
    with pytest.raises(ObjectExists):
        store.put("link/new", [b"x"])
    with pytest.raises(ObjectExists):
        store.put("real/file", [b"x"])
    store.delete("link/object")
    store.delete("real/file")
    assert [info.key for info in store.list("")] == ["real/object"]
    assert list(store.list("link/")) == []
    assert [path.name for path in outside.iterdir()] == ["object"]
    assert (outside / "object").read_bytes() == b"secret"


def test_what_is_no_file_is_no_object(store: LocalObjectStore, root: Path) -> None:
    os.mkfifo(root / "objects/pipe")
    (root / "objects/bad name").write_bytes(b"x")
    with pytest.raises(ObjectNotFound):
        store.get("pipe")
    assert list(store.list("")) == []


def test_list_scans_a_large_folder_in_several_rounds(store: LocalObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_NAMES_AT_ONCE", 3)
    for key in KEYS_IN_ORDER:
        store.put(key, [b"x"])
    assert [info.key for info in store.list("")] == KEYS_IN_ORDER


def test_handles_are_not_kept_for_every_folder(store: LocalObjectStore) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(local._KEPT_DIRECTORIES + 50):
        store.put(f"t/{number}/x", [b"x"])
    assert len(list(Path("/proc/self/fd").iterdir())) - before < local._KEPT_DIRECTORIES + 10


NAMES = st.sampled_from(["a", "b", "a-", "a.", "a0", "a.b", "a-b", "A", "_", "1.2", "1.2.3", "1"])
KEY_SETS = st.lists(st.lists(NAMES, min_size=1, max_size=3).map("/".join), max_size=12, unique=True)


@settings(max_examples=60, deadline=None)
@given(keys=KEY_SETS, prefix=st.sampled_from(["", "a", "a/", "1.2", "1.2/", "a.b/a"]), start=KEY_SETS)
def test_every_set_of_keys_is_listed_as_the_memory_lists_it(keys: list[str], prefix: str, start: list[str]) -> None:
    memory = MemoryObjectStore()
    with tempfile.TemporaryDirectory() as folder:
        on_disk = LocalObjectStore(Path(folder), fsync=False)
        for key in keys:
            try:
                on_disk.put(key, [b"x"])
            except ObjectExists:
                continue
            memory.put(key, [b"x"])
        for start_after in ("", *start):
            expected = [info.key for info in memory.list(prefix, start_after)]
            assert [info.key for info in on_disk.list(prefix, start_after)] == expected
        on_disk.close()


# Durability


def test_puts_at_the_same_time_share_the_fsync_of_their_folder(
    store: LocalObjectStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("t/s/first", [b"x"])
    folder = root / "objects/t/s"
    real_fsync = os.fsync
    present_at_start: list[int] = []
    first = threading.Event()

    def fsync(handle: int) -> None:
        if os.path.samestat(os.fstat(handle), folder.stat()):
            present_at_start.append(len(list(folder.iterdir())))
            if not first.is_set():
                first.set()
                wait_until(lambda: len(list(folder.iterdir())) == 9)
        real_fsync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.put(f"t/s/{number}", [b"x"]), range(8)))
    assert len(present_at_start) < 8
    # The last fsync began when everything was linked: nobody returned on an earlier one.
    assert present_at_start[-1] == 9


def test_a_failed_fsync_fails_every_put_that_waited_for_it(
    store: LocalObjectStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("t/s/first", [b"x"])
    folder = root / "objects/t/s"
    real_fsync = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(5, "Input/output error")
        real_fsync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with ThreadPoolExecutor(4) as pool:
        puts = [pool.submit(store.put, f"t/s/{number}", [b"x"]) for number in range(4)]
    for put in puts:
        assert isinstance(put.exception(), StorageUnavailable)
    assert [path.name for path in folder.iterdir()] == ["first"]


def test_without_fsync_nothing_is_synced(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("synced"))
    store = LocalObjectStore(root, fsync=False)
    store.put(KEY, [b"x"])
    store.delete(KEY)
    store.close()


TRACED = """
import os, sys
from pathlib import Path
from storage.objects.local import LocalObjectStore
store = LocalObjectStore(Path(sys.argv[1]))
os.write(1, b"BEGIN")
store.put("t/study/series/one", [b"payload"])
os.write(1, b"PUT")
store.delete("t/study/series/one")
os.write(1, b"DELETED")
"""


@pytest.mark.parametrize(("place", "kind"), [("/proc", "proc"), ("/sys", "sysfs")])
def test_a_file_system_is_told_by_its_mount(place: str, kind: str) -> None:
    handle = os.open(place, os.O_RDONLY)
    try:
        assert local._file_system(handle) == kind
    finally:
        os.close(handle)


@need_program("strace", "strace")
@pytest.mark.parametrize(
    ("prelude", "source", "how"),
    [
        ("", r"/proc/self/fd/\d+", "AT_SYMLINK_FOLLOW"),
        (WITHOUT_UNNAMED_FILES, r"\d+\.[0-9a-f]{32}", "0"),
        (WHERE_FIRST_LINKS_ARE_SLOW, r"\d+\.[0-9a-f]{32}", "0"),
    ],
    ids=["unnamed", "named", "slow"],
)
def test_system_calls_come_in_the_order_that_survives_a_crash(
    root: Path, tmp_path: Path, prelude: str, source: str, how: str
) -> None:
    trace = tmp_path / "trace"
    subprocess.run(
        [
            *("strace", "-f", "-y", "-o", str(trace)),
            *("-e", "trace=write,fsync,fdatasync,linkat,mkdirat,unlinkat,rename,renameat,renameat2"),
            *(sys.executable, "-c", prelude + TRACED, str(root)),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    calls = trace.read_text()
    objects = re.escape(str(root / "objects"))
    assert "rename" not in calls
    put = calls[calls.index('"BEGIN"') : calls.index('"PUT"')]
    in_order(
        put,
        rf'write\(\d+<{re.escape(str(root))}/tmp/[^>]+>(\(deleted\))?, "payload"',
        rf"fsync\(\d+<{re.escape(str(root))}/tmp/[^>]+>(\(deleted\))?\)\s+= 0",
        rf'mkdirat\(\d+<{objects}>, "t"',
        rf"fsync\(\d+<{objects}>\)\s+= 0",
        rf'mkdirat\(\d+<{objects}/t>, "study"',
        rf"fsync\(\d+<{objects}/t>\)\s+= 0",
        rf'mkdirat\(\d+<{objects}/t/study>, "series"',
        rf"fsync\(\d+<{objects}/t/study>\)\s+= 0",
        rf'linkat\(\d+<[^>]+/tmp>, "{source}", \d+<{objects}/t/study/series>, "one", {how}\)\s+= 0',
        rf"fsync\(\d+<{objects}/t/study/series>\)\s+= 0",
    )
    in_order(
        calls[calls.index('"PUT"') : calls.index('"DELETED"')],
        rf'unlinkat\(\d+<{objects}/t/study/series>, "one", 0\)\s+= 0',
        rf"fsync\(\d+<{objects}/t/study/series>\)\s+= 0",
        rf'unlinkat\(\d+<{objects}/t/study>, "series", AT_REMOVEDIR\)\s+= 0',
    )


def in_order(text: str, *patterns: str) -> None:
    at = 0
    for pattern in patterns:
        found = re.compile(pattern).search(text, at)
        assert found, f"{pattern} does not follow in:\n{text[at:]}"
        at = found.end()


FILLING = """
import sys
from pathlib import Path
from storage.errors import StorageFull, StorageUnavailable
from storage.objects.local import LocalObjectStore
root = Path(sys.argv[1])
store = LocalObjectStore(root)
store.put("t/small", [b"x"])
try:
    store.put("t/large", [bytes(1 << 20)] * 4)
except StorageFull:
    pass
else:
    raise SystemExit("no StorageFull")
assert list((root / "tmp").iterdir()) == []
assert [info.key for info in store.list("")] == ["t/small"]
filler = root / "filler"
try:
    filler.write_bytes(bytes(4 << 20))
except OSError:
    pass
try:
    store.ping()
except StorageUnavailable:
    pass
else:
    raise SystemExit("ping did not notice")
filler.unlink()
store.ping()
store.put("t/large", [bytes(1 << 20)])
print("passed")
"""


@need_program("unshare", "util-linux")
def test_a_full_disk_is_storage_full_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    alone = ["unshare", "--mount", *(() if os.geteuid() == 0 else ("--user", "--map-root-user"))]
    mounted = f"mount -t tmpfs -o size=2m tmpfs {tmp_path} && "
    probe = subprocess.run([*alone, "sh", "-c", f"{mounted}true"], check=False, timeout=60)
    if probe.returncode:
        assert not in_ci(), "this machine cannot mount a tmpfs of its own"
        pytest.skip("needs the right to mount a tmpfs")
    run = subprocess.run(
        [*alone, "sh", "-c", mounted + '"$@"', "sh", sys.executable, "-c", FILLING, str(tmp_path / "root")],
        check=False,
        capture_output=True,
        timeout=60,
    )
    assert run.stdout == b"passed\n", run.stderr.decode()


@pytest.mark.parametrize(
    ("number", "expected"),
    [(28, StorageFull), (122, StorageFull), (5, StorageUnavailable), (30, StorageUnavailable)],
)
def test_errors_of_the_file_system_are_told_as_ours(
    store: LocalObjectStore,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    expected: type[Exception],
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(expected):
        store.put(KEY, [b"x"])
    assert temporary_files(root) == []


def test_ping_notices_that_the_directory_is_gone(store: LocalObjectStore, root: Path) -> None:
    shutil.rmtree(root)
    with pytest.raises(StorageUnavailable):
        store.ping()


def test_processes_that_put_and_delete_in_one_folder_lose_nothing(root: Path) -> None:
    writer = """
import sys
from pathlib import Path
from storage.objects.local import LocalObjectStore
store = LocalObjectStore(Path(sys.argv[1]), fsync=False)
for number in range(300):
    key = f"t/s/e/{sys.argv[2]}.{number}"
    store.put(key, [key.encode()])
    assert store.get(key) == key.encode()
    store.delete(key)
"""
    # Deleting what is not there takes an empty directory away all the same, as fast as a process can.
    remover = """
import sys
from pathlib import Path
from storage.objects.local import LocalObjectStore
store = LocalObjectStore(Path(sys.argv[1]), fsync=False)
while True:
    store.delete("t/s/e/none")
"""
    with ExitStack() as processes:

        def start(script: str, name: str) -> subprocess.Popen[bytes]:
            process = processes.enter_context(
                subprocess.Popen([sys.executable, "-c", script, str(root), name], stderr=subprocess.PIPE)
            )
            processes.callback(process.kill)
            return process

        removers = [start(remover, "") for _ in range(3)]
        writers = [start(writer, str(number)) for number in range(3)]
        for process in writers:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors.decode()
        assert [process.poll() for process in removers] == [None] * 3
    assert list((root / "objects").iterdir()) == []


def wait_until(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.002)


class TestLocalObjectStoreWithoutUnnamedFiles(TestLocalObjectStore):
    @pytest.fixture(autouse=True)
    def _every_file_has_a_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "open", os.open)  # what the program puts there is taken away again
        exec(WITHOUT_UNNAMED_FILES, {})


def test_what_is_written_has_no_name_where_the_file_system_lets_it(store: LocalObjectStore, root: Path) -> None:
    def names() -> Iterator[bytes]:
        yield str(len(temporary_files(root))).encode()

    store.put(KEY, [MadeSegment(1, names)])
    assert store.get(KEY) == b"0"


def test_a_file_that_cannot_be_linked_leaves_no_name_where_every_file_has_one(tmp_path: Path) -> None:
    program = f"""{WITHOUT_UNNAMED_FILES}
import sys
from pathlib import Path
from storage.errors import ObjectExists
from storage.objects.local import LocalObjectStore
root = Path(sys.argv[1])
store = LocalObjectStore(root)
for _ in range(2):
    try:
        store.put("t/one", [b"x"])
    except ObjectExists:
        print(len(list((root / "tmp").iterdir())))
"""
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], check=True, capture_output=True, timeout=60, text=True
    )
    assert run.stdout == "0\n"
