"""A gateway that asks who somebody is, with a key for each kind of person that the console is for."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import requests

from gateway.access import users
from storage.control.sqlite import SqliteControl
from tests.instances import data_set, part10_file
from tests.serving import Gateway

KEYS = ("administrator", "radiologist", "technologist", "researcher")
"""Names of principals, each of which is its API key too."""
DOCTOR, PASSWORD = "ann", "correct horse battery"
"""Who logs in with a browser, and may look at what is stored and at the view."""

_POLICY = """
[[role]]
name = "radiologist"
[[role.rule]]
name = "reading"
actions = ["search", "read", "render", "share", "audit_read"]

[[role]]
name = "technologist"
[[role.rule]]
name = "sending"
actions = ["store"]

[[role]]
name = "doctor"
[[role.rule]]
name = "reading"
actions = ["search", "read", "render", "share"]
[[role.rule]]
name = "giving away"
actions = ["search", "read_deidentified"]
view = "research"

[[role]]
name = "researcher"
[[role.rule]]
name = "research"
actions = ["search", "read_deidentified", "render"]
view = "research"
"""
_PRINCIPAL = """
[[principal]]
name = "{0}"
kind = "api_key"
api_key_sha256 = "{1}"
roles = ["{0}"]
"""
_SETTINGS = """
[views.research]
tenant = "main"
find_text = "no"
"""


def as_(name: str) -> dict[str, str]:
    """Headers of a principal's requests."""
    return {"Authorization": f"Bearer {name}"}


@contextmanager
def guarded(folder: Path, **environment: str) -> Iterator[Gateway]:
    """The gateway, with a CT and an MR study of two instances each, which the view shows too."""
    principals = "".join(_PRINCIPAL.format(name, hashlib.sha256(name.encode()).hexdigest()) for name in KEYS)
    (folder / "policy.toml").write_text(_POLICY + principals)
    (folder / "gateway.toml").write_text(_SETTINGS)
    control = SqliteControl(folder / "data" / "control.sqlite")
    users.add(control, DOCTOR, PASSWORD, "main", ["doctor"])
    control.close()
    gateway = Gateway(
        folder / "data",
        folder / "gateway.log",
        settings_file=folder / "gateway.toml",
        GATEWAY_ACCESS__POLICY_FILE=str(folder / "policy.toml"),
        **environment,
    )
    gateway.start()
    try:
        for name, modality in (("Smith^Jane", "CT"), ("Doe^John", "MR")):
            for each in pictures(2, PatientName=name, PatientID=name, Modality=modality, StudyDescription="Head"):
                store(gateway, each)
        wait_for_view(gateway, 4)
        yield gateway
    finally:
        gateway.stop()


def pictures(number: int, **attributes: object) -> list[bytes]:
    """Part 10 files of one series."""
    ramp = np.linspace(0, 4000, 64 * 64, dtype="<u2").tobytes()
    common = data_set()
    return [
        part10_file(
            data_set(
                StudyInstanceUID=common.StudyInstanceUID, SeriesInstanceUID=common.SeriesInstanceUID,
                InstanceNumber=place + 1, Rows=64, Columns=64, PixelData=ramp, **attributes,
            )
        )
        for place in range(number)
    ]  # fmt: skip


def store(gateway: Gateway, file: bytes) -> None:
    """Store a file as the administrator."""
    headers = {"Content-Type": "application/dicom", **as_("administrator")}
    answer = requests.post(f"{gateway.web}/studies", file, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text


def wait_for_view(gateway: Gateway, instances: int) -> None:
    """Until the view shows so many instances; it follows the archive in the background."""
    url = f"{gateway.web.replace('/dicomweb', '/views/research/dicomweb')}/instances/count"
    deadline_s = time.monotonic() + 60
    while requests.get(url, headers=as_("administrator"), timeout=30).json()["count"] < instances:
        assert time.monotonic() < deadline_s, gateway.log
        time.sleep(0.05)
