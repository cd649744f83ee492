"""What is stored and asked for over DICOMweb when servers are compared."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from tests import instances

_BOUNDARY = "part"
STOW_TYPE = f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}'


@dataclass(frozen=True, slots=True)
class Study:
    """A study of one series."""

    number: int
    study_uid: str
    series_uid: str
    sop_uids: tuple[str, ...]
    pixels: int

    @classmethod
    def of(cls, number: int, count: int, pixels: int) -> Study:
        """A study of so many instances, each of ``pixels`` x ``pixels``."""
        uids = tuple(instances.uid() for _ in range(count))
        return cls(number, instances.uid(), instances.uid(), uids, pixels)

    @property
    def patient_id(self) -> str:
        """Of a patient of its own."""
        return f"P{self.number:06}"

    @property
    def family_name(self) -> str:
        """The first component of the patient's name, of letters alone."""
        return "F" + "".join(chr(ord("a") + int(digit)) for digit in f"{self.number:06}")

    @property
    def date(self) -> str:
        """Study Date; several studies have the same."""
        return f"2026{self.number // 28 % 12 + 1:02}{self.number % 28 + 1:02}"

    def path(self, number: int | None = None) -> str:
        """Of the series, or of an instance, below the service root."""
        series = f"/studies/{self.study_uid}/series/{self.series_uid}"
        return series if number is None else f"{series}/instances/{self.sop_uids[number]}"

    def files(self) -> Iterator[bytes]:
        """Its instances as Part 10 files, with noise for pixels."""
        for number, sop_uid in enumerate(self.sop_uids):
            found = instances.data_set(
                StudyInstanceUID=self.study_uid,
                SeriesInstanceUID=self.series_uid,
                SOPInstanceUID=sop_uid,
                PatientID=self.patient_id,
                PatientName=f"{self.family_name}^Given",
                StudyDate=self.date,
                InstanceNumber=number + 1,
                WindowCenter="32768",
                WindowWidth="65536",
                PixelData=None,
            )
            found.Rows = found.Columns = self.pixels
            found.PixelData = os.urandom(2 * self.pixels * self.pixels)
            yield instances.part10_file(found)


def stow_body(files: list[bytes]) -> bytes:
    """Files as the body of a STOW-RS request."""
    parts = [
        f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\nContent-Length: {len(file)}\r\n\r\n".encode()
        + file
        + b"\r\n"
        for file in files
    ]
    return b"".join(parts) + f"--{_BOUNDARY}--\r\n".encode()
