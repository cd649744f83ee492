from collections.abc import Callable

import numpy as np
import pytest

from gateway.imaging.description import FloatKind, PixelDescription
from gateway.imaging.grayscale import render_grayscale, window_fraction
from gateway.imaging.palette import LookupTable
from gateway.imaging.presentation import Presentation, Rescale, VoiLutFunction, Window

Describe = Callable[..., PixelDescription]
LINEAR, EXACT, SIGMOID = VoiLutFunction.LINEAR, VoiLutFunction.LINEAR_EXACT, VoiLutFunction.SIGMOID


def row(*values: float, dtype: str = "<u2") -> np.ndarray:
    return np.array(values, dtype).reshape(1, -1, 1)


def shown(
    pixels: np.ndarray, description: PixelDescription, presentation: Presentation, window: Window | None = None
) -> list[int]:
    return render_grayscale(pixels, description, presentation, window)[0].tolist()


@pytest.mark.parametrize(
    ("window", "value", "expected"),
    [
        # PS3.3 C.11.2.1.2.1 Note: c=2048, w=4096 gives y = x / 4095 over 0 to 4095.
        (Window(2048, 4096), 0, 0.0),
        (Window(2048, 4096), 1, 1 / 4095),
        (Window(2048, 4096), 4095, 1.0),
        # Same Note: c=2048, w=1 is 0 up to 2047 and 1 from 2048 on.
        (Window(2048, 1), 2047, 0.0),
        (Window(2048, 1), 2048, 1.0),
        # Same Note: c=0, w=100 is 0 up to -50 and 1 from 49 on.
        (Window(0, 100), -50, 0.0),
        (Window(0, 100), 49, 1.0),
        (Window(0, 100), 0, (0 + 0.5) / 99 + 0.5),
        # C.11.2.1.3.2: c=0, w=100 runs from -50 to 50.
        (Window(0, 100, EXACT), -50, 0.0),
        (Window(0, 100, EXACT), -25, 0.25),
        (Window(0, 100, EXACT), 50, 1.0),
        (Window(0.5, 0.5, EXACT), 0.5, 0.5),
        # C.11.2.1.3.1: 1 / (1 + exp(-4 (x - c) / w)).
        (Window(40, 400, SIGMOID), 40, 0.5),
        (Window(40, 400, SIGMOID), 140, 1 / (1 + np.exp(-1))),
        (Window(40, 0.001, SIGMOID), -30000, 0.0),
    ],
)
def test_windows_follow_the_formulas_of_the_standard(window: Window, value: float, expected: float) -> None:
    assert window_fraction(np.array([float(value)]), window)[0] == pytest.approx(expected, abs=1e-12)


def test_window_applies_after_rescale(describe: Describe) -> None:
    pixels = row(0, 1000, 1024, 1224, 4000)
    presentation = Presentation(modality=Rescale(1, -1024), windows=(Window(0, 401, EXACT),))
    # Rescaled: -1024, -24, 0, 200, 2976; e.g. (-24 / 401 + 0.5) * 255 = 112.2.
    assert shown(pixels, describe(pixels), presentation) == [0, 112, 128, 255, 255]


def test_the_first_window_counts_and_a_requested_one_replaces_it(describe: Describe) -> None:
    pixels = row(0, 50, 100)
    presentation = Presentation(windows=(Window(50, 100, EXACT), Window(5, 2)), voi_luts=())
    assert shown(pixels, describe(pixels), presentation) == [0, 128, 255]
    assert shown(pixels, describe(pixels), presentation, Window(100, 200, EXACT)) == [0, 64, 128]


def test_without_a_window_the_frame_runs_from_its_lowest_to_its_highest_value(describe: Describe) -> None:
    pixels = row(1000, 1050, 1100)
    assert shown(pixels, describe(pixels), Presentation()) == [0, 128, 255]


