"""What each route of the DICOMweb face takes and gives, as data: the OpenAPI document is made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.dicomweb import media_types as types
from gateway.dicomweb.urls import PREFIX
from gateway.http.openapi import Operation, Parameter, Schema
from storage.dicom.attributes import ATTRIBUTES, Level

MULTIPART_DICOM = 'multipart/related; type="application/dicom"'
MULTIPART_BYTES = 'multipart/related; type="application/octet-stream"'
MULTIPART_XML = 'multipart/related; type="application/dicom+xml"'
EVENTS = "text/event-stream"

_UID = r"^(0|[1-9][0-9]*)(\.[0-9]+)+$"
_WHOLE: Schema = {"type": "integer", "minimum": 0, "maximum": 999_999_999}
_SIDE: Schema = {"type": "integer", "minimum": 1, "maximum": 8192}
_EPOCH: Schema = {"type": "string", "pattern": "^[0-9a-f]+$"}
_TRUE: Schema = {"type": "string", "enum": ["true", "false"]}


def _uid(name: str, of: str) -> Parameter:
    return Parameter(name, f"{of} Instance UID", {"type": "string", "pattern": _UID, "maxLength": 64})


PATH_PARAMETERS = {
    "study": _uid("study", "Study"),
    "series": _uid("series", "Series"),
    "instance": _uid("instance", "SOP"),
    "transaction": Parameter("transaction", "Transaction UID", {"type": "string", "pattern": _UID, "maxLength": 64}),
    "frames": Parameter(
        "frames", "Frame numbers from 1, joined by commas", {"type": "string", "pattern": r"^[1-9]\d*(,[1-9]\d*)*$"}
    ),
    "path": Parameter("path", "Path of the value, as its BulkDataURI has it"),
    "deletion": Parameter("deletion", "Identifier of a deletion", {"type": "string", "pattern": "^[0-9A-Z]{26}$"}),
}
"""Parameters in paths, by name."""

ACCEPT = Parameter("accept", "Media types, before the Accept header (PS3.18 8.3.3.1)", many=True)
CHARSET = Parameter("charset", "Character sets of texts; answers are UTF-8")
_RANGE = Parameter("Range", "One range of bytes", where="header")
_IF_NONE_MATCH = Parameter("If-None-Match", "Entity tags that the client has", where="header")

_NAMES = {
    Level.PATIENT: "patients",
    Level.STUDY: "studies",
    Level.SERIES: "series",
    Level.INSTANCE: "instances",
}
_RETRIEVAL = (400, 404, 406, 410, 503)
_CHANGING = (404, 410, 507)


def _search(level: Level, above: Sequence[str] = ()) -> Operation:
    keys = [
        Parameter(attribute.keyword, f"Match {attribute.keyword}")
        for attribute in ATTRIBUTES
        if attribute.level <= level
        and attribute.column
        and "." not in attribute.path
        and attribute.keyword not in above
    ]
    return Operation(
        "Search",
        {200: (types.DICOM_JSON, types.JSON, MULTIPART_XML), 204: (), 304: ()},
        [
            Parameter("limit", "Most results", _WHOLE),
            Parameter("offset", "Results to leave out at the beginning", _WHOLE),
            Parameter("includefield", "Attributes to return beyond the usual ones, or all", many=True),
            Parameter("fuzzymatching", "Match names by sound and by parts", _TRUE),
            Parameter("emptyvaluematching", 'Match empty values by ""', _TRUE),
            Parameter("multiplevaluematching", "Match all of several values", _TRUE),
            Parameter("snapshot", "X-Snapshot of an earlier answer, whose rows are wanted"),
            ACCEPT,
            CHARSET,
            *keys,
        ],
        (406, 413),
        summary=f"Search for {_NAMES[level]}.",
        description="Any other attribute, by keyword, tag or dotted path, may be matched as well.",
    )


def _counting(level: Level) -> Operation:
    found = _search(level)
    summary = f"Count {_NAMES[level]}."
    return Operation(
        found.tag,
        {200: (types.JSON,)},
        found.parameters,
        found.refusals,
        summary=summary,
        description=found.description,
    )


def _retrieval(*media_types: str, ranged: bool = False) -> Operation:
    answers: dict[int, Sequence[str]] = {200: media_types, 206: media_types, 304: ()}
    headers = [_RANGE] if ranged else []
    refusals = (*_RETRIEVAL, 416) if ranged else _RETRIEVAL
    return Operation("Retrieve", answers, [ACCEPT, CHARSET, _IF_NONE_MATCH, *headers], refusals)


_INSTANCES = _retrieval(MULTIPART_DICOM, types.DICOM, "application/zip", MULTIPART_BYTES, ranged=True)
_METADATA = _retrieval(types.DICOM_JSON, types.JSON, MULTIPART_XML)
_BULK = _retrieval(MULTIPART_BYTES, *types.BULK, *sorted(set(types.VIDEO.values())), ranged=True)
_RENDERING_PARAMETERS = (
    Parameter("quality", "Quality of a lossy picture", {"type": "integer", "minimum": 1, "maximum": 100}),
    Parameter("window", "center,width,function"),
    Parameter("viewport", "width,height[,x,y,width,height]; negative source sizes flip"),
    Parameter("annotation", "patient, technique, or both"),
    Parameter("iccprofile", "no, yes, srgb, adobergb, rommrgb or displayp3"),
)


def _rendering(*media_types: str) -> Operation:
    return Operation(
        "Render",
        {200: media_types, 206: media_types, 304: ()},
        [ACCEPT, CHARSET, *_RENDERING_PARAMETERS, _IF_NONE_MATCH, _RANGE],
        (*_RETRIEVAL, 416),
    )


_RENDERED_TYPES = (
    *("image/jpeg", "image/png", "image/gif", "image/jp2", "video/mp4", "video/mpeg", "video/H265"),
    *("application/pdf", "text/html", "text/plain", "multipart/related"),
)
_RENDERED = _rendering(*_RENDERED_TYPES)
_THUMBNAIL = _rendering(*_RENDERED_TYPES[:3])

_BY_URI = Operation(
    "Render",
    {200: (types.DICOM, *_RENDERED_TYPES[:-1]), 206: (types.DICOM, *_RENDERED_TYPES[:-1]), 304: ()},
    [
        Parameter("requestType", "WADO", {"type": "string", "enum": ["WADO"]}),
        *(_uid(f"{name}UID", of) for name, of in (("study", "Study"), ("series", "Series"), ("object", "SOP"))),
        Parameter("contentType", "Media types, application/dicom among them"),
        CHARSET,
        Parameter("anonymize", "yes is refused"),
        Parameter("transferSyntax", "Transfer syntax of application/dicom"),
        Parameter("frameNumber", "Frame, from 1", {"type": "integer", "minimum": 1, "maximum": 999_999_999}),
        *(Parameter(name, "Side of the picture in pixels", _SIDE) for name in ("rows", "columns")),
        Parameter("region", "left,top,right,bottom as fractions of the image"),
        *(Parameter(name, "Window, with the other", {"type": "number"}) for name in ("windowCenter", "windowWidth")),
        Parameter("imageQuality", "Quality of a lossy picture", {"type": "integer", "minimum": 1, "maximum": 100}),
        Parameter("imageAnnotation", "patient, technique, or both"),
        Parameter("iccprofile", "no, yes, srgb, adobergb, rommrgb or displayp3"),
        *(_uid(name, "Presentation state's") for name in ("presentationSeriesUID", "presentationUID")),
        _IF_NONE_MATCH,
        _RANGE,
    ],
    (*_RETRIEVAL, 416),
    description="PS3.18 chapter 9: an instance as it is, or rendered.",
)

_STORE = Operation(
    "Store",
    {
        200: (types.DICOM_JSON, types.JSON, types.DICOM_XML),
        202: (types.DICOM_JSON, types.JSON, types.DICOM_XML),
        409: (types.DICOM_JSON, types.JSON, types.DICOM_XML),
    },
    [ACCEPT],
    (406, 413, 415, 507),
    body={
        MULTIPART_DICOM: {"type": "string", "format": "binary"},
        types.DICOM: {"type": "string", "format": "binary"},
        f'multipart/related; type="{types.DICOM_JSON}"': {"type": "string", "format": "binary"},
        f'multipart/related; type="{types.DICOM_XML}"': {"type": "string", "format": "binary"},
        types.DICOM_JSON: {"type": "array", "items": {"type": "object"}},
        types.DICOM_XML: {"type": "string"},
    },
)

_COMMITMENT = Operation(
    "Storage commitment",
    {200: (types.DICOM_JSON, types.JSON, types.DICOM_XML), 202: ()},
    [ACCEPT],
    (404, 406, 409, 413, 415),
    body={
        types.DICOM_JSON: {"type": "object", "description": "with Referenced SOP Sequence (0008,1199)"},
        types.DICOM_XML: {"type": "string"},
    },
)

_DELETION = Operation("Delete", {204: ()}, (), (*_CHANGING, 409))


def _operations() -> dict[tuple[str, str], Operation]:
    study = f"{PREFIX}/studies/{{study}}"
    series = f"{study}/series/{{series}}"
    instance = f"{series}/instances/{{instance}}"
    frames = f"{instance}/frames/{{frames}}"
    found: dict[tuple[str, str], Operation] = {
        ("GET", f"{PREFIX}/patients"): _search(Level.PATIENT),
        ("GET", f"{PREFIX}/studies"): _search(Level.STUDY),
        ("GET", f"{PREFIX}/series"): _search(Level.SERIES),
        ("GET", f"{PREFIX}/instances"): _search(Level.INSTANCE),
        ("GET", f"{study}/series"): _search(Level.SERIES, ("StudyInstanceUID",)),
        ("GET", f"{study}/instances"): _search(Level.INSTANCE, ("StudyInstanceUID",)),
        ("GET", f"{series}/instances"): _search(Level.INSTANCE, ("StudyInstanceUID", "SeriesInstanceUID")),
        ("GET", f"{PREFIX}/patients/count"): _counting(Level.PATIENT),
        ("GET", f"{PREFIX}/studies/count"): _counting(Level.STUDY),
        ("GET", f"{PREFIX}/series/count"): _counting(Level.SERIES),
        ("GET", f"{PREFIX}/instances/count"): _counting(Level.INSTANCE),
        ("GET", frames): _BULK,
        ("GET", f"{instance}/bulkdata/{{path}}"): _BULK,
        ("GET", f"{frames}/rendered"): _RENDERED,
        ("GET", f"{frames}/thumbnail"): _THUMBNAIL,
        ("POST", f"{PREFIX}/commitment-requests/{{transaction}}"): _COMMITMENT,
        ("GET", f"{PREFIX}/commitment-requests/{{transaction}}"): Operation(
            _COMMITMENT.tag, _COMMITMENT.answers, [ACCEPT], (404, 406)
        ),
        ("GET", f"{PREFIX}/deletions"): Operation("Delete", {200: (types.JSON,)}),
        ("POST", f"{PREFIX}/deletions/{{deletion}}/undo"): Operation("Delete", {200: (types.JSON,)}, (), _CHANGING),
        ("GET", f"{PREFIX}/changefeed"): Operation(
            "Changes",
            {200: (types.JSON, EVENTS)},
            [
                Parameter("after", "Sequence number after which to begin", {"type": "integer", "minimum": 0}),
                Parameter("limit", "Most changes of a page", {"type": "integer", "minimum": 1, "maximum": 1000}),
                Parameter("wait", "Seconds to wait for a change", {"type": "integer", "minimum": 0, "maximum": 60}),
                Parameter(
                    "epoch", "Epoch that the sequence number is of", {"type": "string", "pattern": "^[0-9a-f]+$"}
                ),
                Parameter("Last-Event-ID", "Event after which to begin", where="header"),
                ACCEPT,
            ],
            (406, 410),
        ),
        ("GET", f"{PREFIX}/changefeed/latest"): Operation("Changes", {200: (types.JSON,)}),
        ("GET", f"{PREFIX}/wado"): _BY_URI,
    }
    for resource in (study, series, instance):
        found["GET", resource] = _INSTANCES
        found["GET", f"{resource}/metadata"] = _METADATA
        found["GET", f"{resource}/bulkdata"] = _BULK
        found["GET", f"{resource}/pixeldata"] = _BULK
        found["GET", f"{resource}/rendered"] = _RENDERED
        found["GET", f"{resource}/thumbnail"] = _THUMBNAIL
        found["DELETE", resource] = _DELETION
    for method in ("POST", "PUT"):
        found[method, f"{PREFIX}/studies"] = _STORE
        found[method, study] = _STORE
    return found


OPERATIONS: Mapping[tuple[str, str], Operation] = _operations()
"""Every operation, by method and path."""
