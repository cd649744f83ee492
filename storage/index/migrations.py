"""Numbered schema files, applied in order; a version and an oldest compatible version guard the rest.

Each engine has its own folder. An engine that came later begins with one file that holds everything up to its number.
"""

from __future__ import annotations

import secrets
from importlib.resources import files

from storage.errors import SchemaMismatch
from storage.index import refilling
from storage.index.database import Database
from storage.index.transaction import Transaction

SCHEMA_VERSION = 11
OLDEST_COMPATIBLE = 8
"""The oldest release's schema version that may still work on a database of ``SCHEMA_VERSION``."""
_FILLED_SINCE = 2
"""Rows of an older schema lack columns that this release fills from the stored metadata."""
_PHYSICIANS_SINCE = 8
"""Studies of an older schema lack the names of those who read them, which their stored attributes tell."""


def scripts(engine: str) -> dict[int, str]:
    """The schema files of an engine by number."""
    folder = files("storage.index") / "schema" / engine
    return {
        int(entry.name.partition("_")[0]): entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir(), key=lambda each: each.name)
        if entry.name.endswith(".sql")
    }


def version(db: Database) -> int:
    """The schema that a database has; 0 where it has none."""
    if not db.has_table("meta"):
        return 0
    found = db.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    return int(found[0]) if found is not None else 0


def migrate(db: Database, engine: str) -> None:
    """Bring a database to this release's schema.

    The caller has begun a transaction in which it alone writes, and commits it: all of it happens or nothing.

    Raises
    ------
    SchemaMismatch
        The database is of a newer release that this one cannot work with.
    """
    found = dict.fromkeys(("schema_version", "oldest_compatible"), 0)
    if db.has_table("meta"):
        known = db.execute(
            "SELECT key, value FROM meta WHERE key IN ('schema_version', 'oldest_compatible')"
        ).fetchall()
        found.update((key, int(value)) for key, value in known)
    before = found["schema_version"]
    if found["oldest_compatible"] > SCHEMA_VERSION:
        raise SchemaMismatch(f"the index has schema {before}; this release knows {SCHEMA_VERSION}: upgrade the gateway")
    if before >= SCHEMA_VERSION:
        return
    for number, script in scripts(engine).items():
        if number > before:
            db.script(script)
    for key, value in (("schema_version", SCHEMA_VERSION), ("oldest_compatible", OLDEST_COMPATIBLE)):
        db.write(
            "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (key, str(value)),
        )
    db.write("INSERT INTO meta (key, value) VALUES ('epoch', ?) ON CONFLICT DO NOTHING", (secrets.token_hex(8),))
    if 0 < before < _FILLED_SINCE:
        refilling.refill(Transaction(db, 0))
    if 0 < before < _PHYSICIANS_SINCE:
        refilling.keep_names(Transaction(db, 0))
