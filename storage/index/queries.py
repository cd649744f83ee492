"""Searches as SQL: one page of rows, then what is computed for that page under the caller's scope."""

from __future__ import annotations

from collections.abc import Sequence

from storage.dicom.attributes import Computed, Level
from storage.dicom.matching import AllOf, Condition, OneOf, Range
from storage.index.changes import Action
from storage.index.conditions import level_of, sql
from storage.index.database import Among, Listed, OfPatient, Piece, Sql, Text, Unordered
from storage.index.questions import Search, Target
from storage.index.rows import study_rank

_FROM = {
    Level.STUDY: "study s",
    Level.SERIES: "study s JOIN series e ON e.study = s.id",
    Level.INSTANCE: "study s JOIN series e ON e.study = s.id JOIN instance i ON i.series = e.id",
}
ORDER = {
    Level.PATIENT: ("p.patient_id", "p.issuer", "p.of_study"),
    Level.STUDY: ("s.rank", "s.study_uid"),
    Level.SERIES: ("s.rank", "s.study_uid", "e.rank", "e.series_uid"),
    Level.INSTANCE: ("s.rank", "s.study_uid", "e.rank", "e.series_uid", "i.rank", "i.sop_uid"),
}
"""Columns that a level's rows are ordered by, all ascending and never NULL; together they are a row's position."""


def order_by(level: Level) -> str:
    """The stable order of a level's rows."""
    return ", ".join(ORDER[level])


def _there(level: Level, snapshot: int | None, *, outer: bool = True) -> Sql:
    """That rows of a level are live; with a snapshot, that they were at that change. ``outer`` looks at those above."""
    if snapshot is None:
        live = ("s.live", "e.live", "i.current_version IS NOT NULL")[: max(level, Level.STUDY)]
        return Sql().add(" AND ".join(live if outer else live[1:] or live))
    alias, live_now, below = {
        Level.SERIES: ("e", "e.live", "p.series = e.id"),
        Level.INSTANCE: ("i", "i.current_version IS NOT NULL", "p.id = i.id"),
    }.get(level, ("s", "s.live", "p.study = s.id"))
    deleted, restored = Action.DELETED.value, Action.RESTORED.value
    # What appeared before and is there still needs no look at its versions: that is nearly everything.
    return (
        Sql()
        .add(f"(({live_now} AND {alias}.appeared <= ?) OR EXISTS (SELECT 1 FROM instance p", snapshot)
        .add(f"JOIN version v ON v.instance = p.id WHERE {below} AND v.committed <= ?", snapshot)
        .add("AND (v.purge IS NULL OR v.purge <> 'done')")
        # What happened to a version first after the snapshot tells what it was then; without that, what it is now.
        .add("AND coalesce((SELECT c.action FROM change c WHERE c.study = p.study AND c.version = v.version")
        .add("AND c.sequence > ? AND c.action IN (?, ?) ORDER BY c.sequence LIMIT 1),", snapshot, deleted, restored)
        .add("CASE WHEN v.deleted IS NULL THEN ? ELSE ? END) = ?))", deleted, restored, deleted)
    )


def _where(search: Search, among: Sequence[int] | None = None) -> Sql:
    """The conditions that choose rows of the search's level.

    ``among`` are the instances that satisfy the keys on metadata and everything else at once; then no more is asked.
    """
    level = max(search.level, Level.STUDY)
    where = Sql().add("s.tenant = ? AND", search.tenant).extend(_there(level, search.snapshot))
    if level is Level.INSTANCE:
        # SOP Instance UIDs are found by tenant.
        where.add("AND i.tenant = ?", search.tenant)
    if among is not None:
        column = {Level.STUDY: "s.id IN (SELECT i.study", Level.SERIES: "e.id IN (SELECT i.series"}.get(level)
        if column is None:
            return where.add("AND").put(Among("i.id", among))
        return where.add(f"AND {column} FROM instance i WHERE").put(Among("i.id", among)).add(")")
    below = [condition for condition in search.conditions if level_of(condition) > level]
    where.extend(_all([condition for condition in search.conditions if level_of(condition) <= level]))
    if level_of(search.scope) <= level:
        where.add("AND").extend(sql(search.scope))
    elif not below and not search.in_study:
        where.add("AND").extend(some_series(search.scope, snapshot=search.snapshot))
    if below:
        where.add("AND")
        if level is Level.SERIES:
            where.add("EXISTS (SELECT 1 FROM instance i WHERE i.series = e.id AND")
            where.extend(_there(Level.INSTANCE, search.snapshot, outer=False)).add("AND").extend(
                sql(AllOf(tuple(below)))
            ).add(")")
        else:
            where.extend(some_series(search.scope, below, search.snapshot))
    for condition in search.in_study:
        where.add("AND").extend(some_series(search.scope, [condition], search.snapshot))
    if search.changed is not None:
        for sign, at_s in ((">=", search.changed.since), ("<", search.changed.before)):
            if at_s is not None:
                where.add("AND").extend(last_change(search.scope)).add(f"{sign} ?", at_s)
    return where


