"""Compose: an instance from metadata and bulk data that came apart (PS3.18 10.5.2 "Request")."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from gateway.imaging.codestream import CodestreamHeader, JpegColour, read_jpeg2000_header, read_jpeg_header
from gateway.imaging.errors import ImagingError
from gateway.services.spool import Spool, Spooled
from storage.dicom import compose, file_meta, json_model
from storage.dicom import identifiers as ids
from storage.dicom.compose import BulkValue
from storage.dicom.json_model import JsonDataSet
from storage.dicom.limits import Limits
from storage.errors import InvalidIdentifier, MalformedDataSet

_PIXEL_DATA = "7FE00010"
_NOT_OF_AN_INSTANCE = frozenset(("00080054", "00080056", "00081190", "00083002"))
"""Retrieve AE Title, Instance Availability, Retrieve URL, Available Transfer Syntax UID: they belong to answers."""

_JPEG_PROCESSES = {
    0xC0: "1.2.840.10008.1.2.4.50",
    0xC1: "1.2.840.10008.1.2.4.51",
    0xC3: "1.2.840.10008.1.2.4.70",
}
_SYNTAX_OF_TYPE = {
    "image/dicom-rle": "1.2.840.10008.1.2.5",
    "image/jls": "1.2.840.10008.1.2.4.80",
    "image/jp2": "1.2.840.10008.1.2.4.90",
    "image/jphc": "1.2.840.10008.1.2.4.201",
    "video/mpeg": "1.2.840.10008.1.2.4.100",
    "video/mp4": "1.2.840.10008.1.2.4.102",
    "video/H265": "1.2.840.10008.1.2.4.107",
}
"""Transfer syntax of a bulk data type that does not name one (PS3.18 8.7.3.5 "Compressed Bulkdata Media Types")."""
_JPEG = frozenset(_JPEG_PROCESSES.values()) | {"1.2.840.10008.1.2.4.57"}
_JPEG_2000 = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 201, 202, 203))
_HEADER_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class BulkPart:
    """One bulk value as it arrived: its media type under the standard's name, the syntax it names, its bytes."""

    media_type: str
    transfer_syntax_uid: str
    spooled: Spooled

    def value(self) -> BulkValue:
        """The part as a value of a data set."""
        return BulkValue(self.spooled.size, partial(_blocks, self.spooled))


def _blocks(spooled: Spooled) -> Iterator[bytes]:
    with spooled.open() as stream:
        while block := stream.read(_BLOCK_BYTES):
            yield block


class Composer:
    """Makes Part 10 files, in the spool, of what came apart."""

    def __init__(self, spool: Spool, limits: Limits) -> None:
        self._spool = spool
        self._limits = limits

    def compose(self, source: JsonDataSet, parts: Mapping[str, Sequence[BulkPart]]) -> Spooled:
        """One instance.

        Parameters
        ----------
        source
            Its metadata, as ``storage.dicom.compose.checked`` gave it.
        parts
            Bulk values by the BulkDataURI that stands for them; several where each frame came by itself. A URI
            without a part is a fault of the request: nothing is ever fetched.

        Raises
        ------
        MalformedDataSet, LimitExceeded
            Metadata that is not of the model, or bulk data that is not there.
        PayloadTooLarge, StorageFull
        """
        pixels = parts.get(str(source.get(_PIXEL_DATA, {}).get("BulkDataURI", "")), ())
        syntax = _syntax(source, pixels)
        whole = {tag: element for tag, element in source.items() if tag not in _NOT_OF_AN_INSTANCE}
        if pixels and syntax not in file_meta.NATIVE:
            whole = {**_described(pixels, syntax), **whole}
        meta = file_meta.FileMeta(syntax, *identity(source))
        spooling = self._spool.begin()
        try:
            spooling.write(file_meta.write(meta))
            for block in compose.data_set(
                whole, partial(_values, parts), self._limits, encapsulated=syntax not in file_meta.NATIVE
            ):
                spooling.write(block)
            return spooling.finish()
        except BaseException:
            spooling.discard()
            raise


