"""The console in Chromium on loopback: until the list of studies is there, and until the first image of a study is.

python -m benchmarks.console DIRECTORY [--rounds N] [--studies N] [--upload MB]

Each time a fresh browser context, whose cache is empty, opens the address of the list, then that of a study of slices
of 512 x 512. Told is the time from the beginning of the navigation until the first row of the list is in the page, and
until the first image is decoded. The first round of each, in which the gateway makes what it keeps, is told apart. With
``--upload`` a file of so many megabytes is stored through the page of uploads, with the most memory that Chromium's
processes took.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import requests
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.machine import PROCESSORS
from tests.gateway.console.test_browser import ARGUMENTS
from tests.instances import data_set, part10_file
from tests.serving import Gateway

_PIXELS = 512
_WAIT_MS = 60_000
_NOTES = """
window.noted = {};
addEventListener('DOMContentLoaded', () => {
    new MutationObserver(() => {
        if (document.querySelector('a.study')) window.noted.list ??= performance.now();
    }).observe(document.body, { childList: true, subtree: true });
});
document.addEventListener('load', (event) => {
    if (event.target.className === 'frame') window.noted.image ??= performance.now();
}, true);
"""


def opened(browser: Browser, url: str, what: str) -> float:
    """Milliseconds from the beginning of the navigation until something is there."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.add_init_script(_NOTES)
    page = context.new_page()
    page.goto(url)
    page.locator("a.study" if what == "list" else "img.frame:visible").first.wait_for(timeout=_WAIT_MS)
    found = float(page.evaluate(f"window.noted.{what}"))
    context.close()
    return found


def stored(gateway: Gateway, studies: int, slices: int) -> str:
    """Store studies; the UID of the last."""
    pixels = np.random.default_rng(1).integers(0, 1200, _PIXELS * _PIXELS, dtype="<u2").tobytes()
    with requests.Session() as session:
        for number in range(studies):
            common = data_set(PatientName=f"Patient^{number:04}", PatientID=f"P-{number:04}")
            for place in range(slices if number == studies - 1 else 1):
                common.SOPInstanceUID = data_set().SOPInstanceUID
                common.InstanceNumber = place + 1
                common.Rows = common.Columns = _PIXELS
                common.PixelData = pixels
                kind = {"Content-Type": "application/dicom"}
                answer = session.post(f"{gateway.web}/studies", part10_file(common), headers=kind, timeout=60)
                answer.raise_for_status()
    return str(common.StudyInstanceUID)


def large(path: Path, megabytes: int) -> None:
    """A file of an instance of so many frames of a megabyte."""
    found = data_set(Rows=1024, Columns=512, NumberOfFrames=megabytes, PixelData=bytes(2))
    head = part10_file(found)
    size = megabytes << 20
    with path.open("wb") as file:
        file.write(head[:-6] + size.to_bytes(4, "little"))
        for _ in range(megabytes):
            file.write(os.urandom(1 << 20))


def memory_bytes() -> int:
    """What Chromium's processes share in memory, each its part."""
    total = 0
    for folder in Path("/proc").iterdir():
        try:
            if (folder / "comm").read_text().startswith("chrom"):
                line = next(each for each in (folder / "smaps_rollup").read_text().splitlines() if each[:4] == "Pss:")
                total += int(line.split()[1]) * 1024
        except (OSError, StopIteration):
            continue
    return total


def uploaded(page: Page, path: Path) -> tuple[float, int]:
    """Seconds that a file takes through the page of uploads, and the most memory meanwhile."""
    page.get_by_label("Choose files").set_input_files(path)
    begun_s, most = time.monotonic(), 0
    while not page.get_by_text("Done: 1 file stored.").is_visible():
        most = max(most, memory_bytes())
        time.sleep(0.2)
        if page.get_by_role("alert").is_visible():
            raise RuntimeError(page.get_by_role("alert").inner_text())
    return time.monotonic() - begun_s, most


def told(what: str, found_ms: Sequence[float]) -> str:
    """A line of a measurement: its first time, and the median and worst of the others."""
    later = found_ms[1:]
    return f"| {what} | {found_ms[0]:.0f} | {statistics.median(later):.0f} | {max(later):.0f} |"


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="is there; what is made in it goes away")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--studies", type=int, default=60)
    parser.add_argument("--slices", type=int, default=100)
    parser.add_argument("--upload", type=int, default=0, metavar="MB")
    given = parser.parse_args()
    print(f"{PROCESSORS} processors, load {os.getloadavg()[0]:.1f}, {given.rounds} rounds\n")
    with (
        tempfile.TemporaryDirectory(prefix="console-", dir=given.directory.resolve()) as name,
        sync_playwright() as made,
    ):
        gateway = Gateway(Path(name) / "data", Path(name) / "log")
        gateway.start()
        browser = made.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        try:
            study = stored(gateway, given.studies, given.slices)
            root = gateway.web.removesuffix("dicomweb")
            print("| ms, from the beginning of the navigation | first | median | worst |\n| --- | --- | --- | --- |")
            places = ((f"list of {given.studies} studies", root, "list"),)
            places += ((f"image of {given.slices} slices", f"{root}#/studies/{study}", "image"),)
            for what, url, noted in places:
                print(told(what, [opened(browser, url, noted) for _ in range(given.rounds)]))
            if given.upload:
                large(Path(name) / "large.dcm", given.upload)
                page = browser.new_page()
                page.goto(f"{root}#/upload")
                took_s, most = uploaded(page, Path(name) / "large.dcm")
                print(f"\nupload of {given.upload} MB: {took_s:.1f} s, Chromium {most / 1e6:.0f} MB at most")
        finally:
            browser.close()
            gateway.stop()
    print(f"\nload {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
