import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gateway.imaging.colour import rgb_to_ybr, ybr_to_rgb
from gateway.imaging.decode import decode, decoded_description
from gateway.imaging.description import PhotometricInterpretation, PixelDescription
from gateway.imaging.display import Display
from gateway.imaging.errors import InvalidRendering, NotDecodable
from gateway.imaging.palette import LookupTable, Palette
from gateway.imaging.presentation import Presentation, VoiLutFunction, Window
from gateway.imaging.render import Region, RenderedImage, RenderedMediaType, RenderRequest, render

Describe = Callable[..., PixelDescription]
PNG = RenderRequest(RenderedMediaType.PNG)
COLOURS = np.random.default_rng(2).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def picture(rendered: RenderedImage) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(rendered.data)))


def words(*entries: int) -> bytes:
    return np.array(entries, "<u2").tobytes()


def render_instance(instance: Any, request: RenderRequest = PNG, number: int = 1) -> np.ndarray:
    frame = instance.frame(number)
    presentation = Presentation.from_metadata(
        instance.metadata, frame.description, number, lambda uri, start, length: b""
    )
    pixels = decode(frame.data, frame.transfer_syntax_uid, frame.description, frame.bit_offset)
    described = decoded_description(frame.description, frame.transfer_syntax_uid)
    return picture(render(pixels, described, presentation, request))


def test_png_holds_the_grey_values_exactly(describe: Describe) -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    rendered = render(pixels, describe(pixels), Presentation(), PNG)
    assert (rendered.media_type, rendered.rows, rendered.columns) == ("image/png", 16, 16)
    assert np.array_equal(picture(rendered), pixels[:, :, 0])


def test_jpeg_grows_with_quality(describe: Describe) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 1), dtype=np.uint8)
    low, high = (
        render(pixels, describe(pixels), Presentation(), RenderRequest(quality=quality)) for quality in (1, 100)
    )
    assert low.media_type == "image/jpeg"
    assert low.data.startswith(b"\xff\xd8")
    assert len(low.data) < len(high.data)


def test_rgb_is_shown_as_it_is(describe: Describe) -> None:
    assert np.array_equal(picture(render(COLOURS, describe(COLOURS), Presentation(), PNG)), COLOURS)


def test_16_bit_rgb_is_scaled_by_bits_stored(describe: Describe) -> None:
    pixels = np.array([0, 2048, 4095], "<u2").reshape(1, 1, 3)
    shown = picture(render(pixels, describe(pixels, bits_stored=12), Presentation(), PNG))
    assert shown.tolist() == [[[0, 128, 255]]]


def test_32_bit_rgb_is_scaled_to_8_bits(describe: Describe) -> None:
    pixels = np.array([0, 0x80000000, 0xFFFFFFFF], "<u4").reshape(1, 1, 3)
    assert picture(render(pixels, describe(pixels), Presentation(), PNG)).tolist() == [[[0, 128, 255]]]


@pytest.mark.parametrize("photometric", ["YBR_FULL", "YBR_FULL_422"])
def test_ybr_is_converted_to_rgb(describe: Describe, photometric: str) -> None:
    # Red, green and blue after PS3.3 C.7.6.3.1.2.
    pixels = np.array([[76, 85, 255], [150, 44, 21], [29, 255, 107]], np.uint8).reshape(1, 3, 3)
    description = describe(pixels, photometric_interpretation=PhotometricInterpretation(photometric))
    shown = picture(render(pixels, description, Presentation(), PNG)).astype(int)
    assert np.abs(shown - [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]).max() <= 2


@pytest.mark.parametrize(("dtype", "bits"), [("u1", 8), ("<u2", 12)])
def test_rgb_survives_the_way_to_ybr_and_back(dtype: str, bits: int) -> None:
    pixels = (COLOURS.astype("<u2") << (bits - 8)).astype(dtype)
    assert np.abs(ybr_to_rgb(rgb_to_ybr(pixels, bits), bits).astype(int) - pixels).max() <= 2


def test_jpeg_2000_colour_spaces_outside_jpeg_2000_are_not_shown(describe: Describe) -> None:
    description = describe(COLOURS, photometric_interpretation=PhotometricInterpretation.YBR_ICT)
    with pytest.raises(NotDecodable):
        render(COLOURS, description, Presentation(), PNG)


