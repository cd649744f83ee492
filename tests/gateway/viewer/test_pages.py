"""The viewer's files as they are served."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from yarl import URL

from gateway.assembly import Core
from gateway.config import Settings
from gateway.http import application
from gateway.viewer import installing, pages, release
from gateway.viewer.release import Release
from tests.gateway.viewer.packages import SCRIPT, package

Client = TestClient[Any, Any]
BUNDLE = "app.bundle.0123456789abcdef.js"


@pytest.fixture
async def client(core: Core, aiohttp_client: Callable[..., Awaitable[Client]]) -> Client:
    return await aiohttp_client(application.build(core, pages.routes()))


@pytest.fixture
def directory(settings: Settings, tmp_path: Path) -> Path:
    """An installed viewer."""
    found = release.folder(settings)
    installing.install(package(tmp_path / "p.tgz"), Release("1.2.3", "", ""), found)
    return found


async def test_without_a_viewer_it_says_how_to_get_one(client: Client) -> None:
    async with client.get("/viewers") as response:
        assert await response.json() == {"viewers": []}
    async with client.get("/ohif/") as response:
        assert response.status == 404
        assert "gateway viewer install" in (await response.json())["detail"]


@pytest.mark.usefixtures("directory")
async def test_a_viewer_is_named_with_the_path_of_a_study(client: Client) -> None:
    wanted = [{"name": "OHIF", "version": "1.2.3", "study": "ohif/viewer?StudyInstanceUIDs="}]
    for root in ("", "/views/research", "/share/0123456789abcdefghijkl.0123456789abcdefghijkl"):
        async with client.get(f"{root}/viewers") as response:
            assert await response.json() == {"viewers": wanted}


@pytest.mark.usefixtures("directory")
@pytest.mark.parametrize("root", ["", "/views/research", "/share/0123456789abcdefghijkl.0123456789abcdefghijkl"])
@pytest.mark.parametrize("path", ["", "index.html", "viewer?StudyInstanceUIDs=1.2", "viewer/gateway"])
async def test_the_page_is_of_the_place_where_it_stands(client: Client, root: str, path: str) -> None:
    async with client.get(f"{root}/ohif/{path}") as response:
        assert response.status == 200
        assert response.content_type == "text/html"
        text = await response.text()
        policy = response.headers["Content-Security-Policy"]
        assert response.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert f'<base href="{root}/ohif/">' in text
    assert f'window.PUBLIC_URL="{root}/ohif/"' in text
    assert set(re.findall(r'(?:href|src)="([^"]*)"', text)) == {
        f"{root}/ohif/", f"{root}/ohif/assets/a.png", f"{root}/ohif/{BUNDLE}"
    }  # fmt: skip
    (inline,) = re.findall(r"<script>(.*?)</script>", text)
    assert f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'" in policy
    assert "unsafe-inline" not in policy.partition("style-src")[0]


@pytest.mark.usefixtures("directory")
async def test_files_come_compressed_and_are_kept_as_long_as_they_cannot_change(client: Client) -> None:
    async with client.get(f"/ohif/{BUNDLE}", headers={"Accept-Encoding": "gzip"}) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert response.content_type == "text/javascript"
        assert int(response.headers["Content-Length"]) < len(SCRIPT)
        assert await response.read() == SCRIPT.replace(
            b'"/"', b'self.PUBLIC_URL || new URL(".", self.location.href).pathname'
        )
    async with client.get("/ohif/assets/a.png") as response:
        assert response.content_type == "image/png"
        assert response.headers["Cache-Control"] == "no-cache"
        etag = response.headers["ETag"]
    async with client.get("/ohif/assets/a.png", headers={"If-None-Match": etag}) as response:
        assert response.status == 304


@pytest.mark.usefixtures("directory")
@pytest.mark.parametrize(
    "path", [f"{BUNDLE}.gz", "nothing.js", "..%2frelease.json", "%2e%2e/release.json", "../LICENSE", "sw.js"]
)
async def test_nothing_else_is_found(client: Client, path: str) -> None:
    async with client.get(f"/ohif/{path}") as response:
        assert response.status == 404


@pytest.mark.usefixtures("directory")
async def test_the_configuration_names_the_service_root_of_its_place(client: Client) -> None:
    for root, has_key in (("", True), ("/views/research", True), ("/share/a.b", False)):
        async with client.get(f"{root}/ohif/app-config.js") as response:
            assert response.headers["Cache-Control"] == "no-cache"
            text = await response.text()
        found = json.loads(re.findall(r"^\}\)\((\{.*\}), \"", text, re.MULTILINE)[0])
        assert found["routerBasename"] == f"{root}/ohif"
        (source,) = found["dataSources"]
        roots = {source["configuration"][name] for name in ("qidoRoot", "wadoRoot", "stowRoot")}
        assert roots == {f"{root}/dicomweb"}
        assert ("sessionStorage" in text) is has_key


async def test_the_folder_is_found_without_its_slash(client: Client) -> None:
    async with client.get("/ohif?a=1", allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (308, "/ohif/?a=1")
    # Nothing of it is decoded: it would mean something else, or be another header.
    odd = URL("/ohif?a=%26b%23%0D%0AX-Other:%201", encoded=True)
    async with client.get(odd, allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (308, "/ohif/?a=%26b%23%0D%0AX-Other:%201")


async def test_a_release_that_is_installed_meanwhile_is_served_at_once(
    client: Client, directory: Path, tmp_path: Path
) -> None:
    async with client.get("/ohif/viewer") as response:
        assert response.status == 200
    installing.install(
        package(tmp_path / "2.tgz", {"package/dist/index.html": b'<head>="/new', "package/dist/a.js": SCRIPT}),
        Release("2.0.0", "", ""),
        directory,
    )
    async with client.get("/ohif/viewer") as response:
        assert '="/ohif/new' in await response.text()
    async with client.get(f"/ohif/{BUNDLE}") as response:
        assert response.status == 404
