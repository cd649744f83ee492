"""Instances that several modules of the folder retrieve, under fresh UIDs each time."""

from __future__ import annotations

from typing import Any

import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.uid import UID, RLELossless

from tests.instances import data_set, part10_file, uid

EXPLICIT, IMPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
BASELINE, RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.5"


def written(found: Dataset) -> bytes:
    """A data set as a Part 10 file in the syntax of its File Meta Information."""
    buffer = DicomBytesIO()
    found.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def lossy(**attributes: Any) -> bytes:
    """A colour picture in JPEG Baseline."""
    name = get_testdata_file("SC_rgb_jpeg_dcmtk.dcm")
    assert isinstance(name, str)
    found = pydicom.dcmread(name)
    values = {"StudyInstanceUID": uid(), "SeriesInstanceUID": uid(), "SOPInstanceUID": uid(), "PatientID": "T-1"}
    for keyword, value in {**values, **attributes}.items():
        setattr(found, keyword, value)
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
    return written(found)


def rle(**attributes: Any) -> bytes:
    """A grayscale picture in RLE."""
    found = pydicom.dcmread(DicomBytesIO(part10_file(data_set(**attributes))))
    found.compress(RLELossless, generate_instance_uid=False)
    assert found.file_meta.TransferSyntaxUID == UID(RLE)
    return written(found)
