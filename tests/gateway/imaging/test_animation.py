import io
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, features

from gateway.imaging.animation import Timing, assemble
from gateway.imaging.decode import EncodedFrame
from gateway.imaging.errors import FrameDamaged, ImagingBusy, ImagingTimeout, NotDecodable
from gateway.imaging.jobs import RenderJob
from gateway.imaging.mp4 import from_avif_sequence
from gateway.imaging.picture import RenderedMediaType
from gateway.imaging.pool import MAX_ANIMATIONS_WAITING, ImagingPool
from gateway.imaging.presentation import Presentation
from gateway.imaging.render import RenderRequest

EXPLICIT = "1.2.840.10008.1.2.1"
MP4, GIF = RenderRequest(RenderedMediaType.MP4), RenderRequest(RenderedMediaType.GIF)


def films(count: int, size: tuple[int, int] = (64, 48), mode: str = "L") -> Iterator[Image.Image]:
    return (Image.new(mode, size, 20 * place) for place in range(count))


def boxes(data: bytes, start: int = 0, end: int | None = None) -> dict[bytes, tuple[int, int]]:
    found = {}
    end = len(data) if end is None else end
    while start < end:
        length, kind = struct.unpack_from(">I4s", data, start)
        found[kind] = (start, start + length)
        if kind in (b"moov", b"trak", b"mdia"):
            found |= boxes(data, start + 8, start + length)
        start += length
    return found


def test_a_video_has_the_handler_the_brands_and_the_duration_of_one() -> None:
    data = assemble(films(4), 4, Timing((50, 200)), RenderedMediaType.MP4, 80).data
    found = boxes(data)
    assert data[8:12] == b"iso6"
    assert b"avif" not in data[: found[b"ftyp"][1]]
    assert b"av01" in data[: found[b"ftyp"][1]]
    assert data[found[b"hdlr"][0] + 16 :][:4] == b"vide"
    assert b"meta" not in found
    scale, duration = struct.unpack_from(">IQ", data, found[b"mvhd"][0] + 28)
    assert duration / scale == 0.65
    assert struct.unpack_from(">QQ", data, found[b"mvhd"][0] + 12) == (0, 0)


def test_the_same_pictures_give_the_same_bytes() -> None:
    first, second = (assemble(films(3), 3, Timing(), RenderedMediaType.MP4, 80).data for _ in range(2))
    assert first == second


def test_frames_of_other_sizes_take_that_of_the_first() -> None:
    pictures = iter([Image.new("L", (64, 48)), Image.new("RGB", (200, 100), (255, 0, 0)), Image.new("L", (10, 10), 9)])
    found = Image.open(io.BytesIO(assemble(pictures, 3, Timing(), RenderedMediaType.GIF, 80).data))
    assert (found.size, found.n_frames) == ((64, 48), 3)  # type: ignore[attr-defined]


def test_what_is_no_sequence_is_refused() -> None:
    still = io.BytesIO()
    Image.new("L", (32, 32)).save(still, "AVIF")
    for data in (still.getvalue(), b"", b"\0\0\0\x05ftyp", b"\xff\xff\xff\xffftyp"):
        with pytest.raises(ValueError):
            from_avif_sequence(data)


@pytest.fixture
def pool() -> Iterator[ImagingPool]:
    with ImagingPool(1, 1 << 28, 20.0, animation_timeout_s=20.0) as made:
        yield made


def jobs(describe: object, count: int, bad: int | None = None) -> Iterator[RenderJob]:
    for place in range(count):
        pixels = np.full((32, 48, 1), 30 * place, np.uint8)
        data = b"" if place == bad else pixels.tobytes()
        frame = EncodedFrame(data, EXPLICIT, describe(pixels))  # type: ignore[operator]
        yield RenderJob(frame, Presentation(), GIF)


def test_a_worker_takes_frames_one_by_one_and_serves_again(pool: ImagingPool, describe: object) -> None:
    for request in (GIF, MP4):
        made = pool.animate(jobs(describe, 5), 5, Timing(), request)
        assert (made.media_type, made.rows, made.columns) == (request.media_type.value, 32, 48)


def test_a_damaged_frame_fails_the_whole_and_leaves_a_pool_that_works(pool: ImagingPool, describe: object) -> None:
    for bad in (0, 2, 4):
        with pytest.raises(FrameDamaged):
            pool.animate(jobs(describe, 5, bad), 5, Timing(), GIF)
    assert pool.animate(jobs(describe, 2), 2, Timing(), GIF).data.startswith(b"GIF8")


def test_what_the_frames_raise_comes_out_and_the_worker_is_replaced(pool: ImagingPool, describe: object) -> None:
    def broken() -> Iterator[RenderJob]:
        yield from jobs(describe, 1)
        raise LookupError("the object is gone")

    with pytest.raises(LookupError):
        pool.animate(broken(), 3, Timing(), GIF)
    assert pool.animate(jobs(describe, 2), 2, Timing(), GIF).data.startswith(b"GIF8")


def test_an_animation_has_its_own_deadline(describe: object) -> None:
    with ImagingPool(1, 1 << 28, 20.0, animation_timeout_s=0.0) as pool, pytest.raises(ImagingTimeout):
        pool.animate(jobs(describe, 2), 2, Timing(), GIF)


def test_frames_are_rendered_while_an_animation_is_made(pool: ImagingPool, describe: object) -> None:
    still = next(jobs(describe, 1))
    seen = []

    def slow() -> Iterator[RenderJob]:
        for job in jobs(describe, 3):
            seen.append(pool.render(still.frame, still.presentation, GIF).media_type)  # the pool has one worker
            yield job

    assert pool.animate(slow(), 3, Timing(), GIF).data.startswith(b"GIF8")
    assert seen == ["image/gif"] * 3


def test_too_many_animations_at_once_are_refused(pool: ImagingPool, describe: object) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def held() -> Iterator[RenderJob]:
        begun.set()
        go_on.wait(30)
        yield from jobs(describe, 1)

    with ThreadPoolExecutor(1 + MAX_ANIMATIONS_WAITING) as threads:
        made = [threads.submit(pool.animate, held(), 1, Timing(), GIF)]
        begun.wait(30)
        for _ in range(MAX_ANIMATIONS_WAITING):
            made.append(threads.submit(pool.animate, jobs(describe, 1), 1, Timing(), GIF))
        refused = None
        while refused is None:
            try:
                with pool._animations.place():
                    pass  # one of them has not come so far
            except ImagingBusy as error:
                refused = error
        with pytest.raises(ImagingBusy):
            pool.animate(jobs(describe, 1), 1, Timing(), GIF)
        go_on.set()
        assert all(each.result(30).data.startswith(b"GIF8") for each in made)


def test_without_an_encoder_a_video_is_refused_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(NotDecodable, match="video/mp4"):
        assemble(films(2), 2, Timing(), RenderedMediaType.MP4, 80)
    assert assemble(films(2), 2, Timing(), RenderedMediaType.GIF, 80).data.startswith(b"GIF8")
