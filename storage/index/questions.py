"""What an index may be asked, and a page of its answer."""

from __future__ import annotations

from dataclasses import dataclass, field

from storage.dicom.attributes import Computed, Level
from storage.dicom.identifiers import SeriesUid, SopUid, StudyUid, Tenant
from storage.dicom.matching import EVERYTHING, Condition
from storage.dicom.metadata import Key


@dataclass(frozen=True, slots=True)
class Target:
    """A study, series or instance of a tenant."""

    tenant: Tenant
    study_uid: StudyUid
    series_uid: SeriesUid | None = None
    sop_uid: SopUid | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What one search may cost.

    ``max_inspected`` instances may be looked into for attributes without a column; a total is counted up to
    ``max_counted`` rows; after ``timeout_s`` the search ends in SearchTooBroad.
    """

    max_inspected: int = 20_000
    max_counted: int = 1_000
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Changed:
    """A span of time (Unix times) from ``since`` to before ``before``; None leaves a side open."""

    since: float | None = None
    before: float | None = None


Position = tuple[str | int, ...]
"""Where a row stands in the order of its level, for the rows after it to be asked for."""


@dataclass(frozen=True, slots=True)
class Search:
    """A question to the index.

    ``conditions`` may be of any level; those below ``level`` ask that one series or instance satisfies them all.
    ``in_study`` ask, each for itself, that the study has a series or instance that satisfies it. ``metadata`` are
    looked for in the stored metadata of instances, one of which has to satisfy them and all that is below ``level``.
    ``scope`` limits what exists for the caller.

    ``limit`` rows come after ``offset`` in a stable order, or after ``offset`` more beyond ``after``. With
    ``snapshot`` the rows are those that were there at that change, whatever came or went since.

    ``versions`` asks which version speaks for each row; it costs two look-ups a row. ``changes`` asks when an instance
    of each study changed last within the scope, and ``changed`` that it was then; of studies alone.
    """

    tenant: Tenant
    level: Level
    conditions: tuple[Condition, ...] = ()
    in_study: tuple[Condition, ...] = ()
    metadata: tuple[Key, ...] = ()
    scope: Condition = EVERYTHING
    limit: int = 1000
    offset: int = 0
    after: Position | None = None
    snapshot: int | None = None
    computed: frozenset[Computed] = frozenset()
    versions: bool = True
    changes: bool = False
    changed: Changed | None = None
    cost: Cost = Cost()


@dataclass(frozen=True, slots=True)
class Row:
    """One result. ``attributes`` are JSON texts (DICOM JSON Model), one each level down to the question's.

    ``version_id`` is that of the version that speaks for the row, for more of its metadata; None when these are purged,
    or were not asked for. ``changed_at_s`` is when an instance changed last, where that was asked for.
    """

    study_uid: StudyUid
    series_uid: SeriesUid | None
    sop_uid: SopUid | None
    attributes: tuple[bytes, ...]
    computed: dict[Computed, int | tuple[str, ...]]
    version_id: int | None = field(compare=False)
    position: Position
    changed_at_s: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Ageing:
    """Which live studies of a tenant may be old enough for something; ``after`` is the version to go on from.

    Those that speak through a version which came before ``arrived_before`` (``identifiers.before_time``), and those
    dated before ``dated_before`` (YYYYMMDD, "" for none) of which it came before ``settled_before``. A study may have
    got more since, so who asks has to look when its last version came.
    """

    tenant: Tenant
    arrived_before: str
    dated_before: str = ""
    settled_before: str = ""
    after: str = ""
    limit: int = 500


@dataclass(frozen=True, slots=True)
class State:
    """Which state of the index answers: ``epoch`` is renewed by a reindex, ``change`` is the last one seen."""

    epoch: str
    change: int


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of a search, all read from one state. ``total`` is what there is without limit, offset and after.

    ``exact`` is False where counting stopped at ``Cost.max_counted``.
    """

    rows: tuple[Row, ...]
    total: int
    exact: bool
    state: State
