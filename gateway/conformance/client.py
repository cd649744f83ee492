"""A client that asks as it is told to, and remembers how it asked and what it was answered.

What it tells has no patient's values in it: UIDs are shown by names, and where the data are not the kit's own, values
that were searched for are left out and no error is quoted.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit
from xml.etree import ElementTree

from gateway.conformance import parts
from gateway.conformance.claims import Broken, Unsupported

JSON = "application/dicom+json"
XML = "application/dicom+xml"
DICOM = "application/dicom"
OCTETS = "application/octet-stream"

_MOST_BODY_BYTES = 256 << 20
_EXCERPT = 160
_TOLD = frozenset(
    (
        *("limit", "offset", "includefield", "fuzzymatching", "accept", "viewport", "window", "quality"),
        *("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "ModalitiesInStudy"),
    )
)
"""Parameters whose values are nobody's."""
_DECLINED = (400, 404, 405, 406, 415, 501)
"""What a server may answer to what it does not do."""


class NotReached(Exception):
    """The server does not answer, or not to us; ``advice`` says what to do."""

    def __init__(self, text: str, advice: str) -> None:
        super().__init__(text)
        self.advice = advice


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, and how it was asked for."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    told: str

    @property
    def media_type(self) -> str:
        """The Content-Type without parameters."""
        return self.headers.get_content_type() if "Content-Type" in self.headers else ""

    def has(self, *statuses: int) -> Answer:
        """Itself, with one of some statuses."""
        if self.status not in statuses:
            raise Broken(f"status {' or '.join(map(str, statuses))} is right")
        return self

    def offered(self) -> Answer:
        """Itself, of a server that does what it need not do."""
        if self.status in _DECLINED:
            raise Unsupported
        return self

    def typed(self, *media_types: str) -> Answer:
        """Itself, with one of some media types."""
        if self.media_type not in media_types:
            raise Broken(f"Content-Type {' or '.join(media_types)} is right")
        return self

    def results(self) -> list[dict[str, Any]]:
        """The objects of an answer in the DICOM JSON Model; none of one without content."""
        if self.status == 204:
            return []
        self.has(200).typed(JSON, "application/json")
        found = self._json()
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise Broken("the body is no array of objects (PS3.18 Annex F)")
        return found

    def document(self) -> dict[str, Any]:
        """The one object of an answer in the DICOM JSON Model."""
        found = self._json()
        # PS3.18 F.2.1 has an array around whatever there is; the store response is an object by itself.
        if isinstance(found, list) and len(found) == 1:
            found = found[0]
        if not isinstance(found, dict):
            raise Broken("the body is no object of the DICOM JSON Model (PS3.18 Annex F)")
        return found

    def _json(self) -> object:
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise Broken(f"the body is no JSON: {error}") from error

    def parts(self, *media_types: str) -> list[parts.Part]:
        """The parts of a multipart answer, each of one of some media types."""
        self.typed("multipart/related")
        found = parts.split(self.headers.get_param("boundary"), self.body)
        for each in found:
            if each.media_type not in media_types:
                raise Broken(f"a part has Content-Type {each.content_type!r}; {' or '.join(media_types)} is right")
        return found

    def xml(self) -> ElementTree.Element:
        """The root of an XML document; document types are refused, so that no entity is ever expanded."""
        return read_xml(self.body)


def read_xml(body: bytes) -> ElementTree.Element:
    """The root of an XML document without a document type."""
    if b"<!DOCTYPE" in body:
        raise Broken("the XML has a document type")
    try:
        return ElementTree.fromstring(body)  # noqa: S314 - what expands entities was refused
    except ElementTree.ParseError as error:
        raise Broken(f"the body is no XML: {error}") from error


