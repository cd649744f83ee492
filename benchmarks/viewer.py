"""OHIF in Chromium: from the click on a study of 300 slices to its first frame, ours beside Orthanc.

python -m benchmarks.viewer DIRECTORY [--rounds N] [--instances N]

Both servers are behind the same small proxy, which serves the viewer's files too: Orthanc has no CORS. Each time a
fresh browser context opens the viewer's list of studies, chooses the study and clicks on "Basic Viewer". Told is the
time from that click until the last byte of the first frame is there, and until the first image is drawn, which must be
one. Thumbnails are made by the viewer, since Orthanc makes none.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from aiohttp import ClientSession, TCPConnector, web
from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from benchmarks import servers
from benchmarks.comparing import HEADING, Candidate, Meter, Result, compare, wait_until_quiet
from benchmarks.machine import PROCESSORS, touch_memory
from benchmarks.web_corpus import Study
from tests.interop.ohif import ARGUMENTS, DIST, NO_TOUR, PANE, app_config, pixels
from tests.ports import free_port

_PIXELS = 512
_STORED_AT_ONCE = 20
_WAIT_MS = 60_000
_LEAST_CONTRAST = 20
_NOTES = """
performance.setResourceTimingBufferSize(10000);
window.noted = {};
document.addEventListener('click', () => { window.noted.click = performance.now(); }, true);
document.addEventListener('CORNERSTONE_STACK_NEW_IMAGE', () => { window.noted.image ??= performance.now(); }, true);
document.addEventListener('CORNERSTONE_IMAGE_RENDERED', () => {
    if (window.noted.image) window.noted.drawn ??= performance.now();
}, true);
"""
_FRAME_MS = """
() => {
    const ends = performance.getEntriesByType('resource')
        .filter((each) => each.name.includes('/frames/') && each.responseEnd > window.noted.click)
        .map((each) => each.responseEnd);
    return ends.length ? Math.min(...ends) - window.noted.click : null;
}
"""
_DRAWN_MS = "() => window.noted.drawn ? window.noted.drawn - window.noted.click : null"


def serve(port: int, root: str) -> None:
    """Serve the viewer, and a server's DICOMweb below ``/dicomweb``, until killed."""

    async def whole() -> web.Application:
        app = web.Application()
        # As many connections at once as a browser has, which stay.
        session = ClientSession(auto_decompress=False, connector=TCPConnector(limit=6, keepalive_timeout=60.0))

        async def forward(request: web.Request) -> web.StreamResponse:
            headers = {name: value for name, value in request.headers.items() if name in ("Accept", "Accept-Encoding")}
            async with session.get(
                root + request.rel_url.raw_path_qs.removeprefix("/dicomweb"), headers=headers
            ) as got:
                kept = ("Content-Type", "Content-Length", "Content-Encoding")
                answer = web.StreamResponse(
                    status=got.status, headers={name: got.headers[name] for name in kept if name in got.headers}
                )
                with contextlib.suppress(ConnectionResetError):  # the page was closed
                    await answer.prepare(request)
                    async for block in got.content.iter_any():
                        await answer.write(block)
                    await answer.write_eof()
                return answer

        async def config(request: web.Request) -> web.Response:
            own = app_config(f"http://{request.host}/dicomweb", thumbnails="wadors")
            return web.Response(text=own, content_type="text/javascript")

        async def file(request: web.Request) -> web.FileResponse:
            found = DIST / request.path.lstrip("/")
            return web.FileResponse(found if found.is_file() else DIST / "index.html")

        app.add_routes([web.get("/dicomweb/{path:.*}", forward), web.get("/app-config.js", config)])
        app.add_routes([web.get("/{path:.*}", file)])
        return app

    web.run_app(whole(), host="127.0.0.1", port=port, print=None)


