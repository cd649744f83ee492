"""Recompressed versions, which stand beside what they were made of; and whose turn it is to make more of them.

A version that stands beside another is never current, and goes with it: deletion, erasure and withdrawal take both.
"""

from __future__ import annotations

from collections.abc import Sequence

from storage.index.database import Among, Database, Found, Sql
from storage.index.writing import Writer

_CHUNK = 500
_SEEN_AT_ONCE = 1000


def beside_but_not_named(writer: Writer, versions: Sequence[str], *, live: bool = False) -> dict[str, str]:
    """Versions that stand beside some and are not among them, and their object keys; ``live``: not those deleted.

    They came after whoever names the others had looked.
    """
    named = frozenset(versions)
    found: dict[str, str] = {}
    for start in range(0, len(versions), _CHUNK):
        among = Among("beside", list(versions[start : start + _CHUNK]))
        asked = Sql().add("SELECT version, object_key FROM version WHERE beside IS NOT NULL AND").put(among)
        if live:
            asked.add("AND deleted IS NULL")
        found.update((version, key) for version, key in writer.db.run(asked) if version not in named)
    return found


def page(after: str, before: str) -> Sql:
    """The next versions between two, whatever they are."""
    return Sql().add(
        "SELECT version FROM version WHERE version > ? AND version < ? ORDER BY version LIMIT ?",
        after, before, _SEEN_AT_ONCE,
    )  # fmt: skip


def current(after: str, through: str, limit: int, *, all_of_them: bool = False) -> Sql:
    """Current versions of a page, only those that nothing stands beside unless ``all_of_them``."""
    asked = Sql().add(
        "SELECT i.tenant, s.study_uid, e.series_uid, i.sop_uid, i.sop_class_uid, v.id, v.version, v.object_key,"
        " v.data_offset, v.size, v.sha256, v.transfer_syntax, i.instance_number, e.modality"
        " FROM version v JOIN instance i ON i.id = v.instance AND i.current_version = v.id"
        " JOIN series e ON e.id = i.series JOIN study s ON s.id = e.study"
        " WHERE v.version > ? AND v.version <= ?",
        after, through,
    )  # fmt: skip
    if not all_of_them:
        asked.add("AND NOT EXISTS (SELECT 1 FROM version d WHERE d.beside = v.version AND d.deleted IS NULL)")
    return asked.add("ORDER BY v.version LIMIT ?", limit)


def candidates(db: Database, after: str, before: str, limit: int, *, all_of_them: bool) -> tuple[list[Found], str]:
    """Current versions between two as ``current`` gives them, oldest first, and through which one was looked."""
    seen = db.run(page(after, before))
    if not seen:
        return [], ""
    last = seen[-1][0]
    found = db.run(current(after, last, limit, all_of_them=all_of_them))
    return found, found[-1][6] if len(found) == limit else last


def take_turn(writer: Writer, rules: str, holder: str, now_s: float, until_s: float) -> str | None:
    """Have the turn until a time, or longer when it is ours already; through which version it has come, None for no.

    Other rules begin at the beginning.
    """
    writer.db.write(
        "INSERT INTO recompression (one, rules, through, holder, until) VALUES (1, ?, '', '', 0)"
        " ON CONFLICT DO NOTHING",
        (rules,),
    )
    found = writer.db.execute(
        "UPDATE recompression SET holder = ?, until = ?, rules = ?,"
        " through = CASE WHEN rules = ? THEN through ELSE '' END"
        " WHERE holder = ? OR until < ? RETURNING through",
        (holder, until_s, rules, rules, holder, now_s),
    ).fetchone()
    return None if found is None else str(found[0])


def come_through(writer: Writer, holder: str, through: str, until_s: float) -> bool:
    """Note how far it has come, and have the turn for longer; False when it is somebody else's by now."""
    found = writer.db.execute(
        "UPDATE recompression SET through = ?, until = ? WHERE holder = ? RETURNING one", (through, until_s, holder)
    ).fetchone()
    return found is not None
