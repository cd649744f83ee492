"""The few pages of the entrance: made here, without scripts, safe to show to anybody."""

from __future__ import annotations

import base64
import hashlib
import math
from html import escape

from aiohttp import web

from gateway.errors import GatewayError, TooManyRequests
from gateway.http import problem

# The colours are the console's.
_STYLE = """
:root{color-scheme:light dark;--ground:#f3f5f7;--surface:#fff;--line:#dde3e8;--edge:#8494a1;--text:#16212b;
--muted:#566573;--accent:#0b6478;--on-accent:#fff;--wrong:#b3261e;--wrong-ground:#fcebea;
font:100%/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif}
@media(prefers-color-scheme:dark){:root{--ground:#0f151a;--surface:#172027;--line:#28343d;--edge:#60707d;--text:#e4ebf0;
--muted:#97a6b2;--accent:#5fc4d6;--on-accent:#06252c;--wrong:#ffb4ab;--wrong-ground:#3b1a18}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;min-height:100dvh;display:flex;flex-direction:column;align-items:center;
justify-content:center;gap:1.25rem;padding:1.5rem 1rem;background:var(--ground);color:var(--text);font-size:.9375rem}
.brand{display:flex;align-items:center;gap:.625rem;font-weight:650;font-size:1.0625rem}
.brand img{width:2rem;height:2rem}
main{width:100%;max-width:25rem;padding:1.75rem;background:var(--surface);border:1px solid var(--line);
border-radius:.75rem;box-shadow:0 1px 2px rgb(20 40 55/6%),0 4px 16px rgb(20 40 55/5%)}
h1{font-size:1.25rem;line-height:1.3;margin:0 0 1.125rem}
p{margin:0 0 1rem}
form{display:grid;gap:1rem}
label{display:grid;gap:.375rem;font-weight:600}
label span,.muted{color:var(--muted);font-weight:400;font-size:.875rem}
input,button,.button{font:inherit;min-height:2.625rem;padding:.5rem .75rem;border-radius:.5rem}
input{width:100%;border:1px solid var(--edge);background:var(--ground);color:inherit}
button,.button{display:block;border:1px solid var(--accent);background:var(--accent);color:var(--on-accent);
font-weight:600;text-align:center;text-decoration:none;cursor:pointer}
.button{margin-bottom:.75rem}
.or{display:flex;align-items:center;gap:.75rem;margin:1.25rem 0;color:var(--muted);font-size:.875rem}
.or::before,.or::after{content:"";flex:1;border-top:1px solid var(--line)}
.or~form button{background:none;color:var(--accent)}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.wrong{padding:.625rem .875rem;border-radius:.5rem;background:var(--wrong-ground);color:var(--wrong)}
p:last-child{margin:0}form+p:last-child{margin:1rem 0 0}
""".strip()
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "X-Frame-Options": "DENY",
}


def page(title: str, content: str, *, wrong: str = "", status: int = 200, up: str = "") -> web.Response:
    """A page of a title, content in HTML, and what went wrong; ``up`` leads from its path to the gateway's root."""
    alert = f'<p class="wrong" role="alert">{escape(wrong)}</p>' if wrong else ""
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">'
        f'<title>{escape(title)} – Imaging Gateway</title><link rel="icon" href="{up}console/icon.svg">'
        f"<style>{_STYLE}</style></head><body>"
        f'<header class="brand"><img src="{up}console/icon.svg" alt="" width="32" height="32">Imaging Gateway</header>'
        f"<main><h1>{escape(title)}</h1>{alert}{content}</main></body></html>"
    )
    return web.Response(status=status, text=text, content_type="text/html", headers=_HEADERS)


def refused(error: GatewayError, title: str, content: str = "", *, up: str = "") -> web.Response:
    """A page that says why something did not work, with the status that a program would have got."""
    found = page(title, content, wrong=str(error)[:1].upper() + str(error)[1:], status=problem.status_of(error), up=up)
    if isinstance(error, TooManyRequests):
        found.headers["Retry-After"] = str(math.ceil(error.after_s))
    return found


def field(name: str, label: str, *, note: str = "", kind: str = "text", more: str = "") -> str:
    """A labelled input."""
    about = f"<span>{escape(note)}</span>" if note else ""
    return f'<label for="{name}">{escape(label)}{about}<input id="{name}" name="{name}" type="{kind}" {more}></label>'
