"""What de-identifying the header of an instance costs: ``python -m benchmarks.deidentification [FILE...]``.

Without files it takes some of pydicom's wheel. Reading and writing are told apart from the engine.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from statistics import median

import pydicom
from pydicom.data import get_testdata_file

from gateway.deid import Option, Profile, Pseudonyms, deidentify

ROUNDS = 50
FILES = ("CT_small.dcm", "MR_small_implicit.dcm", "test-SR.dcm", "rtplan.dcm", "liver_1frame.dcm")
PROFILES = {"basic": Profile(), "every option": Profile(frozenset(Option))}


def measured(work: Callable[[], object]) -> float:
    """The median of some rounds, in milliseconds; the first fills caches."""
    work()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return median(times) * 1000


def main(paths: list[Path]) -> None:
    pseudonyms = Pseudonyms(bytes(32))
    patient = pseudonyms.patient("benchmark", "", "1")
    print(f"{'file':<28}{'elements':>9}{'read':>8}" + "".join(f"{name:>14}" for name in PROFILES) + f"{'write':>8}  ms")
    for path in paths:
        data = path.read_bytes()
        elements = sum(1 for _ in pydicom.dcmread(BytesIO(data)).iterall())
        # A data set is read anew for each round: looking at one converts it, and a second time costs less.
        read = measured(lambda data=data: pydicom.dcmread(BytesIO(data), stop_before_pixels=True))
        spent = [
            measured(
                lambda data=data, profile=profile: deidentify(
                    pydicom.dcmread(BytesIO(data), stop_before_pixels=True), profile, pseudonyms, patient
                )
            )
            - read
            for profile in PROFILES.values()
        ]
        found = deidentify(pydicom.dcmread(BytesIO(data), stop_before_pixels=True), Profile(), pseudonyms, patient)
        write = measured(found.part10)
        print(
            f"{path.name:<28}{elements:>9}{read:>8.2f}" + "".join(f"{each:>14.2f}" for each in spent) + f"{write:>8.2f}"
        )


if __name__ == "__main__":
    main([Path(each) for each in sys.argv[1:] or (get_testdata_file(name, download=False) for name in FILES)])
