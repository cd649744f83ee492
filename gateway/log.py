"""Logging of one process: lines for operators, on standard error, without patient data."""

from __future__ import annotations

import logging
from typing import Literal

import structlog
from aiohttp.http_exceptions import HttpProcessingError
from structlog.typing import EventDict, WrappedLogger

_ESCAPES = {code: f"\\x{code:02x}" for code in [*range(32), 127, *range(0x80, 0xA0)]} | {0x2028: " ", 0x2029: " "}


class _OneLine(logging.Formatter):
    """One line an event: control characters that a peer sent cannot start another line or colour a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        first, *trace = text.split("\n") if record.exc_info else [text]
        return "\n".join([first.translate(_ESCAPES), *(line.translate(_ESCAPES) for line in trace)])


class _WithoutPeersBytes(logging.Filter):
    """aiohttp quotes what it could not read as HTTP; a peer's header or URL may hold patient data."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
            record.exc_info, record.exc_text = None, None
            record.msg, record.args = "a request that is no proper HTTP was refused", ()
        return True


def configure(worker: str, level: str, form: Literal["text", "json"] = "text") -> None:
    """Log this process's events under its name, from a level ("info", "warning", ...) upwards."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        _json(worker) if form == "json" else _OneLine(f"%(asctime)s %(levelname)-7s {worker:<10} %(name)s: %(message)s")
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Nobody reads which thread, process or line of code an event is from, and to find out takes a third of an event.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = ""
    logging.getLogger("aiohttp.server").addFilter(_WithoutPeersBytes())
    # Their lines hold URLs with queries, and identifiers: patient data.
    for name in ("aiohttp.access", "pynetdicom", "botocore", "boto3", "urllib3", "pydicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def bind(request_id: str) -> None:
    """Have what this thread or task logs from now on say which request it is about; in lines of JSON."""
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request=request_id)


def _json(worker: str) -> logging.Formatter:
    """One JSON object a line, of ASCII alone: nothing that a peer sent can end it or colour a terminal."""

    def named(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["worker"] = worker
        return event

    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            named,
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("event"),
            structlog.processors.JSONRenderer(sort_keys=True, ensure_ascii=True),
        ],
    )
