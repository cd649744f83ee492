"""Presentation states for tests, made by pydicom."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset

from tests.instances import data_set, uid

GRAYSCALE = "1.2.840.10008.5.1.4.1.1.11.1"
COLOR = "1.2.840.10008.5.1.4.1.1.11.2"
PSEUDO_COLOR = "1.2.840.10008.5.1.4.1.1.11.3"


def item(**attributes: Any) -> Dataset:
    found = Dataset()
    for keyword, value in attributes.items():
        setattr(found, keyword, value)
    return found


def area(first: list[int], last: list[int]) -> Dataset:
    """A displayed area."""
    return item(
        DisplayedAreaTopLeftHandCorner=first,
        DisplayedAreaBottomRightHandCorner=last,
        PresentationSizeMode="SCALE TO FIT",
        PresentationPixelAspectRatio=[1, 1],
    )


def state(*images: Dataset, sop_class: str = GRAYSCALE, **attributes: Any) -> Dataset:
    """A state over images of one study; the whole of them, with a linear window of 0 to 255."""
    series: dict[str, list[Dataset]] = {}
    for each in images:
        reference = item(ReferencedSOPClassUID=each.SOPClassUID, ReferencedSOPInstanceUID=each.SOPInstanceUID)
        series.setdefault(each.SeriesInstanceUID, []).append(reference)
    window = item(WindowCenter=128, WindowWidth=256)
    whole = area([1, 1], [images[0].Columns, images[0].Rows])
    values: dict[str, Any] = {
        "SOPClassUID": sop_class,
        "StudyInstanceUID": images[0].StudyInstanceUID,
        "SeriesInstanceUID": uid(),
        "Modality": "PR",
        "Rows": None,
        "Columns": None,
        "PixelData": None,
        "BitsAllocated": None,
        "ReferencedSeriesSequence": [
            item(SeriesInstanceUID=key, ReferencedImageSequence=found) for key, found in series.items()
        ],
        "SoftcopyVOILUTSequence": [window],
        "DisplayedAreaSelectionSequence": [whole],
        "PresentationLUTShape": "IDENTITY",
        **attributes,
    }
    return data_set(**values)


def graphic(kind: str, data: list[float], *, units: str = "PIXEL", filled: str = "N") -> Dataset:
    return item(
        GraphicAnnotationUnits=units,
        GraphicDimensions=2,
        NumberOfGraphicPoints=len(data) // 2,
        GraphicData=data,
        GraphicType=kind,
        GraphicFilled=filled,
    )


def annotation(*graphics: Dataset, texts: tuple[Dataset, ...] = (), layer: str = "L") -> Dataset:
    found = item(GraphicLayer=layer)
    if graphics:
        found.GraphicObjectSequence = list(graphics)
    if texts:
        found.TextObjectSequence = list(texts)
    return found


def layer(name: str = "L", order: int = 1, **attributes: Any) -> Dataset:
    return item(GraphicLayer=name, GraphicLayerOrder=order, **attributes)