def last_change(scope: Condition) -> Sql:
    """When an instance of a study changed last, of those within a scope: nothing else may be told of."""
    found = Sql().add("(SELECT c.at FROM change c JOIN series e ON e.id = c.series WHERE c.study = s.id AND")
    # In the order of commits, which that of times nearly is, the last one is found without a look at the others.
    return found.extend(sql(scope)).add("ORDER BY c.sequence DESC LIMIT 1)")


def _all(conditions: Sequence[Condition]) -> Sql:
    """That conditions hold, each after an AND."""
    found = Sql()
    for condition in conditions:
        ranks = _within_ranks(condition)
        found.extend(ranks)
        # Of a plain range of dates, the ranks say it all.
        if not ranks.pieces or isinstance(condition, AllOf):
            found.add("AND").extend(sql(condition))
    return found


def _within_ranks(condition: Condition) -> Sql:
    """What a condition on Study Date says about ranks: a range is a piece of the order, entered at its start."""
    found = Sql()
    if isinstance(condition, AllOf):
        for part in condition.conditions:
            found.extend(_within_ranks(part))
    elif isinstance(condition, Range) and condition.keyword == "StudyDate":
        found.extend(_ranks(condition.low, condition.high))
    elif isinstance(condition, OneOf) and condition.keyword == "StudyDate" and len(condition.values) == 1:
        date = str(condition.values[0])
        found.extend(_ranks(date, date))
    return found


def _ranks(low: str | None, high: str | None) -> Sql:
    """The ranks of studies that have a date from ``low`` to ``high``, both included."""
    found = Sql()
    if high is not None:
        found.add("AND s.rank >= ?", study_rank(high, "")[:-1])
    last = study_rank(low, None) if low is not None else "~"
    return found.add("AND s.rank <= ?" if low is not None else "AND s.rank < ?", last)


def some_series(scope: Condition, conditions: Sequence[Condition] = (), snapshot: int | None = None) -> Sql:
    """That a study has a series in scope which satisfies some conditions, itself or by an instance."""
    lowest = max((level_of(condition) for condition in conditions), default=Level.SERIES)
    found = Sql().add("EXISTS (SELECT 1 FROM series e")
    if lowest is Level.INSTANCE:
        found.add("JOIN instance i ON i.series = e.id")
    found.add("WHERE e.study = s.id AND").extend(_there(lowest, snapshot, outer=False))
    found.add("AND").extend(sql(scope))
    for condition in conditions:
        found.add("AND").extend(sql(condition))
    return found.add(")")


def _beyond(search: Search) -> Sql:
    """The rows after a position, entered through the index by its first column."""
    if search.after is None:
        return Sql()
    columns = ORDER[search.level]
    marks = ", ".join("?" * len(columns))
    first, *_ = search.after
    return Sql().add(f"AND {columns[0]} >= ? AND ({', '.join(columns)}) > ({marks})", first, *search.after)


_HELD = "(SELECT max(v.id) FROM version v JOIN document d ON d.version = v.id WHERE {})"
_VERSION = {
    Level.PATIENT: _HELD.format("v.version = s.source_version"),
    Level.STUDY: _HELD.format("v.version = s.source_version"),
    Level.SERIES: _HELD.format("v.version = e.source_version"),
    Level.INSTANCE: f"coalesce(i.current_version, {_HELD.format('v.instance = i.id')})",
}