def test_padding_is_outside_the_range_and_black_in_both_polarities(describe: Describe) -> None:
    pixels = row(-2000, 0, 10, dtype="<i2")
    for inverted, expected in ((False, [0, 0, 255]), (True, [0, 255, 0])):
        presentation = Presentation(padding=(-2000, -2000), inverted=inverted)
        assert shown(pixels, describe(pixels), presentation) == expected


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (255, 255), (51, 51)])
def test_a_flat_frame_keeps_its_place_in_the_range_of_its_type(describe: Describe, value: int, expected: int) -> None:
    pixels = row(value, value, dtype="u1")
    assert shown(pixels, describe(pixels), Presentation()) == [expected, expected]


def test_a_frame_of_padding_alone_is_black(describe: Describe) -> None:
    pixels = row(7, 7)
    assert shown(pixels, describe(pixels), Presentation(padding=(7, 7))) == [0, 0]


def test_inverted_images_show_the_lowest_value_white(describe: Describe) -> None:
    pixels = row(0, 25, 100, dtype="u1")
    presentation = Presentation(windows=(Window(50, 100, EXACT),), inverted=True)
    assert shown(pixels, describe(pixels), presentation) == [255, 191, 0]


def test_modality_lut_then_voi_lut(describe: Describe) -> None:
    pixels = row(0, 1, 2, 9)
    modality = LookupTable(0, 16, np.array([100, 200, 300], "<u2").tobytes())
    voi = LookupTable(100, 10, np.linspace(0, 1023, 201).astype("<u2").tobytes())
    found = shown(pixels, describe(pixels), Presentation(modality=modality, voi_luts=(voi,)))
    assert found == [0, 127, 255, 255]


def test_bits_above_high_bit_are_not_part_of_the_value(describe: Describe) -> None:
    pixels = row(0x8000, 0x8FFF, 0x07FF)
    description = describe(pixels, bits_stored=12)
    assert shown(pixels, description, Presentation()) == [0, 255, 127]


def test_values_that_end_at_another_high_bit_are_moved_down(describe: Describe) -> None:
    pixels = row(0x0010, 0x0FF0)
    description = describe(pixels, bits_stored=8, high_bit=11)
    window = Presentation(windows=(Window(127.5, 255, EXACT),))
    assert shown(pixels, description, window) == [1, 255]


def test_signed_12_bit_values_without_sign_extension_are_signed(describe: Describe) -> None:
    pixels = row(0x0800, 0x0000, 0x07FF, dtype="<i2")
    description = describe(pixels, bits_stored=12)
    assert shown(pixels, description, Presentation(windows=(Window(0, 4096),))) == [0, 128, 255]


@pytest.mark.parametrize("dtype", ["<u4", "<i4"])
def test_32_bit_values_are_rendered(describe: Describe, dtype: str) -> None:
    pixels = row(1_000_000, 1_500_000, 2_000_000, dtype=dtype)
    assert shown(pixels, describe(pixels), Presentation()) == [0, 128, 255]


def test_floating_point_values_are_rendered_and_not_a_number_is_black(describe: Describe) -> None:
    pixels = row(0.0, 0.25, 1.0, np.nan, np.inf, dtype="<f4")
    description = describe(pixels, float_kind=FloatKind.FLOAT)
    assert shown(pixels, description, Presentation()) == [0, 64, 255, 0, 0]


def test_a_frame_of_nothing_but_nan_is_black(describe: Describe) -> None:
    pixels = row(np.nan, np.nan, dtype="<f8")
    assert shown(pixels, describe(pixels, float_kind=FloatKind.DOUBLE), Presentation()) == [0, 0]


def test_single_bits_are_black_and_white(describe: Describe) -> None:
    pixels = row(0, 1, 0, dtype="u1")
    description = describe(pixels, bits_allocated=1, bits_stored=1, high_bit=0)
    assert shown(pixels, description, Presentation()) == [0, 255, 0]


def test_table_and_arithmetic_agree(describe: Describe) -> None:
    values = np.random.default_rng(3).integers(-32768, 32767, (300, 5000, 1))
    narrow, wide = values.astype("<i2"), values.astype("<i4")
    presentation = Presentation(modality=Rescale(0.7, -12), padding=(-5, 5), inverted=True)
    found = [render_grayscale(pixels, describe(pixels), presentation, None) for pixels in (narrow, wide)]
    assert np.array_equal(*found)
