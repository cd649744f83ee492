"""Searches as SQL: one page of rows, then what is computed for that page under the caller's scope."""

from __future__ import annotations

from collections.abc import Sequence

from storage.dicom.attributes import Computed, Level
from storage.dicom.matching import AllOf, Condition
from storage.index.base import Search, Target
from storage.index.conditions import Sql, level_of, sql

_FROM = {
    Level.PATIENT: "study s",
    Level.STUDY: "study s",
    Level.SERIES: "study s JOIN series e ON e.study = s.id",
    Level.INSTANCE: "study s JOIN series e ON e.study = s.id JOIN instance i ON i.series = e.id",
}
_LIVE = {
    Level.PATIENT: "s.live",
    Level.STUDY: "s.live",
    Level.SERIES: "s.live AND e.live",
    Level.INSTANCE: "s.live AND e.live AND i.current_version IS NOT NULL",
}
_BY_STUDY = "s.study_date DESC, s.study_time DESC, s.study_uid"
ORDER = {
    Level.PATIENT: "s.patient_id, s.patient",
    Level.STUDY: _BY_STUDY,
    Level.SERIES: f"{_BY_STUDY}, e.series_number, e.series_uid",
    Level.INSTANCE: f"{_BY_STUDY}, e.series_number, e.series_uid, i.instance_number, i.sop_uid",
}


def _where(search: Search) -> Sql:
    """The conditions that choose rows of the search's level."""
    level = max(search.level, Level.STUDY)
    where = Sql().add(f"s.tenant = ? AND {_LIVE[level]}", search.tenant)
    direct = [condition for condition in search.conditions if level_of(condition) <= level]
    below = [condition for condition in search.conditions if level_of(condition) > level]
    for condition in direct:
        where.add("AND").extend(sql(condition))
    if level_of(search.scope) <= level:
        where.add("AND").extend(sql(search.scope))
    elif not below and not search.modalities_in_study:
        where.add("AND").extend(some_series(search.scope))
    if below:
        where.add("AND")
        if level is Level.SERIES:
            where.add("EXISTS (SELECT 1 FROM instance i WHERE i.series = e.id AND i.current_version IS NOT NULL AND")
            where.extend(sql(AllOf(tuple(below)))).add(")")
        else:
            where.extend(some_series(search.scope, below))
    if search.modalities_in_study:
        marks = ", ".join("?" * len(search.modalities_in_study))
        where.add("AND EXISTS (SELECT 1 FROM series e WHERE e.study = s.id AND e.live")
        where.add(f"AND e.modality IN ({marks}) AND", *search.modalities_in_study)
        where.extend(sql(search.scope)).add(")")
    return where


def some_series(scope: Condition, conditions: Sequence[Condition] = ()) -> Sql:
    """That a study has a live series in scope which satisfies some conditions, itself or by an instance."""
    lowest = max((level_of(condition) for condition in conditions), default=Level.SERIES)
    found = Sql().add("EXISTS (SELECT 1 FROM series e")
    if lowest is Level.INSTANCE:
        found.add("JOIN instance i ON i.series = e.id AND i.current_version IS NOT NULL")
    found.add("WHERE e.study = s.id AND e.live AND").extend(sql(scope))
    for condition in conditions:
        found.add("AND").extend(sql(condition))
    return found.add(")")


_COLUMNS = {
    Level.PATIENT: "page.study_uid, NULL, NULL, s.attributes, NULL, NULL",
    Level.STUDY: "s.study_uid, NULL, NULL, s.attributes, NULL, NULL",
    Level.SERIES: "s.study_uid, e.series_uid, NULL, s.attributes, e.attributes, NULL",
    Level.INSTANCE: "s.study_uid, e.series_uid, i.sop_uid, s.attributes, e.attributes, i.attributes",
}


