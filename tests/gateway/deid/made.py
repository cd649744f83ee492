"""Data sets for the tests of de-identification."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import pydicom
from pydicom import DataElement, Dataset, config
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from gateway.deid import Deidentified, Option, Profile, Pseudonyms, TextCleaner, deidentify
from storage.dicom import file_meta

KEY = bytes(range(32))
PSEUDONYMS = Pseudonyms(KEY)
PATIENT = PSEUDONYMS.patient("clinic", "", "MRN-1")
CT = "1.2.840.10008.5.1.4.1.1.2"


@contextmanager
def unknown_stays() -> Iterator[None]:
    """Elements in VR UN stay in it, though pydicom's dictionary may know better."""
    before = config.replace_un_with_known_vr
    config.replace_un_with_known_vr = False
    try:
        yield
    finally:
        config.replace_un_with_known_vr = before


def element(tag: int, vr: str, value: Any) -> DataElement:
    with unknown_stays():
        return DataElement(tag, vr, value, validation_mode=config.IGNORE)


def dataset(*elements: tuple[int, str, Any]) -> Dataset:
    found = Dataset()
    for tag, vr, value in elements:
        found.add(element(tag, vr, value))
    return found


def instance(*elements: tuple[int, str, Any], sop_class: str = CT) -> Dataset:
    return dataset(
        (0x00080016, "UI", sop_class),
        (0x00080018, "UI", "1.2.3.1"),
        (0x00100010, "PN", "Doe^John"),
        (0x00100020, "LO", "MRN-1"),
        (0x0020000D, "UI", "1.2.3.2"),
        (0x0020000E, "UI", "1.2.3.3"),
        *elements,
    )


def written(found: Dataset, syntax: str = ExplicitVRLittleEndian, preamble: bytes = b"\0" * 128) -> bytes:
    """The data set as a file in a transfer syntax."""
    found = copy.deepcopy(found)
    if not hasattr(found, "file_meta"):
        found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = syntax
    found.preamble = preamble
    encoding = file_meta.encoding_of(syntax)
    buffer = BytesIO()
    with unknown_stays():
        pydicom.dcmwrite(
            buffer,
            found,
            implicit_vr=encoding.implicit,
            little_endian=not encoding.big_endian,
            enforce_file_format=True,
        )
    return buffer.getvalue()


def read(data: bytes) -> Dataset:
    return pydicom.dcmread(BytesIO(data), force=True)


def through(found: Dataset, *options: Option, cleaner: TextCleaner | None = None, **more: Any) -> Deidentified:
    """What a profile makes of the data set, once it has been written and read."""
    return deidentify(read(written(found)), Profile(frozenset(options)), PSEUDONYMS, PATIENT, cleaner, **more)
