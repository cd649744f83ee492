"""Whatever an instance says about its presentation, it is shown or refused: nothing else happens."""

import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.imaging.description import PhotometricInterpretation, PixelDescription
from gateway.imaging.errors import ImagingError
from gateway.imaging.presentation import Presentation
from gateway.imaging.render import RenderRequest, show
from gateway.imaging.softcopy import StateFrame, apply_state
from tests.gateway.dicomweb.pictures import image
from tests.gateway.dicomweb.states import PSEUDO_COLOR, annotation, graphic, layer, state

STRINGS = ["", "Y", "POLYGONAL", "CIRCULAR", "1.2.3", "NaN", "x" * 200]
NUMBERS = [0, 1, -1, 7, 255, 256, 65535, 65536, 1 << 31, -(1 << 62), 1e-320, 1e300, 0.5]
VALUES = st.one_of(st.sampled_from(NUMBERS), st.sampled_from(STRINGS))
PIXELS = np.arange(16 * 16, dtype="<u2").reshape(16, 16, 1)
DESCRIPTION = PixelDescription(16, 16, 1, 16, 12, 11, 0, PhotometricInterpretation.MONOCHROME2)


def example(kind: str) -> dict[str, Any]:
    source = image(16, 16)
    drawn = annotation(graphic("ELLIPSE", [1, 5, 9, 5, 5, 1, 5, 9]), graphic("CIRCLE", [5, 5, 6, 6]))
    more: dict[str, Any] = {
        "ShutterShape": ["RECTANGULAR", "CIRCULAR", "POLYGONAL"],
        "ShutterLeftVerticalEdge": 2,
        "ShutterRightVerticalEdge": 14,
        "ShutterUpperHorizontalEdge": 2,
        "ShutterLowerHorizontalEdge": 14,
        "CenterOfCircularShutter": [8, 8],
        "RadiusOfCircularShutter": 6,
        "VerticesOfThePolygonalShutter": [1, 1, 1, 15, 15, 8],
        "ShutterPresentationValue": 100,
        "RescaleSlope": 1,
        "RescaleIntercept": 0,
        "ImageRotation": 90,
        "ImageHorizontalFlip": "Y",
        "GraphicAnnotationSequence": [drawn],
        "GraphicLayerSequence": [layer(GraphicLayerRecommendedDisplayCIELabValue=[30000, 30000, 30000])],
    }
    for name in ("Red", "Green", "Blue"):
        more[f"{name}PaletteColorLookupTableData"] = bytes(range(32))
    found: dict[str, Any] = json.loads(state(source, sop_class=kind, **more).to_json())
    for index in (1, 2, 3):
        found[f"0028110{index}"] = {"vr": "US", "Value": [16, 0, 16]}
    found |= {
        "60000010": {"vr": "US", "Value": [4]},
        "60000011": {"vr": "US", "Value": [4]},
        "60000050": {"vr": "SS", "Value": [1, 1]},
        "60001001": {"vr": "CS", "Value": ["L"]},
        "60003000": {"vr": "OW", "InlineBinary": "//8="},
    }
    return found


EXAMPLES = {kind: example(kind) for kind in ("1.2.840.10008.5.1.4.1.1.11.1", PSEUDO_COLOR)}


def places(data_set: dict[str, Any]) -> list[list[Any]]:
    """Every Value array of a data set."""
    found = []
    for element in data_set.values():
        value = element.get("Value")
        if isinstance(value, list):
            if element["vr"] == "SQ":
                found.extend(place for item in value if isinstance(item, dict) for place in places(item))
            found.append(value)
    return found


def show_under(metadata: dict[str, Any]) -> None:
    frame = StateFrame("1.2.3", 1, False)
    presentation = apply_state(metadata, Presentation(), frame, lambda uri, start, length: b"")
    show(PIXELS, DESCRIPTION, presentation, RenderRequest(viewport=(32, 32)))


@pytest.mark.parametrize("kind", EXAMPLES)
def test_the_example_itself_is_shown(kind: str) -> None:
    show_under(EXAMPLES[kind])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(EXAMPLES)), st.data())
def test_a_state_with_wrong_values_is_shown_or_refused(kind: str, data: st.DataObject) -> None:
    metadata = json.loads(json.dumps(EXAMPLES[kind]))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.sampled_from(places(metadata)))
        place[:] = data.draw(st.lists(VALUES, max_size=6))
    with contextlib.suppress(ImagingError):
        show_under(metadata)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_an_image_with_wrong_values_is_shown_or_refused(data: st.DataObject) -> None:
    metadata = json.loads(json.dumps(EXAMPLES[PSEUDO_COLOR])) | {"00089205": {"vr": "CS", "Value": ["COLOR"]}}
    metadata |= {"00280120": {"vr": "US", "Value": [5]}, "00281050": {"vr": "DS", "Value": [40]}}
    metadata |= {"00281051": {"vr": "DS", "Value": [80]}, "00181063": {"vr": "DS", "Value": [80]}}
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.sampled_from(places(metadata)))
        place[:] = data.draw(st.lists(VALUES, max_size=6))
    with contextlib.suppress(ImagingError):
        found = Presentation.from_metadata(metadata, DESCRIPTION, 1, lambda uri, start, length: b"")
        show(PIXELS, DESCRIPTION, found, RenderRequest())
