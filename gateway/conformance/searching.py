"""Claims of the Search Transaction (PS3.18 10.6, 8.3.4)."""

from __future__ import annotations

from typing import Any

from gateway.conformance import material
from gateway.conformance.claims import Broken, NotAsked, Service, Unsupported, claim
from gateway.conformance.client import JSON, XML, read_xml
from gateway.conformance.visit import Visit, first

_STUDY, _SERIES, _SOP = "0020000D", "0020000E", "00080018"
_STUDY_KEYS = (
    *("00080020", "00080030", "00080050", "00080090", "00100010", "00100020", "00100030", "00100040"),
    *("0020000D", "00200010"),
)
_SERIES_KEYS = ("00080060", "0008103E", "0020000E", "00200011")
_INSTANCE_KEYS = ("00080016", "00080018", "00200013", "00280010", "00280011", "00280100", "00280008")


def _uids(found: list[dict[str, Any]], tag: str) -> list[str]:
    return [first(each, tag) for each in found]


def _found(visit: Visit, *, wanted: bool, **query: str) -> None:
    """A search within the study finds it, or does not."""
    results = visit.client.search("/studies", StudyInstanceUID=visit.found.study_uid, **query)
    if wanted and _uids(results, _STUDY) != [visit.found.study_uid]:
        raise Broken("the study matches, and is not the one result")
    if not wanted and results:
        raise Broken("the study does not match, and is a result")


def _value(visit: Visit, tag: str, name: str) -> str:
    value = visit.found.value(tag)
    # What would have to be escaped, or stand for a list or pattern, asks for more than the claim.
    if not value or any(each in value for each in '*?\\,"'):
        raise NotAsked(f"the study that was found has no {name} that a search can be made of; --store brings one")
    return value


@claim(Service.SEARCH, "10.6.1.1", "studies are found, in the DICOM JSON Model")
def search_studies(visit: Visit) -> str | None:
    study = visit.found.study_uid
    if _uids(visit.client.search("/studies", StudyInstanceUID=study), _STUDY) != [study]:
        raise Broken("the study with this UID is the one result")
    return None


@claim(Service.SEARCH, "10.6.1.1", "the series of a study are found")
def search_series(visit: Visit) -> str | None:
    if visit.found.series_uid not in _uids(visit.client.search(f"{visit.found.study}/series"), _SERIES):
        raise Broken("the series is not among the results")
    return None


@claim(Service.SEARCH, "10.6.1.1", "the instances of a series are found")
def search_instances(visit: Visit) -> str | None:
    if visit.found.sop_uid not in _uids(visit.client.search(f"{visit.found.series}/instances"), _SOP):
        raise Broken("the instance is not among the results")
    return None


@claim(Service.SEARCH, "10.6.1.1", "the instances of a study, all series and all instances are found", required=False)
def search_across_levels(visit: Visit) -> str | None:
    there, client = visit.found, visit.client
    for path, tag, uid in (
        (f"{there.study}/instances", _SOP, there.sop_uid),
        (f"/series?StudyInstanceUID={there.study_uid}", _SERIES, there.series_uid),
        (f"/instances?SOPInstanceUID={there.sop_uid}", _SOP, there.sop_uid),
    ):
        if uid not in _uids(client.get(path, JSON).offered().results(), tag):
            raise Broken("what is there is not among the results")
    return None


def _keys(visit: Visit, path: str, keys: tuple[str, ...], tag: str, uid: str) -> None:
    results = visit.client.search(path)
    (result,) = [each for each in results if first(each, tag) == uid] or [{}]
    # Of what the instance has no value for, nothing is asked: the standard lets it be left out or empty.
    known = [each for each in keys if visit.found.value(each)]
    if missing := [each for each in known if first(result, each) == ""]:
        raise Broken(f"the result lacks {', '.join(missing)}, which the instance has")


