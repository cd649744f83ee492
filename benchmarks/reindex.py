"""How fast an index is rebuilt from a local directory: python -m benchmarks.reindex DIRECTORY [--instances N].

Fills DIRECTORY with N small CT instances (67 elements, one sequence, 16 x 16 pixels; 50 to a series, 100 to a study)
when it is not there, then runs ``gateway reindex`` with 1, 2 and 3 reading processes and tells instances per second
and the processor time of each. GATEWAY_INDEX__* choose the index. Then the same for ``gateway verify``.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from storage.dicom import file_meta
from storage.dicom import identifiers as ids
from storage.dicom.limits import Limits
from storage.objects.local import LocalObjectStore

CT = "1.2.840.10008.5.1.4.1.1.2"
PER_SERIES, PER_STUDY = 50, 100
_TEXTS = {
    "Manufacturer": "Maker", "ManufacturerModelName": "Model", "StationName": "CT1", "InstitutionName": "Clinic",
    "ReferringPhysicianName": "Referring^Doctor", "AccessionNumber": "A1", "StudyID": "1",
    "StudyDescription": "Head routine", "SeriesDescription": "Axial 5 mm", "ProtocolName": "Head",
    "SoftwareVersions": "1", "BodyPartExamined": "HEAD", "PatientPosition": "HFS", "PatientBirthDate": "19600101",
    "PatientSex": "F", "PatientAge": "060Y", "Modality": "CT", "KVP": "120", "SliceThickness": "5",
    "SpacingBetweenSlices": "5", "DataCollectionDiameter": "500", "ReconstructionDiameter": "250",
    "ConvolutionKernel": "H30s", "GantryDetectorTilt": "0", "TableHeight": "100", "RotationDirection": "CW",
    "ExposureTime": "500", "XRayTubeCurrent": "200", "Exposure": "100", "FilterType": "0", "GeneratorPower": "24",
    "FocalSpots": "1.2", "WindowCenter": "40", "WindowWidth": "400", "RescaleIntercept": "-1024", "RescaleSlope": "1",
    "StudyDate": "20260101", "StudyTime": "101500", "ContentDate": "20260101", "ContentTime": "101500",
    "AcquisitionDate": "20260101", "AcquisitionTime": "101500", "FrameOfReferenceUID": "1.2.3.9",
    "PhotometricInterpretation": "MONOCHROME2", "SliceLocation": "0",
}  # fmt: skip


def instances(count: int) -> Iterator[Dataset]:
    """Data sets; one object, changed from one to the next."""
    found = Dataset()
    for keyword, value in _TEXTS.items():
        setattr(found, keyword, value)
    found.SOPClassUID = CT
    found.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    found.PixelSpacing, found.ImageOrientationPatient = ["0.5", "0.5"], ["1", "0", "0", "0", "1", "0"]
    found.SamplesPerPixel, found.Rows, found.Columns = 1, 16, 16
    found.BitsAllocated, found.BitsStored, found.HighBit, found.PixelRepresentation = 16, 16, 15, 0
    found.AcquisitionNumber, found.SeriesNumber = 1, 1
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99LOCAL", "Head"
    found.ProcedureCodeSequence = [code]
    found.PixelData = bytes(512)
    found["PixelData"].VR = "OW"
    for number in range(count):
        study, series = number // PER_STUDY, number // PER_SERIES
        found.StudyInstanceUID, found.SeriesInstanceUID = f"1.2.840.1.{study}", f"1.2.840.1.{study}.{series}"
        found.SOPInstanceUID = f"1.2.840.1.{study}.{series}.{number}"
        found.PatientID, found.PatientName = f"P{study // 2}", f"Name{study // 2}^Given"
        found.InstanceNumber = number % PER_SERIES + 1
        found.ImagePositionPatient = ["0", "0", str(number)]
        yield found


def fill(directory: Path, count: int) -> None:
    """Make the objects, as a gateway would have kept them."""
    store, clock = LocalObjectStore(directory / "archive", fsync=False), ids.VersionClock()
    for found in instances(count):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CT, found.SOPInstanceUID
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        found.file_meta = meta
        buffer = pydicom.filebase.DicomBytesIO()
        pydicom.dcmwrite(buffer, found, enforce_file_format=True)
        buffer.seek(0)
        _, offset, _ = file_meta.read(buffer, Limits())
        body = buffer.getvalue()[offset:]
        prefix = file_meta.write(file_meta.FileMeta(ExplicitVRLittleEndian, CT, found.SOPInstanceUID))
        key = ids.InstanceKey(
            ids.tenant("main"),
            ids.study_uid(found.StudyInstanceUID),
            ids.series_uid(found.SeriesInstanceUID),
            ids.sop_uid(found.SOPInstanceUID),
        )
        store.put(key.object_key(clock.next()), [prefix, body])


def timed(directory: Path, count: int, *command: str) -> None:
    """Run a command of the gateway and tell how fast it was."""
    before, started_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    environment = {**os.environ, "GATEWAY_STORAGE__DIRECTORY": str(directory)}
    subprocess.run(
        [sys.executable, "-m", "gateway.cli", *command],
        check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    seconds = time.monotonic() - started_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"{' '.join(command):28} {count / seconds:8.0f} instances/s {seconds:7.2f} s"
        f" {cpu_s / count * 1e6:6.0f} us of processor time each"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--instances", type=int, default=20_000)
    options = parser.parse_args()
    if not options.directory.exists():
        fill(options.directory, options.instances)
    count = sum(1 for _ in LocalObjectStore(options.directory / "archive").list(""))
    print(f"{count} instances, {len(os.sched_getaffinity(0))} processors, load {os.getloadavg()[0]:.1f}")
    for workers in (1, 2, 3):
        timed(options.directory, count, "reindex", "--anew", f"--workers={workers}")
    timed(options.directory, count, "verify")


if __name__ == "__main__":
    main()
