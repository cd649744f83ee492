"""Claims of the Retrieve Transaction (PS3.18 10.4) of instances, metadata, bulk data and frames."""

from __future__ import annotations

import io

import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.errors import InvalidDicomError

from gateway.conformance import material
from gateway.conformance.claims import Broken, NotAsked, Service, Unsupported, claim
from gateway.conformance.client import DICOM, JSON, OCTETS, XML, read_xml
from gateway.conformance.visit import Found, Visit, first, of

_DICOMS = f'multipart/related; type="{DICOM}"'
_BYTES = f'multipart/related; type="{OCTETS}"'
_MOST = 20
"""Instances of a study that a read-only visit fetches."""
_PIXELS = "7FE00010"
_VALUES = ("Value", "InlineBinary")


def _read(body: bytes) -> Dataset:
    try:
        return pydicom.dcmread(io.BytesIO(body))
    except InvalidDicomError as error:
        raise Broken("what comes is no Part 10 file (PS3.10 7.1)") from error


def _uids_in(visit: Visit, path: str) -> set[str]:
    found = visit.client.get(path, _DICOMS).has(200).parts(DICOM)
    return {str(_read(each.body).SOPInstanceUID) for each in found}


def _searched(visit: Visit, path: str) -> set[str]:
    found = {first(each, "00080018") for each in visit.client.search(path, limit=1000)}
    if len(found) > _MOST:
        raise NotAsked(f"what was found has {len(found)} instances; --store brings a small study")
    return found


@claim(Service.RETRIEVE, "10.4.1.1.1", "an instance as multipart application/dicom")
def retrieve_instance(visit: Visit) -> str | None:
    if _uids_in(visit, visit.found.instance) != {visit.found.sop_uid}:
        raise Broken("the one part is the instance")
    return None


@claim(Service.RETRIEVE, "10.4.1.1.1", "a series comes with all its instances, a part each")
def retrieve_series(visit: Visit) -> str | None:
    wanted = _searched(visit, f"{visit.found.series}/instances")
    if _uids_in(visit, visit.found.series) != wanted:
        raise Broken(f"the parts are not the {len(wanted)} instances that a search finds")
    return None


@claim(Service.RETRIEVE, "10.4.1.1.1", "a study comes with all its instances, a part each")
def retrieve_study(visit: Visit) -> str | None:
    wanted: set[str] = set()
    for series in visit.client.search(f"{visit.found.study}/series"):
        wanted |= _searched(visit, f"{visit.found.study}/series/{first(series, '0020000E')}/instances")
    if len(wanted) > _MOST + 10:
        raise NotAsked(f"what was found has {len(wanted)} instances; --store brings a small study")
    if _uids_in(visit, visit.found.study) != wanted:
        raise Broken(f"the parts are not the {len(wanted)} instances that a search finds")
    return None


@claim(Service.RETRIEVE, "10.4.4, 8.7.3", "an instance as a single part application/dicom", required=False)
def retrieve_single_part(visit: Visit) -> str | None:
    answer = visit.client.get(visit.found.instance, DICOM).offered().has(200)
    if answer.media_type == "multipart/related":
        raise Unsupported("it comes as multipart")
    if _read(answer.typed(DICOM).body).SOPInstanceUID != visit.found.sop_uid:
        raise Broken("it is another instance")
    return None


@claim(Service.RETRIEVE, "10.4.1.1.1", "what was stored comes back, attribute by attribute", stores=True)
def retrieve_what_was_stored(visit: Visit) -> str | None:
    stored = visit.own().plain[0]
    (part,) = visit.client.get(of(stored).instance, _DICOMS).has(200).parts(DICOM)
    back = _read(part.body)
    changed = [each.keyword for each in stored if each.keyword not in back or back[each.keyword].value != each.value]
    if changed:
        raise Broken(f"changed or missing: {', '.join(changed)}")
    return None


@claim(Service.RETRIEVE, "8.7.3", "without transfer-syntax: Explicit VR Little Endian", stores=True)
def retrieve_default_syntax(visit: Visit) -> str | None:
    there = _compressed(visit)
    (part,) = visit.client.get(there.instance, _DICOMS).has(200).parts(DICOM)
    syntax = str(_read(part.body).file_meta.TransferSyntaxUID)
    if syntax != material.EXPLICIT:
        raise Broken(f"an instance in RLE comes in {syntax}, {material.EXPLICIT} is the default")
    return None


