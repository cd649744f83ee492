"""Two tenants with the same UIDs and other contents: nothing of one is ever seen by the other."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from botocore.exceptions import ClientError
from pydicom import Dataset
from pynetdicom import AE

from storage.objects.s3 import S3Settings
from tests import seaweedfs as weed
from tests.instances import CT, data_set, part10_file, uid
from tests.serving import Gateway
from tests.storage.objects.test_s3 import raw_client

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
NAMES = ("red", "blue")
JSON = {"Accept": "application/dicom+json"}


@dataclass(frozen=True)
class Tenant:
    """One tenant as its people and modalities see the gateway."""

    name: str
    gateway: Gateway

    @property
    def key(self) -> dict[str, str]:
        return {"Authorization": f"Bearer key-of-{self.name}"}

    def get(self, path: str, **headers: str) -> requests.Response:
        return requests.get(f"{self.gateway.web}{path}", headers=self.key | headers, timeout=30)

    def post(self, path: str, body: Any, kind: str) -> requests.Response:
        headers = self.key | {"Content-Type": kind, "Accept": "application/dicom+json"}
        return requests.post(f"{self.gateway.web}{path}", data=body, headers=headers, timeout=30)

    def delete(self, path: str) -> requests.Response:
        return requests.delete(f"{self.gateway.web}{path}", headers=self.key, timeout=30)

    def stow(self, found: Dataset) -> requests.Response:
        return self.post("/studies", part10_file(found), "application/dicom")

    def c_store(self, found: Dataset) -> int:
        with_meta = part10_file(found)  # gives it its File Meta Information
        assert with_meta
        return int(self._associated(CT, lambda association: association.send_c_store(found)).Status)

    def c_find(self, study: str) -> list[str]:
        identifier = Dataset()
        identifier.QueryRetrieveLevel, identifier.StudyInstanceUID, identifier.PatientName = "STUDY", study, ""
        answers = self._associated(
            STUDY_ROOT_FIND, lambda association: list(association.send_c_find(identifier, STUDY_ROOT_FIND))
        )
        return [str(found.PatientName) for _, found in answers if found is not None]

    def _associated(self, context: str, ask: Any) -> Any:
        entity = AE(self.name.upper())
        entity.add_requested_context(context)
        association = entity.associate("127.0.0.1", self.gateway.dimse_port, ae_title="GATEWAY")
        assert association.is_established
        try:
            return ask(association)
        finally:
            association.release()

    def names(self, query: str = "") -> list[str]:
        response = self.get(f"/studies{query}", **JSON)
        rows = response.json() if response.status_code == 200 else []
        return sorted(row["00100010"]["Value"][0]["Alphabetic"] for row in rows)

    def feed(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/changefeed").json()["changes"]
        return found

    def committed(self, sop_uid: str, transaction: str) -> bool:
        item = {"00081150": {"vr": "UI", "Value": [CT]}, "00081155": {"vr": "UI", "Value": [sop_uid]}}
        body = json.dumps({"00081199": {"vr": "SQ", "Value": [item]}})
        answer = self.post(f"/commitment-requests/{transaction}", body, "application/dicom+json")
        assert answer.status_code == 200, answer.text
        return "00081199" in answer.json()


def policy(folder: Path) -> Path:
    path = folder / "policy.toml"
    actions = '["echo", "search", "read", "render", "store", "delete"]'
    rules = ""
    for name in NAMES:
        digest = hashlib.sha256(f"key-of-{name}".encode()).hexdigest()
        rules += f"""
[[principal]]
name = "{name}-people"
kind = "api_key"
api_key_sha256 = "{digest}"
tenant = "{name}"
actions = {actions}

