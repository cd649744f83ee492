"""A structured report as one HTML page: no script, no request of its own, every text escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from html import escape

from gateway.services.report import MAX_ITEMS, RELATIONSHIPS, Code, Item, Report

_STYLE = """
:root{color-scheme:light dark;--text:#1b232c;--soft:#5d6b7a;--line:#dde3ea;--ground:#fff;--raised:#f5f7fa;
--mark:#1f6feb}
@media(prefers-color-scheme:dark){:root{--text:#e4e9ef;--soft:#93a1b0;--line:#303a45;--ground:#14191f;--raised:#1b222a;
--mark:#6ea8fe}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--text);font:15px/1.5 system-ui,sans-serif}
main{max-width:60rem;margin:0 auto;padding:2rem 1.5rem 4rem}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 1rem}
h2,h3,h4,h5{margin:1.4rem 0 .4rem;line-height:1.3}
h2{font-size:1.2rem;border-bottom:1px solid var(--line);padding-bottom:.25rem}
h3{font-size:1.05rem}h4,h5{font-size:.95rem}
header dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(13rem,1fr));gap:.7rem 1.2rem;margin:0;
padding:1rem;background:var(--raised);border:1px solid var(--line);border-radius:.5rem}
header dt{font-size:.78rem;color:var(--soft)}header dd{margin:0;overflow-wrap:anywhere}
header p{margin:.8rem 0 0;color:var(--soft)}
.item{display:grid;grid-template-columns:minmax(9rem,16rem) 1fr;gap:.1rem 1rem;padding:.3rem 0;
border-bottom:1px solid var(--line)}
.name{color:var(--soft)}.value{white-space:pre-wrap;overflow-wrap:anywhere}
.value b{font-weight:600;font-variant-numeric:tabular-nums}
.uid{font-size:.85em;font-family:ui-monospace,monospace}
.part{margin-left:1.1rem;padding-left:.9rem;border-left:2px solid var(--line)}
small{color:var(--soft);font-size:.78rem}
.rel{color:var(--mark);font-size:.78rem;margin-right:.35rem}
@media(max-width:40rem){.item{grid-template-columns:1fr}.part{margin-left:.2rem}}
@media print{main{max-width:none;padding:0}}
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode("ascii")

CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'; sandbox"
)
"""Nothing but this page's own style: even a text that escaped its escaping could neither run nor fetch."""


def write(report: Report) -> bytes:
    """The page, in UTF-8."""
    return "".join(_page(report)).encode("utf-8", "replace")


def _page(report: Report) -> Iterator[str]:
    yield '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width,initial-scale=1">'
    yield f"<title>{escape(report.title)}</title><style>{_STYLE}</style></head><body><main><header>"
    yield f"<h1>{escape(report.title)}</h1><dl>"
    for label, value in report.facts:
        yield f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>"
    yield "</dl>"
    for observer in report.observers:
        yield f"<p>Verified by {escape(observer)}</p>"
    yield "</header>"
    for item in report.items:
        yield from _item(item, 2)
    if not report.complete:
        yield f"<p><small>Only the first {MAX_ITEMS} content items are shown.</small></p>"
    yield "</main></body></html>"


def _item(item: Item, level: int) -> Iterator[str]:
    if item.kind == "CONTAINER":
        heading = min(level, 5)
        yield f"<section><h{heading}>{_relationship(item)}{_code(item.name) or 'Section'}</h{heading}>"
        for child in item.children:
            yield from _item(child, level + 1)
        yield "</section>"
        return
    yield f'<div class="item"><div class="name">{_relationship(item)}{_code(item.name)}</div>'
    yield f'<div class="value">{_value(item)}</div></div>'
    if item.children:
        yield '<div class="part">'
        for child in item.children:
            yield from _item(child, level + 1)
        yield "</div>"


def _relationship(item: Item) -> str:
    word = RELATIONSHIPS.get(item.relationship, "")
    return f'<span class="rel">{word}</span>' if word else ""


def _code(code: Code | None) -> str:
    if code is None:
        return ""
    identity = f' <small title="code">({escape(code.identity)})</small>' if code.identity else ""
    return f"{escape(code.meaning)}{identity}"


def _value(item: Item) -> str:
    if item.code is not None:
        return _code(item.code)
    if item.kind == "NUM":
        unit = ""
        if item.unit is not None:
            unit = f" {escape(item.unit.value or item.unit.meaning)}"
            if item.unit.meaning not in ("", item.unit.value):
                unit += f" <small>({escape(item.unit.meaning)})</small>"
        return f"<b>{escape(item.value)}</b>{unit}"
    if item.kind in ("IMAGE", "COMPOSITE", "WAVEFORM", "UIDREF"):
        return f'<span class="uid">{escape(item.value)}</span>'
    return escape(item.value)
