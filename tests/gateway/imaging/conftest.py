"""Instances for the imaging tests: pydicom's own files, generated frames, and shared/dicom when present."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames

from gateway.imaging.decode import EncodedFrame
from gateway.imaging.description import PhotometricInterpretation, PixelDescription

SHARED = Path(__file__).parents[4] / "shared" / "dicom"
NATIVE = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"}


class Instance:
    """One stored instance, as the rest of the gateway would hand it over."""

    def __init__(self, path: Path) -> None:
        with warnings.catch_warnings():
            # pydicom warns of old UIDs and values in its own files.
            warnings.simplefilter("ignore", UserWarning)
            self.dataset = pydicom.dcmread(path)
            found = self.dataset.to_json(bulk_data_threshold=1 << 20, bulk_data_element_handler=lambda _: "bulk")
        self.metadata: dict[str, Any] = json.loads(found)
        self.description = PixelDescription.from_metadata(self.metadata)
        self.transfer_syntax_uid = str(self.dataset.file_meta.TransferSyntaxUID)

    def frame(self, number: int = 1) -> EncodedFrame:
        value = self._value()
        if self.transfer_syntax_uid in NATIVE:
            first_bit = (number - 1) * self.description.native_bits
            end = -(-(first_bit + self.description.native_bits) // 16) * 2
            return EncodedFrame(value[first_bit // 8 : end], self.transfer_syntax_uid, self.description, first_bit % 8)
        frames = generate_frames(value, number_of_frames=self.description.number_of_frames)
        data = next(frame for index, frame in enumerate(frames, 1) if index == number)
        return EncodedFrame(data, self.transfer_syntax_uid, self.description)

    def _value(self) -> bytes:
        value = self.dataset["PixelData" if "PixelData" in self.dataset else "FloatPixelData"].value
        return value if isinstance(value, bytes) else np.asarray(value, "<f4").tobytes()


@pytest.fixture(scope="session")
def pydicom_instance() -> Callable[[str], Instance]:
    def read(name: str) -> Instance:
        path = get_testdata_file(name)
        assert isinstance(path, str)
        return Instance(Path(path))

    return read


@pytest.fixture(scope="session")
def shared_instance() -> Callable[[str], Instance]:
    def read(name: str) -> Instance:
        if not (SHARED / name).is_file():
            pytest.skip(f"shared/dicom/{name} is not here")
        return Instance(SHARED / name)

    return read


@pytest.fixture(scope="session")
def describe() -> Callable[..., PixelDescription]:
    """Describe an array of (rows, columns, samples): everything else is a keyword."""

    def make(pixels: np.ndarray, **changes: Any) -> PixelDescription:
        rows, columns, samples = pixels.shape
        bits = pixels.dtype.itemsize * 8
        values: dict[str, Any] = {
            "rows": rows,
            "columns": columns,
            "samples_per_pixel": samples,
            "bits_allocated": bits,
            "bits_stored": bits,
            "high_bit": changes.get("bits_stored", bits) - 1,
            "pixel_representation": int(pixels.dtype.kind == "i"),
            "photometric_interpretation": PhotometricInterpretation.MONOCHROME2
            if samples == 1
            else PhotometricInterpretation.RGB,
        }
        return PixelDescription(**(values | changes))

    return make
