"""Media types of DICOMweb as data (PS3.18 8.7 "Media Types")."""

from __future__ import annotations

from gateway.services import renderable
from storage.dicom.file_meta import EXPLICIT_VR_LITTLE_ENDIAN
from storage.dicom.part10 import VIDEO as VIDEO_SYNTAXES

DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
DICOM_XML = "application/dicom+xml"
JSON = "application/json"
OCTET_STREAM = "application/octet-stream"
MULTIPART = "multipart/related"
JPEG = "image/jpeg"
PNG = "image/png"
GIF = "image/gif"

ZIP = "application/zip"

METADATA = frozenset((DICOM_JSON, JSON, DICOM_XML))
"""Types of a data set whose bulk data comes apart."""

JPEG_SYNTAXES = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (70, 50, 51, 53, 55, 57))

BULK: dict[str, tuple[str, ...]] = {
    OCTET_STREAM: (EXPLICIT_VR_LITTLE_ENDIAN,),
    "image/jpeg": JPEG_SYNTAXES,
    "image/dicom-rle": ("1.2.840.10008.1.2.5",),
    "image/jls": ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"),
    "image/jp2": ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"),
    "image/jphc": ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"),
}
"""Transfer syntaxes whose frames a media type can carry, its default first (PS3.18 Tables 8.7.3-4 and 8.7.3-5)."""

ALIASES = {
    "image/x-jls": "image/jls",
    "image/x-dicom-rle": "image/dicom-rle",
    "image/jhc": "image/jphc",
    "image/jll": "image/jpeg",
    "image/dicom+jpeg": "image/jpeg",
    "image/j2c": "image/jp2",
    "image/jpx": "image/jp2",
}
"""Names that clients send for the same thing; answers carry the name that was asked for."""

LOSSY = frozenset(
    (
        *(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 53, 55, 81, 91, 93, 203)),
        *VIDEO_SYNTAXES,
    )
)
"""Transfer syntaxes that may have lost something; what is stored so goes out so unless asked otherwise."""

VIDEO = renderable.VIDEO
"""Media type of a stored video stream."""
