"""Packages like that of the viewer, only small."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

PAGE = (
    '<!doctype html><html><head><script>window.PUBLIC_URL="/"</script><link href="/assets/a.png">'
    '<script defer src="/app.bundle.0123456789abcdef.js"></script></head><body></body></html>'
)
SCRIPT = b'__webpack_require__.p = "/";\n' + b"// comment\n" * 200
MEMBERS = {
    "package/LICENSE": b"MIT",
    "package/package.json": b"{}",
    "package/dist/index.html": PAGE.encode(),
    "package/dist/app.bundle.0123456789abcdef.js": SCRIPT,
    "package/dist/app.bundle.css": b"@font-face { src: url(/a34f9d1faa5f3315.woff2) }",
    "package/dist/a34f9d1faa5f3315.woff2": b"font",
    "package/dist/assets/a.png": b"\x89PNG",
    "package/dist/sw.js": b"importScripts('https://cdn.example.org/x.js')",
}


def package(path: Path, members: dict[str, bytes] = MEMBERS, links: dict[str, str] | None = None) -> Path:
    """A package with these members, and symbolic links."""
    with tarfile.open(path, "w:gz") as archive:
        for name, body in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
        for name, target in (links or {}).items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
    return path
