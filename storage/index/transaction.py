"""One writing transaction: its connection, and the change sequence numbers that it hands out."""

from __future__ import annotations

from collections.abc import Mapping

from storage.index.database import Database

LAST = "SELECT last FROM change_sequence"


class Transaction:
    """What happens inside of one; only one is open at a time, so sequence numbers follow the order of commits.

    A row of study, series, instance or version has as its id the change that it came with: nothing has to be asked of
    the engine before the rows that point to it are written.
    """

    def __init__(self, db: Database, last: int) -> None:
        self.db = db
        self._begun = self._last = last
        self.usage: dict[str, tuple[int, int]] = {}
        """By tenant, objects and bytes that came, or went where negative; written once, at the end."""

    def next_change(self) -> int:
        """The next change sequence number."""
        self._last += 1
        return self._last

    def used(self, tenant: str, objects: int, size: int) -> None:
        """Count objects that came, or went, and their bytes."""
        before = self.usage.get(tenant, (0, 0))
        self.usage[tenant] = before[0] + objects, before[1] + size

    def insert(self, table: str, values: Mapping[str, object]) -> None:
        """Insert a row."""
        self.db.insert(table, values)

    def update(self, table: str, identifier: int, values: Mapping[str, object]) -> None:
        """Update a row."""
        assignments = ", ".join(f"{name} = ?" for name in values)
        self.db.write(f"UPDATE {table} SET {assignments} WHERE id = ?", (*values.values(), identifier))

    def finish(self) -> None:
        """Keep the number that was handed out last and what was counted; the commit follows."""
        for tenant, (objects, size) in sorted(self.usage.items()):
            self.db.write(
                "INSERT INTO tenant_usage (tenant, objects, bytes) VALUES (?, ?, ?) ON CONFLICT (tenant) DO UPDATE"
                " SET objects = tenant_usage.objects + excluded.objects, bytes = tenant_usage.bytes + excluded.bytes",
                (tenant, objects, size),
            )
        if self._last != self._begun:
            self.db.write("UPDATE change_sequence SET last = ?", (self._last,))