def _version(search: Search) -> Sql:
    """The version whose metadata speak for a row: where the scope asks for series, one that is in it."""
    if not search.versions:
        return Sql().add("NULL")
    if search.level > Level.STUDY or level_of(search.scope) <= Level.STUDY:
        return Sql().add(_VERSION[search.level])
    found = Sql().add("(SELECT v.id FROM series e JOIN instance i ON i.series = e.id")
    found.add("JOIN version v ON v.id = i.current_version WHERE e.study = s.id AND").extend(sql(search.scope))
    return found.add("ORDER BY v.version LIMIT 1)")


_UIDS_AND_ATTRIBUTES = {
    Level.PATIENT: "s.study_uid, NULL, NULL, s.attributes, NULL, NULL",
    Level.STUDY: "s.study_uid, NULL, NULL, s.attributes, NULL, NULL",
    Level.SERIES: "s.study_uid, e.series_uid, NULL, s.attributes, e.attributes, NULL",
    Level.INSTANCE: "s.study_uid, e.series_uid, i.sop_uid, s.attributes, e.attributes, i.attributes",
}
POSITION_COLUMNS = 6


def page(search: Search, among: Sequence[int] | None = None) -> Sql:
    """Rows of a page: UIDs and attributes by level, version, position, then computed values in the enum's order."""
    level = search.level
    below = {
        Level.SERIES: ", e.id AS series_row",
        Level.INSTANCE: ", e.id AS series_row, i.id AS instance_row",
    }
    if level is Level.PATIENT:
        inner = _patients(search, among)
    else:
        inner = (
            Sql()
            .add(f"SELECT s.id AS study_row, s.patient AS patient{below.get(level, '')} FROM {_FROM[level]} WHERE")
            .extend(_where(search, among))
            .extend(_beyond(search))
        )
    inner.add(f"ORDER BY {order_by(level)} LIMIT ? OFFSET ?", search.limit, search.offset)
    position = [*ORDER[level]]
    position += ["NULL"] * (POSITION_COLUMNS - len(position))
    found = Sql().add(f"SELECT {_UIDS_AND_ATTRIBUTES[level]},").extend(_version(search))
    found.add(f", {', '.join(position)}")
    for computed in sorted(search.computed):
        found.add(",").extend(_computed(computed, search))
    if search.changes:
        found.add(",").extend(last_change(search.scope))
    found.add("FROM (").extend(inner).add(") page JOIN study s ON s.id = page.study_row")
    if level is Level.PATIENT:
        found.add("JOIN patient p ON p.id = page.patient")
    if level >= Level.SERIES:
        found.add("JOIN series e ON e.id = page.series_row")
    if level is Level.INSTANCE:
        found.add("JOIN instance i ON i.id = page.instance_row")
    return found.add(f"ORDER BY {order_by(level)}")


def _patients(search: Search, among: Sequence[int] | None) -> Sql:
    """Patients of the studies that are searched for; the latest of these speaks."""
    latest = Sql().add("(SELECT s.id FROM study s WHERE s.patient = p.id AND").extend(_where(search, among))
    latest.add("ORDER BY s.rank, s.study_uid LIMIT 1)")
    found = (
        Sql()
        .add("SELECT p.id AS patient,")
        .extend(latest)
        .add("AS study_row FROM patient p WHERE p.tenant = ?", search.tenant)
    )
    if search.conditions or among is not None:
        found.add("AND").put(OfPatient(_where(search, among)))
    else:
        # Nearly every patient: looked at in their order, until the page is full.
        found.add("AND EXISTS (SELECT 1 FROM study s WHERE s.patient = p.id AND")
        found.extend(_where(search, among)).add(")")
    return found.extend(_beyond(search))


def count(search: Search, among: Sequence[int] | None = None, at_most: int | None = None) -> Sql:
    """The number of rows without limit and offset; counting stops at ``at_most``."""
    rows = (
        Sql().add("SELECT DISTINCT").put(Unordered("s.patient"))
        if search.level is Level.PATIENT
        else Sql().add("SELECT 1")
    )
    rows.add(f"FROM {_FROM[max(search.level, Level.STUDY)]} WHERE").extend(_where(search, among))
    if at_most is not None:
        rows.add("LIMIT ?", at_most)
    return Sql().add("SELECT count(*) FROM (").extend(rows).add(") counted")


