"""Presentation states at /rendered: the images that they refer to, as they show them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests.gateway.dicomweb.conftest import Client, store
from tests.gateway.dicomweb.pictures import get, image, parts, path_of, picture
from tests.gateway.dicomweb.states import COLOR, PSEUDO_COLOR, annotation, area, graphic, item, layer, state
from tests.gateway.dicomweb.test_rendered import colour
from tests.instances import part10_file


def ramp(rows: int = 40, columns: int = 60, **attributes: Any) -> Dataset:
    """Every pixel another value: column + row * 4, at most 255."""
    row, column = np.mgrid[0:rows, 0:columns]
    return image(rows, columns, PixelData=(column + row * 4).astype("<u2").tobytes(), **attributes)


def values(rows: int = 40, columns: int = 60) -> np.ndarray:
    row, column = np.mgrid[0:rows, 0:columns]
    return column + row * 4


async def shown(client: Client, source: Dataset, applied: Dataset, query: str = "") -> np.ndarray:
    for each in (source, applied):
        assert (await store(client, part10_file(each)))[0] == 200
    status, body, _ = await get(client, f"{path_of(applied)}/rendered{query}", "image/png")
    assert status == 200, body
    return np.asarray(picture(body)).astype(int)


async def test_the_window_of_the_state_takes_the_place_of_the_images(client: Client) -> None:
    source = ramp(WindowCenter=10, WindowWidth=2)
    assert np.array_equal(await shown(client, source, state(source)), values())


async def test_the_polarity_is_that_of_the_state_alone(client: Client) -> None:
    source = ramp(PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(await shown(client, source, state(source)), values())
    assert np.array_equal(await shown(client, source, state(source, PresentationLUTShape="INVERSE")), 255 - values())


async def test_modality_and_voi_luts_of_the_state_are_applied_in_turn(client: Client) -> None:
    source = ramp()
    lut = item(LUTDescriptor=[256, 20, 8], LUTData=np.arange(256, dtype="<u2")[::-1].tobytes())
    lut["LUTDescriptor"].VR, lut["LUTData"].VR = "US", "OW"
    applied = state(
        source,
        RescaleSlope=1,
        RescaleIntercept=20,
        RescaleType="US",
        SoftcopyVOILUTSequence=[item(VOILUTSequence=[lut])],
    )
    assert np.array_equal(await shown(client, source, applied), 255 - values())


@pytest.mark.parametrize(
    ("rotation", "flip", "expected"),
    [
        (0, "Y", lambda pixels: pixels[:, ::-1]),
        (90, "N", lambda pixels: np.rot90(pixels, -1)),
        (180, "N", lambda pixels: np.rot90(pixels, 2)),
        (270, "Y", lambda pixels: np.rot90(pixels, 1)[:, ::-1]),
    ],
)
async def test_rotation_comes_before_the_flip(client: Client, rotation: int, flip: str, expected: Any) -> None:
    source = ramp()
    applied = state(source, ImageRotation=rotation, ImageHorizontalFlip=flip)
    assert np.array_equal(await shown(client, source, applied), expected(values()))


async def test_the_displayed_area_is_cut_out_and_what_passes_the_image_is_black(client: Client) -> None:
    source = ramp()
    cut = area([11, 6], [70, 25])
    found = await shown(client, source, state(source, DisplayedAreaSelectionSequence=[cut]))
    assert found.shape == (20, 60)
    assert np.array_equal(found[:, :50], values()[5:25, 10:60])
    assert found[:, 50:].max() == 0


async def test_corners_of_a_turned_area_may_be_the_other_way_round(client: Client) -> None:
    source = ramp()
    cut = area([60, 40], [1, 1])
    applied = state(source, DisplayedAreaSelectionSequence=[cut], ImageRotation=180, ImageHorizontalFlip="N")
    assert np.array_equal(await shown(client, source, applied), np.rot90(values(), 2))


async def test_shutters_cover_what_lies_outside_of_them(client: Client) -> None:
    source = ramp()
    rectangle = {
        "ShutterLeftVerticalEdge": 10,
        "ShutterRightVerticalEdge": 50,
        "ShutterUpperHorizontalEdge": 5,
        "ShutterLowerHorizontalEdge": 35,
    }
    applied = state(source, ShutterShape="RECTANGULAR", ShutterPresentationValue=65535, **rectangle)
    found = await shown(client, source, applied)
    assert np.array_equal(found[5:34, 10:49], values()[5:34, 10:49])
    found[5:34, 10:49] = 255
    assert found.min() == 255

    circle = state(source, ShutterShape="CIRCULAR", CenterOfCircularShutter=[20, 30], RadiusOfCircularShutter=10)
    found = await shown(client, source, circle)
    row, column = np.mgrid[1:41, 1:61]
    inside = (row - 20) ** 2 + (column - 30) ** 2 <= 100
    assert np.array_equal(found, np.where(inside, values(), 0))

    corners = [5, 5, 5, 55, 35, 30]
    triangle = state(source, ShutterShape="POLYGONAL", VerticesOfThePolygonalShutter=corners)
    found = await shown(client, source, triangle)
    assert (found[15, 30], found[30, 10], found[2, 30]) == (values()[15, 30], 0, 0)


async def test_graphics_are_drawn_where_they_belong_after_area_rotation_and_scaling(client: Client) -> None:
    source = image(40, 60, PixelData=bytes(40 * 60 * 2))
    cut = area([11, 1], [60, 40])
    box = graphic("POLYLINE", [15.5, 10.5, 25.5, 10.5, 25.5, 20.5, 15.5, 20.5, 15.5, 10.5], filled="Y")
    applied = state(
        source,
        DisplayedAreaSelectionSequence=[cut],
        ImageRotation=90,
        ImageHorizontalFlip="N",
        GraphicAnnotationSequence=[annotation(box)],
        GraphicLayerSequence=[layer(GraphicLayerRecommendedDisplayGrayscaleValue=65535)],
    )
    # The area is 50 x 40, turned 40 x 50; in the viewport everything is twice as large.
    found = await shown(client, source, applied, "?viewport=80,100")
    assert found.shape == (100, 80)
    marked = np.argwhere(found > 128)
    # Columns 15.5 to 25.5 become rows 10 to 30; rows 10.5 to 20.5, counted from the bottom, columns 40 to 60.
    assert np.allclose([*marked.min(0), *marked.max(0)], [10, 40, 30, 60], atol=2)


async def test_texts_circles_and_ellipses_have_the_colour_of_their_layer(client: Client) -> None:
    source = image(200, 200, PixelData=bytes(200 * 200 * 2))
    text = item(
        BoundingBoxAnnotationUnits="DISPLAY",
        UnformattedTextValue="LESION 12 mm",
        BoundingBoxTopLeftHandCorner=[0.05, 0.8],
        BoundingBoxBottomRightHandCorner=[0.9, 0.95],
        BoundingBoxTextHorizontalJustification="LEFT",
    )
    circle = graphic("CIRCLE", [60, 60, 60, 80])
    ellipse = graphic("ELLIPSE", [110, 60, 170, 60, 140, 50, 140, 70])
    curve = graphic("INTERPOLATED", [20, 120, 80, 140, 140, 120, 180, 150])
    point = graphic("POINT", [0.5, 0.5], units="DISPLAY")
    red = layer(GraphicLayerRecommendedDisplayCIELabValue=[34891, 53487, 50199])
    applied = state(
        source,
        GraphicAnnotationSequence=[annotation(circle, ellipse, curve, point, texts=(text,))],
        GraphicLayerSequence=[red],
    )
    found = await shown(client, source, applied)
    assert found.shape == (200, 200, 3)
    is_red = (found[:, :, 0] > 180) & (found[:, :, 1] < 90) & (found[:, :, 2] < 90)
    assert is_red[79, 60]
    assert is_red[38:41, 60].any()
    assert is_red[59, 109:112].any()
    assert is_red[99:102, 99:102].any()
    assert is_red[160:190, 10:180].sum() > 60
    assert not is_red[:30].any()


async def test_annotations_and_windows_for_another_image_are_left_out(client: Client) -> None:
    source, other = ramp(), ramp()
    other.StudyInstanceUID, other.SeriesInstanceUID = source.StudyInstanceUID, source.SeriesInstanceUID
    only = item(ReferencedSOPClassUID=other.SOPClassUID, ReferencedSOPInstanceUID=other.SOPInstanceUID)
    drawn = annotation(graphic("POLYLINE", [1, 1, 60, 40]))
    drawn.ReferencedImageSequence = [only]
    windows = [
        item(WindowCenter=5, WindowWidth=2, ReferencedImageSequence=[only]),
        item(WindowCenter=128, WindowWidth=256),
    ]
    applied = state(
        source, GraphicAnnotationSequence=[drawn], GraphicLayerSequence=[layer()], SoftcopyVOILUTSequence=windows
    )
    assert np.array_equal(await shown(client, source, applied), values())


async def test_pseudo_colour_goes_through_the_palette_of_the_state(client: Client) -> None:
    source = ramp()
    applied = state(source, sop_class=PSEUDO_COLOR)
    for name, table in (("Red", np.arange(256)), ("Green", np.zeros(256)), ("Blue", 255 - np.arange(256))):
        setattr(applied, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(applied, f"{name}PaletteColorLookupTableData", (table * 257).astype("<u2").tobytes())
        applied[f"{name}PaletteColorLookupTableDescriptor"].VR = "US"
    found = await shown(client, source, applied)
    assert np.array_equal(found, np.stack([values(), values() * 0, 255 - values()], axis=2))


async def test_an_image_that_is_not_here_is_left_out_and_none_at_all_is_404(client: Client) -> None:
    here, gone = ramp(), ramp()
    gone.StudyInstanceUID = here.StudyInstanceUID
    both, none = state(here, gone), state(gone)
    for each in (here, both, none):
        await store(client, part10_file(each))
    status, _, headers = await get(client, f"{path_of(both)}/rendered", "image/png")
    assert status == 206
    assert "1 instances" in headers["Warning"]
    status, body, _ = await get(client, f"{path_of(none)}/rendered", "image/png")
    assert status == 404
    assert b"presentation state" in body


async def test_a_state_over_several_images_comes_in_parts_and_in_a_study_it_is_passed_over(client: Client) -> None:
    sources = [ramp(InstanceNumber=1), ramp(InstanceNumber=2)]
    sources[1].StudyInstanceUID, sources[1].SeriesInstanceUID = (
        sources[0].StudyInstanceUID,
        sources[0].SeriesInstanceUID,
    )
    applied = state(*sources)
    for each in (*sources, applied):
        await store(client, part10_file(each))
    for target, accept in (
        (f"{path_of(applied)}/rendered", "*/*"),
        (f"{path_of(applied).partition('/series/')[0]}/rendered", "*/*"),
    ):
        status, body, headers = await get(client, target, accept)
        assert status == 200
        assert len(parts(headers, body)) == 2


async def test_states_with_impossible_values_are_refused(client: Client) -> None:
    source = ramp()
    await store(client, part10_file(source))
    crowd = [annotation(*[graphic("POINT", [1, 1])] * 2001)]
    for applied, status in (
        (state(source, DisplayedAreaSelectionSequence=[area([500, 1], [600, 2])]), 400),
        (state(source, DisplayedAreaSelectionSequence=[area([-2000000, 1], [2000000, 2])]), 406),
        (state(source, GraphicAnnotationSequence=crowd, GraphicLayerSequence=[layer()]), 406),
    ):
        await store(client, part10_file(applied))
        assert (await get(client, f"{path_of(applied)}/rendered", "image/png"))[0] == status
    assert (await get(client, f"{path_of(state(source))}/rendered", "image/png"))[0] == 404


async def test_a_colour_state_turns_and_draws_and_leaves_the_colours(client: Client) -> None:
    source = colour()
    applied = state(source, sop_class=COLOR, ImageRotation=90, ImageHorizontalFlip="N")
    applied.GraphicAnnotationSequence = [annotation(graphic("POLYLINE", [2, 2, 14, 2]))]
    applied.GraphicLayerSequence = [layer()]
    found = await shown(client, source, applied)
    assert found[8, 3].tolist() == [200, 100, 50]
    assert found[8, 14].tolist() == [255, 255, 255]  # the line along the top, turned to the right
