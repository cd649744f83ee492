import base64
from typing import Any

import numpy as np
import pytest

from gateway.imaging.errors import InvalidDescription
from gateway.imaging.overlay import read_overlays

ZEROES = np.zeros((6, 8, 1), "<u2")


def no_bulk(uri: str, start: int, length: int) -> bytes:
    raise AssertionError(uri)


def plane(planes: np.ndarray, origin: tuple[int, int] = (1, 1), group: str = "6000", **more: Any) -> dict[str, Any]:
    """An overlay of (frames, rows, columns) booleans."""
    frames, rows, columns = planes.shape
    data = np.packbits(planes.astype(np.uint8).reshape(-1), bitorder="little").tobytes()
    return {
        f"{group}0010": {"vr": "US", "Value": [rows]},
        f"{group}0011": {"vr": "US", "Value": [columns]},
        f"{group}0015": {"vr": "IS", "Value": [frames]},
        f"{group}0050": {"vr": "SS", "Value": list(origin)},
        f"{group}3000": {"vr": "OW", "InlineBinary": base64.b64encode(data).decode()},
        **more,
    }


@pytest.mark.parametrize(
    ("origin", "rows", "columns"), [((1, 1), slice(0, 3), slice(0, 5)), ((3, 4), slice(2, 5), slice(3, 8))]
)
def test_an_overlay_lies_where_its_origin_says(origin: tuple[int, int], rows: slice, columns: slice) -> None:
    (found,) = read_overlays(plane(np.ones((1, 3, 5)), origin), 1, no_bulk, None)
    expected = np.zeros((6, 8), np.bool_)
    expected[rows, columns] = True
    assert np.array_equal(found.mask(ZEROES), expected)


def test_what_passes_the_image_is_cut_off_on_every_side() -> None:
    drawn = np.arange(10 * 12).reshape(1, 10, 12) % 3 == 0
    (found,) = read_overlays(plane(drawn, (-1, -2)), 1, no_bulk, None)
    assert np.array_equal(found.mask(ZEROES), drawn[0, 2:8, 3:11])
    (outside,) = read_overlays(plane(drawn, (100, 100)), 1, no_bulk, None)
    assert not outside.mask(ZEROES).any()


def test_each_frame_has_its_own_plane_and_those_before_the_first_have_none() -> None:
    drawn = np.zeros((3, 6, 7), np.bool_)  # 42 pixels: planes do not begin on a byte
    for place in range(3):
        drawn[place, place, place] = True
    dataset = plane(drawn, **{"60000051": {"vr": "US", "Value": [2]}})
    shown = {number: read_overlays(dataset, number, no_bulk, None) for number in range(1, 6)}
    assert [len(each) for each in shown.values()] == [0, 1, 1, 1, 0]
    for place in range(3):
        mask = shown[place + 2][0].over(6, 8)
        assert np.argwhere(mask).tolist() == [[place, place]]


def test_only_the_frames_bytes_are_read() -> None:
    asked = []

    def bulk(uri: str, start: int, length: int) -> bytes:
        asked.append((uri, start, length))
        return b"\xff" * length

    dataset = plane(np.ones((1000, 6, 7))) | {"60003000": {"vr": "OW", "BulkDataURI": "x"}}
    (found,) = read_overlays(dataset, 500, bulk, None)
    assert asked == [("x", 499 * 42 // 8, 6)]
    assert found.over(6, 7).all()


def test_unused_bits_of_the_pixels_are_overlays_too(describe: Any) -> None:
    dataset = plane(np.ones((1, 6, 8)), **{"60000102": {"vr": "US", "Value": [15]}})
    del dataset["60003000"]
    pixels = ZEROES.copy()
    pixels[2, 3] = 0x8000
    pixels[4, 5] = 0x0FFF
    (found,) = read_overlays(dataset, 1, no_bulk, describe(pixels, bits_stored=12))
    assert np.argwhere(found.mask(pixels)).tolist() == [[2, 3]]
    assert read_overlays(dataset, 1, no_bulk, describe(pixels)) == ()  # bit 15 is of the image


@pytest.mark.parametrize(
    "changes",
    [
        {"60000010": {"vr": "US", "Value": [0]}},
        {"60000010": {"vr": "US", "Value": [700]}},
        {"60000010": {"vr": "UL", "Value": [65535]}, "60000011": {"vr": "UL", "Value": [65535]}},
    ],
)
def test_impossible_overlays_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidDescription):
        read_overlays(plane(np.ones((1, 6, 8))) | changes, 1, no_bulk, None)