def candidates(search: Search) -> Sql:
    """Instances that satisfy all of a search but its keys on metadata; one more than may be inspected at most."""
    found = Sql().add(f"SELECT i.id, i.current_version FROM {_FROM[Level.INSTANCE]} WHERE s.tenant = ?", search.tenant)
    found.add("AND i.tenant = ? AND", search.tenant).extend(_there(Level.INSTANCE, None)).add("AND").extend(
        sql(search.scope)
    )
    found.extend(_all(search.conditions))
    for condition in search.in_study:
        found.add("AND").extend(some_series(search.scope, [condition], search.snapshot))
    return found.add("LIMIT ?", search.cost.max_inspected + 1)


_OF_STUDY = "FROM series e WHERE e.study = s.id AND e.live AND"
_OF_STUDY_INSTANCES = (
    "FROM series e JOIN instance i ON i.series = e.id"
    " WHERE e.study = s.id AND e.live AND i.current_version IS NOT NULL AND"
)
_OF_PATIENT = "FROM study s WHERE s.patient = page.patient AND s.live AND"
_OF_PATIENT_SERIES = "FROM study s JOIN series e ON e.study = s.id WHERE s.patient = page.patient AND e.live AND"
_OF_PATIENT_INSTANCES = (
    "FROM study s JOIN series e ON e.study = s.id JOIN instance i ON i.series = e.id"
    " WHERE s.patient = page.patient AND i.current_version IS NOT NULL AND"
)
_SCOPED: dict[Computed, tuple[Piece, str]] = {
    Computed.MODALITIES_IN_STUDY: (Listed("e.modality"), _OF_STUDY),
    Computed.SOP_CLASSES_IN_STUDY: (Listed("i.sop_class_uid"), _OF_STUDY_INSTANCES),
    Computed.STUDY_SERIES: (Text("count(*)"), _OF_STUDY),
    Computed.STUDY_INSTANCES: (Text("count(*)"), _OF_STUDY_INSTANCES),
    Computed.PATIENT_SERIES: (Text("count(*)"), _OF_PATIENT_SERIES),
    Computed.PATIENT_INSTANCES: (Text("count(*)"), _OF_PATIENT_INSTANCES),
}
LISTS = frozenset((Computed.MODALITIES_IN_STUDY, Computed.SOP_CLASSES_IN_STUDY, Computed.TRANSFER_SYNTAXES))
"""Computed values that come back as a JSON array."""


_COUNTED = {
    Computed.STUDY_INSTANCES: "instance i WHERE i.study = s.id",
    Computed.PATIENT_INSTANCES: "study s JOIN instance i ON i.study = s.id WHERE s.patient = page.patient",
}
"""Counts of instances that need no look at their series, unless the scope does."""


def _computed(computed: Computed, search: Search) -> Sql:
    if computed in _COUNTED and level_of(search.scope) <= Level.STUDY:
        counted = Sql().add(f"(SELECT count(*) FROM {_COUNTED[computed]} AND i.current_version IS NOT NULL")
        return counted.add("AND").extend(sql(search.scope)).add(")")
    if computed in _SCOPED:
        what, source = _SCOPED[computed]
        return Sql().add("(SELECT").put(what).add(source).extend(sql(search.scope)).add(")")
    if computed is Computed.PATIENT_STUDIES:
        counted = Sql().add(f"(SELECT count(*) {_OF_PATIENT}")
        if level_of(search.scope) > Level.STUDY:
            return counted.extend(some_series(search.scope, snapshot=search.snapshot)).add(")")
        return counted.extend(sql(search.scope)).add(")")
    if computed is Computed.SERIES_INSTANCES:
        return Sql().add("(SELECT count(*) FROM instance i WHERE i.series = e.id AND i.current_version IS NOT NULL)")
    assert computed is Computed.TRANSFER_SYNTAXES, computed
    listed = Sql().add("(SELECT").put(Listed("v.transfer_syntax")).add("FROM version v WHERE v.instance = i.id")
    return listed.add("AND v.deleted IS NULL AND v.role IN ('current', 'alternative'))")


def under(target: Target, scope: Condition) -> Sql:
    """WHERE of everything under a target within a scope, over ``s``, ``e`` and ``i``, deleted or not."""
    where = Sql().add("s.tenant = ? AND s.study_uid = ?", target.tenant, target.study_uid)
    if target.series_uid is not None:
        where.add("AND e.series_uid = ?", target.series_uid)
    if target.sop_uid is not None:
        where.add("AND i.tenant = ? AND i.sop_uid = ?", target.tenant, target.sop_uid)
    return where.add("AND").extend(sql(scope))