@claim(Service.SEARCH, "10.6.3.3, Table 10.6.3-3", "a study has the attributes of the table, and its counts")
def search_study_attributes(visit: Visit) -> str | None:
    _keys(visit, f"/studies?StudyInstanceUID={visit.found.study_uid}", _STUDY_KEYS, _STUDY, visit.found.study_uid)
    (result,) = visit.client.search("/studies", StudyInstanceUID=visit.found.study_uid)
    for tag, name in (("00201206", "Series"), ("00201208", "Instances")):
        if not first(result, tag).isdigit():
            raise Broken(f"Number of Study Related {name} is not there")
    if not result.get("00080061", {}).get("Value"):
        raise Broken("Modalities in Study (0008,0061) is not there")
    return None


@claim(Service.SEARCH, "10.6.3.3, Table 10.6.3-4", "a series has the attributes of the table, and its count")
def search_series_attributes(visit: Visit) -> str | None:
    _keys(visit, f"{visit.found.study}/series", _SERIES_KEYS, _SERIES, visit.found.series_uid)
    for result in visit.client.search(f"{visit.found.study}/series"):
        if not first(result, "00201209").isdigit():
            raise Broken("Number of Series Related Instances (0020,1209) is not there")
    return None


@claim(Service.SEARCH, "10.6.3.3, Table 10.6.3-5", "an instance has the attributes of the table")
def search_instance_attributes(visit: Visit) -> str | None:
    _keys(visit, f"{visit.found.series}/instances", _INSTANCE_KEYS, _SOP, visit.found.sop_uid)
    return None


@claim(Service.SEARCH, "10.6.3.3", "a result has the Retrieve URL (0008,1190) of its resource")
def search_retrieve_url(visit: Visit) -> str | None:
    (result,) = visit.client.search("/studies", StudyInstanceUID=visit.found.study_uid)
    url = first(result, "00081190")
    if not url.rstrip("/").endswith(visit.found.study):
        raise Broken(f"Retrieve URL is {visit.client.shown(url) or 'empty'}")
    return None


@claim(Service.SEARCH, "8.3.4.1", "an attribute is named by keyword or by tag")
def search_by_keyword_and_tag(visit: Visit) -> str | None:
    value = _value(visit, "00100020", "Patient ID")
    for name in ("PatientID", "00100020"):
        _found(visit, wanted=True, **{name: value})
        _found(visit, wanted=False, **{name: f"{value}-other"})
    return None


@claim(Service.SEARCH, "8.3.4.1, RFC 3986 2.1", "values of a query are percent-decoded")
def search_percent_encoded(visit: Visit) -> str | None:
    value = _value(visit, "00100020", "Patient ID")
    encoded = "".join(f"%{byte:02X}" for byte in value.encode())
    path = f"/studies?StudyInstanceUID={visit.found.study_uid}&PatientID={encoded}"
    if not visit.client.get(path, JSON).results():
        raise Broken("the same value, every byte of it percent-encoded, matches nothing")
    return None


@claim(Service.SEARCH, "8.3.4.1, PS3.4 C.2.2.2.2", "a list of UIDs matches each of them")
def search_uid_list(visit: Visit) -> str | None:
    results = visit.client.search("/studies", StudyInstanceUID=f"{material.uid()},{visit.found.study_uid}")
    if _uids(results, _STUDY) != [visit.found.study_uid]:
        raise Broken("the study whose UID is in the list is the one result")
    return None


@claim(Service.SEARCH, "8.3.4.1, PS3.4 C.2.2.2.3", "a key without a value matches everything")
def search_universal(visit: Visit) -> str | None:
    _found(visit, wanted=True, PatientID="")
    return None


@claim(Service.SEARCH, "8.3.4.1, PS3.4 C.2.2.2.4", "* and ? are wildcards")
def search_wildcards(visit: Visit) -> str | None:
    value = _value(visit, "00100020", "Patient ID")
    for pattern in (f"{value[:-1]}*", f"{value[:-1]}?", f"*{value[1:]}"):
        _found(visit, wanted=True, PatientID=pattern)
    _found(visit, wanted=False, PatientID=f"{value}?")
    return None


