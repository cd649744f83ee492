"""What every instance has, whatever its modality, and how it is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from sample_dicom.patients import Study
from sample_dicom.uids import sample_uid


@dataclass(frozen=True, slots=True)
class Series:
    """One series of a study; ``folder`` also names it in the UIDs derived from it."""

    study: Study
    folder: str
    number: int
    modality: str
    description: str
    time: str

    def instance(self, sop_class_uid: UID, number: int) -> Dataset:
        """Start instance ``number`` (from 1): patient, study, series, equipment and SOP Common modules."""
        dataset = Dataset()
        self.study.identify(dataset)
        dataset.SOPClassUID = sop_class_uid
        dataset.SOPInstanceUID = self.study.sop_uid(self.folder, number)
        dataset.Modality = self.modality
        dataset.SeriesInstanceUID = self.study.series_uid(self.folder)
        dataset.SeriesNumber = self.number
        dataset.SeriesDescription = self.description
        dataset.SeriesDate = self.study.date
        dataset.SeriesTime = self.time
        dataset.InstanceNumber = number
        dataset.InstanceCreationDate = self.study.date
        dataset.InstanceCreationTime = self.time
        dataset.Manufacturer = "Synthetic"
        dataset.ManufacturerModelName = "sample_dicom"
        dataset.DeviceSerialNumber = "0"
        dataset.SoftwareVersions = "1"
        dataset.ContentDate = self.study.date
        dataset.ContentTime = self.time
        return dataset


def describe_pixels(dataset: Dataset, pixels: NDArray[np.uint8] | NDArray[np.uint16], *, bits_stored: int) -> None:
    """Fill the Image Pixel module for one grey frame of shape (rows, columns), and store its samples."""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated = pixels.dtype.itemsize * 8
    dataset.BitsStored = bits_stored
    dataset.HighBit = bits_stored - 1
    dataset.PixelRepresentation = 0
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    dataset["PixelData"].VR = "OW"


def write(dataset: Dataset, series: Series, studies: Path, transfer_syntax_uid: UID = ExplicitVRLittleEndian) -> None:
    """Write an instance to ``<study>/<series>/NNN.dcm``, its one grey frame encoded as the syntax says.

    Pixel data already encapsulated (JPEG baseline) is written as it is.
    """
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.ImplementationClassUID = sample_uid("implementation")
    dataset.file_meta.ImplementationVersionName = "SAMPLE_DICOM_1"
    if transfer_syntax_uid == RLELossless:
        dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    elif transfer_syntax_uid in (JPEG2000Lossless, JPEGLSLossless):
        encapsulate_frames(dataset, [_encode(dataset, transfer_syntax_uid)])
    dataset.file_meta.TransferSyntaxUID = transfer_syntax_uid
    path = studies / series.study.folder / series.folder / f"{dataset.InstanceNumber:03}.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def encapsulate_frames(dataset: Dataset, frames: list[bytes]) -> None:
    """Store compressed frames as Pixel Data, one fragment each (PS3.5 A.4)."""
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def _encode(dataset: Dataset, transfer_syntax_uid: UID) -> bytes:
    """Encode the one grey frame of 16 allocated bits without loss."""
    pixels = np.frombuffer(dataset.PixelData, dtype="<u2").reshape(dataset.Rows, dataset.Columns)
    if transfer_syntax_uid == JPEGLSLossless:
        return _without_spiff(bytes(imagecodecs.jpegls_encode(pixels, level=0)))
    codestream = imagecodecs.jpeg2k_encode(
        pixels, level=0, codecformat="j2k", reversible=True, bitspersample=dataset.BitsStored, numthreads=1
    )
    return _without_comment(bytes(codestream))


def _without_spiff(codestream: bytes) -> bytes:
    """Drop the SPIFF header that CharLS puts in front; a DICOM frame is the bare JPEG-LS codestream (PS3.5 8.2.3)."""
    return b"\xff\xd8" + codestream[codestream.index(b"\xff\xf7") :]


def _without_comment(codestream: bytes) -> bytes:
    """Drop the COM segment of a JPEG 2000 main header, in which the encoder names its version."""
    position = 2
    while codestream[position : position + 2] != b"\xff\x64":
        position += 2 + int.from_bytes(codestream[position + 2 : position + 4])
    after = position + 2 + int.from_bytes(codestream[position + 2 : position + 4])
    return codestream[:position] + codestream[after:]
