"""Numbered schema files, applied in order; a version and an oldest compatible version guard the rest."""

from __future__ import annotations

import secrets
import sqlite3
from importlib.resources import files

from storage.errors import SchemaMismatch
from storage.index import refilling

SCHEMA_VERSION = 3
OLDEST_COMPATIBLE = 3
"""The oldest release's schema version that may still work on a database of ``SCHEMA_VERSION``."""
_FILLED_SINCE = 2
"""Rows of an older schema lack columns that this release fills from the stored metadata."""


def scripts() -> dict[int, str]:
    """The schema files by number."""
    folder = files("storage.index") / "schema"
    return {
        int(entry.name.partition("_")[0]): entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir(), key=lambda each: each.name)
        if entry.name.endswith(".sql")
    }


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a database to this release's schema; the caller holds the writers' lock.

    Raises
    ------
    SchemaMismatch
        The database is of a newer release that this one cannot work with.
    """
    found = dict.fromkeys(("schema_version", "oldest_compatible"), 0)
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
        found.update(
            (key, int(value)) for key, value in connection.execute("SELECT key, value FROM meta WHERE key != 'epoch'")
        )
    if found["oldest_compatible"] > SCHEMA_VERSION:
        raise SchemaMismatch(
            f"the index has schema {found['schema_version']}; this release knows {SCHEMA_VERSION}: upgrade the gateway"
        )
    if found["schema_version"] >= SCHEMA_VERSION:
        return
    script = "".join(text for number, text in scripts().items() if number > found["schema_version"])
    try:
        # executescript commits what is open, so the transaction begins in the script itself.
        connection.executescript(
            f"BEGIN IMMEDIATE; {script}"
            f"INSERT OR REPLACE INTO meta VALUES ('schema_version', '{SCHEMA_VERSION}');"
            f"INSERT OR REPLACE INTO meta VALUES ('oldest_compatible', '{OLDEST_COMPATIBLE}');"
            f"INSERT OR IGNORE INTO meta VALUES ('epoch', '{secrets.token_hex(8)}');"
        )
        if 0 < found["schema_version"] < _FILLED_SINCE:
            refilling.refill(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