@claim(Service.SEARCH, "8.3.4.1, PS3.4 C.2.2.2.5", "ranges of dates")
def search_ranges(visit: Visit) -> str | None:
    day = _value(visit, "00080020", "Study Date")
    if not (day.isdigit() and len(day) == 8):
        raise NotAsked("Study Date of the study that was found is no date")
    for value in (day, f"{day}-{day}", f"{day}-", f"-{day}"):
        _found(visit, wanted=True, StudyDate=value)
    _found(visit, wanted=False, StudyDate="-18000101")
    _found(visit, wanted=False, StudyDate="29990101-")
    return None


@claim(Service.SEARCH, "8.3.4.1, Table 10.6.1-5", "a study is found by its modalities")
def search_modalities(visit: Visit) -> str | None:
    modality = _value(visit, "00080060", "Modality")
    _found(visit, wanted=True, ModalitiesInStudy=modality)
    _found(visit, wanted=False, ModalitiesInStudy="ZZ")
    return None


@claim(Service.SEARCH, "8.3.4.1, PS3.4 C.2.2.2.6", "a key within a sequence, by a dotted path", stores=True)
def search_in_sequences(visit: Visit) -> str | None:
    made = visit.own()
    for name in ("RequestAttributesSequence.ScheduledProcedureStepID", "00400275.00400009"):
        for value, wanted in ((material.STEP_ID, 1), ("KIT-STEP-9", 0)):
            results = visit.client.search(f"/studies/{made.study_uid}/series", **{name: value})
            if len(results) != wanted:
                raise Broken(f"{len(results)} series match, {wanted} is right")
    return None


@claim(Service.SEARCH, "8.3.4.2", "fuzzymatching is carried out, or a Warning says that it is not", stores=True)
def search_fuzzy(visit: Visit) -> str | None:
    made = visit.own()
    query = [("StudyInstanceUID", made.study_uid), ("PatientName", material.FAMILY_NAME), ("fuzzymatching", "true")]
    answer = visit.client.get("/studies", JSON, query)
    if answer.status in (200, 204) and answer.headers.get("Warning", "").startswith("299"):
        return "not carried out, as the Warning says"
    if not answer.results():
        raise Broken("the family name does not match, and no Warning: 299 says why")
    return None


def _extended(visit: Visit, parameter: str, name: str, matching: str, other: str) -> str | None:
    """A kind of matching that a parameter asks for is carried out, or a Warning says that it is not."""
    study = ("StudyInstanceUID", visit.own().study_uid)
    for value, wanted in ((matching, True), (other, False)):
        key = (name, value) if wanted or matching != other else ("PatientID", value)
        answer = visit.client.get("/studies", JSON, [study, key, (parameter, "true")]).offered()
        if answer.status in (200, 204) and answer.headers.get("Warning", "").startswith("299"):
            return "not carried out, as the Warning says"
        if bool(answer.results()) is not wanted:
            # A server that was made before the parameter was in the standard does not know that it should warn.
            raise Unsupported("it is not carried out, and no Warning: 299 says so")
    return None


@claim(
    Service.SEARCH,
    "8.3.4.5",
    "emptyvaluematching is carried out, or a Warning says that it is not",
    required=False,
    stores=True,
)
def search_empty_value(visit: Visit) -> str | None:
    return _extended(visit, "emptyvaluematching", "ReferringPhysicianName", '""', '""')


@claim(
    Service.SEARCH,
    "8.3.4.6",
    "multiplevaluematching is carried out, or a Warning says that it is not",
    required=False,
    stores=True,
)
def search_multiple_values(visit: Visit) -> str | None:
    return _extended(visit, "multiplevaluematching", "ModalitiesInStudy", "CT\\OT", "CT\\ZZ")


@claim(Service.SEARCH, "8.3.4.3", "includefield adds attributes, by keyword, tag and list", required=False)
def search_includefield(visit: Visit) -> str | None:
    visit.image()
    for name in ("PhotometricInterpretation", "00280004", "00280004,00280002"):
        for result in visit.client.search(f"{visit.found.series}/instances", includefield=name, limit=1):
            if not first(result, "00280004"):
                raise Unsupported("Photometric Interpretation does not come along")
    return None


