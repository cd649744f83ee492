import os
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.imaging.decode import EncodedFrame
from gateway.imaging.description import PixelDescription
from gateway.imaging.errors import (
    FrameDamaged,
    FrameMismatch,
    FrameTooLarge,
    ImagingBusy,
    ImagingTimeout,
    InvalidRendering,
)
from gateway.imaging.pool import WORKER_COMMAND, ImagingPool
from gateway.imaging.presentation import Presentation
from gateway.imaging.render import Region, RenderedMediaType, RenderRequest

HOSTILE = (sys.executable, str(Path(__file__).with_name("hostile_worker.py")))
NATIVE = "1.2.840.10008.1.2.1"
DEFLATED_FRAME = "1.2.840.10008.1.2.8.1"
MEBIBYTE = 1 << 20

Frames = Callable[[bytes], EncodedFrame]


@pytest.fixture
def frame(describe: Callable[..., PixelDescription]) -> Frames:
    description = describe(np.zeros((4, 8, 1), np.uint8))
    return lambda start: EncodedFrame(start.ljust(32, b"."), NATIVE, description)


@pytest.fixture
def pool() -> Iterator[ImagingPool]:
    with ImagingPool(1, 512 * MEBIBYTE, 30.0, command=HOSTILE) as made:
        yield made


@pytest.fixture
def impatient_pool() -> Iterator[ImagingPool]:
    with ImagingPool(1, 512 * MEBIBYTE, 1.0, command=HOSTILE) as made:
        yield made


def test_pool_decodes_to_native_bytes(frame: Frames) -> None:
    with ImagingPool(1, 64 * MEBIBYTE, 30.0) as pool:
        assert pool.decode(frame(b"pixels")) == b"pixels".ljust(32, b".")


def test_pool_renders_a_picture(frame: Frames) -> None:
    with ImagingPool(1, 64 * MEBIBYTE, 30.0) as pool:
        picture = pool.render(frame(b"pixels"), Presentation(), RenderRequest(RenderedMediaType.PNG))
    assert (picture.media_type, picture.rows, picture.columns) == ("image/png", 4, 8)
    assert picture.data.startswith(b"\x89PNG")


def test_pool_decodes_real_compressed_frames(shared_instance: Callable[[str], Any]) -> None:
    folder = "transfer-syntaxes/ct-one-image"
    expected = shared_instance(f"{folder}/1.2.840.10008.1.2.1.dcm").frame().data
    with ImagingPool(2, 256 * MEBIBYTE, 30.0) as pool:
        for ending in ("4.57", "4.70", "4.80", "4.90", "5"):
            assert pool.decode(shared_instance(f"{folder}/1.2.840.10008.1.2.{ending}.dcm").frame()) == expected


def test_no_process_starts_before_the_first_job(frame: Frames) -> None:
    with ImagingPool(2, 64 * MEBIBYTE, 30.0, command=("/does/not/exist",)) as pool, pytest.raises(ImagingBusy):
        pool.decode(frame(b"pixels"))


def test_a_worker_serves_many_jobs(pool: ImagingPool, frame: Frames) -> None:
    assert pool.decode(frame(b"pid??")) == pool.decode(frame(b"pid??"))


def test_domain_errors_reach_the_caller_and_keep_the_worker(pool: ImagingPool, frame: Frames) -> None:
    first = pool.decode(frame(b"pid??"))
    with pytest.raises(FrameMismatch, match="as asked"):
        pool.decode(frame(b"wrong"))
    with pytest.raises(InvalidRendering):
        pool.render(frame(b"ok"), Presentation(), RenderRequest(region=Region(99, 99, 1, 1)))
    assert pool.decode(frame(b"pid??")) == first


@pytest.mark.parametrize("how", [b"crash", b"leave", b"raise"])
def test_a_job_that_ends_its_worker_is_a_damaged_frame_and_the_pool_recovers(
    pool: ImagingPool, frame: Frames, how: bytes
) -> None:
    first = pool.decode(frame(b"pid??"))
    with pytest.raises(FrameDamaged, match="crashed"):
        pool.decode(frame(how))
    assert pool.decode(frame(b"pid??")) != first


def test_a_job_that_hangs_is_ended_at_its_deadline_and_the_pool_recovers(
    impatient_pool: ImagingPool, frame: Frames
) -> None:
    first = int(impatient_pool.decode(frame(b"pid??")))
    with pytest.raises(ImagingTimeout):
        impatient_pool.decode(frame(b"hang!"))
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    assert impatient_pool.decode(frame(b"pixels")).startswith(b"pixels")


def test_a_job_that_hoards_memory_is_too_large_and_the_pool_recovers(pool: ImagingPool, frame: Frames) -> None:
    with pytest.raises(FrameTooLarge):
        pool.decode(frame(b"hoard"))
    assert pool.decode(frame(b"pixels")).startswith(b"pixels")


def test_a_deflate_bomb_that_its_attributes_announce_runs_out_of_memory_alone(
    describe: Callable[..., PixelDescription], frame: Frames
) -> None:
    side = 6000
    bits = describe(np.zeros((1, 1, 1), np.uint8), rows=side, columns=side)
    deflate = zlib.compressobj(wbits=-15)
    bomb = deflate.compress(bytes(side * side)) + deflate.flush()
    with ImagingPool(1, 40 * MEBIBYTE, 30.0) as pool:
        with pytest.raises(FrameTooLarge):
            pool.decode(EncodedFrame(bomb, DEFLATED_FRAME, bits))
        assert pool.decode(frame(b"pixels")).startswith(b"pixels")


