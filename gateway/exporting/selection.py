"""Which studies are exported: named by what is stored, since that is what the administrator knows."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.errors import InvalidQuery, NotFound
from gateway.services.question import Query, asked
from gateway.viewing.contents import rows_of
from gateway.viewing.definition import Definition
from gateway.viewing.patients import Patient
from storage.dicom import identifiers as ids
from storage.dicom.attributes import Level
from storage.dicom.matching import Condition, OneOf
from storage.index.base import Index
from storage.index.questions import Search


@dataclass(frozen=True, slots=True)
class Selection:
    """Studies that satisfy everything that is given; all of them when nothing is.

    ``patient`` is Issuer of Patient ID and Patient ID. ``keys`` are paths of attributes with the text to match.
    """

    studies: tuple[ids.StudyUid, ...] = ()
    patient: tuple[str, str] | None = None
    keys: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Chosen:
    """A study as it is stored."""

    study_uid: ids.StudyUid
    patient: Patient


def selected(index: Index, definition: Definition, selection: Selection) -> list[Chosen]:
    """The studies of a view's scope that are selected, each patient's together.

    They are in the order of their pseudonyms, so that no list of what was exported tells which came first.

    Raises
    ------
    InvalidQuery
        There is no searching by one of the keys.
    NotFound
        A study that is named is not there, or not in the scope of the view; or none is at all.
    storage.errors.StorageUnavailable, storage.errors.SearchTooBroad
    """
    question = asked(Query(Level.STUDY, selection.keys))
    if question.unmatched:
        raise InvalidQuery(f"studies cannot be searched by {', '.join(question.unmatched)}")
    search = Search(
        definition.tenant,
        Level.STUDY,
        (*question.conditions, *_named(index, definition.tenant, selection)),
        tuple(question.in_study),
        tuple(question.metadata),
        definition.scope,
        versions=False,
    )
    found = [Chosen(row.study_uid, Patient.of(row.attributes[0], row.study_uid)) for row in rows_of(index, search)]
    missing = set(selection.studies) - {each.study_uid for each in found}
    if missing and not (selection.patient or selection.keys):
        raise NotFound(f"study {min(missing)} is not there, or not in the scope of the view")
    if not found:
        raise NotFound("no such study is in the scope of the view")
    return sorted(found, key=lambda each: (each.patient.pseudonymous(definition).id, definition.uid(each.study_uid)))


def _named(index: Index, tenant: ids.Tenant, selection: Selection) -> list[Condition]:
    found: list[Condition] = []
    if selection.studies:
        found.append(OneOf("StudyInstanceUID", tuple(selection.studies)))
    if selection.patient is not None:
        studies = index.studies_of(tenant, *selection.patient)
        if not studies:
            raise NotFound("there is no such patient; images with an Issuer of Patient ID need --issuer")
        found.append(OneOf("StudyInstanceUID", tuple(studies)))
    return found