@pytest.mark.parametrize(("bits", "brightest"), [(8, 255), (16, 65535)])
def test_palette_colours_are_looked_up_and_clamped(describe: Describe, bits: int, brightest: int) -> None:
    pixels = np.array([0, 10, 11, 12, 200], np.uint8).reshape(1, 5, 1)
    description = describe(pixels, photometric_interpretation=PhotometricInterpretation.PALETTE_COLOR)
    rising, falling = words(0, brightest // 2, brightest), words(brightest, brightest // 2, 0)
    palette = Palette(LookupTable(10, bits, rising), LookupTable(10, bits, falling), LookupTable(10, bits, rising))
    shown = picture(render(pixels, description, Presentation(palette=palette), PNG))
    middle = round(brightest // 2 * 255 / brightest)
    assert shown[0].tolist() == [[0, 255, 0], [0, 255, 0], [middle] * 3, [255, 0, 255], [255, 0, 255]]


@pytest.mark.parametrize(("viewport", "expected"), [((32, 32), (16, 32)), ((256, 100), (100, 200)), ((1, 1), (1, 1))])
def test_viewport_is_filled_within_the_aspect_ratio(
    describe: Describe, viewport: tuple[int, int], expected: tuple[int, int]
) -> None:
    pixels = np.zeros((64, 128, 1), np.uint8)
    rendered = render(pixels, describe(pixels), Presentation(), RenderRequest(viewport=viewport))
    assert (rendered.rows, rendered.columns) == expected
    assert picture(rendered).shape == expected


def test_a_source_region_is_cut_out_and_mirrored_when_negative(describe: Describe) -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(6, 8, 1) * 5
    whole = picture(render(pixels, describe(pixels), Presentation(), PNG))
    for region, expected in (
        (Region(2, 1, 3, 2), whole[1:3, 2:5]),
        (Region(2, 1, -3, 2), whole[1:3, 2:5][:, ::-1]),
        (Region(6, 4, 9, -9), whole[4:, 6:][::-1]),
    ):
        request = RenderRequest(RenderedMediaType.PNG, region=region)
        assert np.array_equal(picture(render(pixels, describe(pixels), Presentation(), request)), expected)


def test_a_region_outside_the_image_is_refused(describe: Describe) -> None:
    pixels = np.zeros((6, 8, 1), np.uint8)
    with pytest.raises(InvalidRendering):
        render(pixels, describe(pixels), Presentation(), RenderRequest(region=Region(8, 0, 5, 5)))


@pytest.mark.parametrize(
    "parameters",
    [
        {"quality": 0},
        {"quality": 101},
        {"window": Window(40, 0)},
        {"window": Window(40, -1, VoiLutFunction.SIGMOID)},
        {"window": Window(float("nan"), 400)},
        {"window": Window(40, float("inf"))},
        {"viewport": (0, 10)},
        {"viewport": (10, 100_000)},
        {"region": Region(0, 0, 0, 5)},
    ],
)
def test_parameters_out_of_range_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(InvalidRendering):
        RenderRequest(**parameters)


def test_pictures_hold_nothing_but_pixels(describe: Describe) -> None:
    pixels = np.zeros((6, 8, 1), np.uint8)
    for media_type in (each for each in RenderedMediaType if each is not RenderedMediaType.MP4):
        rendered = render(pixels, describe(pixels), Presentation(), RenderRequest(media_type))
        assert set(Image.open(io.BytesIO(rendered.data)).info) <= {
            *("jfif", "jfif_version", "jfif_unit", "jfif_density"),
            *("background", "version"),  # of every GIF
            "comment",  # of every JPEG 2000: the name of the codec
        }


def test_a_monochrome1_radiograph_has_dark_air(shared_instance: Callable[[str], Any]) -> None:
    shown = render_instance(shared_instance("objects/cr/cr-modality-lut.dcm"))
    assert shown.shape == (1576, 1976)
    assert shown[:40].mean() < 5
    assert shown[700:900, 800:1200].mean() > 60


@pytest.mark.parametrize("name", ["jpeg-baseline_ybr422", "jpeg-baseline_ybrfull", "palette", "palette_16"])
def test_one_colour_picture_looks_the_same_in_every_encoding(shared_instance: Callable[[str], Any], name: str) -> None:
    folder = "transfer-syntaxes/color-test-pattern/testpattern_"
    reference = render_instance(shared_instance(f"{folder}rgb.dcm")).astype(int)
    found = render_instance(shared_instance(f"{folder}{name}.dcm"))
    assert np.abs(found - reference).mean() < 6


def test_uncompressed_subsampled_ultrasound_is_rendered(shared_instance: Callable[[str], Any]) -> None:
    assert render_instance(shared_instance("objects/us/ybr-422-uncompressed.dcm")).shape == (555, 800, 3)


def test_segmentation_frames_that_begin_inside_a_byte_are_rendered(
    pydicom_instance: Callable[[str], Any],
) -> None:
    assert set(np.unique(render_instance(pydicom_instance("liver_1frame.dcm")))) == {0, 255}


def test_parametric_maps_of_floats_are_rendered(shared_instance: Callable[[str], Any]) -> None:
    assert render_instance(shared_instance("objects/pm/parametric-map-float.dcm")).shape == (128, 128)


def test_partial_range_chroma_is_widened(describe: Describe) -> None:
    # Black, white and ITU-R BT.601 red, each as a pair of pixels: Y1 Y2 CB CR.
    data = bytes([16, 16, 128, 128, 235, 235, 128, 128, 81, 81, 90, 240])
    described = describe(
        np.zeros((1, 6, 3), np.uint8), photometric_interpretation=PhotometricInterpretation.YBR_PARTIAL_422
    )
    shown = picture(render(decode(data, "1.2.840.10008.1.2.1", described), described, Presentation(), PNG))
    assert np.abs(shown[0, ::2].astype(int) - [[0, 0, 0], [255, 255, 255], [254, 0, 0]]).max() <= 2


def test_a_pixel_of_another_shape_is_made_square_within_bounds(describe: Describe) -> None:
    pixels = np.zeros((4, 6, 1), np.uint8)
    tall = Presentation(display=Display(aspect=2.0))
    assert picture(render(pixels, describe(pixels), tall, PNG)).shape == (8, 6)
    turned = Presentation(display=Display(aspect=2.0, rotation=90))
    assert picture(render(pixels, describe(pixels), turned, PNG)).shape == (6, 8)
    wide = np.zeros((1, 65535, 1), np.uint8)
    with pytest.raises(InvalidRendering):
        render(wide, describe(wide), Presentation(display=Display(area=(1, 1, 65535, 4000), aspect=20.0)), PNG)
