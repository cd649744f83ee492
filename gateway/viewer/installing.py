"""Fetches the viewer's package, checks it against its digest, and lays its files out as they are served."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import http.client
import json
import os
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit

from gateway.viewer.release import FILES, INTEGRITY, LICENSE, PACKAGE, VERSION, InstallError, Release

_BLOCK_BYTES = 1 << 18
_MAX_PACKAGE_BYTES = 512 << 20
_MAX_FILES_BYTES = 2 << 30
_MAX_FILES = 20_000
_TIMEOUT_S = 60.0
_COMPRESSED = frozenset((".css", ".html", ".js", ".json", ".mjs", ".svg", ".wasm"))
_COMPRESSED_FROM_BYTES = 1024
# Rules for hosts that a gateway is not, and a service worker that would load scripts from elsewhere.
_LEFT_OUT = frozenset(("_headers", "_redirects", "serve.json", "sw.js", "google.js"))
# The package is built for the root of a host. Its page has PUBLIC_URL; a worker has its script's own folder.
_MOVED = {
    ".js": (
        (
            b'__webpack_require__.p = "/";',
            b'__webpack_require__.p = self.PUBLIC_URL || new URL(".", self.location.href).pathname;',
        ),
        (b"'/dicom-microscopy-viewer/", b"self.PUBLIC_URL + 'dicom-microscopy-viewer/"),
    ),
    ".css": ((b"url(/", b"url("),),
}


def fetch(registry: str, version: str, into: Path, progress: Callable[[int, int | None], None]) -> tuple[Path, Release]:
    """The package of a release from a registry, its digest checked.

    Parameters
    ----------
    progress
        Told how many bytes have come, and of how many.

    Raises
    ------
    InstallError
        The registry does not have it, does not answer, or sent something else.
    """
    source, integrity = _found(registry, version)
    path = into / "package.tgz"
    digest = hashlib.sha512()
    with _opened(source) as answer, path.open("wb") as file:
        length = answer.headers.get("Content-Length")
        size, total = 0, int(length) if length and length.isdigit() else None
        try:
            while block := answer.read(_BLOCK_BYTES):
                size += len(block)
                if size > _MAX_PACKAGE_BYTES:
                    raise InstallError(f"{source}: more than {_MAX_PACKAGE_BYTES} bytes")
                digest.update(block)
                file.write(block)
                progress(size, total)
        except (OSError, http.client.HTTPException) as error:
            raise InstallError(f"{source}: broke off; try again") from error
    _check(source, digest.digest(), integrity)
    return path, Release(version, source, integrity)


def given(path: Path, version: str) -> Release:
    """A package that is there as a file; that of the usual release has to have its digest. Raises InstallError."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    if version == VERSION:
        _check(str(path), digest, INTEGRITY)
    return Release(version, path.name, f"sha512-{base64.b64encode(digest).decode()}")


def install(package: Path, release: Release, directory: Path) -> int:
    """Lay the files of a package out in a directory, in place of what is there; how many bytes they have.

    It is all there or not there at all: it is made beside the directory, then takes its place. Raises InstallError.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        size = _unpack(package, made)
        if not (made / FILES / "index.html").is_file():
            raise InstallError(f"{package.name}: not a package of {PACKAGE}: it has no index.html")
        _prepare(made / FILES)
        release.write(made)
        _open(made)
        _take_place(made, directory)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return size


def _found(registry: str, version: str) -> tuple[str, str]:
    """Where the package of a release is, and its digest: our own word for the usual one, else the registry's."""
    about = f"{registry.rstrip('/')}/{quote(PACKAGE, safe='@')}/{quote(version, safe='')}"
    with _opened(about) as answer:
        try:
            dist = json.loads(answer.read(_BLOCK_BYTES * 16))["dist"]
            tarball, integrity = str(dist["tarball"]), str(dist["integrity"])
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
            raise InstallError(f"{about}: not what a registry answers") from error
    return tarball, INTEGRITY if version == VERSION else integrity


