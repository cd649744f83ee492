"""What there is of arrivals' studies, series and instances, looked up one by one or for many at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from storage.dicom import identifiers as ids
from storage.index.database import Among, Database, Found, Sql


class Study(NamedTuple):
    """A study's row, its patient, and the arrival's series in it, if there is one, with who sent what is in that."""

    row: int
    live: bool
    source: str
    issuer: str
    patient_id: str
    series: int | None
    series_live: bool | None
    series_source: str | None
    sources: frozenset[str]


class Instance(NamedTuple):
    """An instance's row, where it stands, and the id of its current version."""

    row: int
    study_uid: str
    series_uid: str
    sop_class_uid: str
    current: int | None


_STUDY = "s.id, s.live, s.source_version, p.issuer, p.patient_id"
_SERIES = "e.id, e.live, e.source_version, x.source_ae_title"
_INSTANCE = (
    "i.id, s.study_uid, e.series_uid, i.sop_class_uid, i.current_version FROM instance i"
    " JOIN study s ON s.id = i.study JOIN series e ON e.id = i.series WHERE i.tenant = ?"
)
_NO_SERIES: Found = None, None, None, frozenset()


class Standing:
    """Looks places up inside one writing transaction.

    What was looked up stays known until ``forget``, or until who changes a row says so by ``changed``.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._studies: dict[tuple[str, str], tuple[object, ...] | None] = {}
        self._series: dict[tuple[str, str, str], tuple[object, ...] | None] = {}
        self._instances: dict[tuple[str, str], Instance | None] = {}

    def of(self, key: ids.InstanceKey) -> tuple[Study | None, Instance | None]:
        """What there is of an arrival's study, series and instance."""
        if not self._knows(key):
            self._ask(key)
        study, series = self._studies[key.tenant, key.study_uid], self._series[_series_of(key)]
        found = Study(*study, *(series or _NO_SERIES)) if study is not None else None  # type: ignore[arg-type]
        return found, self._instances[key.tenant, key.sop_uid]

    def changed(self, key: ids.InstanceKey, *, place: bool) -> None:
        """An arrival has changed its instance's row, and its study's or series' as well where ``place`` says so."""
        self._instances.pop((key.tenant, key.sop_uid), None)
        if place:
            self._studies.pop((key.tenant, key.study_uid), None)
            self._series.pop(_series_of(key), None)

    def forget(self) -> None:
        """Know nothing any more."""
        self._studies.clear()
        self._series.clear()
        self._instances.clear()

    def look_up(self, keys: Sequence[ids.InstanceKey]) -> None:
        """Ask about many arrivals at once: what follows need not wait for each."""
        of_tenant: defaultdict[ids.Tenant, list[ids.InstanceKey]] = defaultdict(list)
        for key in keys:
            of_tenant[key.tenant].append(key)
            self._studies[key.tenant, key.study_uid] = self._series[_series_of(key)] = None
            self._instances[key.tenant, key.sop_uid] = None
        for tenant, theirs in of_tenant.items():
            studies = Among("s.study_uid", sorted({key.study_uid for key in theirs}))
            series = Among("e.series_uid", sorted({key.series_uid for key in theirs}))
            instances = Among("i.sop_uid", sorted({key.sop_uid for key in theirs}))
            for uid, *row in self._db.run(
                Sql()
                .add(f"SELECT s.study_uid, {_STUDY} FROM study s JOIN patient p ON p.id = s.patient")
                .add("WHERE s.tenant = ? AND", tenant)
                .put(studies)
            ):
                self._studies[tenant, uid] = tuple(row)
            of_series: defaultdict[tuple[str, str], list[Found]] = defaultdict(list)
            for study_uid, series_uid, *row in self._db.run(
                Sql()
                .add(f"SELECT s.study_uid, e.series_uid, {_SERIES} FROM study s JOIN series e ON e.study = s.id")
                .add("LEFT JOIN series_source x ON x.series = e.id WHERE s.tenant = ? AND", tenant)
                .put(studies)
                .add("AND")
                .put(series)
            ):
                of_series[study_uid, series_uid].append(tuple(row))
            for (study_uid, series_uid), found in of_series.items():
                self._series[tenant, study_uid, series_uid] = _with_sources(found)
            for uid, *row in self._db.run(Sql().add(f"SELECT i.sop_uid, {_INSTANCE} AND", tenant).put(instances)):
                self._instances[tenant, uid] = Instance(*row)

    def _knows(self, key: ids.InstanceKey) -> bool:
        return (
            (key.tenant, key.study_uid) in self._studies
            and _series_of(key) in self._series
            and (key.tenant, key.sop_uid) in self._instances
        )

    def _ask(self, key: ids.InstanceKey) -> None:
        """Ask about one arrival, both questions before either answer is waited for."""
        study = self._db.execute(
            f"SELECT {_STUDY}, {_SERIES} FROM study s JOIN patient p ON p.id = s.patient"
            " LEFT JOIN series e ON e.study = s.id AND e.series_uid = ? LEFT JOIN series_source x ON x.series = e.id"
            " WHERE s.tenant = ? AND s.study_uid = ?",
            (key.series_uid, key.tenant, key.study_uid),
        )
        instance = self._db.execute(f"SELECT {_INSTANCE} AND i.sop_uid = ?", (key.tenant, key.sop_uid))
        found, of_instance = study.fetchall(), instance.fetchone()
        self._studies[key.tenant, key.study_uid] = found[0][:5] if found else None
        there = bool(found) and found[0][5] is not None
        self._series[_series_of(key)] = _with_sources([row[5:] for row in found]) if there else None
        self._instances[key.tenant, key.sop_uid] = Instance(*of_instance) if of_instance is not None else None


def _with_sources(found: Sequence[Found]) -> Found:
    """A series, of which there is a row for each source."""
    return *found[0][:3], frozenset(row[3] for row in found if row[3] is not None)


def _series_of(key: ids.InstanceKey) -> tuple[str, str, str]:
    return key.tenant, key.study_uid, key.series_uid