class Client:
    """Asks one server; a connection for each request, so that one answer cannot spoil the next."""

    def __init__(
        self,
        root: str,
        headers: Mapping[str, str],
        context: ssl.SSLContext | None = None,
        timeout_s: float = 60.0,
        *,
        discreet: bool = True,
    ) -> None:
        parts_of = urlsplit(root)
        if parts_of.scheme not in ("http", "https") or not parts_of.hostname or parts_of.query or parts_of.fragment:
            raise ValueError(f"{root!r} is no service root; http://host:8042/dicom-web is one")
        self.root = root.rstrip("/")
        self._secure = parts_of.scheme == "https"
        self._host, self._port = parts_of.hostname, parts_of.port
        self._path = parts_of.path.rstrip("/")
        self._headers = dict(headers)
        self._context = context
        self._timeout_s = timeout_s
        self._discreet = discreet
        self._names: dict[str, str] = {}
        self._last: Answer | None = None

    @property
    def last(self) -> str:
        """How it asked last, and what it was answered."""
        return self._last.told if self._last is not None else ""

    def forget(self) -> None:
        """Nothing was asked yet."""
        self._last = None

    def name(self, value: str, name: str) -> None:
        """Show a value by a name from now on."""
        if value:
            self._names[value] = name

    def shown(self, text: str) -> str:
        """A text with UIDs by their names."""
        for value in sorted(self._names, key=len, reverse=True):
            text = text.replace(value, f"{{{self._names[value]}}}")
        return text

    def _shown_query(self, query: str) -> str:
        """A query as it may be told of."""
        pairs = [each.partition("=") for each in query.split("&")]
        return "&".join(
            name + equals + ("..." if self._discreet and name not in _TOLD and value else self.shown(value))
            for name, equals, value in pairs
        )

    def get(
        self, path: str, accept: str | None = None, query: Sequence[tuple[str, str]] = (), **headers: str
    ) -> Answer:
        """Retrieve; a keyword with an underscore is a header with a hyphen."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("GET", path + (f"?{urlencode(query, safe='*?,')}" if query else ""), accept, headers=more)

    def search(self, path: str, **query: str | int) -> list[dict[str, Any]]:
        """The results of a search."""
        return self.get(path, JSON, [(name, str(value)) for name, value in query.items()]).results()

    def ask(
        self,
        method: str,
        path: str,
        accept: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """An answer, whatever its status."""
        given = {**self._headers, "Accept-Encoding": "identity", **(headers or {})}
        if accept is not None:
            given["Accept"] = accept
        place, _, query = path.partition("?")
        told = f"asked {method} {self.shown(place) or '/'}" + (f"?{self._shown_query(query)}" if query else "")
        shown = {name: value for name, value in (headers or {}).items() if name != "Content-Length"}
        told += "".join(
            f", {name}: {value}" for name, value in {**({"Accept": accept} if accept else {}), **shown}.items()
        )
        connection = self._connection()
        try:
            connection.request(method, self._path + path, body, given)
            response = connection.getresponse()
            found = response.read(_MOST_BODY_BYTES + 1)
        except http.client.HTTPException as error:
            raise Broken(f"{told}: the answer is no HTTP: {type(error).__name__} {error}") from error
        except (TimeoutError, ConnectionResetError, BrokenPipeError) as error:
            raise Broken(f"{told}: no answer: {error or type(error).__name__}") from error
        except OSError as error:
            advice = "does it run, and is this its service root? --tls-ca FILE names the authority of a certificate"
            raise NotReached(f"{self.root}: {error}", advice) from error
        finally:
            connection.close()
        if len(found) > _MOST_BODY_BYTES:
            raise Broken(f"{told}: answered more than {_MOST_BODY_BYTES >> 20} MiB")
        content_type = response.headers.get("Content-Type", "no Content-Type")
        told += f"; answered {response.status} {content_type}, {len(found)} bytes"
        if response.status >= 400 and found and not self._discreet:
            excerpt = " ".join(self.shown(found[:2000].decode("utf-8", "replace")).split())[:_EXCERPT]
            told += f": {excerpt}"
        self._last = Answer(response.status, response.headers, found, told)
        return self._last

    def of_url(self, url: str, accept: str) -> Answer:
        """What stands at a URL of an answer, absolute or relative to the service root; of this server alone."""
        there = urlsplit(url)
        if there.netloc and there.hostname != self._host:
            raise Broken(f"the URL leads to another host, {there.hostname}")
        path = there.path if there.netloc or url.startswith("/") else f"{self._path}/{there.path}"
        if not path.startswith(f"{self._path}/"):
            raise Broken(f"the URL leads out of the service, to {self.shown(path)}")
        return self.ask("GET", path.removeprefix(self._path) + (f"?{there.query}" if there.query else ""), accept)

    def _connection(self) -> http.client.HTTPConnection:
        if self._secure:
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=self._context)
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
