"""How fast a tree of files is imported: python -m benchmarks.importing DIRECTORY [--instances N] [--pixels N].

Fills DIRECTORY/source with N small CT instances (67 elements, N x N pixels; 50 to a directory) when it is not there,
then runs ``gateway import`` with 1, 2 and 4 processes into a fresh archive, with fsync, and again over what is there.
Tells instances per second and the processor time of each. GATEWAY_INDEX__* and GATEWAY_S3__* choose the engines.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from benchmarks.reindex import CT, PER_SERIES, instances, timed


def fill(source: Path, count: int, pixels: int) -> None:
    """Make the files."""
    body = os.urandom(2 * pixels * pixels)
    for number, found in enumerate(instances(count)):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CT, found.SOPInstanceUID
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        found.file_meta = meta
        found.Rows = found.Columns = pixels
        found.PixelData = body
        found["PixelData"].VR = "OW"
        folder = source / f"{number // PER_SERIES:05}"
        folder.mkdir(parents=True, exist_ok=True)
        pydicom.dcmwrite(folder / f"{number % PER_SERIES:03}", found, enforce_file_format=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--instances", type=int, default=5_000)
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    options = parser.parse_args()
    source, archive = options.directory / "source", options.directory / "gateway"
    if not source.exists():
        fill(source, options.instances, options.pixels)
    count = sum(1 for path in source.rglob("*") if path.is_file())
    print(f"{count} instances, {len(os.sched_getaffinity(0))} processors, load {os.getloadavg()[0]:.1f}")
    for workers in options.workers:
        shutil.rmtree(archive, ignore_errors=True)
        timed(archive, count, "import", str(source), f"--workers={workers}")
    timed(archive, count, "import", str(source))


if __name__ == "__main__":
    main()
