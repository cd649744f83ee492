"""The attribute registry: what is searched, returned and indexed, at which level, and how it is matched.

SQL columns, QIDO-RS, C-FIND, ``includefield``, the required return keys and the tables of the conformance
statement are all made from this one list (PS3.18 10.6 "Search Transaction", PS3.4 C.6 "SOP Class Definitions").
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.tag import Tag

from storage.dicom import vr as vrs


class Level(IntEnum):
    """Query/Retrieve level, from the top (PS3.4 C.3.1 "Query/Retrieve Level")."""

    PATIENT = 0
    STUDY = 1
    SERIES = 2
    INSTANCE = 3


class Computed(IntEnum):
    """What is not in any instance but counted or made when a question is answered."""

    NO = 0
    MODALITIES_IN_STUDY = 1
    PATIENT_STUDIES = 2
    PATIENT_SERIES = 3
    PATIENT_INSTANCES = 4
    STUDY_SERIES = 5
    STUDY_INSTANCES = 6
    SERIES_INSTANCES = 7
    RETRIEVE_URL = 8
    AVAILABILITY = 9
    TRANSFER_SYNTAXES = 10
    SOP_CLASSES_IN_STUDY = 11


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of the registry.

    ``path`` is the tag, or for an attribute in a sequence the sequence's tag and its own, as eight hexadecimal
    digits joined by dots. ``column`` is its name in the index ("" when there is none and the stored metadata have to
    be looked into); names of persons have three columns, for the alphabetic, ideographic (``_i``) and phonetic
    (``_p``) groups. Of what may be there several times, ``items`` names the table whose rows hold it, one row for each
    item of a sequence or each value. ``returned`` says that it comes back without being asked for, ``required`` that
    it does so even when it is not known (PS3.18 Tables 10.6.3-3 to 10.6.3-5).
    """

    keyword: str
    path: str
    vr: str
    level: Level
    column: str = ""
    items: str = ""
    returned: bool = False
    required: bool = False
    computed: Computed = Computed.NO

    @property
    def tag(self) -> str:
        """The top-level tag under which the attribute is returned."""
        return self.path.partition(".")[0]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of its columns in the index."""
        if not self.column:
            return ()
        return (self.column, f"{self.column}_i", f"{self.column}_p") if self.vr == "PN" else (self.column,)


_SPECIAL = {
    "ModalitiesInStudy": Computed.MODALITIES_IN_STUDY,
    "SOPClassesInStudy": Computed.SOP_CLASSES_IN_STUDY,
    "NumberOfPatientRelatedStudies": Computed.PATIENT_STUDIES,
    "NumberOfPatientRelatedSeries": Computed.PATIENT_SERIES,
    "NumberOfPatientRelatedInstances": Computed.PATIENT_INSTANCES,
    "NumberOfStudyRelatedSeries": Computed.STUDY_SERIES,
    "NumberOfStudyRelatedInstances": Computed.STUDY_INSTANCES,
    "NumberOfSeriesRelatedInstances": Computed.SERIES_INSTANCES,
    "RetrieveURL": Computed.RETRIEVE_URL,
    "InstanceAvailability": Computed.AVAILABILITY,
    "AvailableTransferSyntaxUID": Computed.TRANSFER_SYNTAXES,
}


def _attributes(level: Level, text: str) -> list[Attribute]:
    """Lines of ``Keyword[>Keyword] [items.]column mark``.

    "-" stands for no column, "*" for returned by default, "+" for required.
    """
    found = []
    for line in text.split("\n"):
        words = line.split()
        if not words:
            continue
        keyword, place, *mark = words
        items, _, column = place.rpartition(".")
        tags = []
        for word in keyword.split(">"):
            tag = tag_for_keyword(word)
            assert tag is not None, word
            tags.append(tag)
        found.append(
            Attribute(
                keyword=keyword.rpartition(">")[2],
                path=".".join(f"{tag:08X}" for tag in tags),
                vr=vrs.of_tag(tags[-1]),
                level=level,
                column="" if column == "-" else column,
                items=items,
                returned=bool(mark),
                required=mark == ["+"],
                computed=_SPECIAL.get(keyword, Computed.NO),
            )
        )
    return found


ATTRIBUTES: tuple[Attribute, ...] = tuple(
    _attributes(
        Level.PATIENT,
        """
        PatientName                          patient_name +
        PatientID                            patient_id +
        IssuerOfPatientID                    issuer_of_patient_id *
        PatientBirthDate                     patient_birth_date +
        PatientSex                           patient_sex +
        PatientBirthTime                     -
        OtherPatientIDs                      -
        OtherPatientIDsSequence              -
        OtherPatientNames                    -
        EthnicGroup                          -
        PatientComments                      -
        PatientSpeciesDescription            -
        PatientBreedDescription              -
        ResponsiblePerson                    -
        ResponsibleOrganization              -
        PatientIdentityRemoved               -
        DeidentificationMethod               -
        NumberOfPatientRelatedStudies        -
        NumberOfPatientRelatedSeries         -
        NumberOfPatientRelatedInstances      -
        """,
    )
    + _attributes(
        Level.STUDY,
        """
        StudyDate                            study_date +
        StudyTime                            study_time +
        AccessionNumber                      accession_number +
        InstanceAvailability                 - *
        ModalitiesInStudy                    - *
        SOPClassesInStudy                    -
        ReferringPhysicianName               referring_physician_name +
        TimezoneOffsetFromUTC                - *
        StudyDescription                     study_description *
        RetrieveURL                          - *
        StudyInstanceUID                     study_uid *
        StudyID                              study_id +
        NumberOfStudyRelatedSeries           - *
        NumberOfStudyRelatedInstances        - *
        IssuerOfAccessionNumberSequence      -
        ConsultingPhysicianName              -
        PhysiciansOfRecord                   -
        NameOfPhysiciansReadingStudy         reading_physician.reading_physician_name
        RequestingService                    -
        RequestedProcedureDescription        -
        RequestedProcedureCodeSequence       -
        ProcedureCodeSequence                -
        ReasonForPerformedProcedureCodeSequence  -
        AdmittingDiagnosesDescription        -
        AdmissionID                          -
        PatientAge                           -
        PatientSize                          -
        PatientWeight                        -
        PregnancyStatus                      -
        Occupation                           -
        AdditionalPatientHistory             -
        ClinicalTrialSponsorName             -
        ClinicalTrialProtocolID              -
        ClinicalTrialSubjectID               -
        InstitutionName                      institution_name
        """,
    )
    + _attributes(
        Level.SERIES,
        """
        Modality                             modality +
        SeriesDescription                    series_description *
        SeriesInstanceUID                    series_uid *
        SeriesNumber                         series_number +
        NumberOfSeriesRelatedInstances       - *
        SeriesDate                           series_date
        SeriesTime                           series_time
        PerformedProcedureStepStartDate      pps_start_date *
        PerformedProcedureStepStartTime      pps_start_time *
        PerformedProcedureStepID             -
        PerformedProcedureStepDescription    -
        RequestAttributesSequence>ScheduledProcedureStepID    request_item.scheduled_step_id *
        RequestAttributesSequence>RequestedProcedureID        request_item.requested_procedure_id *
        BodyPartExamined                     body_part_examined
        Laterality                           laterality
        Manufacturer                         manufacturer
        ManufacturerModelName                manufacturer_model_name
        DeviceSerialNumber                   -
        SoftwareVersions                     -
        StationName                          station_name
        InstitutionalDepartmentName          -
        ProtocolName                         protocol_name
        PerformingPhysicianName              -
        OperatorsName                        -
        FrameOfReferenceUID                  frame_of_reference_uid
        PatientPosition                      -
        """,
    )
    + _attributes(
        Level.INSTANCE,
        """
        SOPClassUID                          sop_class_uid *
        SOPInstanceUID                       sop_uid *
        AvailableTransferSyntaxUID           - *
        InstanceNumber                       instance_number +
        Rows                                 - *
        Columns                              - *
        BitsAllocated                        - *
        NumberOfFrames                       - *
        ImageType                            -
        AcquisitionNumber                    acquisition_number
        AcquisitionDate                      acquisition_date
        AcquisitionTime                      acquisition_time
        AcquisitionDateTime                  acquisition_datetime
        ContentDate                          content_date
        ContentTime                          content_time
        ImagePositionPatient                 -
        ImageOrientationPatient              -
        PixelSpacing                         -
        SliceThickness                       -
        SliceLocation                        -
        PhotometricInterpretation            -
        SamplesPerPixel                      -
        BurnedInAnnotation                   -
        LossyImageCompression                -
        ContentLabel                         -
        ContentDescription                   -
        CompletionFlag                       -
        VerificationFlag                     -
        DocumentTitle                        -
        """,
    )
)


@dataclass(frozen=True, slots=True)
class Moment:
    """A date and its time, matched together.

    ``instant`` is a column of its own that holds both in UTC where the data set says its offset, and nothing
    otherwise (PS3.4 C.2.2.2.5.4 "Range Matching General Rules").
    """

    date: Attribute
    time: Attribute
    instant: Attribute


def _moments() -> tuple[Moment, ...]:
    known = {attribute.keyword: attribute for attribute in ATTRIBUTES}
    found = []
    for column in ("study", "series", "pps_start", "acquisition", "content"):
        date, time = (next(a for a in known.values() if a.column == f"{column}_{part}") for part in ("date", "time"))
        keyword, path = f"{date.keyword}+{time.keyword}", f"{date.path}+{time.path}"
        found.append(Moment(date, time, Attribute(keyword, path, "DT", date.level, f"{column}_instant")))
    return tuple(found)


MOMENTS = _moments()
SOURCE_AE = Attribute(
    "SourceApplicationEntityTitle", "00020016", "AE", Level.SERIES, "source_ae_title", items="series_source"
)
"""Who sent the instances of a series, as our File Meta Information says (PS3.10 Table 7.1-1); for scopes alone.

