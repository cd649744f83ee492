"""The engine: a data set and a profile in, what may be shown of it out."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import pydicom
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID

from gateway.deid import codestreams, markers, pixel_data, structured
from gateway.deid.explain import Outcome
from gateway.deid.pixel_data import PIXEL_DATA, PixelFindings
from gateway.deid.profile import Profile
from gateway.deid.pseudonyms import PseudonymousPatient, Pseudonyms
from gateway.deid.text import RemoveAll, TextCleaner
from gateway.deid.values import dataset_of, made, raw_bytes, texts
from gateway.deid.walking import Walk
from gateway.errors import NotDeidentified
from storage.dicom import charsets, file_meta
from storage.dicom.limits import Limits

_DOCUMENT, _DOCUMENT_LENGTH = 0x00420011, 0x00420015


@dataclass(frozen=True, slots=True)
class Deidentified:
    """What came out. ``outcomes`` has every attribute in the order of the data set, ``warnings`` no values.

    ``pixels`` tells what the engine leaves to the part that looks at pixels: without it, an instance with
    ``pixels.needs_cleaning`` must not be given away.
    """

    dataset: Dataset
    file_meta: FileMetaDataset
    outcomes: tuple[Outcome, ...]
    warnings: tuple[str, ...]
    pixels: PixelFindings

    def part10(self) -> bytes:
        """The instance as a file (PS3.10 7.1), its preamble of zeros."""
        out = dataset_of(dict(self.dataset.items()), self.dataset, self.dataset.original_encoding)
        buffer = BytesIO()
        syntax = file_meta.encoding_of(str(self.file_meta.TransferSyntaxUID))
        out.file_meta = self.file_meta
        out.preamble = b"\0" * 128
        pydicom.dcmwrite(buffer, out, implicit_vr=syntax.implicit, little_endian=not syntax.big_endian)
        return buffer.getvalue()


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
    walk = Walk(profile, pseudonyms, patient, cleaner or RemoveAll(), kept_text, limits or Limits())
    try:
        out = walk.instance(dataset)
    except RecursionError as error:
        raise NotDeidentified("sequences are nested too deeply") from error
    if walk.positions:
        structured.renumber(out, walk.positions)
    pixels = out.get_item(PIXEL_DATA)
    encapsulated = pixel_data.is_encapsulated(pixels)
    if pixels is not None and encapsulated and codestreams.examined(syntax):
        out.add(pixel_data.without_metadata(pixels, syntax))
    _measure_document(out)
    markers.write(out, profile)
    return Deidentified(
        dataset=out,
        file_meta=_meta(out, syntax),
        outcomes=tuple(walk.outcomes),
        warnings=tuple(walk.warnings),
        pixels=pixel_data.findings(dataset, syntax, encapsulated=encapsulated),
    )


def _syntax_of(dataset: Dataset) -> str:
    meta = getattr(dataset, "file_meta", None)
    return str(meta.get("TransferSyntaxUID", "")) if meta is not None else ""


def _measure_document(out: Dataset) -> None:
    """Encapsulated Document Length (0042,0015) is that of the document that took the old one's place."""
    document = out.get_item(_DOCUMENT)
    if document is not None and out.get_item(_DOCUMENT_LENGTH) is not None:
        out.add(made(_DOCUMENT_LENGTH, "UL", len(raw_bytes(document))))


def _meta(out: Dataset, transfer_syntax_uid: str) -> FileMetaDataset:
    """File Meta Information with nothing of the old: no AE titles, no private information."""
    meta = FileMetaDataset()
    meta.FileMetaInformationGroupLength = 0  # counted when it is written
    meta.FileMetaInformationVersion = b"\0\x01"
    for keyword, tag in (("MediaStorageSOPClassUID", 0x00080016), ("MediaStorageSOPInstanceUID", 0x00080018)):
        element = out.get_item(tag)
        values = [] if element is None else texts(element, "UI", charsets.DEFAULT)
        setattr(meta, keyword, values[0] if values else "")
    if transfer_syntax_uid:
        meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    meta.ImplementationClassUID = UID(file_meta.IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = file_meta.IMPLEMENTATION_VERSION_NAME
    return meta
