"""What is shown, number by number, against DCMTK and against pydicom's own processing."""

from __future__ import annotations

import json
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from gateway.imaging.decode import decode, decoded_description
from gateway.imaging.presentation import Presentation
from gateway.imaging.render import RenderRequest, show
from tests.gateway.imaging.conftest import SHARED, Instance
from tests.programs import need_program

# 32 bits in big endian words of 16 bits: DCMTK 3.6.7 shows other values than of the same file in little endian, which
# pydicom and the gateway show alike.
WRONG_IN_DCMTK = frozenset(("rtdose_expb.dcm", "rtdose_expb_1frame.dcm"))

# Coloured by supplemental palette, which DCMTK does not know; broken on purpose; not images.
NOT_COMPARABLE = frozenset(("enhanced-ct-2-frames.dcm", "meta_missing_tsyntax.dcm", "nested_priv_SQ.dcm", "badVR.dcm"))


def files() -> list[Path]:
    wheel = get_testdata_file("CT_small.dcm")
    assert isinstance(wheel, str)
    found = sorted(Path(wheel).parent.glob("*.dcm"))
    if SHARED.exists():
        found += sorted(
            path for path in SHARED.rglob("*.dcm") if not {"malformed", "studies", "video"} & set(path.parts)
        )
    return [path for path in found if path.name not in WRONG_IN_DCMTK | NOT_COMPARABLE]


def first_frame(path: Path) -> tuple[np.ndarray, Presentation]:
    instance = Instance(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        metadata = json.loads(instance.dataset.to_json())
    frame = instance.frame()
    presentation = Presentation.from_metadata(metadata, frame.description, 1, lambda uri, start, length: b"")
    pixels = decode(frame.data, frame.transfer_syntax_uid, frame.description, frame.bit_offset)
    described = decoded_description(frame.description, frame.transfer_syntax_uid)
    return np.asarray(show(pixels, described, presentation, RenderRequest())[0]).astype(int), presentation


def by_dcmtk(path: Path, presentation: Presentation, coloured: bool, target: Path) -> np.ndarray | None:
    """As DCMTK shows it; None when it cannot, or does not find the window, which it looks for at the top level only."""
    window = ["+Wi", "1"] if presentation.windows else ["+Wl", "1"] if presentation.voi_luts else ["+Wm"]
    target.unlink(missing_ok=True)
    command = ["dcmj2pnm", "+op", "+F", "1", *([] if coloured else window), str(path), str(target)]
    subprocess.run(command, capture_output=True, check=False, timeout=60)
    return np.asarray(Image.open(target)).astype(int) if target.exists() and target.stat().st_size else None


@need_program("dcmj2pnm", "dcmtk")
def test_what_dcmtk_can_read_it_shows_within_one_grey_level_of_us(tmp_path: Path) -> None:
    compared, different = 0, []
    for path in files():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        if "Rows" not in header:
            continue
        try:
            ours, presentation = first_frame(path)
        except Exception:  # damaged on purpose, or without frames: other tests say which
            continue
        theirs = by_dcmtk(path, presentation, ours.ndim == 3, tmp_path / "theirs.pnm")
        if theirs is None:
            continue
        if theirs.ndim == 3 and ours.ndim == 2:
            ours = np.stack([ours] * 3, axis=2)
        compared += 1
        if ours.shape != theirs.shape or np.abs(ours - theirs).max() > 1:
            different.append(path.name)
    assert different == []
    assert compared >= (90 if SHARED.exists() else 40)


@pytest.mark.parametrize(
    "name",
    [
        "transfer-syntaxes/ct-one-image/1.2.840.10008.1.2.4.80.dcm",
        "transfer-syntaxes/ct-one-image/1.2.840.10008.1.2.4.90.dcm",
        "transfer-syntaxes/htj2k/htj2k-rpcl-202-nm.dcm",
        "objects/mg/mg-jpeg-lossless.dcm",
        "objects/cr/cr-modality-lut.dcm",
        "objects/sc/signed-16bit.dcm",
    ],
)
def test_what_dcmtk_cannot_read_is_shown_as_pydicom_processes_it(name: str) -> None:
    path = SHARED / name
    if not path.exists():
        pytest.skip("needs ../shared/dicom")
    ours, presentation = first_frame(path)
    found = pydicom.dcmread(path)
    # The stored values are the decoder's, which its own tests compare; the transformations are pydicom's.
    instance = Instance(path)
    frame = instance.frame()
    stored = decode(frame.data, frame.transfer_syntax_uid, frame.description)[:, :, 0]
    if presentation.windows or presentation.voi_luts:
        levels = apply_voi_lut(apply_modality_lut(stored, found), found, prefer_lut=False).astype(float)
        rescaled = apply_modality_lut(np.array([0]), found).dtype.kind == "f" and presentation.windows
        low, high = _output_range(found, bool(rescaled))
        levels = (levels - low) / (high - low)
    else:
        levels = apply_modality_lut(stored, found).astype(float)
        levels = (levels - levels.min()) / (levels.max() - levels.min())
    if presentation.inverted:
        levels = 1 - levels
    assert np.abs(ours - np.rint(levels * 255)).max() <= 1


def _output_range(found: pydicom.Dataset, rescaled: bool) -> tuple[float, float]:
    """The range that pydicom's windowing maps to: that of the stored values, after a rescale."""
    bits = found.BitsStored
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if found.PixelRepresentation else (0, (1 << bits) - 1)
    if not rescaled or "RescaleSlope" not in found:
        return float(low), float(high)
    slope, intercept = float(found.RescaleSlope), float(found.RescaleIntercept)
    return low * slope + intercept, high * slope + intercept