def page(search: Search) -> Sql:
    """Rows of a page: the UIDs and attributes of each level, then the computed values in the enum's order."""
    level = search.level
    below = {
        Level.SERIES: ", e.id AS series_row",
        Level.INSTANCE: ", e.id AS series_row, i.id AS instance_row",
    }
    if level is Level.PATIENT:
        # SQLite takes bare columns from the row that holds the maximum: the patient's latest study speaks.
        inner = Sql().add(
            "SELECT s.id AS study_row, s.patient AS patient, s.study_uid AS study_uid,"
            " max(coalesce(s.study_date, '') || coalesce(s.study_time, '')) FROM study s WHERE"
        )
        inner.extend(_where(search)).add("GROUP BY s.patient")
    else:
        inner = (
            Sql()
            .add(f"SELECT s.id AS study_row, s.patient AS patient{below.get(level, '')} FROM {_FROM[level]} WHERE")
            .extend(_where(search))
        )
    inner.add(f"ORDER BY {ORDER[level]} LIMIT ? OFFSET ?", search.limit, search.offset)
    found = Sql().add(f"SELECT {_COLUMNS[level]}")
    for computed in sorted(search.computed):
        found.add(",").extend(_computed(computed, search.scope))
    found.add("FROM (").extend(inner).add(") page JOIN study s ON s.id = page.study_row")
    if level >= Level.SERIES:
        found.add("JOIN series e ON e.id = page.series_row")
    if level is Level.INSTANCE:
        found.add("JOIN instance i ON i.id = page.instance_row")
    return found.add(f"ORDER BY {ORDER[level]}")


def count(search: Search) -> Sql:
    """The number of rows without limit and offset."""
    if search.level is Level.PATIENT:
        return Sql().add("SELECT count(DISTINCT s.patient) FROM study s WHERE").extend(_where(search))
    return Sql().add(f"SELECT count(*) FROM {_FROM[search.level]} WHERE").extend(_where(search))


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
_SCOPED = {
    Computed.MODALITIES_IN_STUDY: ("json_group_array(DISTINCT e.modality)", _OF_STUDY),
    Computed.SOP_CLASSES_IN_STUDY: ("json_group_array(DISTINCT i.sop_class_uid)", _OF_STUDY_INSTANCES),
    Computed.STUDY_SERIES: ("count(*)", _OF_STUDY),
    Computed.STUDY_INSTANCES: ("count(*)", _OF_STUDY_INSTANCES),
    Computed.PATIENT_SERIES: ("count(*)", _OF_PATIENT_SERIES),
    Computed.PATIENT_INSTANCES: ("count(*)", _OF_PATIENT_INSTANCES),
}
LISTS = frozenset((Computed.MODALITIES_IN_STUDY, Computed.SOP_CLASSES_IN_STUDY, Computed.TRANSFER_SYNTAXES))
"""Computed values that come back as a JSON array."""


def _computed(computed: Computed, scope: Condition) -> Sql:
    if computed in _SCOPED:
        what, source = _SCOPED[computed]
        return Sql().add(f"(SELECT {what} {source}").extend(sql(scope)).add(")")
    if computed is Computed.PATIENT_STUDIES:
        counted = Sql().add(f"(SELECT count(*) {_OF_PATIENT}")
        series_scope = level_of(scope) > Level.STUDY
        return counted.extend(some_series(scope) if series_scope else sql(scope)).add(")")
    if computed is Computed.SERIES_INSTANCES:
        return Sql().add("(SELECT count(*) FROM instance i WHERE i.series = e.id AND i.current_version IS NOT NULL)")
    assert computed is Computed.TRANSFER_SYNTAXES, computed
    return Sql().add(
        "(SELECT json_group_array(DISTINCT v.transfer_syntax) FROM version v"
        " WHERE v.instance = i.id AND v.deleted IS NULL AND v.role IN ('current', 'alternative'))"
    )


def under(target: Target, scope: Condition) -> Sql:
    """WHERE of everything under a target within a scope, over ``s``, ``e`` and ``i``, deleted or not."""
    where = Sql().add("s.tenant = ? AND s.study_uid = ?", target.tenant, target.study_uid)
    if target.series_uid is not None:
        where.add("AND e.series_uid = ?", target.series_uid)
    if target.sop_uid is not None:
        where.add("AND i.tenant = ? AND i.sop_uid = ?", target.tenant, target.sop_uid)
    return where.add("AND").extend(sql(scope))
