"""Write every sample study: ``python -m sample_dicom.generate [DIR]``."""

from __future__ import annotations

import argparse
from pathlib import Path

from sample_dicom.cr import write_cr
from sample_dicom.ct import write_axial, write_scout
from sample_dicom.mr import write_mr
from sample_dicom.seg import lesion_mask, measure, write_seg
from sample_dicom.sr import write_sr
from sample_dicom.us import write_us

STUDIES = Path(__file__).parent / "studies"


def generate(studies: Path) -> None:
    """Write the samples to ``<studies>/<study>/<series>/NNN.dcm``, byte for byte the same on every run."""
    write_scout(studies)
    ct_instances = write_axial(studies)
    write_mr(studies)
    mask = lesion_mask()
    seg = write_seg(studies, mask, ct_instances)
    write_sr(studies, measure(mask), ct_instances, seg)
    write_us(studies)
    write_cr(studies)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Write the synthetic sample studies.")
    parser.add_argument("directory", nargs="?", type=Path, default=STUDIES, metavar="DIR")
    generate(parser.parse_args().directory)


if __name__ == "__main__":
    main()
