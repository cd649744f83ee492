"""The viewer's app-config.js: which service root it reads, and as whom."""

from __future__ import annotations

from typing import Any

import orjson

# The console keeps a key for the tab and what is opened from it; without one the browser's cookie shows who asks.
# What the configuration is asked by has no services yet: they are there a moment later, before anything is requested.
_SCRIPT = """\
window.config = ((config, home, key) => {
  config.httpErrorHandler = (error) => {
    if ((error.status ?? error.request?.status) === 401) location.assign(home);
  };
  if (!key) return config;
  const authorized = ({ servicesManager }) => {
    setTimeout(() => servicesManager.services.userAuthenticationService.setServiceImplementation({
      getAuthorizationHeader: () => ({ Authorization: `Bearer ${key}` }),
    }));
    return config;
  };
  authorized.routerBasename = config.routerBasename;
  return authorized;
})(%s, %s, %s);
"""
_KEY = b'sessionStorage.getItem("gateway.api-key")'


def script(base: str, root: str, *, has_key: bool) -> bytes:
    """The file for a viewer whose paths begin with ``base`` and that reads the service root at ``root``.

    Parameters
    ----------
    has_key
        Whether who looks may show an API key; within a share link nobody does.
    """
    service = f"{root}/dicomweb"
    configuration: dict[str, Any] = {
        "routerBasename": base,
        "extensions": [],
        "modes": [],
        "showStudyList": True,
        "showWarningMessageForCrossOrigin": False,
        "showLoadingIndicator": True,
        "strictZSpacingForVolumeViewport": True,
        "defaultDataSourceName": "gateway",
        "dataSources": [
            {
                "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
                "sourceName": "gateway",
                "configuration": {
                    "friendlyName": "Imaging Gateway",
                    "name": "gateway",
                    "wadoUriRoot": f"{service}/wado",
                    "qidoRoot": service,
                    "wadoRoot": service,
                    "stowRoot": service,
                    "qidoSupportsIncludeField": True,
                    "supportsFuzzyMatching": True,
                    "supportsWildcard": True,
                    "supportsStow": True,
                    "dicomUploadEnabled": True,
                    "imageRendering": "wadors",
                    "thumbnailRendering": "thumbnail",
                    "enableStudyLazyLoad": True,
                    "singlepart": "bulkdata,video,pdf",
                    "bulkDataURI": {"enabled": True},
                    "omitQuotationForMultipartRequest": True,
                },
            }
        ],
    }
    given = (orjson.dumps(configuration), orjson.dumps(f"{root}/"), _KEY if has_key else b"null")
    return _SCRIPT.encode() % given
