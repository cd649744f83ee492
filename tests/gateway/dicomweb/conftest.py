"""The DICOMweb face on a Core of its own."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from gateway.assembly import Core
from gateway.dicomweb.routes import routes
from gateway.http import application, health

Client = TestClient[Any, Any]


@pytest.fixture
async def client(core: Core, aiohttp_client: Callable[..., Awaitable[Client]]) -> Client:
    """A client of the application; its address is this machine's, so it may do everything."""
    return await aiohttp_client(application.build(core, [*routes(), *health.routes()]))


def multipart(*bodies: bytes, content_type: str = "application/dicom") -> tuple[bytes, dict[str, str]]:
    """A STOW-RS body and its headers."""
    parts = [f"--b\r\nContent-Type: {content_type}\r\n\r\n".encode() + body + b"\r\n" for body in bodies]
    headers = {
        "Content-Type": 'multipart/related; type="application/dicom"; boundary=b',
        "Accept": "application/dicom+json",
    }
    return b"".join([*parts, b"--b--\r\n"]), headers


async def store(client: Client, *bodies: bytes, path: str = "/dicomweb/studies") -> tuple[int, dict[str, Any]]:
    """Send Part 10 files; the status and the response data set."""
    body, headers = multipart(*bodies)
    async with client.post(path, data=io.BytesIO(body), headers=headers) as response:
        return response.status, await response.json(content_type=None)