@claim(Service.SEARCH, "8.3.4.3", "includefield=all adds all of the level", required=False)
def search_includefield_all(visit: Visit) -> str | None:
    visit.image()
    for result in visit.client.search(f"{visit.found.series}/instances", includefield="all", limit=1):
        if not first(result, "00280004"):
            raise Unsupported("Photometric Interpretation does not come along")
    return None


@claim(Service.SEARCH, "8.3.4.4", "limit and offset give pages that fit together", stores=True)
def search_pages(visit: Visit) -> str | None:
    series = visit.place().series
    whole = _uids(visit.client.search(f"{series}/instances"), _SOP)
    paged = [
        uid
        for offset in range(len(whole))
        for uid in _uids(visit.client.search(f"{series}/instances", limit=1, offset=offset), _SOP)
    ]
    if len(whole) < 2 or paged != whole:
        raise Broken(
            f"pages of one have {len(set(paged))} of {len(whole)} instances, in another order or not each once"
        )
    return None


@claim(Service.SEARCH, "8.3.4.4", "an offset beyond the last result gives none")
def search_beyond(visit: Visit) -> str | None:
    if visit.client.search(f"{visit.found.series}/instances", offset=10_000_000):
        raise Broken("there are results")
    return None


@claim(Service.SEARCH, "8.3.4.4", "Warning: 299 says that results remain", stores=True)
def search_warning(visit: Visit) -> str | None:
    answer = visit.client.get(f"{visit.place().series}/instances", JSON, [("limit", "1")]).has(200)
    if not answer.headers.get("Warning", "").startswith("299"):
        raise Broken("there is no Warning: 299")
    return None


@claim(Service.SEARCH, "10.6.3.1", "a search without a result: 204, or 200 with an empty array (CP-2473)")
def search_nothing(visit: Visit) -> str | None:
    answer = visit.client.get("/studies", JSON, [("StudyInstanceUID", material.uid())])
    if answer.status == 204 and answer.body:
        raise Broken("204 has no body")
    if answer.results():
        raise Broken("there is a result for a UID that nobody has")
    return f"answers {answer.status}"


@claim(Service.SEARCH, "10.6.3.1, 8.3.4.4", "a limit or offset that is no number from 0 on: 400")
def search_bad_limit(visit: Visit) -> str | None:
    for name, value in (("limit", "few"), ("limit", "-1"), ("offset", "few")):
        visit.client.get("/studies", JSON, [(name, value)]).has(400)
    return None


@claim(Service.SEARCH, "10.6.3.1, 8.3.4.1", "a value that its VR does not have: 400", required=False)
def search_bad_value(visit: Visit) -> str | None:
    answer = visit.client.get("/studies", JSON, [("limit", "1"), ("StudyDate", "yesterday")])
    if answer.status in (200, 204):
        raise Unsupported("a value out of form is searched for")
    answer.has(400)
    return None


@claim(Service.SEARCH, "10.6.4, 8.7.3", "results in the Native DICOM Model, a part each")
def search_xml(visit: Visit) -> str | None:
    query = [("StudyInstanceUID", visit.found.study_uid)]
    (part,) = visit.client.get("/studies", f'multipart/related; type="{XML}"', query).has(200).parts(XML)
    found = {each.get("tag"): each for each in read_xml(part.body)}
    value = found[_STUDY].findtext("{*}Value") if _STUDY in found else None
    if value != visit.found.study_uid:
        raise Broken("the part does not have the Study Instance UID")
    return None


@claim(Service.SEARCH, "8.8, Annex F", "texts are UTF-8, whatever their letters", stores=True)
def search_letters(visit: Visit) -> str | None:
    visit.own()
    (result,) = visit.client.search("/studies", StudyInstanceUID=visit.own().study_uid)
    if first(result, "00100010") != material.PATIENT_NAME:
        raise Broken(f"the name comes as {first(result, '00100010')!r}, stored was {material.PATIENT_NAME!r}")
    return None
