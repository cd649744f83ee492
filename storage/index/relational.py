"""The index in a relational database, whatever engine is behind it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

from storage.dicom import frames
from storage.dicom import identifiers as ids
from storage.dicom.matching import EVERYTHING, Condition
from storage.errors import FramesNotLocatable, StaleObject
from storage.index import (
    ageing,
    conditions,
    erasing,
    feed,
    holding,
    queries,
    recompressing,
    removal,
    rows,
    searching,
    sources,
)
from storage.index.arrivals import Arrival, Commit, Quarantined
from storage.index.changes import Changes
from storage.index.database import Among, Database, Found, Sql
from storage.index.group_commit import GroupCommit, Observer
from storage.index.questions import Ageing, Page, Row, Search, State, Target
from storage.index.stored import (
    AgedStudy,
    Commitment,
    DeletionState,
    Existence,
    Held,
    Holding,
    HoldState,
    Layout,
    Located,
    Placed,
    Recompressible,
    StoredVersion,
    Unsourced,
    Untold,
    Usage,
)
from storage.index.writing import Writer

Result = TypeVar("Result")
Change = Callable[[Writer], object]

_UNDER = "FROM study s JOIN series e ON e.study = s.id JOIN instance i ON i.series = e.id"
_OF_VERSION = (
    "SELECT s.study_uid, e.series_uid, i.sop_uid, i.sop_class_uid, v.id, v.version, v.object_key,"
    f" v.data_offset, v.size, v.sha256, v.transfer_syntax, i.instance_number {_UNDER}"
)
_LOCATED = f"{_OF_VERSION} JOIN version v ON v.id = i.current_version WHERE"


class RelationalIndex(ABC):
    """What the engines share: all statements, and the rules that they follow. An engine gives connections and turns.

    Parameters
    ----------
    max_age_s
        A commit refuses an object received longer ago: the worker that indexes orphans may be about to.
    timeout_s
        How long a writer waits before it answers that the index is busy.
    """

    def __init__(self, *, max_age_s: float, timeout_s: float) -> None:
        self._max_age_s = max_age_s
        self._group: GroupCommit[Writer] = GroupCommit(self._transact, self._transact_at_once, timeout_s=timeout_s)

    def observe(self, observer: Observer) -> None:
        """Have somebody hear of what this process writes."""
        self._group.observer = observer

    @abstractmethod
    def _reader(self) -> AbstractContextManager[Database]:
        """A connection of its own for a read; the engine's errors come out as ours."""

    @abstractmethod
    def _transact(self, changes: Sequence[Change]) -> Sequence[object]:
        """Run changes in one transaction, when it is this process's turn to write; their results, or errors."""

    def _transact_at_once(self, changes: Sequence[Change]) -> Sequence[object] | None:  # noqa: ARG002
        """The same where it is known that nothing has to be waited for, neither others nor a network; else None."""
        return None

    def _read(self, statement: Sql) -> list[Found]:
        with self._reader() as db:
            return db.run(statement)

    def _write(self, change: Callable[[Writer], Result]) -> Result:
        return self._group.run(change)

    # Writing

    def commit(self, arrival: Arrival) -> Commit:
        return self._write(lambda writer: self._store_all(writer, [arrival])[0])

    def is_young(self, version: ids.Version) -> bool:
        return 2 * (time.time() - ids.version_time_s(version)) < self._max_age_s

    def _store_all(self, writer: Writer, arrivals: Sequence[Arrival]) -> list[Commit]:
        # Looked at inside the transaction: however long an arrival waited for it, who indexes orphans waits longer.
        now_s = time.time()
        for arrival in arrivals:
            age_s = now_s - ids.version_time_s(arrival.version)
            if age_s > self._max_age_s:
                raise StaleObject(f"received {age_s:.0f} s ago")
        return writer.store_all(arrivals)

    def quarantine(self, item: Quarantined) -> None:
        self._write(lambda writer: writer.quarantine(_quarantine_values(item)))

    def delete(
        self, tenant: ids.Tenant, record: ids.Version, body: bytes, versions: Sequence[StoredVersion]
    ) -> Sequence[str]:
        names = [each.version for each in versions]
        return self._write(lambda writer: removal.delete(writer, tenant, record, body, names))

    def restorable(self, tenant: ids.Tenant, deletion: ids.Version) -> Sequence[StoredVersion]:
        found = self._write(lambda writer: removal.restorable(writer, tenant, deletion))
        return [StoredVersion(ids.Version(version), object_key, beside) for version, object_key, beside in found]

    def restore(
        self,
        tenant: ids.Tenant,
        record: ids.Version,
        body: bytes,
        deletion: ids.Version,
        versions: Sequence[StoredVersion],
    ) -> Sequence[ids.Version]:
        names = [each.version for each in versions]
        restored = self._write(lambda writer: removal.restore(writer, tenant, record, body, deletion, names))
        return [ids.Version(version) for version in restored]

    def purge_due(self, before_s: float) -> Sequence[StoredVersion]:
        found = self._write(lambda writer: removal.purge_due(writer, before_s))
        return [StoredVersion(ids.Version(version), object_key) for version, object_key in found]

    def purged(self, versions: Sequence[StoredVersion]) -> None:
        self._write(lambda writer: removal.purged(writer, [each.version for each in versions]))

    def bury(self, key: ids.InstanceKey, version: ids.Version, record: ids.Version) -> None:
        self._write(lambda writer: removal.bury(writer, key, version, record))

    def place(self, tenant: ids.Tenant, study_uid: ids.StudyUid, placed: Placed) -> None:
        self._write(lambda writer: ageing.place(writer, tenant, study_uid, placed))

    def complete_quiet(self, quiet_s: float, now_s: float) -> int:
        return self._write(lambda writer: feed.complete_quiet(writer.transaction, quiet_s, now_s))

    def complete(self, tenant: ids.Tenant, study_uids: Sequence[ids.StudyUid], detail: str) -> None:
        self._write(lambda writer: feed.complete(writer.transaction, tenant, study_uids, detail))

    def ask_commitment(self, tenant: ids.Tenant, transaction_uid: str, asked: Commitment) -> bool:
        values = (tenant, transaction_uid, asked.principal, asked.asked_at_s, asked.request, asked.result, asked.tell)
        kept = self._write(
            lambda writer: writer.db.execute(
                "INSERT INTO commitment (tenant, transaction_uid, principal, asked_at, request, result, tell)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING tenant",
                values,
            ).fetchone()
        )
        return kept is not None

    def answer_commitment(
        self, tenant: ids.Tenant, transaction_uid: str, result: bytes, tell_at_s: float = 0.0
    ) -> None:
        self._write(
            lambda writer: writer.db.write(
                "UPDATE commitment SET result = ?, tell_at = ? WHERE tenant = ? AND transaction_uid = ?",
                (result, tell_at_s, tenant, transaction_uid),
            )
        )

    def take_untold(self, now_s: float, again_s: float) -> Sequence[Untold]:
        due = "tell <> '' AND result IS NOT NULL AND tell_at <= ?"
        if not self._read(Sql().add(f"SELECT 1 FROM commitment WHERE {due} LIMIT 1", now_s)):
            return []  # nobody has to wait for a turn to write
        found = self._write(
            lambda writer: writer.db.execute(
                "UPDATE commitment SET tell_at = ?, told_times = told_times + 1"
                f" WHERE {due}"
                " RETURNING tenant, transaction_uid, tell, result, told_times",
                (again_s, now_s),
            ).fetchall()
        )
        return [
            Untold(ids.Tenant(str(tenant)), str(uid), str(tell), bytes(result), int(times) - 1)
            for tenant, uid, tell, result, times in found
        ]

    def told(self, tenant: ids.Tenant, transaction_uid: str) -> None:
        self._write(
            lambda writer: writer.db.write(
                "UPDATE commitment SET tell = '' WHERE tenant = ? AND transaction_uid = ?", (tenant, transaction_uid)
            )
        )

    def keep_series_metadata(self, target: Target, base: str, generation: int, body: bytes) -> None:
        self._write(lambda writer: writer.keep_series_metadata(target, base, generation, body))

    def commit_all(self, arrivals: Sequence[Arrival]) -> Sequence[Commit]:
        return self._write(lambda writer: self._store_all(writer, arrivals))

    def withdraw(self, key: ids.InstanceKey, version: ids.Version, quarantined: Quarantined | None = None) -> None:
        def change(writer: Writer) -> None:
            removal.withdraw(writer, key.tenant, version)
            if quarantined is not None:
                writer.quarantine(_quarantine_values(quarantined))

        self._write(change)

    # Reading

    def holds(self, key: ids.InstanceKey, canonical_digest: str) -> bool:
        found = self._read(
            Sql().add(
                "SELECT 1 FROM instance i JOIN version v ON v.instance = i.id JOIN study s ON s.id = i.study"
                " JOIN series e ON e.id = i.series WHERE i.tenant = ? AND i.sop_uid = ? AND s.study_uid = ?"
                " AND e.series_uid = ? AND v.canonical = ? AND v.deleted IS NULL",
                key.tenant, key.sop_uid, key.study_uid, key.series_uid, canonical_digest,
            )
        )  # fmt: skip
        return bool(found)

    def quarantined(self, tenant: ids.Tenant, study_uid: ids.StudyUid | None = None) -> Sequence[Quarantined]:
        asked = Sql().add(
            "SELECT study_uid, series_uid, sop_uid, version, object_key, reason FROM quarantine WHERE tenant = ?",
            tenant,
        )
        if study_uid is not None:
            asked.add("AND study_uid = ?", study_uid)
        found = self._read(asked.add("ORDER BY version"))
        return [
            Quarantined(
                ids.InstanceKey(tenant, ids.StudyUid(str(study)), ids.SeriesUid(str(series)), ids.SopUid(str(sop))),
                ids.Version(str(version)),
                str(object_key),
                str(reason),
            )
            for study, series, sop, version, object_key, reason in found
        ]

    def state(self) -> State:
        with self._reader() as db:
            return searching.state(db)

    def page(self, search: Search, total: int | None = None) -> Page:
        with self._reader() as db:
            return searching.page(db, search, total)

    def search(self, search: Search) -> Sequence[Row]:
        return list(self.page(search, total=0).rows)

    def count(self, search: Search) -> int:
        with self._reader() as db:
            return searching.count(db, search)

    def locate(self, target: Target, scope: Condition) -> Sequence[Located]:
        statement = Sql().add(_LOCATED)
        statement.extend(queries.under(target, scope))
        statement.add("ORDER BY e.series_number, e.series_uid, i.instance_number, i.sop_uid")
        return [_located(target.tenant, found) for found in self._read(statement)]

    def locate_instances(
        self, tenant: ids.Tenant, sop_uids: Sequence[ids.SopUid], scope: Condition
    ) -> Sequence[Located]:
        statement = Sql().add(f"{_LOCATED} i.tenant = ? AND", tenant).put(Among("i.sop_uid", sop_uids)).add("AND")
        return [_located(tenant, found) for found in self._read(statement.extend(conditions.sql(scope)))]

    def beside(self, located: Located) -> Located | None:
        statement = Sql().add(
            f"{_OF_VERSION} JOIN version v ON v.instance = i.id WHERE v.beside = ? AND v.deleted IS NULL",
            located.version,
        )
        return next((_located(located.key.tenant, found) for found in self._read(statement)), None)

    def recompressible(
        self, after: str, before: str, limit: int, *, all_of_them: bool = False
    ) -> tuple[Sequence[Recompressible], str]:
        with self._reader() as db:
            found, through = recompressing.candidates(db, after, before, limit, all_of_them=all_of_them)
        given = [
            Recompressible(_located(ids.Tenant(str(tenant)), tuple(row)), None if modality is None else str(modality))
            for tenant, *row, modality in found
        ]
        return given, through

    def recompression_turn(self, rules: str, holder: str, now_s: float, until_s: float) -> str | None:
        return self._write(lambda writer: recompressing.take_turn(writer, rules, holder, now_s, until_s))

    def recompressed_through(self, holder: str, through: str, until_s: float) -> bool:
        return self._write(lambda writer: recompressing.come_through(writer, holder, through, until_s))

    def existence(self, target: Target, scope: Condition) -> Existence:
        statement = Sql().add(f"SELECT max(CASE WHEN i.current_version IS NULL THEN 0 ELSE 1 END) {_UNDER} WHERE")
        ((live,),) = self._read(statement.extend(queries.under(target, scope)))
        if live is None:
            return Existence.ABSENT
        return Existence.LIVE if live else Existence.DELETED

    def metadata(self, version_ids: Sequence[int]) -> Iterator[bytes]:
        for chunk in searching.in_chunks(version_ids):
            # Not held while somebody slow takes them.
            with self._reader() as db:
                found = searching.documents(db, chunk)
            for _, body in found:
                yield rows.unpack(body)

    def layout(self, version_id: int) -> Layout:
        ((body,),) = self._read(Sql().add("SELECT layout FROM document WHERE version = ?", version_id))
        assert isinstance(body, bytes)
        return rows.layout_of(body)

    def fragments(self, version_id: int, frames_wanted: Iterable[int]) -> Iterator[frames.Fragments]:
        number, chunk = -1, b""
        for frame in frames_wanted:
            wanted = (frame - 1) // frames.CHUNK_FRAMES
            if wanted != number:
                found = self._read(
                    Sql().add("SELECT body FROM frame_chunk WHERE version = ? AND chunk = ?", version_id, wanted)
                )
                if not found:
                    raise FramesNotLocatable(f"frame {frame} is not in the frame table")
                number, chunk = wanted, bytes(found[0][0])
            yield frames.unpack_frame(chunk, frame)

    def generation(self, target: Target) -> int:
        statement = Sql().add(
            f"SELECT max(i.change) {_UNDER} WHERE s.tenant = ? AND s.study_uid = ? AND e.series_uid = ?",
            target.tenant, target.study_uid, target.series_uid,
        )  # fmt: skip
        ((change,),) = self._read(statement)
        return int(str(change or 0))

    def series_metadata(self, target: Target, base: str) -> tuple[int, bytes] | None:
        found = self._read(
            Sql().add(
                "SELECT m.generation, m.body FROM study s JOIN series e ON e.study = s.id"
                " JOIN series_metadata m ON m.series = e.id"
                " WHERE s.tenant = ? AND s.study_uid = ? AND e.series_uid = ? AND m.base = ?",
                target.tenant, target.study_uid, target.series_uid, base,
            )
        )  # fmt: skip
        if not found:
            return None
        generation, body = found[0]
        assert isinstance(generation, int)
        assert isinstance(body, bytes)
        return generation, body

    def versions(self, target: Target, scope: Condition) -> Sequence[StoredVersion]:
        statement = Sql().add(f"SELECT v.version, v.object_key {_UNDER} JOIN version v ON v.instance = i.id WHERE")
        statement.extend(queries.under(target, scope)).add("AND v.deleted IS NULL ORDER BY v.version")
        return [StoredVersion(ids.Version(str(version)), str(key)) for version, key in self._read(statement)]

    def deletions(
        self, tenant: ids.Tenant, scope: Condition, record: ids.Version | None = None
    ) -> Sequence[DeletionState]:
        within = conditions.sql(scope)
        if scope != EVERYTHING:
            # An instance may stand elsewhere since: what it is there says nothing about what was deleted.
            within.add("AND v.object_key LIKE i.tenant || '/' || s.study_uid || '/' || e.series_uid || '/%'")
        statement = (
            Sql()
            .add("SELECT v.deletion_record, r.body, sum(CASE WHEN v.beside IS NULL THEN 1 ELSE 0 END),")
            .add("count(*), sum(CASE WHEN v.purge IS NULL THEN 1 ELSE 0 END),")
            .add("sum(CASE WHEN").extend(within).add("THEN 1 ELSE 0 END)")
            .add(f"{_UNDER} JOIN version v ON v.instance = i.id JOIN record r ON r.record = v.deletion_record")
            .add("WHERE v.deletion_record IS NOT NULL AND i.tenant = ? AND", tenant)
        )  # fmt: skip
        if record is None:
            statement.add("coalesce(v.purge, '') <> 'done'")
        else:
            statement.add("v.deletion_record = ?", record)
        statement.add("GROUP BY v.deletion_record, r.body ORDER BY v.deletion_record DESC")
        return [
            DeletionState(ids.Version(str(record)), bytes(body), int(str(sent)), undoable == total)
            for record, body, sent, total, undoable, within in self._read(statement)
            if within == total
        ]

    def changes(self, tenant: ids.Tenant, scope: Condition, cursor: int, limit: int) -> Changes:
        state = self.state()
        found = [feed.change_of(row) for row in self._read(feed.page(tenant, scope, cursor, limit))]
        seen = found[-1].sequence if len(found) == limit else min(cursor + feed.WINDOW, state.change)
        return Changes(state.epoch, found, max(cursor, seen), state.change)

    def commitment(self, tenant: ids.Tenant, transaction_uid: str) -> Commitment | None:
        found = self._read(
            Sql().add(
                "SELECT principal, asked_at, request, result, tell FROM commitment"
                " WHERE tenant = ? AND transaction_uid = ?",
                tenant, transaction_uid,
            )
        )  # fmt: skip
        if not found:
            return None
        principal, asked_at, request, result, tell = found[0]
        assert isinstance(request, bytes)
        kept = result if isinstance(result, bytes) else None
        return Commitment(str(principal), float(str(asked_at)), request, kept, str(tell))

    def open_commitments(self, before_s: float) -> Sequence[tuple[ids.Tenant, str]]:
        statement = Sql().add(
            "SELECT tenant, transaction_uid FROM commitment WHERE result IS NULL AND asked_at < ?", before_s
        )
        return [(ids.Tenant(str(tenant)), str(uid)) for tenant, uid in self._read(statement)]

    def erase(
        self, tenant: ids.Tenant, record: ids.Version, body: bytes, versions: Sequence[ids.Version]
    ) -> Sequence[str]:
        return self._write(lambda writer: erasing.erase(writer, tenant, record, body, versions))

    def forget_records(self, names: Sequence[ids.Version]) -> None:
        self._write(lambda writer: writer.db.write("DELETE FROM record WHERE record = ?", *((name,) for name in names)))

    def studies_of(self, tenant: ids.Tenant, issuer: str, patient_id: str) -> Sequence[ids.StudyUid]:
        statement = Sql().add(
            "SELECT s.study_uid FROM patient p JOIN study s ON s.patient = p.id"
            " WHERE p.tenant = ? AND p.issuer = ? AND p.patient_id = ? AND p.of_study = '' ORDER BY s.study_uid",
            tenant, issuer, patient_id,
        )  # fmt: skip
        return [ids.StudyUid(str(uid)) for (uid,) in self._read(statement)]

    def everything_of(self, tenant: ids.Tenant, study_uid: ids.StudyUid) -> Sequence[Holding]:
        statement = Sql().add(
            f"SELECT v.version, v.object_key, v.size, v.sha256, v.deleted {_UNDER}"
            " JOIN version v ON v.instance = i.id WHERE s.tenant = ? AND s.study_uid = ? ORDER BY v.version",
            tenant, study_uid,
        )  # fmt: skip
        return [_holding(found) for found in self._read(statement)]

    def hold(self, tenant: ids.Tenant, record: ids.Version, body: bytes, held: Held) -> None:
        self._write(lambda writer: holding.hold(writer, tenant, record, body, held))

    def release(self, tenant: ids.Tenant, record: ids.Version, body: bytes, hold: ids.Version) -> None:
        self._write(lambda writer: holding.release(writer, tenant, record, body, hold))

    def in_force(self, tenant: ids.Tenant | None = None) -> Sequence[tuple[ids.Tenant, HoldState]]:
        with self._reader() as db:
            return holding.in_force(db, tenant)

    def held(self, tenant: ids.Tenant, study_uids: Sequence[ids.StudyUid]) -> frozenset[ids.StudyUid]:
        with self._reader() as db:
            return holding.held(db, tenant, list(study_uids))

    def aged(self, asked: Ageing) -> Sequence[AgedStudy]:
        with self._reader() as db:
            return ageing.aged(db, asked)

    def unsourced(self, limit: int) -> Sequence[Unsourced]:
        with self._reader() as db:
            found = sources.unknown(db, limit)
        return [Unsourced(ids.Version(version), object_key, offset) for version, object_key, offset in found]

    def note_sources(self, found: Mapping[ids.Version, str]) -> None:
        self._write(lambda writer: sources.note(writer.transaction, found.items()))

    def usage(self) -> Mapping[ids.Tenant, Usage]:
        found = self._read(Sql().add("SELECT tenant, objects, bytes FROM tenant_usage"))
        return {ids.Tenant(str(tenant)): Usage(int(str(objects)), int(str(size))) for tenant, objects, size in found}

    def known_objects(self, object_keys: Sequence[str]) -> frozenset[str]:
        versions = {}
        for object_key in object_keys:
            _, version = ids.parse_object_key(object_key)
            versions[version] = object_key
        found: set[str] = set()
        for table in ("version", "quarantine"):
            statement = Sql().add(f"SELECT version FROM {table} WHERE").put(Among("version", list(versions)))
            found.update(versions[ids.Version(str(version))] for (version,) in self._read(statement))
        return frozenset(found)

    def kept_versions(self, versions: Sequence[ids.Version]) -> frozenset[ids.Version]:
        among = Among("version", list(versions))
        found = self._read(
            Sql().add("SELECT version FROM version WHERE").put(among).add("AND coalesce(purge, '') <> 'done'")
        )
        found += self._read(Sql().add("SELECT version FROM quarantine WHERE").put(among))
        return frozenset(ids.Version(str(version)) for (version,) in found)

    def holdings(self, after: str, limit: int, tenant: ids.Tenant | None = None) -> Sequence[Holding]:
        statement = Sql().add(
            "SELECT v.version, v.object_key, v.size, v.sha256, v.deleted FROM version v"
            " WHERE v.version > ? AND (v.purge IS NULL OR v.purge = 'due')",
            after,
        )
        if tenant is not None:
            statement.add(
                "AND EXISTS (SELECT 1 FROM instance i WHERE i.id = v.instance AND i.tenant = ?)",
                tenant,
            )
        statement.add("ORDER BY v.version LIMIT ?", limit)
        return [_holding(found) for found in self._read(statement)]

    def known_records(self, names: Sequence[str]) -> frozenset[str]:
        statement = Sql().add("SELECT record FROM record WHERE").put(Among("record", list(names)))
        return frozenset(str(record) for (record,) in self._read(statement))

    def commitments(self) -> Iterator[tuple[ids.Tenant, str, Commitment]]:
        after: tuple[str, str] = ("", "")
        while True:
            found = self._read(
                Sql().add(
                    "SELECT tenant, transaction_uid, principal, asked_at, request, result, tell FROM commitment"
                    " WHERE (tenant, transaction_uid) > (?, ?) ORDER BY tenant, transaction_uid LIMIT 100",
                    *after,
                )
            )
            for tenant, uid, principal, asked_at, request, result, tell in found:
                after = (str(tenant), str(uid))
                assert isinstance(request, bytes)
                kept = result if isinstance(result, bytes) else None
                asked = Commitment(str(principal), float(str(asked_at)), request, kept, str(tell))
                yield ids.Tenant(after[0]), after[1], asked
            if not found:
                return

    def ping(self) -> None:
        self._read(Sql().add("SELECT last FROM change_sequence"))


def _holding(found: tuple[object, ...]) -> Holding:
    version, object_key, size, sha256, deleted = found
    return Holding(
        ids.parse_object_key(str(object_key))[0],
        ids.Version(str(version)),
        str(object_key),
        int(str(size)),
        str(sha256),
        deleted is not None,
    )


def _quarantine_values(item: Quarantined) -> tuple[str, ...]:
    key = item.key
    return item.version, key.tenant, item.object_key, key.study_uid, key.series_uid, key.sop_uid, item.reason


def _located(tenant: ids.Tenant, found: tuple[object, ...]) -> Located:
    study, series, sop, sop_class, row, version, object_key, offset, size, sha256, syntax, number = found
    return Located(
        ids.InstanceKey(tenant, ids.StudyUid(str(study)), ids.SeriesUid(str(series)), ids.SopUid(str(sop))),
        ids.SopClassUid(str(sop_class)),
        int(str(row)),
        ids.Version(str(version)),
        str(object_key),
        int(str(offset)),
        int(str(size)),
        str(sha256),
        ids.TransferSyntaxUid(str(syntax)),
        number if isinstance(number, int) else None,
    )
