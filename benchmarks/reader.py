"""CPU of the one pass over an instance, on shapes that cost the most for their size; prints a table.

Run: python -m benchmarks.reader
"""

from __future__ import annotations

import struct
import time

from pydicom.uid import ExplicitVRLittleEndian

from storage.dicom import part10
from storage.errors import Unreadable
from tests.instances import ITEM, ITEM_END, element, extract, identity, text

SIZE_BYTES = 8 << 20


def shapes() -> dict[str, bytes]:
    """Data sets of about ``SIZE_BYTES``."""
    empty_item = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    small_item = struct.pack("<HHI", 0xFFFE, 0xE000, 8) + element(0x00080100, "SH", b"")
    open_item = ITEM + text(0x00080100, "SH", "1") + ITEM_END
    number_item = ITEM + text(0x30060050, "DS", "\\".join(["123.45"] * 300)) + ITEM_END
    empty_elements = b"".join(
        element((0x0009 + 2 * (n >> 15)) << 16 | (0x1000 + (n & 0x7FFF)), "LO", b"") for n in range(SIZE_BYTES // 8)
    )
    return {
        "native pixels, 8 MiB": element(0x7FE00010, "OW", bytes(SIZE_BYTES)),
        "empty items": element(0x00400275, "SQ", empty_item * (SIZE_BYTES // 8)),
        "items with one empty element": element(0x00400275, "SQ", small_item * (SIZE_BYTES // 16)),
        "open items with one short text": element(0x00400275, "SQ", open_item * (SIZE_BYTES // 26)),
        "decimal strings (RTSTRUCT contours)": element(
            0x00400275, "SQ", number_item * (SIZE_BYTES // len(number_item))
        ),
        "empty private elements": empty_elements,
    }


def main() -> None:
    """Measure each shape once."""
    print(f"{'shape':38} {'MiB':>6} {'CPU s':>7} {'CPU s per 8 MB':>15}  outcome")
    for name, body in shapes().items():
        whole = identity() + body
        started = time.process_time()
        try:
            found: part10.Extract | None = extract(whole, ExplicitVRLittleEndian)
            outcome = f"read, {len(found.metadata)} bytes of metadata" if found else ""
        except Unreadable as error:
            outcome = f"refused: {error}"
        used = time.process_time() - started
        size = len(whole) / (1 << 20)
        print(f"{name:38} {size:6.1f} {used:7.2f} {used / len(whole) * 8e6:15.2f}  {outcome}")


if __name__ == "__main__":
    main()