@claim(Service.RETRIEVE, "8.7.3.5", "transfer-syntax=* gives what is stored", stores=True)
def retrieve_as_stored(visit: Visit) -> str | None:
    there = _compressed(visit)
    (part,) = visit.client.get(there.instance, f"{_DICOMS}; transfer-syntax=*").has(200).parts(DICOM)
    syntax = str(_read(part.body).file_meta.TransferSyntaxUID)
    if syntax != material.RLE:
        raise Broken(f"an instance in RLE comes in {syntax}")
    return None


@claim(Service.RETRIEVE, "8.7.3.5, 8.7.8", "a transfer syntax that nobody has: 406")
def retrieve_unknown_syntax(visit: Visit) -> str | None:
    visit.client.get(visit.found.instance, f"{_DICOMS}; transfer-syntax=1.2.3.4.5").has(406)
    return None


@claim(Service.RETRIEVE, "10.4.4, 8.5", "what is not there: 404 (410 where it was once)")
def retrieve_unknown(visit: Visit) -> str | None:
    nobodys = f"/studies/{material.uid()}"
    for path, accept in ((nobodys, _DICOMS), (f"{nobodys}/metadata", JSON)):
        visit.client.get(path, accept).has(404, 410)
    visit.client.get(f"{visit.found.series}/instances/{material.uid()}", _DICOMS).has(404, 410)
    return None


# Metadata


@claim(Service.RETRIEVE, "10.4.1.1.2, Annex F", "metadata of an instance, a series and a study in JSON")
def metadata_json(visit: Visit) -> str | None:
    there = visit.found
    for path in (there.instance, there.series, there.study):
        results = visit.client.get(f"{path}/metadata", JSON).has(200).results()
        if there.sop_uid not in {first(each, "00080018") for each in results}:
            raise Broken("the instance is not among what comes")
        if path == there.instance and len(results) != 1:
            raise Broken("metadata of an instance are one object")
    return None


@claim(Service.RETRIEVE, "10.4.1.1.2, 8.7.3", "metadata in the Native DICOM Model")
def metadata_xml(visit: Visit) -> str | None:
    answer = visit.client.get(f"{visit.found.instance}/metadata", f'multipart/related; type="{XML}"').has(200)
    (part,) = answer.parts(XML)
    tags = {each.get("tag"): each for each in read_xml(part.body)}
    if "00080018" not in tags or tags["00080018"].findtext("{*}Value") != visit.found.sop_uid:
        raise Broken("the document does not have the SOP Instance UID")
    return None


@claim(Service.RETRIEVE, "10.4.1.1.2, F.2.2", "pixel data stand behind a BulkDataURI, which leads to them")
def metadata_bulk_data_uri(visit: Visit) -> str | None:
    visit.image()
    (found,) = visit.client.get(f"{visit.found.instance}/metadata", JSON).has(200).results()
    pixels = found.get(_PIXELS, {})
    if any(each in pixels for each in _VALUES):
        raise Broken("Pixel Data (7FE0,0010) stand in the metadata")
    uri = pixels.get("BulkDataURI", "")
    if not uri:
        raise Unsupported("the metadata have no BulkDataURI for Pixel Data")
    if not visit.client.of_url(uri, _BYTES).has(200).parts(OCTETS)[0].body:
        raise Broken("what stands there is empty")
    return None


# Frames and bulk data


def _pixels_of(visit: Visit, path: str, accept: str = _BYTES) -> list[bytes]:
    return [each.body for each in visit.client.get(path, accept).has(200).parts(OCTETS, "image/dicom-rle")]


@claim(Service.RETRIEVE, "10.4.1.1.7", "the frame of an image, uncompressed", stores=True)
def frames_one(visit: Visit) -> str | None:
    stored = visit.own().plain[0]
    if _pixels_of(visit, f"{of(stored).instance}/frames/1") != [stored.PixelData]:
        raise Broken("it is not the frame that was stored")
    return None