[[principal]]
name = "{name}-scanner"
kind = "ae"
ae_title = "{name.upper()}"
tenant = "{name}"
actions = {actions}
"""
    path.write_text(rules)
    return path


@pytest.fixture(params=["one directory", "two buckets"])
def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Gateway]:
    environment = {
        "GATEWAY_ACCESS__POLICY_FILE": str(policy(tmp_path)),
        "GATEWAY_HTTP__WORKERS": "1",
        "GATEWAY_DIMSE__WORKERS": "1",
    }
    if request.param == "two buckets":
        environment |= in_two_buckets(request.getfixturevalue("seaweedfs"))
    started = Gateway(tmp_path / "data", tmp_path / "log", **environment)
    started.start()
    yield started
    assert started.stop() == 0, started.log


def in_two_buckets(endpoint_url: str) -> dict[str, str]:
    """Settings with keys that may each use their own bucket alone; the buckets are made by somebody else."""
    for bucket in weed.TENANT_BUCKETS:
        raw_client(S3Settings(endpoint_url, bucket, access_key_id=weed.ACCESS_KEY_ID,
                              secret_access_key=weed.SECRET_ACCESS_KEY)).create_bucket(Bucket=bucket)  # fmt: skip
    (red, red_keys), (blue, blue_keys) = [(bucket, weed.tenant_keys(bucket)) for bucket in weed.TENANT_BUCKETS]
    for bucket, keys in ((red, blue_keys), (blue, red_keys)):
        client = raw_client(S3Settings(endpoint_url, bucket, access_key_id=keys[0], secret_access_key=keys[1]))
        with pytest.raises(ClientError, match="AccessDenied"):
            client.list_objects_v2(Bucket=bucket)
    return {
        "GATEWAY_STORAGE__OBJECTS": "s3",
        "GATEWAY_S3__ENDPOINT_URL": endpoint_url,
        "GATEWAY_S3__BUCKET": red,
        "GATEWAY_S3__ACCESS_KEY_ID": red_keys[0],
        "GATEWAY_S3__SECRET_ACCESS_KEY": red_keys[1],
        "GATEWAY_TENANTS__BLUE__BUCKET": blue,
        "GATEWAY_TENANTS__BLUE__ACCESS_KEY_ID": blue_keys[0],
        "GATEWAY_TENANTS__BLUE__SECRET_ACCESS_KEY": blue_keys[1],
    }


def pair(name: str, other: str) -> tuple[Dataset, Dataset]:
    """Two instances with the same UIDs and other contents."""
    uids = {keyword: uid() for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")}
    return data_set(PatientName=name, PatientID="R-1", **uids), data_set(PatientName=other, PatientID="B-1", **uids)


def test_nothing_crosses_between_tenants_with_the_same_uids(gateway: Gateway) -> None:
    red, blue = (Tenant(name, gateway) for name in NAMES)
    of_red, of_blue = pair("Red^One", "Blue^One")
    blue_alone = data_set(PatientName="Blue^Two", PatientID="B-2")
    study, sop = of_red.StudyInstanceUID, of_red.SOPInstanceUID
    assert red.stow(of_red).status_code == 200
    assert blue.c_store(of_blue) == 0x0000
    assert blue.stow(blue_alone).status_code == 200

    # Search, counts and retrieval, over both protocols.
    assert (red.names(), blue.names()) == (["Red^One"], ["Blue^One", "Blue^Two"])
    assert red.names(f"?StudyInstanceUID={blue_alone.StudyInstanceUID}") == []
    assert [each.get("/studies/count").json() for each in (red, blue)] == [{"count": 1}, {"count": 2}]
    assert (red.c_find(study), blue.c_find(study)) == (["Red^One"], ["Blue^One"])
    assert red.c_find(blue_alone.StudyInstanceUID) == []
    for tenant, name in ((red, b"Red^One"), (blue, b"Blue^One")):
        body = tenant.get(f"/studies/{study}", Accept='multipart/related; type="application/dicom"').content
        assert [each in body for each in (b"Red^One", b"Blue^One")] == [name == b"Red^One", name == b"Blue^One"]
        assert name.decode() in tenant.get(f"/studies/{study}/metadata", **JSON).text
    assert red.get(f"/studies/{blue_alone.StudyInstanceUID}/metadata", **JSON).status_code == 404

    # What is in one tenant's quarantine is not in the other's, where the same UID may arrive.
    elsewhere = data_set(SOPInstanceUID=blue_alone.SOPInstanceUID, PatientName="Blue^Three")
    assert blue.stow(elsewhere).status_code == 409
    assert red.stow(elsewhere).status_code == 200
    with gateway.engines.index(gateway.directory) as index:
        assert [len(index.quarantined(name)) for name in NAMES] == [0, 1]  # type: ignore[arg-type]

    # The change feed.
    for tenant, sops in ((red, {sop, elsewhere.SOPInstanceUID}), (blue, {sop, blue_alone.SOPInstanceUID})):
        assert {change["sopInstanceUID"] for change in tenant.feed() if "sopInstanceUID" in change} == sops

    # Commitment, and deletion, which is each one's own.
    transaction = uid()
    assert red.committed(sop, transaction)
    assert blue.get(f"/commitment-requests/{transaction}", **JSON).status_code == 404
    gone = red.delete(f"/studies/{study}")
    assert gone.status_code == 204
    assert (red.names(), blue.names()) == (["Blue^Three"], ["Blue^One", "Blue^Two"])
    assert red.delete(f"/studies/{blue_alone.StudyInstanceUID}").status_code == 404
    assert (red.committed(sop, uid()), blue.committed(sop, uid())) == (False, True)
    deletion = gone.headers["Location"].rpartition("/")[2]
    assert blue.get("/deletions").json() == []
    assert blue.post(f"/deletions/{deletion}/undo", b"", "application/json").status_code == 404
    assert [each["id"] for each in red.get("/deletions").json()] == [deletion]
    assert not [change for change in blue.feed() if change["action"] == "deleted"]

    reindexed(gateway)
    assert (red.names(), blue.names()) == (["Blue^Three"], ["Blue^One", "Blue^Two"])
    assert [each["id"] for each in red.get("/deletions").json()] == [deletion]
    assert blue.get("/deletions").json() == []


def reindexed(gateway: Gateway) -> None:
    """Stop it, rebuild its index from the objects, and start it again."""
    assert gateway.stop() == 0
    environment = gateway.environment()
    found = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "reindex", "--workers=1", "--json"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    report = json.loads(found.stdout)
    assert (report["indexed"], report["quarantined"], report["damaged"]) == (4, 1, [])
    gateway.start()


def test_objects_left_in_the_common_place_keep_the_gateway_from_starting(tmp_path: Path) -> None:
    environment = {"GATEWAY_ACCESS__POLICY_FILE": str(policy(tmp_path)), "GATEWAY_HTTP__WORKERS": "1"}
    first = Gateway(tmp_path / "data", tmp_path / "log", GATEWAY_DIMSE__WORKERS="1", **environment)
    first.start()
    assert Tenant("blue", first).stow(data_set()).status_code == 200
    assert first.stop() == 0
    own = {"GATEWAY_TENANTS__BLUE__ARCHIVE_DIRECTORY": str(tmp_path / "blue")}
    assert Gateway(tmp_path / "data", tmp_path / "log", **environment, **own).run_to_end() == 1
    assert "tenants.blue: the common place still has objects below blue/" in first.log
