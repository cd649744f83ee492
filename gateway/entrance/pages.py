"""The few pages of the entrance: made here, without scripts, safe to show to anybody."""

from __future__ import annotations

import base64
import hashlib
from html import escape

from aiohttp import web

_STYLE = """
:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}
body{margin:0;min-height:100vh;display:grid;place-items:center}
main{width:min(22rem,calc(100vw - 3rem));padding:2rem 0}
h1{font-size:1.35rem;margin:0 0 1rem}
form{display:grid;gap:.3rem;margin:0 0 1.2rem}
label{font-size:.9rem;margin-top:.6rem}
input,button,.button{font:inherit;padding:.55rem .7rem;border-radius:.4rem;border:1px solid
color-mix(in srgb,currentColor 35%,transparent);background:Field;color:FieldText;box-sizing:border-box}
button,.button{background:#1f5fbf;color:#fff;border-color:#1f5fbf;margin-top:1rem;cursor:pointer;text-align:center;
text-decoration:none;display:block}
input:focus-visible,button:focus-visible,.button:focus-visible{outline:3px solid #7aa7f0;outline-offset:2px}
.wrong{border-left:.3rem solid #c62828;padding:.2rem .8rem;margin:0 0 1rem}
.quiet{opacity:.8;font-size:.9rem}
""".strip()
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "X-Frame-Options": "DENY",
}


def page(title: str, content: str, *, wrong: str = "", status: int = 200) -> web.Response:
    """A page of a title, content in HTML, and what went wrong."""
    alert = f'<p class="wrong" role="alert">{escape(wrong)}</p>' if wrong else ""
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{alert}{content}</main></body></html>"
    )
    return web.Response(status=status, text=text, content_type="text/html", headers=_HEADERS)


def field(name: str, label: str, *, kind: str = "text", more: str = "") -> str:
    """A labelled input."""
    return f'<label for="{name}">{escape(label)}</label><input id="{name}" name="{name}" type="{kind}" {more}>'
