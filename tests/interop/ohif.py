"""OHIF's distribution served beside a gateway, as a site that embeds the viewer would."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Page

DIST = Path(sys.prefix) / "ohif" / "package" / "dist"
"""Where ``make test`` unpacks ``@ohif/app``."""
ARGUMENTS = [
    "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic",
]  # fmt: skip
"""Of a Chromium that draws without a graphics card."""
PANE = "[data-cy='viewport-pane']"
NO_TOUR = (
    "localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour', 'basicViewerTour-2']));"
    "new MutationObserver(() => document"
    ".querySelectorAll('.shepherd-element,.shepherd-modal-overlay-container')"
    ".forEach((each) => each.remove())).observe(document, {childList: true, subtree: true});"
)
"""A script that keeps away the tour and the notice which greet newcomers and lie over what is clicked on."""

WAIT_S = 120.0
"""As long as anything may take that the viewer does."""
_POLICY = """
[[principal]]
name = "archivist"
kind = "api_key"
api_key_sha256 = "{digest}"
roles = ["administrator"]
"""
ARCHIVIST = {"Authorization": "Bearer archivist"}


def policy_file(folder: Path) -> str:
    """A policy file by which one API key has rights and nobody else."""
    (folder / "policy.toml").write_text(_POLICY.format(digest=hashlib.sha256(b"archivist").hexdigest()))
    return str(folder / "policy.toml")


def until(page: Page, condition: Callable[[], Any], what: str) -> Any:
    """The first true value of a condition."""
    end_s = time.monotonic() + WAIT_S
    while not (found := condition()):
        assert time.monotonic() < end_s, what
        page.wait_for_timeout(200)
    return found


def shows_picture(page: Page, pane: int = 0) -> bool:
    """Whether a good part of a viewport is brighter than its background."""
    return bool((pixels(page, pane).max(axis=2) > 60).mean() > 0.1)


def app_config(root: str, issuer: str = "", thumbnails: str = "thumbnail") -> str:
    """The viewer's app-config.js for a service root, and for an OpenID provider if people log in to the viewer.

    ``thumbnails`` is by which transaction it gets them.
    """
    configuration: dict[str, Any] = {
        "name": "interop",
        "routerBasename": "/",
        "extensions": [],
        "modes": [],
        "showStudyList": True,
        "showWarningMessageForCrossOrigin": False,
        "showLoadingIndicator": True,
        "strictZSpacingForVolumeViewport": True,
        "maxNumberOfWebWorkers": 2,
        "showCPUFallbackMessage": False,
        "defaultDataSourceName": "gateway",
        "dataSources": [
            {
                "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
                "sourceName": "gateway",
                "configuration": {
                    "friendlyName": "gateway",
                    "name": "gateway",
                    "wadoUriRoot": f"{root}/wado",
                    "qidoRoot": root,
                    "wadoRoot": root,
                    "qidoSupportsIncludeField": True,
                    "supportsFuzzyMatching": True,
                    "supportsWildcard": True,
                    "imageRendering": "wadors",
                    "thumbnailRendering": thumbnails,
                    "enableStudyLazyLoad": True,
                    "supportsStow": True,
                    "dicomUploadEnabled": True,
                    "singlepart": "bulkdata,video,pdf",
                    "bulkDataURI": {"enabled": True},
                    "omitQuotationForMultipartRequest": True,
                },
            }
        ],
    }
    if issuer:
        provider = {
            "authority": issuer,
            "client_id": "viewer",
            "redirect_uri": "/callback",
            "response_type": "code",
            "scope": "openid",
            "post_logout_redirect_uri": "/logout-redirect.html",
            "automaticSilentRenew": False,
        }
        configuration["oidc"] = [provider]
    return f"window.config = {json.dumps(configuration)};"


def pixels(page: Page, pane: int = 0) -> np.ndarray[Any, Any]:
    """The middle of a viewport as it is on the screen, (rows, columns, 3)."""
    box = page.locator(PANE).nth(pane).bounding_box()
    assert box is not None
    clip = {
        "x": box["x"] + box["width"] * 0.2,
        "y": box["y"] + box["height"] * 0.2,
        "width": box["width"] * 0.6,
        "height": box["height"] * 0.6,
    }
    return np.asarray(Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB"))  # type: ignore[arg-type]


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Files of the distribution; every other path is the viewer's own, which the page resolves."""

    config = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/app-config.js":
            body = self.config.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/javascript")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        if not (DIST / path.lstrip("/")).is_file():
            self.path = "/index.html"
        super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class Viewer:
    """The viewer's own server; ``url`` is where its page is."""

    def __init__(self) -> None:
        self._handler = type("Handler", (_Handler,), {})
        handler = functools.partial(self._handler, directory=str(DIST))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def look_at(self, root: str, issuer: str = "") -> None:
        """Have the viewer use a service root, and log people in with a provider."""
        self._handler.config = app_config(root, issuer)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
