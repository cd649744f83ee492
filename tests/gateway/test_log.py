"""Lines of the log, for people and as JSON: what a peer sends can neither end one nor say who the patient is."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Literal

import pytest
import structlog
from aiohttp.http_exceptions import BadHttpMessage

from gateway import log

Form = Literal["text", "json"]
Lines = Callable[[], list[str]]


@pytest.fixture(params=["text", "json"])
def form(request: pytest.FixtureRequest) -> Form:
    return "json" if request.param == "json" else "text"


@pytest.fixture
def lines(form: Form) -> Iterator[Lines]:
    """What is logged while the test runs, by a worker with the form."""
    root = logging.getLogger()
    handlers, level, filters = list(root.handlers), root.level, list(logging.getLogger("aiohttp.server").filters)
    for handler in handlers:
        root.removeHandler(handler)
    log.configure("http-1", "info", form)
    (ours,) = root.handlers
    assert isinstance(ours, logging.StreamHandler)
    assert ours.stream is sys.stderr
    stream = io.StringIO()
    structlog.contextvars.clear_contextvars()
    ours.setStream(stream)
    yield lambda: stream.getvalue().split("\n")[:-1]
    structlog.contextvars.clear_contextvars()
    root.removeHandler(ours)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)
    logging.getLogger("aiohttp.server").filters[:] = filters


def fail() -> None:
    raise ValueError("a\x1b[31mdefect\u2028\x85")


def test_an_event_is_a_line_with_time_level_worker_and_logger(lines: Lines, form: Form) -> None:
    logging.getLogger("gateway.http").warning("%d studies", 3)
    logging.getLogger("gateway.http").debug("nothing")
    (line,) = lines()
    if form == "text":
        assert line.split()[2:] == ["WARNING", "http-1", "gateway.http:", "3", "studies"]
        return
    found = json.loads(line)
    assert datetime.fromisoformat(found.pop("time")).tzinfo is not None
    assert found == {"level": "warning", "worker": "http-1", "logger": "gateway.http", "event": "3 studies"}


def test_control_characters_end_no_line_and_colour_no_terminal(lines: Lines, form: Form) -> None:
    logging.getLogger("gateway").info("%s", "a\nb\rc\x1b[31md\x85e\u2028f\x7f")
    try:
        fail()
    except ValueError:
        logging.getLogger("gateway").exception("it failed\nthere")
    found = lines()
    assert all(character.isprintable() for line in found for character in line)
    if form == "text":
        assert len([line for line in found if "INFO" in line or "ERROR" in line]) == 2
        return
    first, second = (json.loads(line) for line in found)
    assert first["event"] == "a\nb\rc\x1b[31md\x85e\u2028f\x7f"
    assert second["exception"].startswith("Traceback")
    assert "fail" in second["exception"]


def test_what_is_no_http_is_refused_without_a_word_of_it(lines: Lines, form: Form) -> None:
    logger = logging.getLogger("aiohttp.server")
    try:
        raise BadHttpMessage("Patient^Name")
    except BadHttpMessage:
        logger.exception("Error handling request %s", "Patient^Name")
    for name in ("aiohttp.access", "pynetdicom.acse", "botocore.endpoint", "urllib3"):
        logging.getLogger(name).error("Patient^Name")
    (line,) = lines()
    assert "Patient" not in line
    assert "no proper HTTP" in line


def test_a_line_of_json_says_which_request_it_is_about(lines: Lines, form: Form) -> None:
    log.bind("0123456789abcdef")
    logging.getLogger("gateway").info("stored")
    log.bind("fedcba9876543210")
    logging.getLogger("gateway").info("stored")
    if form == "json":
        assert [json.loads(line)["request"] for line in lines()] == ["0123456789abcdef", "fedcba9876543210"]