A series has one item for each title, and one with an empty title when that of some instance is not known.
"""
COLUMNS: tuple[Attribute, ...] = tuple(
    attribute for attribute in (*ATTRIBUTES, *(moment.instant for moment in MOMENTS), SOURCE_AE) if attribute.column
)
"""Every attribute that the index has columns for."""

BY_KEYWORD: dict[str, Attribute] = {attribute.keyword: attribute for attribute in (*ATTRIBUTES, *COLUMNS)}
BY_PATH: dict[str, Attribute] = {attribute.path: attribute for attribute in ATTRIBUTES}

STORED_TAGS: dict[Level, frozenset[str]] = {
    level: frozenset(attribute.tag for attribute in ATTRIBUTES if attribute.level == level and not attribute.computed)
    for level in Level
}
"""Tags of each level that are kept from the instances; patient attributes stand with the study."""

PIXEL_DATA_TAGS = frozenset(("7FE00008", "7FE00009", "7FE00010"))


def path_of(name: str) -> str | None:
    """The path of an attribute named in a request: eight hexadecimal digits or a keyword, dotted for sequences.

    None when the name is neither. Unregistered attributes of the data dictionary are paths too.
    """
    parts = []
    for part in name.split("."):
        if len(part) == 8 and all(character in "0123456789abcdefABCDEF" for character in part):
            parts.append(part.upper())
            continue
        tag = tag_for_keyword(part)
        if tag is None:
            return None
        parts.append(f"{tag:08X}")
    return ".".join(parts)


def describe(path: str) -> str:
    """Keyword and tag of a path, for messages: "PatientID (0010,0020)"."""
    tag = path.rpartition(".")[2]
    name = keyword_for_tag(Tag(int(tag, 16))) or "attribute"
    return f"{name} ({tag[:4]},{tag[4:]})"
