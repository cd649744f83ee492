"""What it costs to prove who asks and what the policy allows, beside the same requests of this machine without either.

::

    python -m benchmarks.access [--seconds 2] [--rounds 5]

A gateway as deployed, one HTTP worker; searches and frames over kept connections, each way in turn in every round. The
figure is the worker's processor time for an answer, which other work on the machine changes less than its rate.
"""

from __future__ import annotations

import argparse
import http.client
import http.server
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from joserfc import jwt
from joserfc.jwk import RSAKey

from benchmarks.retrieval import cpu_s, ct, store
from tests.serving import Gateway

POLICY = """
[[role]]
name = "everything"
[[role.rule]]
name = "everything"
actions = ["search", "read", "render"]

[[role]]
name = "scoped"
[[role.rule]]
name = "tomography of ten years"
actions = ["search", "read", "render"]
scope = { Modality = ["CT", "MR"], StudyDate = ["last 36500 days"] }
[[role.rule]]
name = "referred by me"
actions = ["search", "read", "render"]
scope = { ReferringPhysicianName = ["${person}"] }

[[principal]]
name = "this-machine"
kind = "loopback"
actions = ["search", "read", "render", "store"]
"""


class Issuer:
    """An OpenID provider of one key."""

    def __init__(self) -> None:
        self._key = RSAKey.generate_key(2048, {"kid": "k", "use": "sig"})
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                keys = {"keys": [issuer._key.as_dict(private=False)]}
                found = {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys"}
                body = json.dumps(keys if self.path == "/keys" else found).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def token(self, *roles: str) -> str:
        now = int(time.time())
        claims = {
            "iss": self.url, "aud": "gateway", "sub": "ann", "name": "Gray^Ann", "roles": roles, "iat": now,
            "exp": now + 3600,
        }  # fmt: skip
        return jwt.encode({"alg": "RS256", "kid": "k"}, claims, self._key)


def measured(gateway: Gateway, paths: list[str], headers: dict[str, str], seconds: float) -> float:
    """Microseconds of the worker's processor for an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.http_port)
    before_s, answers, end_s = cpu_s(gateway), 0, time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        connection.request("GET", paths[answers % len(paths)], headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (answer.status, body[:300])
        answers += 1
    connection.close()
    return (cpu_s(gateway) - before_s) / answers * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    issuer = Issuer()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "policy.toml").write_text(POLICY)
        access = {
            "GATEWAY_ACCESS__POLICY_FILE": str(folder / "policy.toml"),
            "GATEWAY_ACCESS__ISSUERS": json.dumps([{"issuer": issuer.url, "audience": "gateway"}]),
        }
        gateway = Gateway(folder / "data", folder / "log", GATEWAY_HTTP__WORKERS="1", **access)
        gateway.start()
        try:
            made = subprocess.run(
                [sys.executable, "-m", "gateway.cli", "key", "create", "bench", "--role", "everything"],
                env=gateway.environment(), capture_output=True, text=True, check=True,
            )  # fmt: skip
            ways = {
                "this machine, no credential": {},
                "API key": {"Authorization": f"Bearer {made.stdout.strip()}"},
                "JWT": {"Authorization": f"Bearer {issuer.token('everything')}"},
                "JWT, scoped role": {"Authorization": f"Bearer {issuer.token('scoped')}"},
            }
            frames = [f"{store(gateway, ct(1))}/frames/1" for _ in range(50)]
            kinds = {
                "QIDO of 50 studies": (["/dicomweb/studies"], {"Accept": "application/dicom+json"}),
                "QIDO of one study": (["/dicomweb/studies?limit=1"], {"Accept": "application/dicom+json"}),
                "frame of 0.5 MB": (frames, {"Accept": "application/octet-stream; transfer-syntax=*"}),
            }
            found: dict[tuple[str, str], list[float]] = {(kind, way): [] for kind in kinds for way in ways}
            for _ in range(arguments.rounds):
                for kind, (paths, accept) in kinds.items():
                    for way, shown in ways.items():
                        found[kind, way].append(measured(gateway, paths, {**accept, **shown}, arguments.seconds))
        finally:
            gateway.stop()
    print("| what | who | CPU µs an answer, median (lowest) | against no credential |\n| --- | --- | ---: | ---: |")
    for (kind, way), times in found.items():
        base = statistics.median(found[kind, next(iter(ways))])
        median = statistics.median(times)
        print(f"| {kind} | {way} | {median:.0f} ({min(times):.0f}) | {median / base:.2f} |")


if __name__ == "__main__":
    main()