@contextlib.contextmanager
def shown(at: Candidate) -> Iterator[str]:
    """The URL of a viewer that looks at a server."""
    port = free_port()
    root = f"http://127.0.0.1:{at.running.web_port}{at.root}"
    process = multiprocessing.get_context("fork").Process(target=serve, args=(port, root), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.join()


def opened(browser: Browser, url: str, study: Study) -> tuple[float, float]:
    """Milliseconds until the first frame is there, and until the first image is drawn. Raises RuntimeError."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(_WAIT_MS)
    context.add_init_script(NO_TOUR + _NOTES)
    page = context.new_page()
    try:
        page.goto(f"{url}/")
        page.get_by_text(study.family_name).first.click()
        page.get_by_text("Basic Viewer", exact=True).first.click()
        drawn_ms = float(page.wait_for_function(_DRAWN_MS).json_value())
        frame_ms = float(page.wait_for_function(_FRAME_MS).json_value())
        check(page)
    except PlaywrightError as error:
        raise RuntimeError(f"the viewer shows no study: {page.inner_text('body')[:500]}") from error
    finally:
        context.close()
    return frame_ms, drawn_ms


def check(page: Page) -> None:
    """Raise RuntimeError unless the noise of a slice is on the screen."""
    page.wait_for_selector(PANE)
    if np.std(pixels(page)) < _LEAST_CONTRAST:
        raise RuntimeError("no image is shown")


def rows(browser: Browser, candidates: list[Candidate], urls: dict[str, str], rounds: int) -> None:
    """Print both rows, of the same runs."""
    drawn_ms: dict[str, list[Result]] = {each.name: [] for each in candidates}

    def measured(at: Candidate) -> Result:
        meter = Meter(at.running.pid)
        frame_ms, until_drawn_ms = opened(browser, urls[at.name], at.studies[0])
        drawn_ms[at.name].append(meter.result(until_drawn_ms, 1))
        return meter.result(frame_ms, 1)

    def again(at: Candidate) -> Result:
        return drawn_ms[at.name].pop(0)

    name = f"OHIF, {len(candidates[0].studies[0].sop_uids)} slices, from the click"
    steps: tuple[tuple[str, Callable[[Candidate], Result]], ...] = (
        (f"{name} to the last byte of the first frame", measured),
        (f"{name} to the first image drawn", again),
    )
    for step, call in steps:
        compare(step, "ms", call, candidates, rounds)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "directory", type=Path, help="is there, on the disk that is meant; what is made in it goes away"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--instances", type=int, default=300)
    given = parser.parse_args()
    if not DIST.is_dir() or not shutil.which("chromium"):
        print("left out, since they are not here: chromium, or OHIF (make test unpacks it)")
        return
    compete = [servers.gateway("gateway", Path(__file__).resolve().parent.parent, fsync=True)]
    other = servers.orthanc_with_dicomweb(fsync=True)
    if other is None:
        print("left out, since it is not here: Orthanc with DICOMweb (ORTHANC_BIN, ORTHANC_DICOMWEB)")
    else:
        compete.append(other)
    touch_memory()
    print(f"{PROCESSORS} processors, load {os.getloadavg()[0]:.1f}, {given.rounds} rounds\n\n{HEADING}")
    with contextlib.ExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="viewer-", dir=given.directory.resolve()))
        )
        candidates = []
        for number, server in enumerate(compete):
            running = stack.enter_context(server.running(directory / str(number)))
            at = Candidate(server.name, server.web_root, running, [Study.of(number, given.instances, _PIXELS)])
            at.store(at.studies, _STORED_AT_ONCE)
            candidates.append(at)
        for at in candidates:
            wait_until_quiet(at)
        urls = {at.name: stack.enter_context(shown(at)) for at in candidates}
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        stack.callback(browser.close)
        for at in candidates:
            # What the browser compiles once is nobody's.
            opened(browser, urls[at.name], at.studies[0])
        rows(browser, candidates, urls, given.rounds)
    print(f"\nload {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
