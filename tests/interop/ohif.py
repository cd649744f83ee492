"""OHIF's distribution served beside a gateway, as a site that embeds the viewer would."""

from __future__ import annotations

import functools
import http.server
import json
import sys
import threading
from pathlib import Path
from typing import Any

DIST = Path(sys.prefix) / "ohif" / "package" / "dist"
"""Where ``make test`` unpacks ``@ohif/app``."""


def app_config(root: str, issuer: str = "") -> str:
    """The viewer's app-config.js for a service root, and for an OpenID provider if people log in to the viewer."""
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
                    "thumbnailRendering": "thumbnail",
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
