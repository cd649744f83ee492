"""Ranges, sizes and broken answers over real connections."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientConnectionError, ClientPayloadError
from pydantic import SecretStr

from gateway import assembly
from gateway.assembly import Core
from gateway.config import Settings
from gateway.config.storing import S3Section
from gateway.dicomweb.routes import routes
from gateway.http import application
from storage.errors import StorageUnavailable
from storage.objects.base import ByteRange, ObjectStore
from storage.objects.s3 import S3Settings
from tests.gateway.dicomweb.conftest import Client, store
from tests.gateway.dicomweb.test_wado import DICOM, STORED, get, path_of, split, wheel
from tests.instances import SHARED, data_set, part10_file

OCTETS = "application/octet-stream; transfer-syntax=*"
PART10 = "application/dicom; transfer-syntax=*"
VIDEO = SHARED / "objects" / "video"

RESOURCES = {
    "instance": ("", PART10),
    "instance, multipart": ("", DICOM),
    "frame": ("/frames/1", OCTETS),
    "frame, multipart": ("/frames/1", STORED),
    "frames, multipart": ("/frames/2,1,2", STORED),
    "decoded frame": ("/frames/2", "application/octet-stream"),
    "decoded frames, multipart": ("/frames/1,2", 'multipart/related; type="application/octet-stream"'),
    "pixel data, multipart": ("/bulkdata/7FE00010", STORED),
}


@pytest.mark.parametrize("name", RESOURCES)
@pytest.mark.parametrize("compressed", [True, False])
async def test_every_range_of_a_representation_is_that_range_of_its_bytes(
    client: Client, name: str, compressed: bool
) -> None:
    sent = wheel("SC_rgb_rle_2frame.dcm") if compressed else part10_file(data_set(NumberOfFrames=2, Rows=2))
    await store(client, sent)
    suffix, accept = RESOURCES[name]
    path = path_of(sent) + suffix
    status, whole, headers = await get(client, path, accept)
    assert status == 200
    assert int(headers["Content-Length"]) == len(whole)
    assert headers["Accept-Ranges"] == "bytes"
    etag, size = headers["ETag"], len(whole)
    for first, last in ((0, 0), (0, 99), (1, size - 2), (size // 3, size // 2), (size - 1, size + 5)):
        status, part, headers = await get(client, path, accept, Range=f"bytes={first}-{last}", **{"If-Range": etag})
        assert (status, part) == (206, whole[first : last + 1])
        assert headers["Content-Range"] == f"bytes {first}-{min(last, size - 1)}/{size}"
        assert headers["ETag"] == etag
    status, part, _ = await get(client, path, accept, Range="bytes=-7")
    assert (status, part) == (206, whole[-7:])
    status, body, headers = await get(client, path, accept, Range=f"bytes={size}-")
    assert (status, headers["Content-Range"]) == (416, f"bytes */{size}")
    assert b"request" in body
    assert (await get(client, path, accept, Range="bytes=0-1", **{"If-Range": '"stale"'}))[:2] == (200, whole)
    assert (await get(client, path, accept, Range="bytes=0-1,5-6"))[:2] == (200, whole)


@pytest.mark.parametrize("name", RESOURCES)
async def test_head_tells_the_size_without_the_bytes(client: Client, name: str) -> None:
    sent = wheel("SC_rgb_rle_2frame.dcm")
    await store(client, sent)
    suffix, accept = RESOURCES[name]
    _, whole, _ = await get(client, path_of(sent) + suffix, accept)
    async with client.head(path_of(sent) + suffix, headers={"Accept": accept, "Range": "bytes=0-1"}) as response:
        assert response.status == 200
        assert int(response.headers["Content-Length"]) == len(whole)
        assert await response.read() == b""


async def test_the_parts_of_a_multipart_fetched_range_by_range_are_those_of_one_answer(client: Client) -> None:
    """What cornerstone3D's retrieve mode "range" does: the same multipart, a piece at a time."""
    sent = wheel("SC_rgb_rle_2frame.dcm")
    await store(client, sent)
    path = f"{path_of(sent)}/frames/1"
    _, whole, headers = await get(client, path, STORED)
    content_type, pieces, total = headers["Content-Type"], b"", 1
    while len(pieces) < total:
        asked = f"bytes={len(pieces)}-{len(pieces) + 64}"
        status, piece, headers = await get(client, path, STORED, Range=asked)
        assert (status, headers["Content-Type"]) == (206, content_type)
        total = int(headers["Content-Range"].rpartition("/")[2])
        pieces += piece
    assert pieces == whole
    assert len(split(content_type, pieces)) == 1


async def test_the_boundary_is_the_representations_own(client: Client) -> None:
    sent = wheel("SC_rgb_rle_2frame.dcm")
    await store(client, sent)
    found = []
    for suffix in ("/frames/1", "/frames/1", "/frames/2", "/frames/1,2", "/bulkdata/7FE00010", ""):
        _, body, headers = await get(client, path_of(sent) + suffix, STORED if suffix else DICOM)
        match = re.search(r"boundary=(\w+)$", headers["Content-Type"])
        assert match is not None
        assert body.startswith(f"--{match[1]}\r\n".encode())
        found.append(match[1])
    assert found[0] == found[1]
    assert len(set(found)) >= 4


