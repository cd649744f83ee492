"""The conformance kit: this gateway keeps every claim, and a server that does not is found out."""

from __future__ import annotations

import http.client
import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway import cli
from gateway.commands import terminal
from gateway.conformance import client, material, running, visit
from gateway.conformance.claims import Outcome, Result, Service
from tests.conformance.claims import STATEMENT
from tests.conformance.conftest import CT_KEY, Web, instance_path
from tests.instances import data_set

NAMES = [each.name for each in running.CLAIMS]
Headers = dict[str, str]
Lie = Callable[[http.server.BaseHTTPRequestHandler, int, Headers, bytes], tuple[int, Headers, bytes]]


@pytest.fixture(scope="module")
def own(web: Web) -> dict[str, Result]:
    """What becomes of each claim at this gateway."""
    visited = visit.Visit(client.Client(web.root, {}, discreet=False), material.make())
    visited.prepare()
    return {each.claim.name: each for each in running.run(visited)}


@pytest.mark.parametrize("name", NAMES)
def test_the_gateway_keeps_every_claim(own: dict[str, Result], name: str) -> None:
    assert (own[name].outcome, own[name].claim.name) == (Outcome.PASSED, name), own[name].detail


@pytest.mark.parametrize("server", ["gateway", "orthanc"])
def test_the_results_that_are_printed_are_of_these_claims(server: str) -> None:
    text = (STATEMENT.parent / f"conformance-results-{server}.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \| ([^|]+) \| (?:\*\*)?(?:passed|failed|not supported|skipped)", text, re.MULTILINE)
    claims = [(each.text.replace("*", "\\*").replace("_", "\\_"), each.section) for each in running.CLAIMS]
    assert sorted(rows) == sorted(claims), "run the kit anew; docs/conformance-kit.md says how"


def test_names_of_claims_are_different_and_services_in_order() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert {each.service for each in running.CLAIMS} == set(Service)


@contextmanager
def lying(root: str, lie: Lie) -> Iterator[str]:
    """The gateway behind something that says otherwise; its service root."""
    port = int(root.rpartition(":")[2].partition("/")[0])

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            there = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            there.request(self.command, self.path, body, dict(self.headers))
            answer = there.getresponse()
            content = answer.read()
            there.close()
            status, headers, content = lie(self, answer.status, dict(answer.headers), content)
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(content)
            self.close_connection = True

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/dicomweb"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def status(found: int, instead: int) -> Lie:
    return lambda _, status, headers, body: (instead if status == found else status, headers, body)


def without(name: str) -> Lie:
    return lambda _, status, headers, body: (status, {k: v for k, v in headers.items() if k != name}, body)


def replaced(old: bytes, new: bytes, path: str = "") -> Lie:
    return lambda request, status, headers, body: (
        (status, headers, body.replace(old, new)) if path in request.path else (status, headers, body)
    )