def _opened(url: str) -> http.client.HTTPResponse:
    if urlsplit(url).scheme not in ("https", "http"):
        raise InstallError(f"{url}: not an http or https URL")
    try:
        found = urllib.request.urlopen(url, timeout=_TIMEOUT_S)  # noqa: S310 - looked at above
    except urllib.error.HTTPError as error:
        missing = f"; is there such a release of {PACKAGE}?" if error.code == 404 else ""
        raise InstallError(f"{url}: {error.code} {error.reason}{missing}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise InstallError(
            f"{url}: {reason}; without a way out, fetch the package elsewhere (`npm pack {PACKAGE}@VERSION`) and give "
            "it by --from"
        ) from error
    assert isinstance(found, http.client.HTTPResponse)
    return found


def _check(source: str, digest: bytes, integrity: str) -> None:
    kind, _, expected = integrity.partition("-")
    try:
        wanted = base64.b64decode(expected, validate=True)
    except ValueError as error:
        raise InstallError(f"{source}: its digest cannot be read: {integrity}") from error
    if kind != "sha512" or not hmac.compare_digest(digest, wanted):
        raise InstallError(f"{source}: its content is not what its digest says; nothing of it was kept")


def _unpack(package: Path, into: Path) -> int:
    """Unpack what is served, and the licence; nothing but plain files within the folder. How many bytes."""
    size = count = 0
    try:
        with tarfile.open(package, "r:gz") as archive:
            for member in archive:
                name = _name(member.name)
                if name is None or not member.isfile():
                    continue
                size, count = size + member.size, count + 1
                if size > _MAX_FILES_BYTES or count > _MAX_FILES:
                    raise InstallError(f"{package.name}: it unpacks to more than a viewer would")
                target = into / name
                target.parent.mkdir(parents=True, exist_ok=True)
                body = archive.extractfile(member)
                assert body is not None
                with body, target.open("wb") as file:
                    shutil.copyfileobj(body, file)
            # The checksum of it all stands behind the archive's end, where nobody has read yet.
            assert archive.fileobj is not None
            archive.fileobj.read(_BLOCK_BYTES)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InstallError(f"{package.name}: cannot be unpacked: {error}") from error
    return size


def _name(member: str) -> str | None:
    """Under which name a member of the package is kept; None is left out."""
    path = PurePosixPath(member)
    if path.parts == ("package", LICENSE):
        return LICENSE
    if path.is_absolute() or ".." in path.parts or path.parts[:2] != ("package", "dist") or len(path.parts) < 3:
        return None
    rest = path.relative_to("package/dist")
    return None if str(rest) in _LEFT_OUT else f"{FILES}/{rest}"


def _prepare(files: Path) -> None:
    """Let the files find each other below any path, and keep a compressed copy of what is worth it."""
    _move(files)
    worth = [
        path
        for path in files.rglob("*")
        if path.suffix in _COMPRESSED and path.is_file() and path.stat().st_size >= _COMPRESSED_FROM_BYTES
    ]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(_compress, worth))


def _move(files: Path) -> None:
    found = False
    for path in [*files.glob("*.js"), *files.glob("*.css")]:
        moved = text = path.read_bytes()
        for fixed, anywhere in _MOVED[path.suffix]:
            moved = moved.replace(fixed, anywhere)
        if moved != text:
            path.write_bytes(moved)
            found = found or path.suffix == ".js"
    if not found:
        raise InstallError("this release cannot be served below /ohif: its scripts are built otherwise")


def _compress(path: Path) -> None:
    packed = gzip.compress(path.read_bytes(), 6, mtime=0)
    path.with_name(path.name + ".gz").write_bytes(packed)


def _open(made: Path) -> None:
    """Let everybody read it: who installs may be another user than the gateway, and have any umask."""
    for path in (made, *made.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _take_place(made: Path, directory: Path) -> None:
    """Put what was made where another may be."""
    if not directory.exists():
        made.rename(directory)
        return
    before = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        directory.rename(before / "old")
        try:
            made.rename(directory)
        except OSError:
            (before / "old").rename(directory)
            raise
    finally:
        shutil.rmtree(before, ignore_errors=True)
