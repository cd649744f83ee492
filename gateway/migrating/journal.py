"""What a migration knows of the old archive's studies, so that the same command goes on, or fetches what is new."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from gateway.config import InvalidSettings


class State(StrEnum):
    """Where a study stands."""

    LISTED = "listed"
    DONE = "done"
    """Every instance that the old archive told of is in ours."""
    AGAIN = "again"
    """It was done, and is looked at again: the old archive does not say whether it has more by now."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Study:
    """A study of the old archive. ``instances`` is how many it says that it has; None when it says nothing.

    ``had`` is how many it had when the study was done; None unless it is looked at again.
    """

    uid: str
    date: str
    instances: int | None
    had: int | None = None


class Journal:
    """Studies by UID and date, and nothing else of them. Used by one thread.

    Raises InvalidSettings when the file is no journal.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS studies (uid TEXT PRIMARY KEY, date TEXT NOT NULL, told INTEGER,"
                " state TEXT NOT NULL, instances INTEGER, run INTEGER NOT NULL) WITHOUT ROWID"
            )
            path.chmod(0o640)
            found = self._db.execute("SELECT max(run) FROM studies").fetchone()[0]
        except sqlite3.Error as error:
            raise InvalidSettings([f"{path}: not the journal of a migration; name another by --journal"]) from error
        self._run = (found or 0) + 1

    def listed(self, studies: Iterable[Study]) -> None:
        """Studies that the old archive has; one that has more than were fetched, or may have, is to be looked at."""
        rows = [
            {"uid": each.uid, "date": each.date, "told": each.instances, "state": State.LISTED.value, "run": self._run}
            for each in studies
        ]
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT INTO studies VALUES (:uid, :date, :told, :state, NULL, :run)"
            " ON CONFLICT (uid) DO UPDATE SET date = :date, told = :told, run = :run,"
            " state = CASE WHEN state NOT IN ('done', 'again') OR :told > instances THEN :state"
            " WHEN :told IS NULL THEN 'again' ELSE 'done' END",
            rows,
        )
        self._db.execute("COMMIT")

    def left(self) -> list[Study]:
        """What this run has listed and is not done: the newest first, since it is what people ask for.

        What was done before comes last, so that an interrupted run goes on where it was.
        """
        found = self._db.execute(
            "SELECT uid, date, told, CASE state WHEN 'again' THEN instances END FROM studies"
            " WHERE run = ? AND state != 'done' ORDER BY state = 'again', date DESC, uid",
            (self._run,),
        )
        return [Study(*row) for row in found]

    def counts(self) -> tuple[int, int, int]:
        """How many studies this run has listed, how many are done, and how many instances all are said to have."""
        listed, done, told = self._db.execute(
            "SELECT count(*), count(*) FILTER (WHERE state = 'done'), coalesce(sum(told), 0) FROM studies"
            " WHERE run = ?",
            (self._run,),
        ).fetchone()
        return listed, done, told

    def note(self, uid: str, state: State, instances: int) -> None:
        """What became of a study, and how many of its instances are in our archive."""
        self._db.execute("UPDATE studies SET state = ?, instances = ? WHERE uid = ?", (state.value, instances, uid))

    def clear(self) -> None:
        """Forget everything."""
        self._db.execute("DELETE FROM studies")

    def close(self) -> None:
        """Close the file."""
        self._db.close()
