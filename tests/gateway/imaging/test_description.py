from typing import Any

import pytest

from gateway.imaging.description import FloatKind, PhotometricInterpretation, PixelDescription
from gateway.imaging.errors import FrameTooLarge, InvalidDescription, NotDecodable


def metadata(**changes: Any) -> dict[str, Any]:
    values = {
        "00280002": 1,
        "00280004": "MONOCHROME2",
        "00280008": "3",
        "00280010": 512,
        "00280011": 256,
        "00280100": 16,
        "00280101": 12,
        "00280102": 11,
        "00280103": 1,
    }
    values |= {tag.removeprefix("t"): value for tag, value in changes.items()}
    found = {tag: {"vr": "US", "Value": [value]} for tag, value in values.items() if value is not None}
    return found | {"7FE00010": {"vr": "OW", "BulkDataURI": "bulk"}}


def test_description_holds_the_image_pixel_attributes() -> None:
    described = PixelDescription.from_metadata(metadata())
    assert (described.rows, described.columns, described.number_of_frames) == (512, 256, 3)
    assert (described.bits_allocated, described.bits_stored, described.high_bit) == (16, 12, 11)
    assert described.photometric_interpretation is PhotometricInterpretation.MONOCHROME2
    assert described.is_signed
    assert described.is_word_encoded
    assert described.frame_bytes == 512 * 256 * 2


def test_optional_attributes_have_defaults() -> None:
    described = PixelDescription.from_metadata(metadata(t00280008=None, t00280102=None, t00280103=None))
    assert (described.number_of_frames, described.high_bit, described.pixel_representation) == (1, 11, 0)


def test_float_pixel_data_needs_no_bits_stored() -> None:
    instance = metadata(t00280100=32, t00280101=None, t00280102=None, t00280103=None)
    instance["7FE00008"] = instance.pop("7FE00010")
    described = PixelDescription.from_metadata(instance)
    assert described.float_kind is FloatKind.FLOAT
    assert not described.is_signed


def test_single_bit_pixels_count_a_byte_each_when_decoded() -> None:
    described = PixelDescription.from_metadata(metadata(t00280100=1, t00280101=1, t00280102=0, t00280103=0))
    assert described.frame_bytes == 512 * 256
    assert described.native_bits == 512 * 256


@pytest.mark.parametrize("tag", ["00280002", "00280004", "00280010", "00280011", "00280100", "00280101"])
def test_a_missing_required_attribute_is_refused(tag: str) -> None:
    with pytest.raises(InvalidDescription, match="missing"):
        PixelDescription.from_metadata(metadata(**{f"t{tag}": None}))


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("00280010", 0),
        ("00280010", 70000),
        ("00280010", -1),
        ("00280011", 1.5),
        ("00280011", "many"),
        ("00280011", float("inf")),
        ("00280100", 0),
        ("00280100", 64),
        ("00280100", 12),
        ("00280101", 0),
        ("00280101", 17),
        ("00280102", 16),
        ("00280102", 3),
        ("00280103", 2),
        ("00280006", 2),
        ("00280002", 3),
        ("00280008", 0),
        ("00280008", 1 << 31),
    ],
)
def test_an_impossible_value_is_refused(tag: str, value: object) -> None:
    with pytest.raises(InvalidDescription):
        PixelDescription.from_metadata(metadata(**{f"t{tag}": value}))


def test_dimensions_that_multiply_beyond_a_value_field_are_refused() -> None:
    with pytest.raises(FrameTooLarge):
        PixelDescription.from_metadata(metadata(t00280010=65535, t00280011=65535))


def test_an_unknown_photometric_interpretation_cannot_be_decoded() -> None:
    with pytest.raises(NotDecodable):
        PixelDescription.from_metadata(metadata(t00280004="HSV"))
