"""What is installed is compared with the advisory databases, wherever one of them answers."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

AUDIT = [sys.executable, "-m", "pip_audit", "--skip-editable", "--progress-spinner", "off", "--format", "json"]
HOLED = "aiohttp==3.9.1\n"
"""PYSEC-2024-24 and others are about it: who names none of them knows of no holes at all."""


class Advisories(BaseHTTPRequestHandler):
    """The query interface of OSV, for one hole in pydicom of every version."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        hole = {"id": "PYSEC-0000-1", "modified": "2024-01-01T00:00:00Z", "summary": "a hole", "affected": []}
        body = json.dumps({"vulns": [hole]} if asked["package"]["name"] == "pydicom" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a test has no log."""


@contextmanager
def advisories() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Advisories) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()


def holes(done: subprocess.CompletedProcess[str]) -> dict[str, list[str]]:
    """Packages that have some, and their names."""
    assert done.returncode in (0, 1), done.stderr
    found = {
        each["name"]: [hole["id"] for hole in each.get("vulns", [])] for each in json.loads(done.stdout)["dependencies"]
    }
    return {name: ids for name, ids in found.items() if ids}


def audit(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*AUDIT, *arguments], capture_output=True, text=True, timeout=240, check=False)


def test_a_hole_in_what_is_installed_is_found_and_fails_the_audit() -> None:
    with advisories() as url:
        done = audit("--vulnerability-service", "osv", "--osv-url", url)
    assert done.returncode == 1
    assert holes(done) == {"pydicom": ["PYSEC-0000-1"]}


def test_nothing_that_is_installed_has_a_known_hole(tmp_path: Path) -> None:
    (tmp_path / "holed.txt").write_text(HOLED)
    for service in ("pypi", "osv"):
        probe = audit(
            "--vulnerability-service", service, "-r", str(tmp_path / "holed.txt"), "--no-deps", "--disable-pip"
        )
        if probe.returncode == 1 and probe.stdout and holes(probe):
            assert holes(audit("--vulnerability-service", service)) == {}
            return
    pytest.skip("no advisory database answers from here: neither pypi.org nor osv.dev")
