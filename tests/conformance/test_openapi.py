"""The OpenAPI document against the running gateway: no failure of ours, no status or type that it does not name."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.serving import Gateway

pytestmark = [pytest.mark.first, pytest.mark.timeout(3600)]

SAMPLES = Path(__file__).parents[2] / "sample_dicom" / "studies"
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "unsupported_method",
    "allow_header_conformance",
)  # fmt: skip
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "3"))
"""Requests of each operation beyond those of the coverage phase; ``make fuzz`` takes more."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, dict[str, Any], list[list[str]]]]:
    """A gateway with some samples, its document, and the UIDs that are there."""
    folder = tmp_path_factory.mktemp("openapi")
    gateway = Gateway(folder / "data", folder / "gateway.log")
    gateway.start()
    stored = []
    for path in sorted(SAMPLES.rglob("*.dcm"))[::9]:
        headers = {"Content-Type": "application/dicom"}
        answer = requests.post(f"{gateway.web}/studies", data=path.read_bytes(), headers=headers, timeout=30).json()
        stored.append(answer["00081199"]["Value"][0]["00081190"]["Value"][0].split("/")[-5::2])
    yield gateway, requests.get(f"{gateway.web}/openapi.json", timeout=30).json(), stored
    assert gateway.stop() == 0, gateway.log
    assert "failed" not in gateway.log


def run(gateway: Gateway, document: dict[str, Any], folder: Path, *arguments: str, root: str = "/dicomweb") -> None:
    (folder / "openapi.json").write_text(json.dumps(document))
    program = Path(sys.executable).parent / "schemathesis"
    done = subprocess.run(
        [
            program, "run", "openapi.json", "--url", gateway.web.removesuffix("/dicomweb") + root, "-c",
            ",".join(CHECKS), "-n", str(EXAMPLES),
            "--phases", "coverage,fuzzing", "--request-timeout", "90", "--suppress-health-check", "all", "--no-color",
            "--warnings", "off", *arguments,
        ],
        cwd=folder, capture_output=True, text=True, check=False, timeout=3600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:]


def test_requests_for_what_is_there(gateway: tuple[Gateway, dict[str, Any], list[list[str]]], tmp_path: Path) -> None:
    running, document, stored = gateway
    known = copy.deepcopy(document)
    values = {
        "study": sorted({uids[0] for uids in stored[:2]}),
        "series": sorted({uids[1] for uids in stored[:2]}),
        "instance": sorted({uids[2] for uids in stored[:2]}),
        "frames": ["1", "1,1", "2"],
        "path": ["7FE00010", "00420011"],
    }
    for entry in known["paths"].values():
        for parameter in entry["parameters"]:
            if parameter["name"] in values:
                parameter["schema"] = {"type": "string", "enum": values[parameter["name"]]}
    run(running, known, tmp_path, "--exclude-method", "DELETE")


def test_requests_for_anything(gateway: tuple[Gateway, dict[str, Any], list[list[str]]], tmp_path: Path) -> None:
    running, document, _ = gateway
    run(running, document, tmp_path)


def test_requests_over_fhir(gateway: tuple[Gateway, dict[str, Any], list[list[str]]], tmp_path: Path) -> None:
    running, _, stored = gateway
    root = running.web.removesuffix("/dicomweb") + "/fhir"
    document = requests.get(f"{root}/openapi.json", timeout=30).json()
    run(running, document, tmp_path, root="/fhir")
    patients = requests.get(f"{root}/Patient", timeout=30).json()["entry"]
    ids = {
        "ImagingStudy": [uids[0] for uids in stored[:2]],
        "Patient": [each["resource"]["id"] for each in patients[:2]],
        "Endpoint": ["dicom-wado-rs"],
    }
    for path, entry in document["paths"].items():
        for parameter in entry["parameters"]:
            if kind := ids.get(path.split("/")[1]):
                parameter["schema"] = {"type": "string", "enum": kind}
    run(running, document, tmp_path, root="/fhir")