def of_type(old: str, new: str) -> Lie:
    def lie(_: Any, status: int, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        kind = headers.get("Content-Type", "")
        return status, {**headers, "Content-Type": kind.replace(old, new)} if kind else headers, body

    return lie


def empty(parameter: str) -> Lie:
    return lambda request, status, headers, body: (
        (204, {}, b"") if parameter in request.path else (status, headers, body)
    )


@pytest.mark.parametrize(
    ("lie", "broken"),
    [
        (empty("emptyvaluematching"), {"search-empty-value"}),
        (empty("multiplevaluematching"), {"search-multiple-values"}),
        (status(409, 200), {"store-mismatch"}),
        (status(202, 200), {"store-partly", "store-beside-garbage"}),
        (status(415, 400), {"store-media-type"}),
        (replaced(b'"00081199"', b'"00081198"'), {"store-dicom"}),
        (replaced(b'"00081197"', b'"00081196"'), {"store-mismatch"}),
        (without("Warning"), {"search-warning"}),
        (replaced(b'"00201206"', b'"00201299"'), {"search-study-attributes"}),
        (replaced(b'"00081190"', b'"00081191"'), {"search-retrieve-url"}),
        (status(400, 200), {"search-bad-limit", "frames-out-of-form"}),
        (status(404, 200), {"retrieve-unknown"}),
        (status(406, 200), {"accept-unknown", "retrieve-unknown-syntax"}),
        (of_type("application/dicom+json", "text/plain"), {"search-studies", "metadata-json", "accept-anything"}),
        (replaced(bytes(range(64, 128)), bytes(64), "/frames/"), {"frames-one", "frames-decompressed", "store-json"}),
        (replaced(b"--\r\n", b"\r\n", "/frames/"), {"frames-one", "frames-list"}),
        (replaced(b"\xff\xd8\xff", b"\x00\x00\x00", "/rendered"), {"rendered-jpeg"}),
    ],
)
def test_a_server_that_does_otherwise_is_found_out(web: Web, lie: Lie, broken: set[str]) -> None:
    with lying(web.root, lie) as root:
        visited = visit.Visit(client.Client(root, {}, discreet=False), material.make())
        visited.prepare()
        asked = [each for each in running.CLAIMS if each.name in {"store-dicom", "store-compressed", *broken}]
        found = {each.claim.name: each for each in running.run(visited, asked)}
    kept = {name for name, each in found.items() if each.outcome is Outcome.PASSED}
    assert broken & kept == set()
    required = {each.name for each in asked if each.required}
    assert {name for name in broken & required if found[name].outcome is not Outcome.FAILED} == set()
    for name in broken:
        assert "asked " in found[name].detail, found[name]


def test_without_store_nothing_changes_and_no_patient_is_told_of(
    web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    web.store(data_set(PatientID="Private-4711", PatientName="Gray^Ann", StudyDate="20260707"))
    before = web.get("/changefeed/latest").json()["next"]
    # Something that is wrong, so that the report tells what was asked.
    with lying(web.root, status(200, 500)) as root:
        assert cli.main(["conformance", root]) == terminal.FAILED
    lied = capsys.readouterr()
    arguments = ["--markdown", str(tmp_path / "r.md"), "--html", str(tmp_path / "r.html"), "--name", "a <server>"]
    assert cli.main(["conformance", web.root, "--json", *arguments]) == terminal.OK
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert report["counts"]["failed"] == 0
    assert report["counts"]["passed"] > 30
    outcomes = {each["claim"]: each["outcome"] for each in report["claims"]}
    assert outcomes["store-dicom"] == outcomes["deletion"] == Outcome.SKIPPED
    # What was stored some minutes ago is complete by now, whoever asks.
    since = web.get(f"/changefeed?after={before}&limit=1000").json()["changes"]
    assert [each for each in since if each["action"] != "completed"] == []
    page, text = (tmp_path / "r.html").read_text(), (tmp_path / "r.md").read_text()
    assert "a &lt;server&gt;" in page
    assert text.count("\n| ") - len([each for each in text.splitlines() if each == "| --- | --- | --- | --- |"]) > 80
    for each in (lied.out, lied.err, said.out, said.err, page, text):
        assert not [secret for secret in ("4711", "Gray", "20260707") if secret in each]


def test_a_study_that_cannot_be_deleted_is_named(web: Web, capsys: pytest.CaptureFixture[str]) -> None:
    def undeletable(request: Any, status: int, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        return (405, {"Allow": "GET"}, b"") if request.command == "DELETE" else (status, headers, body)

    with lying(web.root, undeletable) as root:
        assert cli.main(["conformance", root, "--store", "--only", "search"]) == terminal.OK
    assert "is still there; delete it" in capsys.readouterr().err
    assert cli.main(["conformance", web.root, "--store", "--only", "search"]) == terminal.OK
    assert "is still there" not in capsys.readouterr().err


def test_who_is_asked_for_is_told_what_to_do(web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["conformance", web.root, "--header", "X-API-Key: nobody's"]) == terminal.UNREACHED
    assert "--token-file" in capsys.readouterr().err
    (tmp_path / "token").write_text(f"{CT_KEY}\n")
    web.store(data_set())
    given = ["conformance", web.root, "--only", "search", "--token-file", str(tmp_path / "token")]
    assert cli.main(given) == terminal.OK, capsys.readouterr().out


def test_no_server_and_no_service_root(web: Web, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["conformance", "http://127.0.0.1:1/dicomweb"]) == terminal.UNREACHED
    assert "does it run" in capsys.readouterr().err
    assert cli.main(["conformance", web.root + "/elsewhere"]) == terminal.UNREACHED
    assert "give the service root" in capsys.readouterr().err
    assert cli.main(["conformance", "dicomweb"]) == terminal.USAGE
    assert cli.main(["conformance", web.root, "--header", "no colon"]) == terminal.USAGE


def test_what_was_found_is_a_place_of_the_server(web: Web) -> None:
    (found,) = web.store(data_set())
    assert visit.of(found).instance == instance_path(found)
