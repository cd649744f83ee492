"""The console's static files."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from gateway.access.actions import Action
from gateway.assembly import Core
from gateway.console import pages
from gateway.http import application

Client = TestClient[Any, Any]
FILES = {
    entry.name: entry.read_text(encoding="utf-8")
    for entry in resources.files("gateway.console").joinpath("static").iterdir()
}


@pytest.fixture
async def client(core: Core, aiohttp_client: Callable[..., Awaitable[Client]]) -> Client:
    return await aiohttp_client(application.build(core, pages.routes()))


def test_every_file_in_the_folder_is_served_and_no_other() -> None:
    assert pages.MEDIA_TYPES.keys() == FILES.keys()


@pytest.mark.parametrize("name", sorted(pages.MEDIA_TYPES))
async def test_a_file_comes_with_its_type_and_a_strict_policy(client: Client, name: str) -> None:
    path = "/" if name == pages.INDEX else f"/console/{name}"
    async with client.get(path) as response:
        assert response.status == 200
        assert response.content_type == pages.MEDIA_TYPES[name]
        assert await response.text() == FILES[name]
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        etag = response.headers["ETag"]
    async with client.get(path, headers={"If-None-Match": etag}) as response:
        assert response.status == 304


@pytest.mark.parametrize(
    "path",
    ["/console/", "/console/nothing.js", "/console/../pages.py", "/console/%2e%2e/pages.py", "/console/..%2fpages.py"],
)
async def test_nothing_else_is_found(client: Client, path: str) -> None:
    async with client.get(path) as response:
        assert response.status == 404


def test_the_page_has_no_inline_script_or_style_and_asks_no_other_host() -> None:
    page = FILES["index.html"]
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    assert not re.search(r"<style|\sstyle=|\son\w+=", page)
    for name, text in FILES.items():
        assert not re.search(r"https?://(?!www\.w3\.org/)", text), name
        assert "innerHTML" not in text, name


def test_every_imported_module_exists() -> None:
    for name, text in FILES.items():
        for imported in re.findall(r'(?:from |import\()"\./([^"]+)"', text):
            assert imported in FILES, (name, imported)


def test_every_action_can_be_asked_about() -> None:
    listed = FILES["policy.js"].partition("const ACTIONS = [")[2].partition("];")[0]
    assert re.findall(r'\["(\w+)", "', listed) == [each.value for each in Action]


def test_what_the_page_always_needs_is_fetched_at_once_and_nothing_else() -> None:
    needed, more = set[str](), {"app.js"}
    while more:
        needed |= more
        more = {each for name in more for each in re.findall(r'from "\./([^"]+)"', FILES[name])} - needed
    preloaded = re.findall(r'<link rel="modulepreload" href="console/([^"]+)">', FILES["index.html"])
    assert sorted({*needed} - {"app.js"}) == preloaded
