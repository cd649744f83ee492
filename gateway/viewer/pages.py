"""The viewer below ``/ohif``, at the gateway's root, within a view and within a share link alike."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import mimetypes
import re
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from gateway.errors import NotFound
from gateway.http import roots
from gateway.http.keys import CORE
from gateway.http.route import TOKEN, Route
from gateway.viewer import configuration, release

FOLDER = "/ohif"
CONFIGURATION = "app-config.js"
_INDEX = "index.html"
_STUDY = "ohif/viewer?StudyInstanceUIDs="
# Of a name with its content's digest in it, what stands under it never changes.
_BY_CONTENT = re.compile(r"(^|\.)[0-9a-f]{16}\.\w+$")
_INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_TYPES = {".wasm": "application/wasm", ".js": "text/javascript", ".mjs": "text/javascript", ".woff2": "font/woff2"}
# Its codecs are WebAssembly, its style is set by scripts, its workers and documents come as blobs.
_POLICY = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval' {scripts}; worker-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; font-src 'self' data:; media-src 'self' blob:; "
    "connect-src 'self' blob: data:; object-src 'self' blob:; frame-src 'self' blob:; base-uri 'self'; "
    "form-action 'none'; frame-ancestors 'none'"
)
# Of a script that runs as a worker. The decoders make functions from text; no script of the page does.
_WORKER_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval' 'wasm-unsafe-eval'; connect-src 'self' blob: data:; "
    "worker-src 'self' blob:"
)
# Both, and it gets memory that its workers share: volumes load into it without being copied.
_ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}


@dataclass(frozen=True, slots=True)
class _Distribution:
    """What was installed: its page, and its files by the path that they are asked for by."""

    page: str
    files: dict[str, Path]


def routes() -> list[Route]:
    """The viewer's files; public, since they hold no data: what they show is asked for with the rights of who looks."""
    return [
        Route("GET", "/viewers", viewers, None, for_links=True, for_views=True),
        Route("GET", FOLDER, to_folder, None, for_links=True, for_views=True),
        Route("GET", FOLDER + "/{path:.*}", file, None, for_links=True, for_views=True),
    ]


async def viewers(request: web.Request) -> web.StreamResponse:
    """Which viewers can be opened here, each by a path to which the study's UID is added."""
    found = release.installed(release.folder(request.app[CORE].settings))
    known = [{"name": "OHIF", "version": found.version, "study": _STUDY}] if found is not None else []
    return web.json_response({"viewers": known}, headers={"Cache-Control": "no-cache"})


async def to_folder(request: web.Request) -> web.StreamResponse:
    """The page's own links are relative to the folder that it stands in."""
    # As it came: what is percent-encoded in it would mean something else, or be no header.
    query = f"?{sent}" if (sent := request.rel_url.raw_query_string) else ""
    return web.Response(status=308, headers={"Location": f"{roots.path(request)}{FOLDER}/{query}"})


async def file(request: web.Request) -> web.StreamResponse:
    """A file of the viewer; its page for every path of its own."""
    found = _distribution(release.folder(request.app[CORE].settings))
    name = request.match_info["path"]
    if name == CONFIGURATION:
        root = roots.path(request)
        body = configuration.script(f"{root}{FOLDER}", root, has_key=TOKEN not in request.match_info)
        return web.Response(body=body, content_type=_TYPES[".js"], charset="utf-8", headers=_headers(name))
    path = found.files.get(name)
    if path is None or name == _INDEX:
        if name != _INDEX and "." in name.rpartition("/")[2]:
            raise NotFound("there is no such file of the viewer")
        return _page(found.page, f"{roots.path(request)}{FOLDER}/")
    answer = web.FileResponse(path, headers=_headers(name))
    answer.content_type = _TYPES.get(path.suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return answer


def _headers(name: str) -> dict[str, str]:
    kept = "public, max-age=31536000, immutable" if _BY_CONTENT.search(name) else "no-cache"
    policy = {"Content-Security-Policy": _WORKER_POLICY} if name.endswith((".js", ".mjs")) else {}
    return {**_ISOLATED, **policy, "Cache-Control": kept}


def _page(page: str, base: str) -> web.Response:
    """The page as it has to be where it stands: all of its paths begin with a slash."""
    escaped = html.escape(base, quote=True)
    body = page.replace('="/', f'="{escaped}').replace("<head>", f'<head><base href="{escaped}">', 1)
    digests = (hashlib.sha256(each.encode()).digest() for each in _INLINE.findall(body))
    scripts = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    headers = {**_ISOLATED, "Cache-Control": "no-cache", "Content-Security-Policy": _POLICY.format(scripts=scripts)}
    return web.Response(text=body, content_type="text/html", headers=headers)


def _distribution(folder: Path) -> _Distribution:
    """What is installed now. Raises NotFound."""
    found = release.installed(folder)
    if found is None:
        raise NotFound("the viewer is not installed; `gateway viewer install` fetches it")
    return _read(folder, found)


@functools.lru_cache(maxsize=4)
def _read(folder: Path, _release: release.Release) -> _Distribution:
    """The files of a release, looked for once: nothing else is served, so that no path can lead out of the folder."""
    files = folder / release.FILES
    found = {path.relative_to(files).as_posix(): path for path in files.rglob("*") if path.is_file()}
    served = {name: path for name, path in found.items() if name.removesuffix(".gz") not in found or name[-3:] != ".gz"}
    return _Distribution((files / _INDEX).read_text(encoding="utf-8"), served)