def identity(source: JsonDataSet) -> tuple[str, str]:
    """SOP Class and Instance UID of metadata, "" where it names none that is one."""
    found = []
    for tag in ("00080016", "00080018"):
        try:
            found.append(ids.checked_uid(json_model.text_of(source, tag), tag))
        except InvalidIdentifier:
            found.append("")
    return found[0], found[1]


def _values(parts: Mapping[str, Sequence[BulkPart]], uri: str) -> Sequence[BulkValue]:
    found = parts.get(uri)
    if not found:
        raise MalformedDataSet("a BulkDataURI without its part in the request; none is ever fetched")
    return [part.value() for part in found]


def _syntax(source: JsonDataSet, pixels: Sequence[BulkPart]) -> str:
    """The transfer syntax: as the pixels' part says, by its parameter or its type, else as the metadata does."""
    found = {part.transfer_syntax_uid or _of_type(part) for part in pixels} or {""}
    if len(found) > 1:
        raise MalformedDataSet("frames of one instance in different transfer syntaxes")
    syntax = found.pop() or json_model.text_of(source, "00020010")
    if not syntax or syntax in file_meta.NATIVE:
        return file_meta.EXPLICIT_VR_LITTLE_ENDIAN
    try:
        return ids.transfer_syntax_uid(syntax)
    except InvalidIdentifier as error:
        raise MalformedDataSet(str(error)) from error


def _of_type(part: BulkPart) -> str:
    if part.media_type == "image/jpeg":
        for process, syntax in _JPEG_PROCESSES.items():
            if _jpeg_header(part, frozenset((process,))) is not None:
                return syntax
        raise MalformedDataSet("a JPEG of a process that no transfer syntax has")
    return _SYNTAX_OF_TYPE.get(part.media_type, "")


def _beginning(part: BulkPart) -> bytes:
    with part.spooled.open() as stream:
        return stream.read(_HEADER_BYTES)


def _jpeg_header(part: BulkPart, processes: frozenset[int]) -> CodestreamHeader | None:
    try:
        # The reader wants to see the end of the image; only the header is of interest here.
        return read_jpeg_header(_beginning(part) + b"\xff\xd9", processes)
    except ImagingError:
        return None


def _described(pixels: Sequence[BulkPart], syntax: str) -> JsonDataSet:
    """What a codestream says of itself, for metadata that leaves the Image Pixel attributes to it (PS3.18 10.5.2)."""
    header: CodestreamHeader | None = None
    if syntax in _JPEG:
        header = _jpeg_header(pixels[0], frozenset((0xC0, 0xC1, 0xC2, 0xC3)))
    elif syntax in _JPEG_2000:
        try:
            header = read_jpeg2000_header(_beginning(pixels[0]))
        except ImagingError:
            header = None
    if header is None:
        return {}
    found = {
        "00280002": ("US", header.components),
        "00280004": ("CS", _photometric(header, syntax)),
        "00280010": ("US", header.rows),
        "00280011": ("US", header.columns),
        "00280100": ("US", 8 if header.precision <= 8 else 16),
        "00280101": ("US", header.precision),
        "00280102": ("US", header.precision - 1),
        "00280103": ("US", int(header.signed)),
    }
    if header.components > 1:
        found["00280006"] = ("US", 0)
    if len(pixels) > 1:
        found["00280008"] = ("IS", len(pixels))
    return {tag: {"vr": vr, "Value": [value]} for tag, (vr, value) in found.items()}


def _photometric(header: CodestreamHeader, syntax: str) -> str:
    if header.components == 1:
        return "MONOCHROME2"
    if syntax in _JPEG_2000:
        return "YBR_ICT" if syntax.endswith((".91", ".203")) else "YBR_RCT"
    lossy = syntax.endswith((".50", ".51"))
    return "YBR_FULL_422" if lossy and header.colour is not JpegColour.RGB else "RGB"
