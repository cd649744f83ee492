import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gateway.imaging.description import FloatKind, PhotometricInterpretation, PixelDescription
from gateway.imaging.errors import InvalidDescription
from gateway.imaging.palette import LookupTable
from gateway.imaging.presentation import Presentation, Rescale, VoiLutFunction, Window

Describe = Callable[..., PixelDescription]
UNSIGNED, SIGNED = np.zeros((2, 2, 1), "<u2"), np.zeros((2, 2, 1), "<i2")


def element(vr: str, *found: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": list(found)}


def no_bulk(uri: str, start: int, length: int) -> bytes:
    raise AssertionError(f"{uri} was read")


def words(*found: int) -> bytes:
    return np.array(found, "<u2").tobytes()


def lut(descriptor: tuple[int, int, int], data: dict[str, Any]) -> dict[str, Any]:
    return {"00283002": element("US", *descriptor), "00283006": data}


RESCALE = {"00281052": element("DS", -1024), "00281053": element("DS", 2)}
WINDOWS = {
    "00281050": element("DS", 40, 300),
    "00281051": element("DS", 400, 1500),
    "00281055": element("LO", "BRAIN", "BONE"),
}


def test_rescale_and_windows_are_read_from_the_instance(describe: Describe) -> None:
    found = Presentation.from_metadata(RESCALE | WINDOWS, describe(UNSIGNED), 1, no_bulk)
    assert found.modality == Rescale(2.0, -1024.0)
    assert found.windows == (
        Window(40, 400, VoiLutFunction.LINEAR, "BRAIN"),
        Window(300, 1500, VoiLutFunction.LINEAR, "BONE"),
    )
    assert not found.inverted


def test_an_instance_that_says_nothing_has_an_identity_presentation(describe: Describe) -> None:
    assert Presentation.from_metadata({}, describe(UNSIGNED), 1, no_bulk) == Presentation()


def test_voi_lut_function_is_read_and_an_unknown_one_is_linear(describe: Describe) -> None:
    for text, function in (("SIGMOID", VoiLutFunction.SIGMOID), ("CUBIC", VoiLutFunction.LINEAR)):
        metadata = WINDOWS | {"00281056": element("CS", text)}
        windows = Presentation.from_metadata(metadata, describe(UNSIGNED), 1, no_bulk).windows
        assert {window.function for window in windows} == {function}


@pytest.mark.parametrize("width", [0, -200])
def test_windows_of_an_impossible_width_are_left_out(describe: Describe, width: int) -> None:
    metadata = {"00281050": element("DS", 40), "00281051": element("DS", width)}
    assert Presentation.from_metadata(metadata, describe(UNSIGNED), 1, no_bulk).windows == ()


def test_a_frame_has_its_own_groups_before_the_shared_ones_before_the_instance(describe: Describe) -> None:
    def group(center: int, intercept: int | None = None) -> dict[str, Any]:
        found = {"00289132": element("SQ", {"00281050": element("DS", center), "00281051": element("DS", 10)})}
        if intercept is not None:
            rescale = {"00281052": element("DS", intercept), "00281053": element("DS", 1)}
            found["00289145"] = element("SQ", rescale)
        return found

    metadata = RESCALE | WINDOWS
    metadata["52009229"] = element("SQ", group(100, 7))
    metadata["52009230"] = element("SQ", group(1), {}, group(3, 9))
    found = [Presentation.from_metadata(metadata, describe(UNSIGNED), number, no_bulk) for number in (1, 2, 3)]
    assert [presentation.windows[0].center for presentation in found] == [1, 100, 3]
    assert [presentation.modality for presentation in found] == [Rescale(1, 7), Rescale(1, 7), Rescale(1, 9)]


@pytest.mark.parametrize(
    "data",
    [
        {"vr": "US", "Value": [10, 20, 30]},
        {"vr": "OW", "InlineBinary": base64.b64encode(words(10, 20, 30)).decode()},
        {"vr": "OW", "BulkDataURI": "bulkdata/1"},
    ],
)
def test_lut_data_is_read_wherever_the_metadata_keeps_it(describe: Describe, data: dict[str, Any]) -> None:
    metadata = {"00283000": element("SQ", lut((3, 5, 12), data))}
    asked: list[str] = []

    def bulk(uri: str, start: int, length: int) -> bytes:
        asked.append(uri)
        assert (start, length) == (0, 131072)  # no table is longer, whatever the instance holds
        return words(10, 20, 30)

    found = Presentation.from_metadata(metadata, describe(UNSIGNED), 1, bulk)
    assert found.modality == LookupTable(5, 12, words(10, 20, 30))
    assert asked == (["bulkdata/1"] if "BulkDataURI" in data else [])


def test_a_lut_maps_inside_and_clamps_outside_its_range() -> None:
    table = LookupTable(-1, 12, words(10, 20, 30))
    assert table.apply(np.array([-9.0, -1.0, 0.0, 1.0, 99.0])).tolist() == [10, 10, 20, 30, 30]


def test_8_bit_entries_may_be_packed_two_to_a_word(describe: Describe) -> None:
    packed = {"vr": "OW", "InlineBinary": base64.b64encode(bytes([1, 2, 3, 0])).decode()}
    metadata = {"00283010": element("SQ", lut((3, 0, 8), packed))}
    found = Presentation.from_metadata(metadata, describe(UNSIGNED), 1, no_bulk)
    assert found.voi_luts == (LookupTable(0, 8, words(1, 2, 3)),)


def test_a_descriptor_count_of_zero_means_65536_entries(describe: Describe) -> None:
    data = {"vr": "OW", "BulkDataURI": "bulk"}
    metadata = {"00283000": element("SQ", lut((0, 0, 16), data))}
    found = Presentation.from_metadata(metadata, describe(UNSIGNED), 1, lambda uri, start, length: bytes(131072))
    assert isinstance(found.modality, LookupTable)
    assert found.modality.array().size == 65536


def test_first_mapped_value_is_negative_when_pixels_are_signed(describe: Describe) -> None:
    metadata = {"00283000": element("SQ", lut((2, 0xFFFF, 16), element("US", 1, 300)))}
    found = Presentation.from_metadata(metadata, describe(SIGNED), 1, no_bulk)
    assert found.modality == LookupTable(-1, 16, words(1, 300))


@pytest.mark.parametrize(
    ("descriptor", "data"),
    [((3, 0, 12), [1, 2]), ((3, 0, 7), [1, 2, 3]), ((3, 0, 32), [1, 2, 3]), ((3, 0, 8), [70000, 1, 1])],
)
def test_an_impossible_lut_is_refused(describe: Describe, descriptor: tuple[int, int, int], data: list[int]) -> None:
    metadata = {"00283000": element("SQ", lut(descriptor, element("US", *data)))}
    with pytest.raises(InvalidDescription):
        Presentation.from_metadata(metadata, describe(UNSIGNED), 1, no_bulk)


def test_monochrome1_and_an_inverse_presentation_lut_shape_invert_once(describe: Describe) -> None:
    monochrome1 = describe(UNSIGNED, photometric_interpretation=PhotometricInterpretation.MONOCHROME1)
    inverse = {"20500020": element("CS", "INVERSE")}
    assert Presentation.from_metadata({}, monochrome1, 1, no_bulk).inverted
    assert Presentation.from_metadata(inverse, monochrome1, 1, no_bulk).inverted
    assert Presentation.from_metadata(inverse, describe(UNSIGNED), 1, no_bulk).inverted


def test_padding_is_a_range_of_stored_values_in_the_sign_of_the_pixels(describe: Describe) -> None:
    metadata = {"00280120": element("US", 0xFFFF), "00280121": element("US", 0xFFF0)}
    signed = Presentation.from_metadata(metadata, describe(SIGNED), 1, no_bulk)
    unsigned = Presentation.from_metadata(metadata, describe(UNSIGNED), 1, no_bulk)
    assert signed.padding == (-16, -1)
    assert unsigned.padding == (0xFFF0, 0xFFFF)


def test_floating_point_padding_has_its_own_attribute(describe: Describe) -> None:
    pixels = describe(np.zeros((2, 2, 1), "<f4"), float_kind=FloatKind.FLOAT)
    metadata = {"00280122": element("FL", -1.5), "00280120": element("US", 3)}
    assert Presentation.from_metadata(metadata, pixels, 1, no_bulk).padding == (-1.5, -1.5)


def palette(bits: int, *entries: int) -> dict[str, Any]:
    found = {f"0028110{index}": element("US", len(entries), 0, bits) for index in (1, 2, 3)}
    return found | {f"0028120{index}": element("US", *entries) for index in (1, 2, 3)}


def test_palette_is_read_for_palette_color_only(describe: Describe) -> None:
    coloured = describe(UNSIGNED, photometric_interpretation=PhotometricInterpretation.PALETTE_COLOR)
    metadata = palette(16, 0, 65535)
    found = Presentation.from_metadata(metadata, coloured, 1, no_bulk).palette
    assert found is not None
    assert found.green == LookupTable(0, 16, words(0, 65535))
    assert Presentation.from_metadata(metadata, describe(UNSIGNED), 1, no_bulk).palette is None


def test_16_bit_palettes_that_hold_8_bit_entries_are_recognised(describe: Describe) -> None:
    coloured = describe(UNSIGNED, photometric_interpretation=PhotometricInterpretation.PALETTE_COLOR)
    found = Presentation.from_metadata(palette(16, 0, 255), coloured, 1, no_bulk).palette
    assert found is not None
    assert found.red.bits == 8
