"""One running gateway for the whole folder, and a client that knows nothing of its code."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pydicom
import pytest
import requests
from pydicom.dataset import Dataset

from tests.conformance.network import Destination, Dimse
from tests.instances import part10_file
from tests.serving import Gateway

VIEWER = "https://viewer.example.org"
CT_KEY, STORE_KEY = "key of a viewer of CT", "key of a sender"
POLICY = f"""
[[principal]]
name = "this-machine"
kind = "loopback"
actions = ["search", "read", "render", "store", "delete"]

[[principal]]
name = "ct-viewer"
kind = "api_key"
api_key_sha256 = "{hashlib.sha256(CT_KEY.encode()).hexdigest()}"
actions = ["search", "read"]
scope = {{ Modality = ["CT"] }}

[[principal]]
name = "sender"
kind = "api_key"
api_key_sha256 = "{hashlib.sha256(STORE_KEY.encode()).hexdigest()}"
actions = ["store"]
"""

AES = """
[[principal]]
name = "this-machine"
kind = "loopback"
actions = ["search", "read", "render", "store", "delete"]

[[principal]]
name = "mr-reader"
kind = "ae"
ae_title = "MR_READER"
actions = ["search", "read", "store"]
scope = { Modality = ["MR"] }

[[principal]]
name = "sender"
kind = "ae"
ae_title = "SENDER"
actions = ["store"]

[[principal]]
name = "crowded"
kind = "ae"
ae_title = "CROWDED"
tenant = "small"
actions = ["store", "search"]

[[principal]]
name = "anybody"
kind = "ae"
ae_title = "*"
networks = ["127.0.0.0/8"]
actions = ["echo", "search", "read", "store"]
"""


def instance_path(found: Dataset, level: str = "instance") -> str:
    """The path of an instance, its series or its study."""
    study = f"/studies/{found.StudyInstanceUID}"
    if level == "study":
        return study
    series = f"{study}/series/{found.SeriesInstanceUID}"
    return series if level == "series" else f"{series}/instances/{found.SOPInstanceUID}"


def multipart(*bodies: bytes, kind: str = "application/dicom", end: bytes = b"--part--\r\n") -> dict[str, Any]:
    """Arguments of a request with parts of one type."""
    parts = [f"--part\r\nContent-Type: {kind}\r\n\r\n".encode() + body + b"\r\n" for body in bodies]
    headers = {"Content-Type": f'multipart/related; type="{kind}"; boundary=part'}
    return {"data": b"".join([*parts, end]), "headers": headers}


def parts(answer: requests.Response) -> list[tuple[dict[str, str], bytes]]:
    """Headers and bytes of each part of an answer."""
    boundary = re.search(r'boundary="?([^";]+)', answer.headers["Content-Type"])
    assert boundary is not None, answer.headers["Content-Type"]
    delimiter = b"--" + boundary[1].encode()
    first, *pieces, end = (b"\r\n" + answer.content).split(b"\r\n" + delimiter)
    assert (first, end) == (b"", b"--\r\n")
    found = []
    for piece in pieces:
        head, _, body = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        lines = (line.partition(": ") for line in head.decode().split("\r\n"))
        found.append(({name: value for name, _, value in lines}, body))
    return found


@dataclass(frozen=True)
class Web:
    """The service, as a client sees it."""

    root: str
    gateway: Gateway

    def send(self, method: str, path: str, accept: str | None = "*/*", **arguments: Any) -> requests.Response:
        """A request; without an Accept header for None."""
        headers: Mapping[str, str | None] = {"Accept": accept, **arguments.pop("headers", {})}
        return requests.request(method, self.root + path, headers=headers, timeout=60, **arguments)

    def get(
        self, path: str, types: str | None = "*/*", headers: Mapping[str, str] | None = None, **query: Any
    ) -> requests.Response:
        return self.send("GET", path, types, headers=headers or {}, params=query)

    def store(self, *found: Dataset | bytes) -> list[Dataset]:
        """Store instances that have to be taken; gives them as data sets."""
        files = [part10_file(each) if isinstance(each, Dataset) else each for each in found]
        answer = self.send("POST", "/studies", **multipart(*files))
        assert answer.status_code == 200, answer.text
        return [pydicom.dcmread(pydicom.filebase.DicomBytesIO(each)) for each in files]


@pytest.fixture(scope="session")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """A gateway that is empty at first; each test stores what it needs under UIDs of its own."""
    folder = tmp_path_factory.mktemp("conformance")
    (folder / "policy.toml").write_text(POLICY)
    gateway = Gateway(
        folder / "data",
        folder / "gateway.log",
        GATEWAY_ACCESS__POLICY_FILE=str(folder / "policy.toml"),
        GATEWAY_HTTP__CORS_ORIGINS=f'["{VIEWER}"]',
        GATEWAY_HTTP__TRUSTED_PROXIES='["127.0.0.0/8"]',
    )
    gateway.start()
    yield Web(gateway.web, gateway)
    assert gateway.stop() == 0, gateway.log


@pytest.fixture(scope="session")
def dimse_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dimse]:
    """A gateway with AE titles of the policy, and a peer that it may send to."""
    folder = tmp_path_factory.mktemp("conformance-dimse")
    (folder / "policy.toml").write_text(AES)
    destination = Destination()
    end = destination.start()
    gateway = Gateway(
        folder / "data",
        folder / "gateway.log",
        GATEWAY_ACCESS__POLICY_FILE=str(folder / "policy.toml"),
        GATEWAY_STORAGE__MAX_INSTANCE_BYTES=str(1 << 20),
        GATEWAY_TENANTS__SMALL__QUOTA_INSTANCES="1",
        GATEWAY_DIMSE__DESTINATIONS=json.dumps({"DEST": {"host": "127.0.0.1", "port": destination.port}}),
    )
    gateway.start()
    yield Dimse(gateway, destination)
    assert gateway.stop() == 0, gateway.log
    end()


@pytest.fixture
def dimse(dimse_gateway: Dimse) -> Dimse:
    """It, with nothing left at the peer of what another test had sent."""
    dimse_gateway.destination.forget()
    return dimse_gateway