def test_a_viewport_beyond_the_memory_bound_is_too_large_and_the_pool_recovers(frame: Frames) -> None:
    with ImagingPool(1, 24 * MEBIBYTE, 30.0) as pool:
        with pytest.raises(FrameTooLarge):
            pool.render(frame(b"pixels"), Presentation(), RenderRequest(viewport=(8192, 8192)))
        assert pool.decode(frame(b"pixels")).startswith(b"pixels")


def test_a_frame_beyond_the_memory_bound_never_reaches_a_worker(
    describe: Callable[..., PixelDescription],
) -> None:
    huge = describe(np.zeros((1, 1, 1), np.uint8), rows=20000, columns=20000)
    with ImagingPool(1, 64 * MEBIBYTE, 30.0, command=("/does/not/exist",)) as pool, pytest.raises(FrameTooLarge):
        pool.decode(EncodedFrame(b"", NATIVE, huge))


def test_callers_wait_no_longer_than_the_timeout(impatient_pool: ImagingPool, frame: Frames) -> None:
    impatient_pool.decode(frame(b"pixels"))
    with ThreadPoolExecutor(2) as threads:
        waits = [threads.submit(impatient_pool.decode, frame(b"hang!")) for _ in range(2)]
        errors = {type(wait.exception()) for wait in waits}
    assert ImagingTimeout in errors
    assert errors <= {ImagingTimeout, ImagingBusy}


def test_more_callers_than_places_are_refused_at_once(frame: Frames) -> None:
    with ImagingPool(1, 512 * MEBIBYTE, 30.0, max_waiting=0, command=HOSTILE) as pool:
        refused = threading.Event()

        def call() -> bool:
            try:
                pool.decode(frame(b"hang!"))
            except ImagingBusy:
                first = not refused.is_set()
                refused.set()
                return first
            return False

        with ThreadPoolExecutor(2) as threads:
            calls = [threads.submit(call) for _ in range(2)]
            assert refused.wait(30)
            pool.close()
            assert [call.result() for call in calls].count(True) == 1


def test_jobs_run_side_by_side(frame: Frames) -> None:
    with ImagingPool(2, 64 * MEBIBYTE, 30.0, command=HOSTILE) as pool, ThreadPoolExecutor(8) as threads:
        pids = set(threads.map(lambda _: pool.decode(frame(b"pid??")), range(40)))
    assert 1 <= len(pids) <= 2


def test_a_closed_pool_ends_its_workers_and_refuses_jobs(frame: Frames) -> None:
    pool = ImagingPool(1, 64 * MEBIBYTE, 30.0, command=HOSTILE)
    pid = int(pool.decode(frame(b"pid??")))
    pool.close()
    pool.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(ImagingBusy):
        pool.decode(frame(b"pixels"))


def test_workers_inherit_nothing_from_the_environment(
    pool: ImagingPool, frame: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_SECRET", "key")
    assert b"GATEWAY_SECRET" not in pool.decode(frame(b"envir"))


def test_a_worker_ends_when_the_gateway_is_gone() -> None:
    ours, theirs = socket.socketpair()
    environment = {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    with theirs:
        worker = subprocess.Popen(
            [*WORKER_COMMAND, str(theirs.fileno()), str(64 * MEBIBYTE)],
            pass_fds=(theirs.fileno(),),
            env=environment,
        )
    with ours:
        assert ours.recv(16) == b"ready"
    assert worker.wait(30) == 0


def test_a_frame_that_nobody_holds_reaches_the_worker_in_blocks(pool: ImagingPool, frame: Frames) -> None:
    whole = frame(b"ok")
    source = EncodedFrame(
        b"",
        whole.transfer_syntax_uid,
        whole.description,
        source=lambda: iter((whole.data[:1], whole.data[1:])),
        source_bytes=len(whole.data),
    )
    assert pool.decode(source) == pool.decode(whole)


@pytest.mark.parametrize("announced", [1, 1000])
def test_a_frame_of_another_length_than_announced_costs_the_worker_and_nothing_else(
    pool: ImagingPool, frame: Frames, announced: int
) -> None:
    whole = frame(b"ok")
    wrong = replace(whole, data=b"", source=lambda: iter((whole.data,)), source_bytes=announced)
    with pytest.raises(FrameDamaged):
        pool.decode(wrong)
    assert pool.decode(whole)


def test_a_worker_does_without_the_data_dictionary() -> None:
    """It would be 24 MB of the 43 in each."""
    script = "import sys, gateway.imaging.worker; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "imagecodecs" in told
    assert "pydicom" not in told


def test_workers_that_are_to_give_way_are_nicer_than_who_asks_them(frame: Frames) -> None:
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    with ImagingPool(1, 64 * MEBIBYTE, 30.0, nice=7) as pool:
        pool.decode(frame(b"pixels"))
        (worker,) = pool._running
        assert os.getpriority(os.PRIO_PROCESS, worker._process.pid) == min(ours + 7, 19)
