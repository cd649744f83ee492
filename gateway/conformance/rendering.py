"""Claims of rendered resources and thumbnails (PS3.18 10.4.1.1.3, 10.4.1.1.4, 8.3.5)."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from gateway.conformance.claims import Broken, Service, claim
from gateway.conformance.client import Answer
from gateway.conformance.visit import Visit

JPEG, PNG, GIF = "image/jpeg", "image/png", "image/gif"


def _picture(answer: Answer, media_type: str) -> Image.Image:
    answer.has(200).typed(media_type)
    try:
        found = Image.open(io.BytesIO(answer.body))
        found.load()
    except (UnidentifiedImageError, OSError) as error:
        raise Broken(f"what comes is no picture: {error}") from error
    if Image.MIME.get(found.format or "") != media_type:
        raise Broken(f"what comes is {found.format}")
    return found


@claim(Service.RENDER, "10.4.1.1.3, 8.7.4", "an image as JPEG, in its own size", required=False)
def rendered_jpeg(visit: Visit) -> str | None:
    there = visit.image()
    found = _picture(visit.client.get(f"{there.instance}/rendered", JPEG).offered(), JPEG)
    if found.size != (int(there.value("00280011")), int(there.value("00280010"))):
        raise Broken(f"it has {found.size[0]} x {found.size[1]} pixels, not its Columns x Rows")
    return None


@claim(Service.RENDER, "8.7.4", "an image as PNG and as GIF", required=False)
def rendered_types(visit: Visit) -> str | None:
    for media_type in (PNG, GIF):
        _picture(visit.client.get(f"{visit.image().instance}/rendered", media_type).offered(), media_type)
    return None


@claim(Service.RENDER, "10.4.1.1.3", "a frame", required=False)
def rendered_frame(visit: Visit) -> str | None:
    _picture(visit.client.get(f"{visit.image().instance}/frames/1/rendered", JPEG).offered(), JPEG)
    return None


@claim(Service.RENDER, "8.3.5.1.3", "viewport bounds the size of the picture", required=False)
def rendered_viewport(visit: Visit) -> str | None:
    answer = visit.client.get(f"{visit.image().instance}/rendered", JPEG, [("viewport", "8,8")])
    found = _picture(answer.offered(), JPEG)
    if max(found.size) != 8:
        raise Broken(f"it has {found.size[0]} x {found.size[1]} pixels; 8 x 8 were asked for")
    return None


@claim(Service.RENDER, "8.3.5.1.4", "window is carried out", required=False)
def rendered_window(visit: Visit) -> str | None:
    pictures = [
        _picture(
            visit.client.get(f"{visit.image().instance}/rendered", PNG, [("window", f"{center},100,linear")]).offered(),
            PNG,
        ).convert("L")
        for center in (-100_000, 100_000)
    ]
    # Everything lies above the one window, and below the other.
    if pictures[0].getextrema() == pictures[1].getextrema():
        raise Broken("windows far below and far above all values give the same picture")
    return None


@claim(Service.RENDER, "8.3.5.1.4, 10.4.4", "a window out of form: 400", required=False)
def rendered_bad_window(visit: Visit) -> str | None:
    visit.client.get(f"{visit.image().instance}/rendered", JPEG).offered()
    visit.client.get(f"{visit.image().instance}/rendered", JPEG, [("window", "wide,open,linear")]).has(400)
    return None


@claim(Service.RENDER, "8.3.5.1.2", "quality is taken, 1 smaller than 100", required=False)
def rendered_quality(visit: Visit) -> str | None:
    sizes = []
    for quality in ("1", "100"):
        answer = visit.client.get(f"{visit.image().instance}/rendered", JPEG, [("quality", quality)]).offered()
        _picture(answer, JPEG)
        sizes.append(len(answer.body))
    if sizes[0] >= sizes[1]:
        raise Broken(f"quality 1 has {sizes[0]} bytes, quality 100 has {sizes[1]}")
    return None


@claim(Service.RENDER, "10.4.1.1.4", "thumbnails of an instance, a series and a study", required=False)
def thumbnails(visit: Visit) -> str | None:
    there = visit.image()
    for path in (there.instance, there.series, there.study):
        _picture(visit.client.get(f"{path}/thumbnail", JPEG).offered(), JPEG)
    return None
