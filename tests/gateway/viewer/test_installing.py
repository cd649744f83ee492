"""The viewer's package: fetched, checked, laid out."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import http.server
import json
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.viewer import installing, release
from gateway.viewer.release import InstallError, Release
from tests.gateway.viewer.packages import MEMBERS, SCRIPT, package

FOUND = Release("1.2.3", "somewhere", "sha512-x")


def files(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_the_files_are_laid_out_so_that_they_find_each_other_below_any_path(tmp_path: Path) -> None:
    directory = tmp_path / "viewer"
    installing.install(package(tmp_path / "p.tgz"), FOUND, directory)
    found = files(directory / "files")
    script = found["app.bundle.0123456789abcdef.js"]
    assert script == SCRIPT.replace(b'"/"', b'self.PUBLIC_URL || new URL(".", self.location.href).pathname')
    assert gzip.decompress(found["app.bundle.0123456789abcdef.js.gz"]) == script
    assert found["app.bundle.css"] == b"@font-face { src: url(a34f9d1faa5f3315.woff2) }"
    assert found["assets/a.png"] == b"\x89PNG"
    assert {"sw.js", "package.json"}.isdisjoint(found)
    assert (directory / "LICENSE").read_bytes() == b"MIT"
    assert release.installed(directory) == FOUND
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.tgz", "viewer"]


def test_the_gateway_may_be_another_user_than_who_installs(tmp_path: Path) -> None:
    directory = tmp_path / "viewer"
    before = os.umask(0o077)
    try:
        installing.install(package(tmp_path / "p.tgz"), FOUND, directory)
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (directory, *directory.rglob("*")) if path.is_dir()}
    assert modes == {0o755}
    assert {path.stat().st_mode & 0o777 for path in directory.rglob("*") if path.is_file()} == {0o644}


def test_a_release_takes_the_place_of_another_whole(tmp_path: Path) -> None:
    directory = tmp_path / "viewer"
    older = {**MEMBERS, "package/dist/old.js": b"old"}
    installing.install(package(tmp_path / "1.tgz", older), FOUND, directory)
    installing.install(package(tmp_path / "2.tgz"), Release("1.2.4", "", ""), directory)
    assert "old.js" not in files(directory / "files")
    assert release.installed(directory) == Release("1.2.4", "", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.tgz", "2.tgz", "viewer"]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({**MEMBERS, "package/dist/app.bundle.0123456789abcdef.js": b"other"}, "cannot be served below /ohif"),
        ({"package/dist/app.js": SCRIPT}, "has no index.html"),
    ],
)
def test_what_is_not_the_viewer_leaves_the_one_that_is_there(
    tmp_path: Path, members: dict[str, bytes], said: str
) -> None:
    directory = tmp_path / "viewer"
    installing.install(package(tmp_path / "1.tgz"), FOUND, directory)
    before = files(directory)
    with pytest.raises(InstallError, match=said):
        installing.install(package(tmp_path / "2.tgz", members), Release("2", "", ""), directory)
    (tmp_path / "3.tgz").write_bytes((tmp_path / "1.tgz").read_bytes()[:-30])
    with pytest.raises(InstallError, match="cannot be unpacked"):
        installing.install(tmp_path / "3.tgz", Release("3", "", ""), directory)
    assert files(directory) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.tgz", "2.tgz", "3.tgz", "viewer"]


@pytest.mark.parametrize("damage", [random.Random(3).randbytes(1000), bytes(1000)], ids=["no code", "other codes"])
def test_a_damaged_package_is_refused(tmp_path: Path, damage: bytes) -> None:
    # Of the second only the checksum tells, which stands at the end of it all.
    noise = bytes(each % 4 for each in random.Random(7).randbytes(1 << 20))
    path = package(tmp_path / "p.tgz", {**MEMBERS, "package/dist/noise.wasm": noise})
    packed = path.read_bytes()
    middle = len(packed) // 2
    path.write_bytes(packed[:middle] + damage + packed[middle + len(damage) :])
    with pytest.raises(InstallError, match="cannot be unpacked"):
        installing.install(path, FOUND, tmp_path / "viewer")
    assert [each.name for each in tmp_path.iterdir()] == ["p.tgz"]


def test_nothing_is_written_beside_the_folder_and_no_link_followed(tmp_path: Path) -> None:
    hostile = {
        **MEMBERS,
        "package/dist/../../../out.js": b"out",
        "/package/dist/absolute.js": b"out",
        "elsewhere/x.js": b"out",
    }
    links = {"package/dist/passwd": "/etc/passwd", "package/dist/up": "../../.."}
    directory = tmp_path / "inner" / "viewer"
    installing.install(package(tmp_path / "p.tgz", hostile, links), FOUND, directory)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inner", "p.tgz"]
    assert [path.name for path in (tmp_path / "inner").iterdir()] == ["viewer"]
    assert not {"passwd", "up", "absolute.js", "x.js", "out.js"} & {
        each.rpartition("/")[2] for each in files(directory)
    }


def test_a_package_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installing, "_MAX_FILES_BYTES", 1000)
    with pytest.raises(InstallError, match="more than a viewer would"):
        installing.install(package(tmp_path / "p.tgz"), FOUND, tmp_path / "viewer")
    assert not (tmp_path / "viewer").exists()


def test_a_given_package_of_the_usual_release_has_to_have_its_digest(tmp_path: Path) -> None:
    path = package(tmp_path / "p.tgz")
    with pytest.raises(InstallError, match="not what its digest says"):
        installing.given(path, release.VERSION)
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    assert installing.given(path, "9.9.9") == Release("9.9.9", "p.tgz", f"sha512-{digest}")


class _Registry(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    root = tmp_path / "registry"
    root.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Registry, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", root
    server.shutdown()
    server.server_close()
    thread.join()


def publish(url: str, root: Path, version: str, integrity: str = "") -> None:
    path = package(root / "app.tgz")
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    about = root / "@ohif" / "app"
    about.mkdir(parents=True, exist_ok=True)
    dist = {"tarball": f"{url}/app.tgz", "integrity": integrity or f"sha512-{digest}"}
    (about / version).write_text(json.dumps({"dist": dist}))


def test_a_release_is_fetched_and_its_progress_told(registry: tuple[str, Path], tmp_path: Path) -> None:
    url, root = registry
    publish(url, root, "9.9.9")
    told: list[tuple[int, int | None]] = []
    path, found = installing.fetch(url, "9.9.9", tmp_path, lambda *state: told.append(state))
    assert path.read_bytes() == (root / "app.tgz").read_bytes()
    assert (found.version, found.source) == ("9.9.9", f"{url}/app.tgz")
    assert told[-1] == (path.stat().st_size, path.stat().st_size)


def test_content_that_is_not_what_was_promised_is_refused(registry: tuple[str, Path], tmp_path: Path) -> None:
    url, root = registry
    other = base64.b64encode(hashlib.sha512(b"other").digest()).decode()
    publish(url, root, "9.9.9", f"sha512-{other}")
    with pytest.raises(InstallError, match="not what its digest says"):
        installing.fetch(url, "9.9.9", tmp_path, lambda *_: None)
    # Of the usual release our own word counts, whatever the registry says.
    publish(url, root, release.VERSION)
    with pytest.raises(InstallError, match="not what its digest says"):
        installing.fetch(url, release.VERSION, tmp_path, lambda *_: None)


@pytest.mark.parametrize("integrity", ["sha1-AAAA", "sha512-%%%", "nothing"])
def test_a_digest_that_proves_nothing_is_refused(registry: tuple[str, Path], tmp_path: Path, integrity: str) -> None:
    url, root = registry
    publish(url, root, "9.9.9", integrity)
    with pytest.raises(InstallError):
        installing.fetch(url, "9.9.9", tmp_path, lambda *_: None)


def test_a_registry_that_is_not_there_or_has_nothing_says_what_to_do(
    registry: tuple[str, Path], tmp_path: Path
) -> None:
    url, root = registry
    with pytest.raises(InstallError, match="is there such a release"):
        installing.fetch(url, "0.0.0", tmp_path, lambda *_: None)
    with pytest.raises(InstallError, match="--from"):
        installing.fetch("http://127.0.0.1:1", "0.0.0", tmp_path, lambda *_: None)
    with pytest.raises(InstallError, match="not an http or https URL"):
        installing.fetch("file:///etc", "0.0.0", tmp_path, lambda *_: None)
    (root / "@ohif" / "app").mkdir(parents=True)
    (root / "@ohif" / "app" / "1").write_text("[]")
    with pytest.raises(InstallError, match="not what a registry answers"):
        installing.fetch(url, "1", tmp_path, lambda *_: None)


def test_half_an_installation_is_none(tmp_path: Path) -> None:
    assert release.installed(tmp_path) is None
    (tmp_path / "release.json").write_text('{"version": "1"}')
    assert release.installed(tmp_path) is None
