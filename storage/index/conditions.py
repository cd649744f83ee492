"""Conditions as SQL: the second evaluator of ``storage.dicom.matching``."""

from __future__ import annotations

from functools import lru_cache

from storage.dicom.attributes import Attribute, Level
from storage.dicom.matching import (
    Absent,
    AllOf,
    AnyOf,
    Condition,
    Fuzzy,
    InItem,
    Leaf,
    Not,
    OneOf,
    Wildcard,
    attribute_of,
    items_of,
)
from storage.index.database import Among, Either, Matching, Piece, Sql, Text

_NEVER_RARE = frozenset(("series_source",))
"""Items that every row has: looked up row by row. Others are rarer than rows, and may be looked up first."""

ALIASES = {Level.PATIENT: "s", Level.STUDY: "s", Level.SERIES: "e", Level.INSTANCE: "i"}
"""Table aliases: study ``s`` (with its patient's attributes), series ``e``, instance ``i``; an item ``r``."""

_KEPT = 2048

_INDEXED = frozenset(
    ("patient_name", "patient_name_i", "patient_name_p", "patient_id", "accession_number", "study_description")
)
"""Columns of study that have an index of their own."""


@lru_cache(_KEPT)
def level_of(condition: Condition) -> Level:
    """The lowest level that a condition looks at; STUDY when it looks at none."""
    if isinstance(condition, AllOf | AnyOf):
        return max((level_of(part) for part in condition.conditions), default=Level.STUDY)
    if isinstance(condition, Not | InItem):
        return level_of(condition.condition)
    return max(attribute_of(condition.keyword).level, Level.STUDY)


def sql(condition: Condition, *, in_item: bool = False) -> Sql:
    """A boolean expression over the aliases; never NULL, so that it may be negated."""
    return Sql(list(_pieces(condition, in_item)))


@lru_cache(_KEPT)
def _pieces(condition: Condition, in_item: bool) -> tuple[Piece, ...]:
    """The same once for a condition: a scope stands several times in a statement, and in every one of its principal."""
    found: list[Piece] = []
    for piece in _made(condition, in_item=in_item).pieces:
        last = found[-1] if found else None
        if isinstance(piece, Text) and isinstance(last, Text):
            found[-1] = Text(f"{last.text} {piece.text}", last.parameters + piece.parameters)
        else:
            found.append(piece)
    return tuple(found)


def _made(condition: Condition, *, in_item: bool) -> Sql:
    if isinstance(condition, AllOf | AnyOf):
        if isinstance(condition, AnyOf) and _is_of_studies(condition):
            return Sql().put(Either(tuple(sql(part) for part in condition.conditions)))
        word, empty = ("AND", "1 = 1") if isinstance(condition, AllOf) else ("OR", "1 = 0")
        return _joined(word, [sql(part, in_item=in_item) for part in condition.conditions], empty)
    if isinstance(condition, Not):
        return Sql().add("NOT (").extend(sql(condition.condition, in_item=in_item)).add(")")
    if isinstance(condition, InItem):
        return _in_item(condition)
    attribute = attribute_of(condition.keyword)
    if isinstance(condition, Fuzzy):
        return _fuzzy(condition, attribute)
    if attribute.items and not in_item:
        return sql(InItem(condition))
    alias = "r" if in_item else ALIASES[attribute.level]
    word = "AND" if isinstance(condition, Absent) else "OR"
    return _joined(word, [_column(condition, alias, column) for column in attribute.columns], "1 = 0")


def _in_item(condition: InItem) -> Sql:
    table, owner = items_of(condition), level_of(condition)
    if not table:
        return Sql().add("1 = 0")
    name, row = owner.name.lower(), f"{ALIASES[owner]}.id"
    if table in _NEVER_RARE:
        found = Sql().add(f"EXISTS (SELECT 1 FROM {table} r WHERE r.{name} = {row} AND")
        # The limit says nothing new, but keeps a planner from joining all items of all rows before it looks at any.
        return found.extend(sql(condition.condition, in_item=True)).add("LIMIT 1 OFFSET 0)")
    found = Sql().add(f"{row} IN (SELECT r.{name} FROM {table} r WHERE")
    return found.extend(sql(condition.condition, in_item=True)).add(")")


def _is_of_studies(condition: AnyOf) -> bool:
    """Whether studies may be looked up by each part of a condition for itself: where one of them goes by name keys."""
    return level_of(condition) <= Level.STUDY and any(isinstance(part, Fuzzy) for part in condition.conditions)


def _fuzzy(condition: Fuzzy, attribute: Attribute) -> Sql:
    """A study whose name has a key of every word; looked up by key, since a word is much rarer than a study."""
    assert attribute.level <= Level.STUDY
    words = []
    for word in condition.words:
        keys = [key for key in word if not key.endswith("*")]
        begins = [key[:-1] for key in word if key.endswith("*")]
        found = Sql().add("s.id IN (SELECT k.study FROM name_key k WHERE k.attribute = ? AND", attribute.column)
        found.put(Among("k.key", keys))
        # Not joined by an OR: so each is a piece of the index, which has the study too.
        for start in begins:
            found.add("UNION ALL SELECT k.study FROM name_key k WHERE k.attribute = ?", attribute.column)
            found.add("AND k.key >= ? AND k.key < ?", start, start + "\U0010ffff")
        words.append(found.add(")"))
    return _joined("AND", words, "1 = 1")


def _joined(word: str, pieces: list[Sql], empty: str) -> Sql:
    if not pieces:
        return Sql().add(empty)
    joined = Sql().add("(")
    for number, piece in enumerate(pieces):
        if number:
            joined.add(word)
        joined.extend(piece)
    return joined.add(")")


def _column(condition: Leaf, alias: str, name: str) -> Sql:
    column = f"{alias}.{name}"
    if isinstance(condition, Absent):
        return Sql().add(f"{column} IS NULL")
    found = Sql().add(f"({column} IS NOT NULL AND")
    if isinstance(condition, OneOf):
        if not condition.values:
            found.add("1 = 0")
        else:
            marks = ", ".join("?" * len(condition.values))
            found.add(f"{column} IN ({marks})", *condition.values)
    elif isinstance(condition, Wildcard):
        found.put(Matching(alias, name, condition.pattern, of_study=alias == "s" and name in _INDEXED))
    else:
        assert not isinstance(condition, Fuzzy)
        low, high = condition.low, condition.high
        if low is not None:
            found.add(f"{column} >= ?", low)
        if high is not None:
            found.add(f"AND {column} <= ?" if low is not None else f"{column} <= ?", high)
        if low is None and high is None:
            found.add("1 = 1")
    return found.add(")")
