"""Who sent the instances of a series: a set of AE titles, which scopes ask about.

A version has the Source Application Entity Title of its object, a series those of all versions that stand in it,
deleted ones too, until their objects are gone. "" stands for what is not known, which no scope allows: an object that
came over HTTP has no title, and in an index of an older schema nobody has looked yet.
"""

from __future__ import annotations

from collections.abc import Iterable

from storage.index.database import Database
from storage.index.transaction import Transaction

UNKNOWN = "SELECT v.version, v.object_key, v.data_offset FROM version v WHERE v.source_ae_title IS NULL ORDER BY v.id"
"""Versions of which nobody has looked who sent them."""


def tell(transaction: Transaction, series: int) -> None:
    """Write anew who sent what stands in a series."""
    db = transaction.db
    db.write("DELETE FROM series_source WHERE series = ?", (series,))
    db.write(
        "INSERT INTO series_source (series, source_ae_title)"
        " SELECT DISTINCT i.series, coalesce(v.source_ae_title, '') FROM instance i JOIN version v ON v.instance = i.id"
        " WHERE i.series = ? AND coalesce(v.purge, '') <> 'done'",
        (series,),
    )


def unknown(db: Database, limit: int) -> list[tuple[str, str, int]]:
    """Versions, their objects' keys, and where their data sets begin, of which nobody has looked who sent them."""
    found = db.execute(f"{UNKNOWN} LIMIT ?", (limit,)).fetchall()
    return [(str(version), str(object_key), int(offset)) for version, object_key, offset in found]


def note(transaction: Transaction, found: Iterable[tuple[str, str]]) -> None:
    """Keep what was found of who sent some versions."""
    told: set[int] = set()
    for version, source_ae_title in found:
        noted = transaction.db.execute(
            "UPDATE version SET source_ae_title = ? WHERE version = ? AND source_ae_title IS NULL"
            " RETURNING (SELECT i.series FROM instance i WHERE i.id = version.instance)",
            (source_ae_title, version),
        ).fetchone()
        if noted is not None:
            told.add(noted[0])
    for series in sorted(told):
        tell(transaction, series)
