"""The engine: a data set and a profile in, what may be shown of it out."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from pydicom import DataElement, Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from gateway.deid import codestreams, markers, pixel_data, structured
from gateway.deid.actions import Means
from gateway.deid.explain import Outcome
from gateway.deid.pixel_data import PIXEL_DATA, PixelFindings
from gateway.deid.profile import Profile
from gateway.deid.pseudonyms import PseudonymousPatient, Pseudonyms
from gateway.deid.text import RemoveAll, TextCleaner
from gateway.deid.uids import is_uid
from gateway.deid.values import element_of, made, raw_bytes, texts, with_elements
from gateway.deid.walking import Walk
from gateway.errors import NotDeidentified
from storage.dicom import charsets, file_meta
from storage.dicom.file_meta import FileMeta
from storage.dicom.limits import Limits

_DOCUMENT, _DOCUMENT_LENGTH = 0x00420011, 0x00420015


@dataclass(frozen=True, slots=True)
class Deidentified:
    """What came out. ``outcomes`` has every attribute in the order of the data set, ``warnings`` no values.

    ``pixels`` tells what the engine leaves to the part that looks at pixels: without it, an instance with
    ``pixels.needs_cleaning`` must not be given away.
    """

    dataset: Dataset
    file_meta: FileMeta
    outcomes: tuple[Outcome, ...]
    warnings: tuple[str, ...]
    pixels: PixelFindings

    def part10(self) -> bytes:
        """The instance as a file (PS3.10 7.1), its preamble of zeros."""
        encoding = file_meta.encoding_of(self.file_meta.transfer_syntax_uid)
        body = DicomBytesIO()
        body.is_implicit_VR, body.is_little_endian = encoding.implicit, not encoding.big_endian
        write_dataset(body, self.dataset)
        data = body.getvalue()
        if encoding.deflated:
            deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
            data = deflater.compress(data) + deflater.flush()
            data += b"\0" * (len(data) % 2)
        return file_meta.write(self.file_meta) + data


def deidentify(
    dataset: Dataset,
    profile: Profile,
    pseudonyms: Pseudonyms,
    patient: PseudonymousPatient,
    cleaner: TextCleaner | None = None,
    *,
    kept_text: TextCleaner | None = None,
    transfer_syntax_uid: str | None = None,
    limits: Limits | None = None,
) -> Deidentified:
    """Apply a profile to one instance (PS3.15 E.1.1 "De-identifier").

    Parameters
    ----------
    dataset
        As read by pydicom; it may be without Pixel Data. It is not changed.
    patient
        Who stands for its patient: from ``pseudonyms``, by tenant, issuer and Patient ID.
    cleaner
        What cleans text that an option keeps only in cleaned form; without one nothing of such text stays.
    kept_text
        What is searched for identifiers in text that the profile keeps as it is; without one it is not looked at.
    transfer_syntax_uid
        The data set's; without it that of its file meta information, if it has any.

    Raises
    ------
    NotDeidentified
        It cannot be said with certainty what is in the data set: nested too deeply, too many elements, damaged frames.
    """
    syntax = transfer_syntax_uid or _syntax_of(dataset)
    if not is_uid(syntax):
        raise NotDeidentified("the transfer syntax is not a UID")
    walk = Walk(profile, Means(pseudonyms, patient, cleaner or RemoveAll(), kept_text), limits or Limits())
    try:
        out = walk.instance(dataset)
    except RecursionError as error:
        raise NotDeidentified("sequences are nested too deeply") from error
    if walk.positions:
        structured.renumber(out, walk.positions)
    pixels = element_of(out, PIXEL_DATA)
    encapsulated = pixel_data.is_encapsulated(pixels)
    ours = markers.elements(profile)
    if pixels is not None and encapsulated and codestreams.examined(syntax):
        ours.append(pixel_data.without_metadata(pixels, syntax))
    out = with_elements(out, [*ours, *_document_length(out)])
    return Deidentified(
        dataset=out,
        file_meta=_meta(out, syntax),
        outcomes=tuple(walk.log.outcomes),
        warnings=tuple(walk.log.warnings),
        pixels=pixel_data.findings(dataset, syntax, encapsulated=encapsulated),
    )


def _syntax_of(dataset: Dataset) -> str:
    meta = getattr(dataset, "file_meta", None)
    return str(meta.get("TransferSyntaxUID", "")) if meta is not None else ""


def _document_length(out: Dataset) -> list[DataElement]:
    """Encapsulated Document Length (0042,0015), of the document that took the old one's place."""
    document = element_of(out, _DOCUMENT)
    if document is None or element_of(out, _DOCUMENT_LENGTH) is None:
        return []
    return [made(_DOCUMENT_LENGTH, "UL", len(raw_bytes(document)))]


def _meta(out: Dataset, transfer_syntax_uid: str) -> FileMeta:
    """File Meta Information with nothing of the old: no AE titles, no private information."""
    found: list[str] = []
    for tag in (0x00080016, 0x00080018):
        element = element_of(out, tag)
        values = [] if element is None else texts(element, "UI", charsets.DEFAULT)
        found.append(values[0] if values else "")
    sop_class_uid, sop_uid = found
    return FileMeta(transfer_syntax_uid, sop_class_uid, sop_uid)
