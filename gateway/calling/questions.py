"""What peers answer to C-FIND, as data sets of the DICOM JSON Model (PS3.18 Annex F)."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

import pydicom.config
from pydicom.datadict import tag_for_keyword
from pydicom.filereader import read_dataset

from gateway.dimse import contexts
from gateway.dimse.asking import RemoteArchive
from gateway.dimse.ending import Aborted
from storage.dicom import file_meta

Answer = Mapping[str, Any]


class Level(StrEnum):
    """Query/Retrieve levels, as the command line calls them."""

    PATIENT = "patient"
    STUDY = "study"
    SERIES = "series"
    IMAGE = "image"

    @property
    def model(self) -> str:
        """The SOP class of the question: a patient has a level in the Patient Root model alone."""
        return contexts.PATIENT_ROOT_FIND if self is Level.PATIENT else contexts.STUDY_ROOT_FIND


TOLD: Mapping[Level, tuple[str, ...]] = {
    Level.PATIENT: (*("PatientName", "PatientBirthDate", "PatientSex", "NumberOfPatientRelatedStudies", "PatientID"),),
    Level.STUDY: (
        *("StudyDate", "StudyTime", "PatientName", "PatientID", "AccessionNumber", "ModalitiesInStudy"),
        *("StudyDescription", "NumberOfStudyRelatedInstances", "StudyInstanceUID"),
    ),
    Level.SERIES: (
        *("Modality", "SeriesNumber", "SeriesDescription", "BodyPartExamined", "NumberOfSeriesRelatedInstances"),
        "SeriesInstanceUID",
    ),
    Level.IMAGE: ("InstanceNumber", "NumberOfFrames", "SOPClassUID", "SOPInstanceUID"),
}
"""Keywords that are asked for, whatever else is; the last one names a match."""


def ask(archive: RemoteArchive, level: Level, keys: Mapping[str, str], most: int | None) -> Iterator[Answer]:
    """Matches. Raises what ``RemoteArchive.find`` raises."""
    asked = {**dict.fromkeys(TOLD[level], ""), **keys}
    for encoded, transfer_syntax in archive.answers(level.upper(), asked, most, level.model):
        yield _json(encoded, transfer_syntax)


def texts(answer: Answer, keyword: str) -> str:
    """The values of an attribute as a person reads them; "" where there is none."""
    tag = tag_for_keyword(keyword)
    values = answer.get(f"{tag:08X}", {}).get("Value", ())
    return "\\".join(_text(each) for each in values)


def _text(value: object) -> str:
    if isinstance(value, dict):  # PN: the groups that there are (PS3.18 F.2.2)
        return "=".join(str(value[group]) for group in ("Alphabetic", "Ideographic", "Phonetic") if value.get(group))
    return "" if value is None else str(value)


def _json(encoded: bytes, transfer_syntax: str) -> Answer:
    encoding = file_meta.encoding_of(transfer_syntax)
    try:
        # What a peer says is shown as it is, be it as the standard wants it or not.
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            found = read_dataset(io.BytesIO(encoded), encoding.implicit, not encoding.big_endian)
            found.decode()
            return found.to_json_dict(suppress_invalid_tags=True)
    except Exception as error:
        # Whatever the library says: it is about values that the peer chose.
        raise Aborted(f"an answer that cannot be read ({type(error).__name__})") from error
