"""The jobs a worker does, and how a job and its answer travel between processes.

A job goes to the worker pickled. An answer comes back as JSON and bytes, never pickled: a codec that
a hostile frame took over must not be able to run code in the gateway.
"""

import json
import pickle
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from PIL import Image

from gateway.imaging.animation import Timing, assemble
from gateway.imaging.blanking import Rectangle, blanked
from gateway.imaging.decode import EXPLICIT_VR_LITTLE_ENDIAN, EncodedFrame, decode, decoded_description, native_bytes
from gateway.imaging.description import PixelDescription
from gateway.imaging.encode import encode as encode_frame
from gateway.imaging.errors import FrameDamaged, ImagingError
from gateway.imaging.lettering import lettering
from gateway.imaging.native import Pixels
from gateway.imaging.picture import RenderedImage, encode
from gateway.imaging.presentation import Presentation
from gateway.imaging.render import RenderRequest, show

_LENGTHS = struct.Struct(">IQ")
_ERRORS = {error.__name__: error for error in ImagingError.__subclasses__()}


class ConnectionClosed(Exception):
    """The other process ended the conversation."""


@dataclass(frozen=True, slots=True)
class DecodeJob:
    """Decode a frame to Explicit VR Little Endian pixels."""

    frame: EncodedFrame


@dataclass(frozen=True, slots=True)
class EncodeJob:
    """Decode a frame and encode it in another transfer syntax."""

    frame: EncodedFrame
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class BlankJob:
    """Decode a frame, make parts of it black (see ``gateway.imaging.blanking``), and encode it.

    In Explicit VR Little Endian it comes as native pixels.
    """

    frame: EncodedFrame
    blank: tuple[Rectangle, ...]
    keep: tuple[Rectangle, ...] | None
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class LetteringJob:
    """Decode a frame and say where something looks like writing, as a JSON array of rectangles."""

    frame: EncodedFrame


@dataclass(frozen=True, slots=True)
class RenderJob:
    """Decode and render a frame."""

    frame: EncodedFrame
    presentation: Presentation
    request: RenderRequest


@dataclass(frozen=True, slots=True)
class AnimationJob:
    """Put frames into one file. As many `RenderJob`s follow it as ``count`` says, each decoded as it comes."""

    count: int
    timing: Timing
    request: RenderRequest


Job: TypeAlias = DecodeJob | EncodeJob | BlankJob | LetteringJob | RenderJob | AnimationJob
Answer: TypeAlias = bytes | RenderedImage


def perform(job: Job, following: Callable[[], Job]) -> Answer:
    """Do a job in this process.

    Parameters
    ----------
    job
        What to do.
    following
        Waits for the next frame of an animation.

    Raises
    ------
    ImagingError
        As `decode`, `show`, `assemble` and `gateway.imaging.encode.encode`.
    """
    if isinstance(job, AnimationJob):
        return _animate(job, following)
    if isinstance(job, RenderJob):
        picture, profile = _picture(job)
        return encode(picture, job.request.media_type, job.request.quality, profile)
    pixels, description = _decoded(job.frame)
    if isinstance(job, LetteringJob):
        return json.dumps(lettering(pixels)).encode()
    if isinstance(job, BlankJob):
        pixels = blanked(pixels, description, job.blank, job.keep)
        if job.transfer_syntax_uid == EXPLICIT_VR_LITTLE_ENDIAN:
            return native_bytes(pixels, description)
    if isinstance(job, DecodeJob):
        return native_bytes(pixels, description)
    return encode_frame(pixels, description, job.transfer_syntax_uid)


def _decoded(frame: EncodedFrame) -> tuple[Pixels, PixelDescription]:
    pixels = decode(frame.data, frame.transfer_syntax_uid, frame.description, frame.bit_offset)
    return pixels, decoded_description(frame.description, frame.transfer_syntax_uid)


def _picture(job: RenderJob) -> tuple[Image.Image, bytes | None]:
    pixels, description = _decoded(job.frame)
    return show(pixels, description, job.presentation, job.request)


def _animate(job: AnimationJob, following: Callable[[], Job]) -> RenderedImage:
    taken = 0

    def pictures() -> Iterator[Image.Image]:
        nonlocal taken
        while taken < job.count:
            each = following()
            taken += 1
            assert isinstance(each, RenderJob)
            yield _picture(each)[0]

    try:
        return assemble(pictures(), job.count, job.timing, job.request.media_type, job.request.quality)
    finally:
        # The gateway sends them all before it listens.
        for _ in range(taken, job.count):
            following()