async def test_a_range_of_big_endian_and_of_unaligned_frames_is_right(client: Client) -> None:
    big = wheel("MR_small_bigendian.dcm")
    bits = np.random.default_rng(1).integers(0, 2, (5, 81)).astype(np.uint8)
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    found = data_set(Rows=9, Columns=9, BitsAllocated=1, BitsStored=1, HighBit=0, NumberOfFrames=5, PixelData=packed)
    found["PixelData"].VR = "OB"
    for sent in (big, part10_file(found)):
        assert (await store(client, sent))[0] == 200
        path = f"{path_of(sent)}/frames/1" if sent is big else f"{path_of(sent)}/frames/4"
        _, whole, _ = await get(client, path, OCTETS)
        for first in range(0, 9, 2):
            _, part, _ = await get(client, path, OCTETS, Range=f"bytes={first}-{first + 3}")
            assert part == whole[first : first + 4]
    assert np.unpackbits(np.frombuffer(whole, np.uint8), bitorder="little")[:81].tolist() == bits[3].tolist()


@pytest.mark.skipif(not VIDEO.exists(), reason="needs ../shared/dicom")
async def test_stored_video_is_served_by_ranges(client: Client) -> None:
    for file in sorted(VIDEO.glob("*.dcm")):
        sent = file.read_bytes()
        await store(client, sent)
        path = f"{path_of(sent)}/bulkdata/7FE00010"
        status, whole, headers = await get(client, path, "*/*")
        assert status == 200
        assert headers["Content-Type"].startswith("video/")
        assert int(headers["Content-Length"]) == len(whole)
        middle = len(whole) // 2
        status, part, _ = await get(client, path, "*/*", Range=f"bytes={middle}-{middle + 999}")
        assert (status, part) == (206, whole[middle : middle + 1000])


# Clients that leave, and answers that cannot be finished

LARGE_BYTES = 32 << 20


async def large(client: Client, core: Core) -> str:
    """Store an instance that no socket's buffers hold; its path."""
    core.spool.max_bytes = 2 * LARGE_BYTES
    attributes = {"Rows": 2048, "Columns": 2048, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    sent = part10_file(data_set(NumberOfFrames=8, PixelData=bytes(LARGE_BYTES), **attributes))
    assert (await store(client, sent))[0] == 200
    return path_of(sent)


async def begin(client: Client, path: str) -> socket.socket:
    """Send a request by hand and take the first bytes of its answer."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    found.setblocking(False)
    loop = asyncio.get_running_loop()
    address = f"127.0.0.1:{client.port}"
    await loop.sock_connect(found, ("127.0.0.1", client.port))
    await loop.sock_sendall(found, f"GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: {PART10}\r\n\r\n".encode())
    assert await loop.sock_recv(found, 15) == b"HTTP/1.1 200 OK"
    return found


async def test_a_client_that_leaves_leaves_no_error_behind(
    client: Client, core: Core, caplog: pytest.LogCaptureFixture
) -> None:
    path = await large(client, core)
    caplog.set_level("INFO")
    with await begin(client, path) as hasty:
        hasty.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await client.server.app[application.UNDER_WAY].drained(20)
    assert "the client has gone" in caplog.text or "left by the client" in caplog.text
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


class Unsteady:
    """An object store that stops answering in the middle of a read."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @contextmanager
    def open(self, key: str, byte_range: ByteRange | None = None) -> Iterator[Any]:
        with self._store.open(key, byte_range) as reader:

            class Half:
                length = reader.length

                def blocks(self) -> Iterator[bytes]:
                    sent = 0
                    for block in reader.blocks():
                        yield block
                        sent += len(block)
                        if sent > reader.length // 2:
                            raise StorageUnavailable("the store has gone")

            yield Half()


async def test_an_answer_that_breaks_off_half_way_is_not_taken_for_a_whole_one(
    client: Client, core: Core, caplog: pytest.LogCaptureFixture
) -> None:
    path = await large(client, core)
    core.archive.objects = Unsteady(core.archive.objects)  # type: ignore[assignment]
    for accept in (PART10, DICOM):
        async with client.get(path, headers={"Accept": accept}) as response:
            assert response.status == 200
            with pytest.raises((ClientPayloadError, ClientConnectionError)):
                await response.read()
    assert caplog.text.count("broke off within its body") == 2


async def test_ranges_come_out_of_a_bucket_as_well(
    settings: Settings, seaweedfs_bucket: S3Settings, aiohttp_client: Callable[..., Awaitable[Client]]
) -> None:
    bucket = S3Section(
        endpoint_url=seaweedfs_bucket.endpoint_url or "",
        bucket=seaweedfs_bucket.bucket,
        access_key_id=seaweedfs_bucket.access_key_id or "",
        secret_access_key=SecretStr(seaweedfs_bucket.secret_access_key or ""),
    )
    storage = settings.storage.model_copy(update={"objects": "s3", "max_instance_bytes": 64 << 20})
    core = assembly.build(settings.model_copy(update={"s3": bucket, "storage": storage}), "s3")
    try:
        client = await aiohttp_client(application.build(core, routes()))
        pixels = np.arange(3 << 20, dtype="<u4").tobytes()
        large = part10_file(data_set(Rows=1536, Columns=2048, NumberOfFrames=2, PixelData=pixels))
        fragmented = wheel("SC_rgb_rle_2frame.dcm")
        for sent in (large, fragmented):
            assert (await store(client, sent))[0] == 200
            for suffix, accept in (("", PART10), ("/frames/2", OCTETS), ("/frames/1,2", STORED)):
                status, whole, headers = await get(client, path_of(sent) + suffix, accept)
                assert (status, int(headers["Content-Length"])) == (200, len(whole))
                first, last = len(whole) // 3, len(whole) - 5
                status, piece, _ = await get(client, path_of(sent) + suffix, accept, Range=f"bytes={first}-{last}")
                assert (status, piece) == (206, whole[first : last + 1])
        _, whole, _ = await get(client, f"{path_of(large)}/bulkdata/7FE00010", "application/octet-stream")
        assert whole == pixels
    finally:
        core.close()
