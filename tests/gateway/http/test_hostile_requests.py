"""H1, H3 to H10, U1 and P7: hostile requests over real connections, and the safe outcome of each.

H2 is in ``test_connections.py``, A2 in ``test_limits.py``; ``docs/security.md`` has the whole list.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import ClientResponse, ClientSession, ClientTimeout, web

from gateway.assembly import Core
from gateway.config import Settings
from gateway.config.serving import HttpSettings
from gateway.http import headers
from tests.gateway.http.conftest import Served, serving
from tests.instances import data_set, part10_file, uid

ORIGIN = "https://viewer.example.org"
DICOM_JSON = "application/dicom+json"
MARK = "Zyxwvut"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"http": HttpSettings(port=0, cors_origins=(ORIGIN,), head_timeout_s=2)})


@pytest.fixture
async def served(core: Core) -> AsyncIterator[Served]:
    async with serving(core) as found:
        yield found


@pytest.fixture
async def session(served: Served) -> AsyncIterator[ClientSession]:
    async with ClientSession(f"http://127.0.0.1:{served.port}", timeout=ClientTimeout(60)) as found:
        yield found


async def raw(served: Served, request: bytes) -> bytes:
    """All that is answered until the connection is closed, or for two seconds."""
    reader, writer = await served.open()
    answer = b""
    try:
        writer.write(request)
        async with asyncio.timeout(2):
            while block := await reader.read(1 << 16):
                answer += block
    except (TimeoutError, ConnectionError):
        answer += b"(open)"
    finally:
        writer.close()
    return answer


class Lag:
    """The longest turn of the event loop, which serves here as well, in its own time: other processes do not count."""

    async def __aenter__(self) -> Lag:
        self.longest_s = 0.0
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _watch(self) -> None:
        while True:
            started_s = time.thread_time()
            await asyncio.sleep(0.005)
            self.longest_s = max(self.longest_s, time.thread_time() - started_s)


# H1


PART = b"--b\r\nContent-Type: application/dicom\r\n\r\n"
MULTIPARTS = {
    "a million empty parts": ("b", b"--b\r\n\r\n\r\n" * 1_000_000 + b"--b--", (400, 413)),
    "a million parts of a byte": ("b", b"--b\r\n\r\nx\r\n" * 1_000_000 + b"--b--", (400, 413)),
    "no boundary": (None, PART + b"x\r\n--b--", (400,)),
    "an empty boundary": ("", PART + b"x\r\n--b--", (400,)),
    "a boundary of 4 kB": ("b" * 4096, b"--" + b"b" * 4096 + b"\r\n\r\nx", (400,)),
    "a boundary with line ends": ('"b%0d%0aX: y"', PART + b"x\r\n--b--", (400,)),
    "no end": ("b", PART + part10_file(data_set())[:300], (400,)),
    "a multipart in a part": (
        "b",
        b"--b\r\nContent-Type: multipart/related; boundary=c\r\n\r\n--c\r\n\r\nx\r\n--c--\r\n--b--",
        (409,),
    ),
    "a part without a type": ("b", b"--b\r\n\r\n" + bytes(200) + b"\r\n--b--", (409,)),
    "a part header of 1 MB": ("b", b"--b\r\nX: " + b"x" * (1 << 20) + b"\r\n\r\nx\r\n--b--", (400,)),
    "a part header without an end": ("b", b"--b\r\n" + b"X: y\r\n" * 100_000, (400,)),
}


@pytest.mark.parametrize("what", MULTIPARTS)
async def test_h1_hostile_multiparts_cost_little_and_stop_nobody(
    served: Served, session: ClientSession, core: Core, what: str
) -> None:
    boundary, body, expected = MULTIPARTS[what]
    content_type = 'multipart/related; type="application/dicom"' + (
        "" if boundary is None else f"; boundary={boundary}"
    )

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1 << 16):
            yield body[start : start + (1 << 16)]

    spent_s = time.process_time()
    async with Lag() as lag:
        async with session.post("/dicomweb/studies", data=pieces(), headers={"Content-Type": content_type}) as answer:
            status = answer.status
        assert (await served.ask("/health/live"))[0] == 200
    assert status in expected
    assert time.process_time() - spent_s < 3
    assert lag.longest_s < 0.3
    assert not list((core.settings.storage.directory / "spool").iterdir())
    assert list(core.archive.objects.list("")) == []


# H3


SMUGGLED = b"GET /dicomweb/studies HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /dicomweb/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/dicom\r\n"
AMBIGUOUS = {
    "length and chunks": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef" + SMUGGLED,
    "a list of lengths": POST + b"Content-Length: 5, 6\r\n\r\nabcdef" + SMUGGLED,
    "a length with a sign": POST + b"Content-Length: +5\r\n\r\nabcde" + SMUGGLED,
    "a negative length": POST + b"Content-Length: -1\r\n\r\n" + SMUGGLED,
    "an unknown transfer encoding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks not last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a chunk size that is none": POST + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nabcde\r\n0\r\n\r\n" + SMUGGLED,
    "bare line feeds": POST.replace(b"\r\n", b"\n") + b"\n" + SMUGGLED,
    "a space before the colon": POST + b"Content-Length : 5\r\n\r\nabcde" + SMUGGLED,
    "a folded header": POST + b"X: a\r\n b\r\nContent-Length: 5\r\n\r\nabcde" + SMUGGLED,
    "NUL in a header": POST + b"X: a\0b\r\n\r\n" + SMUGGLED,
    "HTTP/0.9": b"GET /dicomweb/studies\r\n\r\n" + SMUGGLED,
    "HTTP/2 at once": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED,
    "no HTTP": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n" + SMUGGLED,
}


@pytest.mark.parametrize("what", AMBIGUOUS)
async def test_h3_a_request_with_two_meanings_is_refused_and_the_connection_closed(
    served: Served, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    answer = await raw(served, AMBIGUOUS[what])
    statuses = re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)
    assert statuses == [b"400"], answer
    assert not answer.endswith(b"(open)")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"X-Content-Type-Options: nosniff" in head
    assert b"aiohttp" not in head
    assert json.loads(body)["detail"] == "Bad request syntax or unsupported method"
    assert not [record for record in caplog.records if record.exc_info], "its words would be in the log"


async def test_h3_an_upgrade_is_not_one(served: Served) -> None:
    for token in (b"websocket", b"h2c"):
        answer = await raw(
            served,
            b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\nUpgrade: "
            + token
            + b"\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        )
        assert b" 101 " not in answer
        assert len(re.findall(rb"HTTP/1\.1 \d{3}", answer)) <= 1


# H4


async def stored(session: ClientSession, **attributes: Any) -> str:
    """The path of a new instance."""
    found = data_set(**attributes)
    body = part10_file(found)
    async with session.post("/dicomweb/studies", data=body, headers={"Content-Type": "application/dicom"}) as answer:
        assert answer.status == 200, await answer.text()
    return (
        f"/dicomweb/studies/{found.StudyInstanceUID}/series/{found.SeriesInstanceUID}/instances/{found.SOPInstanceUID}"
    )


INJECTED = "\r\nSet-Cookie: injected=1\r\n\r\n<script>"


async def test_h4_no_header_takes_line_ends_from_a_request(session: ClientSession) -> None:
    path = await stored(session, PatientName=f"{MARK}^x", StudyID="a\r\nX: injected")
    for place in (
        f"{path}?accept=application/zip{quote(INJECTED)}",
        f"{path}?accept={quote('application/dicom; transfer-syntax=' + INJECTED)}",
        f"{path}/frames/1?accept={quote('multipart/related; type=' + INJECTED)}",
        f"{path}/rendered?window={quote(INJECTED)}",
        f"{path}/rendered?annotation={quote(INJECTED)}&charset={quote(INJECTED)}",
        f"/dicomweb/studies?charset={quote(INJECTED)}&snapshot={quote(INJECTED)}",
        f"/dicomweb/studies/{quote(INJECTED, safe='')}",
        f"{path}?accept=application/zip",
    ):
        async with session.get(place) as answer:
            assert "Set-Cookie" not in answer.headers, place
            assert not [value for value in answer.headers.values() if "injected" in value.partition(":")[0]]
            if answer.content_type in ("application/problem+json", "application/json"):
                assert b"<script>" not in await answer.read()


# H5


def document(text: str) -> dict[str, Any]:
    return {"data": io.BytesIO(text.encode()), "headers": {"Content-Type": DICOM_JSON}}


def _instance() -> str:
    return json.dumps(data_set(PixelData=None).to_json_dict())[:-1]


DOCUMENTS = {
    "10,000 lists": "[" * 10_000 + "]" * 10_000,
    "10,000 objects": '{"a":' * 10_000 + "1" + "}" * 10_000,
    "a number that is infinite": f'[{_instance()},"00189087":{{"vr":"FD","Value":[1e400]}}}}]',
    "a name twice": f'[{_instance()},"00100020":{{"vr":"LO","Value":["somebody else"]}}}}]',
    "a name twice, deep": f'[{_instance()},"00081140":{{"vr":"SQ","Value":[{{"00081150":{{"vr":"UI","vr":""}}}}]}}}}]',
    "200,000 names": "[{" + ",".join(f'"{number:08X}":{{"vr":"LO"}}' for number in range(200_000)) + "}]",
    "no JSON": "[}",
}


@pytest.mark.parametrize("what", DOCUMENTS)
async def test_h5_hostile_json_is_refused(session: ClientSession, core: Core, what: str) -> None:
    started_s = time.monotonic()
    async with session.post("/dicomweb/studies", **document(DOCUMENTS[what])) as answer:
        assert answer.status in (400, 409, 413), await answer.text()
        if "twice" in what:
            assert answer.status == 400
            assert "a name stands twice" in await answer.text()
    assert time.monotonic() - started_s < 15
    assert list(core.archive.objects.list("")) == []


async def test_h5_metadata_of_100_mb_are_not_held(session: ClientSession) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"["
        for _ in range(100):
            yield b" " * (1 << 20)

    async with session.post(
        "/dicomweb/studies", data=endless(), headers={"Content-Type": DICOM_JSON, "Expect": "100-continue"}
    ) as answer:
        assert answer.status == 413


LAUGHS = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
XML = {
    "a billion laughs": f'<!DOCTYPE x [<!ENTITY a0 "ha">{LAUGHS}]><NativeDicomModel>&a9;</NativeDicomModel>',
    "an external entity": '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><NativeDicomModel>&e;</NativeDicomModel>',
    "an external DTD": '<!DOCTYPE x SYSTEM "{bait}"><NativeDicomModel/>',
    "a parameter entity": '<!DOCTYPE x [<!ENTITY % p SYSTEM "{bait}"> %p;]><NativeDicomModel/>',
    "nesting": "<NativeDicomModel>" + "<a>" * 100_000,
    "UTF-7": '<?xml version="1.0" encoding="UTF-7"?><NativeDicomModel/>',
}


@pytest.mark.parametrize("what", XML)
async def test_h5_hostile_xml_is_refused_and_nothing_is_fetched(session: ClientSession, what: str) -> None:
    async with Bait() as bait:
        text = XML[what].replace("{bait}", bait.url)
        sent = {"data": text.encode(), "headers": {"Content-Type": "application/dicom+xml"}}
        async with session.post("/dicomweb/studies", **sent) as answer:
            assert answer.status in (400, 409)
            assert "root:" not in await answer.text()
        await asyncio.sleep(0.05)
        assert bait.connections == 0


# H6


class Bait:
    """A listener that counts who comes."""

    connections = 0

    async def __aenter__(self) -> Bait:
        self._server = await asyncio.start_server(self._came, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/x"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _came(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()


async def test_h6_no_uri_in_metadata_is_ever_followed(session: ClientSession, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 32)
    async with Bait() as bait:
        host = bait.url.removeprefix("http://")
        for uri in (
            bait.url,
            f"gopher://{host}",
            f"ftp://{host}",
            f"//{host}",
            f"http://user@{host}",
            f"http://169.254.169.254@{host}",
            f"http://localhost:{host.partition(':')[2]}",
            "http://169.254.169.254/latest/meta-data",
            secret.as_uri(),
            str(secret),
            f"dict://{host}",
        ):
            for tag, vr in (("7FE00010", "OW"), ("00420011", "OB"), ("00104000", "LT")):
                found = {**data_set(PixelData=None).to_json_dict(), tag: {"vr": vr, "BulkDataURI": uri}}
                async with session.post("/dicomweb/studies", **document(json.dumps([found]))) as answer:
                    assert answer.status == 409, uri
        await asyncio.sleep(0.05)
        assert bait.connections == 0


# H7


SEARCHES = {
    "a number of parameters": ("&".join("includefield=a" for _ in range(500)), 400),
    "wildcards": (f"PatientName={'*' * 60}", 200),
    "wildcards between": (f"PatientName={'*a' * 200}", None),
    "single wildcards": (f"PatientID={'?' * 64}", 204),
    "a huge limit": ("limit=999999999", 200),
    "a huge offset": ("offset=999999999", 204),
    "a limit beyond integers": ("limit=99999999999999999999999", 400),
    "an unknown attribute": ("Nonsense=1", 400),
    "SQL in a value": ("PatientID=" + quote("' OR 1=1; DROP TABLE instances; --"), 204),
    "SQL in a name": (quote("PatientID' OR '1'='1") + "=1", 400),
    "SQL wildcards": ("PatientID=" + quote("%_[a]"), 204),
    "a backslash": ("PatientID=" + quote("a\\"), None),
    "a regular expression": ("PatientName=" + quote("(a+)+$"), 204),
    "NUL": ("PatientName=%00", None),
    "broken UTF-8": ("PatientName=%ff%fe", None),
    "a direction override": ("PatientName=%E2%80%AE", 204),
    "dots": (".".join(["00400275"] * 60) + "=1", 400),
}


@pytest.mark.parametrize("what", SEARCHES)
async def test_h7_hostile_searches_are_refused_or_bounded(
    session: ClientSession, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    await stored(session, PatientName="Smith^John", PatientID="1")
    # Whoever tries every way in which a pattern may match, tries them for ever on this one.
    await stored(session, PatientName="a" * 63 + "!", PatientID="2")
    query, expected = SEARCHES[what]
    started_s = time.monotonic()
    async with session.get(f"/dicomweb/studies?{query}") as answer:
        assert answer.status in ((expected,) if expected else (200, 204, 400)), what
        text = (await answer.text()).lower()
    assert time.monotonic() - started_s < 10
    assert not re.search(r"sqlite|syntax error|select |psycopg|traceback", text)
    assert not [record for record in caplog.records if record.exc_info]
    async with session.get("/dicomweb/studies?PatientID=1") as answer:
        assert answer.status == 200


# H8


EVIL = "<script>alert(1)</script>"
EVIL_SVG = f'<svg xmlns="http://www.w3.org/2000/svg">{EVIL}</svg>'.encode()


def harmless(answer: ClientResponse) -> None:
    """Whatever is in it, a browser neither runs it in our origin nor takes it for something else."""
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.content_type not in ("image/svg+xml", "text/xml", "application/xhtml+xml")


@pytest.mark.parametrize("content_type", ["application/pdf", "text/html", "image/svg+xml", "text/xml"])
async def test_h8_encapsulated_documents_are_to_be_saved_and_never_pages(
    session: ClientSession, content_type: str
) -> None:
    path = await stored(
        session,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1",
        MIMETypeOfEncapsulatedDocument=content_type,
        EncapsulatedDocument=EVIL_SVG + b" " * (len(EVIL_SVG) % 2),
        PixelData=None,
        PatientName=EVIL,
        StudyDescription=EVIL,
    )
    for accept in ("*/*", "application/octet-stream", content_type, "text/html"):
        async with session.get(f"{path}/bulkdata/00420011", headers={"Accept": accept}) as answer:
            if answer.status == 200 and not answer.content_type.startswith("multipart"):
                assert answer.content_type == "application/octet-stream"
                assert answer.headers["Content-Disposition"] == "attachment"
            harmless(answer)
    for place in (path, f"{path}/metadata", f"{path}/rendered", "/dicomweb/studies"):
        for accept in ("text/html", "*/*", "image/svg+xml"):
            async with session.get(place, headers={"Accept": accept}) as answer:
                harmless(answer)
                if answer.content_type == "text/html":
                    assert EVIL not in await answer.text()


async def test_h8_p7_a_preamble_that_is_a_page_is_not_served(session: ClientSession) -> None:
    found = data_set()
    page = EVIL.encode().ljust(128, b" ")
    body = page + part10_file(found)[128:]
    async with session.post("/dicomweb/studies", data=body, headers={"Content-Type": "application/dicom"}) as answer:
        assert answer.status == 200
    path = (
        f"/dicomweb/studies/{found.StudyInstanceUID}/series/{found.SeriesInstanceUID}/instances/{found.SOPInstanceUID}"
    )
    async with session.get(path, headers={"Accept": "application/dicom; transfer-syntax=*"}) as answer:
        assert answer.status == 200
        harmless(answer)
        received = await answer.read()
    assert received[:128] == bytes(128)
    assert EVIL.encode() not in received


async def test_h8_every_answer_says_what_a_browser_may_do_with_it(session: ClientSession) -> None:
    path = await stored(session)
    for place in (
        "/health/live",
        "/nowhere",
        "/dicomweb/studies",
        "/dicomweb/studies?limit=x",
        f"{path}/metadata",
        path,
    ):
        async with session.get(place) as answer:
            harmless(answer)
            assert answer.headers["Content-Security-Policy"] == headers.CONTENT_SECURITY_POLICY
            assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert "camera=()" in answer.headers["Permissions-Policy"]
            assert re.fullmatch(r"private, no-(store|cache)", answer.headers["Cache-Control"])
            assert answer.headers["Server"] == "gateway"


# H9


async def test_h9_one_event_is_one_line_whatever_a_request_holds(
    served: Served, session: ClientSession, core: Core, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    forged = f"{MARK}\r\n2026-01-01 INFO forged\x1b[31m\u2028"
    await stored(session, PatientName=MARK, StudyDescription="a\x1b[31mb", SeriesDescription="c\nINFO forged")
    async with session.get(f"/dicomweb/studies?PatientName={quote(forged)}"):
        pass
    for agent in (b"x\x1b[31m\x7f forged", b"x\r forged", b"x\n forged", b"\xff\xfe forged"):
        await raw(
            served,
            b"GET /dicomweb/studies HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nUser-Agent: "
            + agent
            + b"\r\n\r\n",
        )
    async with session.get(f"/{quote(forged, safe='')}"):
        pass
    for file in (core.settings.storage.directory / "audit").rglob("*.jsonl"):
        lines = file.read_bytes().split(b"\n")
        assert lines.pop() == b""
        for line in lines:
            json.loads(line)
            assert not re.search(rb"[\x00-\x1f\x7f]", line)
            assert b"forged" not in line
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("gateway")]
    assert messages
    assert not [text for text in messages if MARK in text or "forged" in text or "\x1b" in text or "\n" in text]


# H10


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        f"{ORIGIN}.evil.example",
        f"{ORIGIN}:8443",
        "http://viewer.example.org",
        "https://evil-viewer.example.org",
        "https://VIEWER.example.org.",
        f"{ORIGIN}/",
        f"{ORIGIN}, https://evil.example",
        "https://viewer.example.org@evil.example",
        "*",
    ],
)
async def test_h10_an_origin_that_is_not_exactly_a_configured_one_gets_nothing(
    session: ClientSession, origin: str
) -> None:
    for method in ("GET", "OPTIONS"):
        async with session.request(
            method, "/dicomweb/studies", headers={"Origin": origin, "Access-Control-Request-Method": "GET"}
        ) as answer:
            assert not [name for name in answer.headers if name.lower().startswith("access-control-allow")]
            assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert "Origin" in ", ".join(answer.headers.getall("Vary"))


async def test_h10_the_configured_origin_gets_its_own_name_and_no_credentials(session: ClientSession) -> None:
    async with session.get("/dicomweb/studies", headers={"Origin": ORIGIN}) as answer:
        assert answer.headers.getall("Access-Control-Allow-Origin") == [ORIGIN]
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
        assert answer.headers.getall("Vary").count("Origin") == 1


@pytest.mark.parametrize(
    "host", [b'localhost"><script>', b"localhost/x", b"evil@localhost", b"localhost:80:90", b"", b"localhost localhost"]
)
async def test_h10_a_host_that_is_none_is_not_reflected(served: Served, host: bytes) -> None:
    request = b"GET /dicomweb/studies HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n"
    answer = await raw(served, request)
    assert re.match(rb"HTTP/1\.[01] (400|401) ", answer), answer
    assert b"<script>" not in answer


async def test_h10_no_redirect_leads_elsewhere(settings: Settings) -> None:
    from gateway import assembly

    http = settings.http.model_copy(update={"path_prefix": "/imaging"})
    core = assembly.build(settings.model_copy(update={"http": http}), "prefixed")
    async with serving(core) as served:
        for path in (
            b"/imaging",
            b"//evil.example",
            b"//evil.example/imaging",
            b"/imaging//evil.example",
            b"http://evil.example/imaging",
        ):
            answer = await raw(served, b"GET " + path + b" HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
            (location,) = re.findall(rb"Location: (\S*)", answer) or [b"imaging/"]
            assert location == b"imaging/", path
    core.close()


# U1


@pytest.mark.parametrize(
    "text",
    [
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e",
        "%2e%2e%2f",
        "%252e%252e%252f",
        "..%5cwindows",
        "%2fetc%2fpasswd",
        "1.2%00.3",
        "1." + "2" * 63,
        "1..2",
        "1.2.",
        "%C2%B9.2",
        "%D9%A1.2",
        "%20",
        "1.2%0a",
        "-1.2",
    ],
)
async def test_u1_an_identifier_that_is_no_uid_is_refused_on_every_path(session: ClientSession, text: str) -> None:
    from yarl import URL

    good = uid()
    for path in (
        f"/dicomweb/studies/{text}",
        f"/dicomweb/studies/{text}/metadata",
        f"/dicomweb/studies/{good}/series/{text}/metadata",
        f"/dicomweb/studies/{good}/series/{good}/instances/{text}",
        f"/dicomweb/studies/{good}/series/{good}/instances/{text}/frames/1",
        f"/dicomweb/wado?requestType=WADO&studyUID={text}&seriesUID={good}&objectUID={good}",
        f"/dicomweb/commitment-requests/{text}",
    ):
        async with session.get(URL(path, encoded=True)) as answer:
            assert answer.status == 400, (path, answer.status)
    async with session.post(URL(f"/dicomweb/studies/{text}", encoded=True), data=part10_file(data_set())) as answer:
        assert answer.status == 400


async def test_an_answer_that_is_a_page_by_mistake_would_still_run_nothing(core: Core, aiohttp_client: Any) -> None:
    """The header goes onto answers of handlers that know nothing of it."""
    from gateway.http import application
    from gateway.http.route import Route

    async def page(_request: web.Request) -> web.StreamResponse:
        return web.Response(text=EVIL, content_type="text/html")

    client = await aiohttp_client(application.build(core, [Route("GET", "/page", page, None)]))
    async with client.get("/page") as answer:
        assert answer.headers["Content-Security-Policy"].endswith("; sandbox")
