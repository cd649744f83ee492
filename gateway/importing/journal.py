"""What an interrupted import has done, so that the same command goes on where it was."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gateway.config import InvalidSettings
from gateway.importing.items import TAKEN, Fate, Item, Told

_KEPT = TAKEN | {Fate.SKIPPED, Fate.QUARANTINED}
"""What would become the same again."""


def default_path(directory: Path, tenant: str, identities: Sequence[str]) -> Path:
    """Where the journal of these sources is, in the storage directory."""
    return directory / "imports" / f"{_digest(tenant, *identities).hex()}.journal"


@contextmanager
def work_place(directory: Path, journal: Path) -> Iterator[Path]:
    """A directory for what is arriving, of this import alone; removed at the end, and what another left in it now.

    Raises InvalidSettings when another import with this journal is at work.
    """
    parent = directory / "imports"
    parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    name = _digest(str(journal.absolute())).hex()
    handle = os.open(parent / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InvalidSettings([f"an import with the journal {journal} is at work"]) from error
        spool = parent / f"{name}.spool"
        shutil.rmtree(spool, ignore_errors=True)
        spool.mkdir(mode=0o750)
        try:
            yield spool
        finally:
            shutil.rmtree(spool, ignore_errors=True)
    finally:
        os.close(handle)


class Journal:
    """Files by a digest of source, name and state: a name may be a patient's, so none is kept.

    Raises InvalidSettings when the file is no journal.
    """

    def __init__(self, path: Path, identities: Sequence[str], tenant: str) -> None:
        self._path = path
        self._identities = identities
        self._tenant = tenant
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS done (file BLOB PRIMARY KEY, fate TEXT) WITHOUT ROWID")
            path.chmod(0o640)
        except sqlite3.Error as error:
            raise InvalidSettings([f"{path}: not the journal of an import; name another by --journal"]) from error

    def fate(self, item: Item) -> Fate | None:
        """What became of a file in an earlier run."""
        found = self._db.execute("SELECT fate FROM done WHERE file = ?", (self._key(item),)).fetchone()
        return None if found is None else Fate(found[0])

    def note(self, done: Iterable[tuple[Item, Told]]) -> None:
        """Keep what became of files; what was refused is tried again by the next run."""
        rows = [(self._key(item), told.fate.value) for item, told in done if told.fate in _KEPT]
        self._db.execute("BEGIN")
        self._db.executemany("INSERT OR REPLACE INTO done VALUES (?, ?)", rows)
        self._db.execute("COMMIT")

    def _key(self, item: Item) -> bytes:
        return _digest(self._tenant, self._identities[item.source], item.name, item.place, item.state)

    def clear(self) -> None:
        """Forget everything."""
        self._db.execute("DELETE FROM done")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def remove(self) -> None:
        """Close and remove the file."""
        self.close()
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)


def _digest(*parts: str) -> bytes:
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        written = part.encode("utf-8", "surrogateescape")
        found.update(len(written).to_bytes(8, "big"))
        found.update(written)
    return found.digest()
