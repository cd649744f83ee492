"""Instances that are rendered in several tests, and readers of what comes back."""

from __future__ import annotations

import io
from collections.abc import Mapping
from email.message import Message
from email.parser import BytesParser
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset

from tests.gateway.dicomweb.conftest import Client
from tests.instances import data_set

JPEGS = 'multipart/related; type="image/jpeg"'
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
IMG = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"


def image(rows: int = 24, columns: int = 32, frames: int = 1, **attributes: Any) -> Dataset:
    """A monochrome instance, each frame brighter than the one before, its left half darker than the right one."""
    pixels = np.zeros((frames, rows, columns), "<u2")
    for place in range(frames):
        pixels[place, :, columns // 2 :] = 100 + 100 * place
    values: dict[str, Any] = {
        "Rows": rows,
        "Columns": columns,
        "NumberOfFrames": frames if frames > 1 else None,
        "WindowCenter": 128,
        "WindowWidth": 256,
        "PixelData": pixels.tobytes(),
    }
    return data_set(**(values | attributes))


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """One coded concept."""
    found = Dataset()
    found.CodeValue, found.CodingSchemeDesignator, found.CodeMeaning = value, scheme, meaning
    return found


def path_of(found: Dataset) -> str:
    return (
        f"/dicomweb/studies/{found.StudyInstanceUID}/series/{found.SeriesInstanceUID}/instances/{found.SOPInstanceUID}"
    )


async def get(
    client: Client, path: str, accept: str | None = None, **headers: str
) -> tuple[int, bytes, Mapping[str, str]]:
    if accept is not None:
        headers["Accept"] = accept
    async with client.get(path, headers=headers) as response:
        return response.status, await response.read(), response.headers


def parts(headers: Mapping[str, str], body: bytes) -> list[Message]:
    """Parts of a multipart body, by the standard library's own parser."""
    message = BytesParser().parsebytes(f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode() + body)
    assert message.is_multipart()
    return list(message.get_payload())  # type: ignore[arg-type]


def picture(body: bytes) -> Image.Image:
    found = Image.open(io.BytesIO(body))
    found.load()
    return found


def grey(body: bytes) -> np.ndarray:
    return np.asarray(picture(body).convert("L")).astype(int)
