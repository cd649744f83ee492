"""Small instances for tests: made by pydicom, or byte by byte where pydicom would refuse."""

from __future__ import annotations

import copy
import io
import struct
import time
import uuid
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian

from storage.dicom import file_meta, json_model, part10
from storage.dicom import identifiers as ids
from storage.dicom.limits import Limits

CT = "1.2.840.10008.5.1.4.1.1.2"
SHARED = Path(__file__).parents[2] / "shared" / "dicom"
"""Real test data beside the repository; tests that need it are left out when it is not there."""


def uid() -> str:
    """A fresh UID."""
    return f"2.25.{uuid.uuid4().int}"


_CLOCK = ids.VersionClock()


def version_of(days_ago: float) -> ids.Version:
    """A version as it was given so many days ago."""
    return ids.version(ids.before_time(time.time() - days_ago * 86_400) + _CLOCK.next()[10:])


def data_set(**attributes: Any) -> Dataset:
    """A CT instance of 4 x 4 pixels with its own UIDs; attributes by keyword replace or add, None removes."""
    found = Dataset()
    values: dict[str, Any] = {
        "SOPClassUID": CT,
        "SOPInstanceUID": uid(),
        "StudyInstanceUID": uid(),
        "SeriesInstanceUID": uid(),
        "PatientName": "Test^Patient",
        "PatientID": "T-1",
        "StudyDate": "20260101",
        "StudyTime": "101500",
        "Modality": "CT",
        "SeriesNumber": 1,
        "InstanceNumber": 1,
        "Rows": 4,
        "Columns": 4,
        "SamplesPerPixel": 1,
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "PhotometricInterpretation": "MONOCHROME2",
        "PixelData": bytes(range(32)),
        **attributes,
    }
    for keyword, value in values.items():
        if value is not None:
            setattr(found, keyword, value)
    if "PixelData" in found:
        found["PixelData"].VR = "OW"
    return found


def encode(found: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> bytes:
    """A data set's bytes without File Meta Information."""
    whole = part10_file(found, transfer_syntax)
    stream = io.BytesIO(whole)
    _, offset, _ = file_meta.read(stream, Limits())
    return whole[offset:]


def part10_file(found: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> bytes:
    """A Part 10 file of a data set; its Pixel Data is given little endian."""
    if transfer_syntax == ExplicitVRBigEndian and "PixelData" in found:
        found = copy.deepcopy(found)
        found.PixelData = json_model.swap(found.PixelData, 2)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = found.get("SOPClassUID", CT)
    meta.MediaStorageSOPInstanceUID = found.get("SOPInstanceUID", "1.2.3")
    meta.TransferSyntaxUID = UID(transfer_syntax)
    buffer = io.BytesIO()
    found.file_meta = meta
    pydicom.dcmwrite(buffer, found, enforce_file_format=True)
    return buffer.getvalue()


def extract(body: bytes, transfer_syntax: str = ExplicitVRLittleEndian, limits: Limits | None = None) -> part10.Extract:
    """The extract of a data set's bytes."""
    return part10.extract(io.BytesIO(body), transfer_syntax, limits or Limits(), part10.Announced())


def extract_file(path: Path, limits: Limits | None = None) -> part10.Extract:
    """The extract of a Part 10 file."""
    bounds = limits or Limits()
    with path.open("rb") as stream:
        meta, offset, _ = file_meta.read(stream, bounds)
        stream.seek(offset)
        announced = part10.Announced(meta.sop_class_uid, meta.sop_uid)
        return part10.extract(stream, meta.transfer_syntax_uid, bounds, announced)


def element(tag: int, vr: str, value: bytes, length: int | None = None) -> bytes:
    """One element in Explicit VR Little Endian; ``length`` may lie."""
    size = len(value) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    if vr in ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"):
        return head + struct.pack("<HI", 0, size) + value
    return head + struct.pack("<H", size) + value


def text(tag: int, vr: str, value: str) -> bytes:
    """One element of text in Explicit VR Little Endian, padded."""
    raw = value.encode()
    pad = b"\0" if vr == "UI" else b" "
    return element(tag, vr, raw + pad * (len(raw) % 2))


def identity(sop_uid: str = "1.2.3.4") -> bytes:
    """The elements without which nothing is stored, in Explicit VR Little Endian."""
    return (
        text(0x00080016, "UI", CT)
        + text(0x00080018, "UI", sop_uid)
        + text(0x0020000D, "UI", "1.2.3")
        + text(0x0020000E, "UI", "1.2.3.1")
    )


ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
ITEM_END = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
SEQUENCE_END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def fragment(value: bytes) -> bytes:
    """One item of encapsulated pixel data."""
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(value)) + value


def encapsulated(*fragments: bytes, offset_table: bytes = b"") -> bytes:
    """An encapsulated Pixel Data element."""
    body = b"".join(fragment(each) for each in (offset_table, *fragments))
    return element(0x7FE00010, "OB", body + SEQUENCE_END, 0xFFFFFFFF)