@claim(Service.RETRIEVE, "10.4.1.1.7", "a frame of an image that is here already")
def frames_found(visit: Visit) -> str | None:
    accept = f"{_BYTES}; transfer-syntax=*"
    answer = visit.client.get(f"{visit.image().instance}/frames/1", accept).has(200).typed("multipart/related")
    # Whatever it is stored as: the media type of the part is that of its transfer syntax.
    media_types = (OCTETS, "image/jpeg", "image/jls", "image/jp2", "image/jphc", "image/dicom-rle", "image/jxl")
    if [bool(each.body) for each in answer.parts(*media_types, "image/jpx", "video/mp4", "video/mpeg")] != [True]:
        raise Broken("it is not one part with something in it")
    return None


@claim(Service.RETRIEVE, "10.4.1.1.7", "a list of frames, a part each in the order of the list", stores=True)
def frames_list(visit: Visit) -> str | None:
    stored = visit.own().frames
    size = material.SIDE * material.SIDE
    wanted = [stored.PixelData[2 * size :], stored.PixelData[:size]]
    if _pixels_of(visit, f"{of(stored).instance}/frames/3,1") != wanted:
        raise Broken("the parts are not frames 3 and 1 as they were stored")
    return None


@claim(Service.RETRIEVE, "10.4.1.1.7, 8.7.3", "a compressed frame comes uncompressed by default", stores=True)
def frames_decompressed(visit: Visit) -> str | None:
    if _pixels_of(visit, f"{_compressed(visit).instance}/frames/1") != [bytes(range(256))]:
        raise Broken("it is not the frame that was stored, uncompressed")
    return None


@claim(
    Service.RETRIEVE,
    "8.7.3.3.2, 8.7.3.5",
    "as stored: the compressed frame alone, its transfer syntax named",
    stores=True,
)
def frames_as_stored(visit: Visit) -> str | None:
    there = _compressed(visit)
    answer = visit.client.get(f"{there.instance}/frames/1", f"{_BYTES}; transfer-syntax=*").has(200)
    (part,) = answer.parts(OCTETS, "image/dicom-rle", "image/x-dicom-rle")
    stored = next(generate_frames(visit.own().compressed.PixelData, number_of_frames=1))
    if part.transfer_syntax != material.RLE:
        raise Broken(f"the part's Content-Type is {part.content_type!r}; it names no transfer-syntax={material.RLE}")
    if part.body.rstrip(b"\0") != stored.rstrip(b"\0"):
        raise Broken("it is not the frame as it was stored")
    return None


@claim(Service.RETRIEVE, "10.4.4, 8.7.3", "a frame as a single part", required=False)
def frames_single_part(visit: Visit) -> str | None:
    answer = visit.client.get(f"{visit.image().instance}/frames/1", OCTETS).offered().has(200)
    if answer.media_type == "multipart/related":
        raise Unsupported("it comes as multipart")
    answer.typed(OCTETS)
    return None


@claim(Service.RETRIEVE, "10.4.1.1.7, 10.4.4", "a frame that the image does not have: 404, or 400")
def frames_beyond(visit: Visit) -> str | None:
    answer = visit.client.get(f"{visit.image().instance}/frames/1000000", _BYTES).has(404, 400)
    return f"answers {answer.status}"


@claim(Service.RETRIEVE, "10.4.1.1.7, 10.4.4", "a frame list that is none (0, x): 400")
def frames_out_of_form(visit: Visit) -> str | None:
    for numbers in ("0", "x"):
        visit.client.get(f"{visit.image().instance}/frames/{numbers}", _BYTES).has(400)
    return None


@claim(Service.RETRIEVE, "10.4.1.1.5", "all bulk data of an instance", required=False)
def bulk_data(visit: Visit) -> str | None:
    answer = visit.client.get(f"{visit.image().instance}/bulkdata", f"{_BYTES}; transfer-syntax=*").offered().has(200)
    answer.typed("multipart/related")
    return None


@claim(Service.RETRIEVE, "10.4.1.1.6", "the pixel data of an instance", required=False)
def pixel_data(visit: Visit) -> str | None:
    answer = visit.client.get(f"{visit.image().instance}/pixeldata", f"{_BYTES}; transfer-syntax=*").offered().has(200)
    answer.typed("multipart/related")
    return None


def _compressed(visit: Visit) -> Found:
    there = of(visit.own().compressed)
    if not visit.client.search(f"{there.study}/instances", SOPInstanceUID=there.sop_uid):
        raise NotAsked("the compressed instance could not be stored")
    return there
