"""Softcopy Presentation States: how somebody left an image to be looked at.

What a state says of grey values takes the place of what the image says (`State.applied_to`); what it says of
geometry and graphics is a `Display`, which the renderer applies.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from gateway.imaging.attributes import BulkReader, JsonDataset, integer, items, reals, text
from gateway.imaging.display import Display
from gateway.imaging.errors import InvalidDescription, NotDecodable
from gateway.imaging.graphics import read_graphics
from gateway.imaging.overlay import Overlay, activation_layer, read_overlays
from gateway.imaging.palette import Palette, read_palette
from gateway.imaging.presentation import Presentation, Rescale, read_modality, read_presentation_lut, read_voi
from gateway.imaging.shutter import read_shutter

MAX_REFERENCES = 10_000


class StateClass(Enum):
    """SOP classes of presentation states that are applied."""

    GRAYSCALE = "1.2.840.10008.5.1.4.1.1.11.1"
    COLOR = "1.2.840.10008.5.1.4.1.1.11.2"
    PSEUDO_COLOR = "1.2.840.10008.5.1.4.1.1.11.3"


@dataclass(frozen=True, slots=True)
class Reference:
    """An image that a state applies to; no frames means all of them."""

    series_uid: str
    sop_uid: str
    frames: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class StateFrame:
    """What a state is applied to: a frame, numbered from 1, and whether its pixels are two's complement."""

    sop_uid: str
    number: int
    signed: bool


def references(state: JsonDataset) -> tuple[Reference, ...]:
    """The images of a state, in its order; raises InvalidDescription when they are too many."""
    found = []
    for series in items(state, "00081115"):
        for image in items(series, "00081140"):
            frames = tuple(int(number) for number in reals(image, "00081160"))
            found.append(Reference(text(series, "0020000E") or "", text(image, "00081155") or "", frames))
            if len(found) > MAX_REFERENCES:
                raise InvalidDescription(f"a presentation state of more than {MAX_REFERENCES} images")
    return tuple(found)


def apply_state(state: JsonDataset, presentation: Presentation, frame: StateFrame, bulk: BulkReader) -> Presentation:
    """The presentation of a frame under a state.

    Parameters
    ----------
    state
        Metadata of the presentation state.
    presentation
        As the image itself has it.
    frame
        Of the image.
    bulk
        Reads bulk values of the state.

    Raises
    ------
    NotDecodable
        Another class of presentation state.
    InvalidDescription
        A value of the state that cannot be right.

    References
    ----------
    PS3.4 N.2 "Pixel Transformation Sequence"; PS3.3 A.33 "Softcopy Presentation State IODs"
    """
    try:
        kind = StateClass(text(state, "00080016"))
    except ValueError as error:
        raise NotDecodable("this class of presentation state is not supported") from error

    def applies(item: JsonDataset) -> bool:
        return _applies(item, frame.sop_uid, frame.number)

    display = _display(state, applies, bulk)
    overlays = _overlays(state, presentation, frame.number, bulk)
    shown = replace(presentation, shutter=read_shutter(state), overlays=overlays, display=display)
    if kind is StateClass.COLOR:
        return shown
    voi = next((item for item in items(state, "00283110") if applies(item)), {})
    windows, voi_luts = read_voi(voi, False, bulk)
    modality = read_modality(state, state, frame.signed, bulk) if _has_modality(state) else Rescale()
    palette: Palette | None = None
    if kind is StateClass.PSEUDO_COLOR:
        palette = read_palette(state, False, bulk)
    return replace(
        shown,
        modality=modality,
        windows=windows,
        voi_luts=voi_luts,
        # Without a VOI the whole range of the modality transformation is shown, not that of this frame.
        whole_range=not windows and not voi_luts,
        presentation_lut=read_presentation_lut(state, bulk),
        inverted=text(state, "20500020") == "INVERSE",
        pseudo_palette=palette,
    )


def _has_modality(state: JsonDataset) -> bool:
    return "00283000" in state or "00281053" in state


def _applies(item: JsonDataset, sop_uid: str, frame_number: int) -> bool:
    """Whether an item of the state is for a frame: no list of images means all, no list of frames all of them."""
    images = items(item, "00081140")
    if not images:
        return True
    for image in images:
        frames = [int(number) for number in reals(image, "00081160")]
        if text(image, "00081155") == sop_uid and (not frames or frame_number in frames):
            return True
    return False


def _display(state: JsonDataset, applies: Callable[[JsonDataset], bool], bulk: BulkReader) -> Display:
    area = next((item for item in items(state, "0070005A") if applies(item)), {})
    first = [int(number) for number in reals(area, "00700052")]
    last = [int(number) for number in reals(area, "00700053")]
    corners = None
    if len(first) == len(last) == 2:
        # After a rotation the corner at the top left of the picture need not be the image's upper left one.
        corners = (min(first[0], last[0]), min(first[1], last[1]), max(first[0], last[0]), max(first[1], last[1]))
        if max(abs(number) for number in corners) > 1 << 17:
            raise InvalidDescription("a displayed area far outside of the image")
    spacing, ratio = reals(area, "00700101"), reals(area, "00700102")
    pair = spacing if len(spacing) == 2 else ratio
    aspect = pair[0] / pair[1] if len(pair) == 2 and pair[0] > 0 and pair[1] > 0 else 1.0
    return Display(
        area=corners,
        aspect=min(max(aspect, 0.05), 20.0),
        rotation=(integer(state, "00700042") or 0) % 360 // 90 * 90,
        flipped=text(state, "00700041") == "Y",
        objects=read_graphics(state, applies, bulk),
    )


def _overlays(
    state: JsonDataset, presentation: Presentation, frame_number: int, bulk: BulkReader
) -> tuple[Overlay, ...]:
    """Overlays of the state, and those of the image that the state activates (PS3.3 C.11.7)."""
    own = read_overlays(state, frame_number, bulk, None)
    shown = [each for each in own if activation_layer(state, each.group) is not None]
    taken = {each.group for each in own}
    shown += [
        each
        for each in presentation.overlays
        if each.group not in taken and activation_layer(state, each.group) is not None
    ]
    return tuple(shown)