def send_job(channel: socket.socket, job: Job, timeout_s: float) -> None:
    """Send a job, and the seconds it may take.

    Raises
    ------
    OSError
        The worker is gone, or takes none of it in this time (TimeoutError).
    FrameDamaged
        The frame has another number of bytes than it says: the worker still waits, and has to be ended.
    """
    channel.settimeout(timeout_s)
    if isinstance(job, AnimationJob):
        _send(channel, pickle.dumps((job, timeout_s), pickle.HIGHEST_PROTOCOL), b"")
        return
    frame = job.frame
    bare = replace(job, frame=replace(frame, data=b"", source=None))
    head = pickle.dumps((bare, timeout_s), pickle.HIGHEST_PROTOCOL)
    channel.sendall(_LENGTHS.pack(len(head), frame.size))
    channel.sendall(head)
    sent = 0
    for block in frame.blocks():
        channel.sendall(block)
        sent += len(block)
    if sent != frame.size:
        raise FrameDamaged(f"the frame has {sent} bytes instead of {frame.size}")


def receive_job(channel: socket.socket, max_bytes: int) -> tuple[Job, float]:
    """Wait for a job; the gateway's own pickle, from the process that started this one, and the frame's bytes."""
    head, body = _receive(channel, max_bytes, max_bytes, None)
    job, timeout_s = pickle.loads(head)  # noqa: S301 - only the parent holds the other end
    if isinstance(job, AnimationJob):
        return job, timeout_s
    return replace(job, frame=replace(job.frame, data=bytes(body))), timeout_s


def send_answer(channel: socket.socket, answer: Answer | ImagingError) -> None:
    """Send what came out of a job."""
    match answer:
        case ImagingError():
            head: dict[str, Any] = {"error": type(answer).__name__, "message": str(answer)}
            body = b""
        case RenderedImage():
            head = {"media_type": answer.media_type, "rows": answer.rows, "columns": answer.columns}
            body = answer.data
        case _:
            head, body = {}, answer
    _send(channel, json.dumps(head).encode(), body)


def receive_answer(channel: socket.socket, max_bytes: int, deadline_s: float) -> Answer:
    """Wait for an answer.

    Parameters
    ----------
    channel
        The gateway's end.
    max_bytes
        Longest result to accept.
    deadline_s
        On the clock of `time.monotonic`; counts for the answer as a whole.

    Raises
    ------
    TimeoutError
        The deadline passed.
    ImagingError
        The one that the worker reported.
    ConnectionClosed
        The worker is gone, or what it sent is not an answer.
    """
    head_bytes, body = _receive(channel, 65536, max_bytes, deadline_s)
    try:
        head = json.loads(head_bytes)
        if "error" in head:
            failure = _ERRORS[head["error"]](str(head["message"])[:300])
        elif head:
            return RenderedImage(str(head["media_type"]), bytes(body), int(head["rows"]), int(head["columns"]))
        else:
            return bytes(body)
    except (ValueError, KeyError, TypeError) as error:
        raise ConnectionClosed from error
    raise failure


def _send(channel: socket.socket, head: bytes, body: bytes) -> None:
    channel.sendall(_LENGTHS.pack(len(head), len(body)))
    channel.sendall(head)
    if body:
        channel.sendall(body)


def _receive(
    channel: socket.socket, max_head: int, max_body: int, deadline_s: float | None
) -> tuple[bytearray, bytearray]:
    head_length, body_length = _LENGTHS.unpack(_read(channel, _LENGTHS.size, deadline_s))
    if head_length > max_head or body_length > max_body:
        raise ConnectionClosed
    return _read(channel, head_length, deadline_s), _read(channel, body_length, deadline_s)


def _read(channel: socket.socket, length: int, deadline_s: float | None) -> bytearray:
    try:
        buffer = bytearray(length)
    except MemoryError:
        # The other side must finish sending before it can be told.
        while length > 0 and (received := len(channel.recv(min(length, 65536)))):
            length -= received
        raise
    view = memoryview(buffer)
    while view:
        if deadline_s is not None:
            remaining_s = deadline_s - time.monotonic()
            if remaining_s <= 0:
                raise TimeoutError
            channel.settimeout(remaining_s)
        received = channel.recv_into(view)
        if received == 0:
            raise ConnectionClosed
        view = view[received:]
    return buffer
