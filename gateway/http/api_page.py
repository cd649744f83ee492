"""An OpenAPI document as a page to read: no script, nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Any

_STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:2rem 1rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.15rem;margin:2.2rem 0 .6rem}
a{color:inherit}.quiet{opacity:.75}
details{border:1px solid color-mix(in srgb,currentColor 22%,transparent);border-radius:.4rem;margin:.4rem 0}
summary{padding:.5rem .8rem;cursor:pointer;overflow-wrap:anywhere}
summary .say{display:block;margin-left:4.9rem}
.method{display:inline-block;width:4.2rem;margin-right:.7rem;text-align:center;border-radius:.25rem;color:#fff;
font:600 .8rem/1.6 ui-monospace,monospace}
.get{background:#1f6feb}.post{background:#1a7f37}.put{background:#9a6700}.delete{background:#cf222e}
code{font:.9em ui-monospace,monospace;overflow-wrap:anywhere}
.inside{padding:.2rem .8rem .8rem}
table{border-collapse:collapse;width:100%}caption{text-align:left;font-weight:600;padding:.6rem 0 .2rem}
td,th{text-align:left;vertical-align:top;padding:.2rem .8rem .2rem 0;
border-top:1px solid color-mix(in srgb,currentColor 12%,transparent)}
td:first-child,th:first-child{white-space:nowrap}
""".strip()

_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; frame-ancestors 'none'; base-uri 'none'"


def render(document: dict[str, Any]) -> str:
    """The page's HTML."""
    info, server = document["info"], document["servers"][0]["url"]
    tags: dict[str, list[str]] = {}
    for path, entry in document["paths"].items():
        for method in ("get", "post", "put", "delete"):
            if method in entry:
                found = _operation(method, path, entry[method], entry["parameters"])
                tags.setdefault(entry[method]["tags"][0], []).append(found)
    body = "".join(f"<h2>{escape(tag)}</h2>{''.join(operations)}" for tag, operations in tags.items())
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(info['title'])}: API</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(info['title'])} <span class=quiet>{escape(info['version'])}</span></h1>"
        f"<p>{escape(info['description'])}</p><p>Service root <code>{escape(server)}</code>, "
        f'<a href="openapi.json">OpenAPI document</a>. Send an API key as <code>Authorization: Bearer KEY</code>.</p>'
        f"{body}</body></html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any], above: list[dict[str, Any]]) -> str:
    parts = [f"<p>{escape(operation['description'])}</p>"] if "description" in operation else []
    parameters = [*above, *operation.get("parameters", ())]
    if parameters:
        rows = [(each["name"], f"{each['description']} ({each['in']})") for each in parameters]
        parts.append(_table("Parameters", rows))
    if "requestBody" in operation:
        rows = [(media_type, "") for media_type in operation["requestBody"]["content"]]
        parts.append(_table("Body", rows))
    mark = " <span class=quiet>deprecated</span>" if operation.get("deprecated") else ""
    parts.append(_table("Answers", [_answer(status, each) for status, each in operation["responses"].items()]))
    return (
        f"<details><summary><span class='method {method}'>{method.upper()}</span><code>{escape(path)}</code>{mark}"
        f"<span class='say quiet'>{escape(operation['summary'])}</span></summary>"
        f"<div class=inside>{''.join(parts)}</div></details>"
    )


def _answer(status: str, response: dict[str, Any]) -> tuple[str, str]:
    if "$ref" in response:
        return status, "a problem document"
    return status, ", ".join(response.get("content", ())) or response["description"]


def _table(caption: str, rows: list[tuple[str, str]]) -> str:
    lines = "".join(f"<tr><td><code>{escape(name)}</code></td><td>{escape(text)}</td></tr>" for name, text in rows)
    return f"<table><caption>{caption}</caption>{lines}</table>"
