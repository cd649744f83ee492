"""Worker processes for pixels, bounded in number, memory and time.

Decoders are large C libraries fed with other people's bytes. Each job runs in a process of its own that
may be killed at any time; the callers see a domain error and the next job a fresh process.
"""

import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import TracebackType
from typing import Self

from gateway.imaging.animation import Timing
from gateway.imaging.blanking import Rectangle
from gateway.imaging.decode import EncodedFrame
from gateway.imaging.description import PixelDescription
from gateway.imaging.errors import FrameDamaged, FrameTooLarge, ImagingBusy, ImagingError, ImagingTimeout
from gateway.imaging.jobs import (
    AnimationJob,
    Answer,
    BlankJob,
    ConnectionClosed,
    DecodeJob,
    EncodeJob,
    Job,
    LetteringJob,
    RenderJob,
    receive_answer,
    send_job,
)
from gateway.imaging.picture import RenderedImage
from gateway.imaging.presentation import Presentation
from gateway.imaging.render import RenderRequest
from gateway.imaging.worker import READY

WORKER_COMMAND = (sys.executable, "-P", "-m", "gateway.imaging.worker")
"""Without the shell, and without the current directory on the module path."""

MAX_ANIMATIONS_WAITING = 2
"""Callers that may wait for the one worker of animations; each holds a thread."""

_START_TIMEOUT_S = 60.0
_NICEST = 19

_KINDS: dict[type[Job], str] = {
    DecodeJob: "decode",
    EncodeJob: "encode",
    BlankJob: "encode",
    LetteringJob: "letter",
    RenderJob: "render",
    AnimationJob: "animate",
}


class ImagingPool:
    """Decodes and renders frames in worker processes. Every method may be called from any thread.

    Parameters
    ----------
    workers
        Processes at most, and one more for animations. Each starts when first needed and then stays.
    memory_bytes
        What one job may use beyond the libraries' own memory: encoded frame, decoded frame, picture.
    timeout_s
        Seconds a caller waits for a free worker, and again seconds a job may take.
    animation_timeout_s
        Seconds an animation may take, reading its frames included; one is made at a time.
    max_waiting
        Callers that may wait for a worker at the same time; one more is refused at once.
    nice
        How much more the workers give way to other processes of the host than this one does (nice(2)).
    working
        Called with a job's kind; what it gives is around the job, from before it waits for a worker.
    command
        The worker's command line, before its two arguments. For tests with a worker that misbehaves.
    """

    def __init__(
        self,
        workers: int,
        memory_bytes: int,
        timeout_s: float,
        *,
        animation_timeout_s: float = 60.0,
        max_waiting: int = 64,
        nice: int = 0,
        working: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext(),
        command: Sequence[str] = WORKER_COMMAND,
    ) -> None:
        self._working = working
        self._memory_bytes = memory_bytes
        self._timeout_s = timeout_s
        self._animation_timeout_s = animation_timeout_s
        self._command = tuple(command)
        self._nice = nice
        self._frames = _Slots(workers, max_waiting)
        # Apart from the others: an animation takes seconds, and a viewer waits for its frames.
        self._animations = _Slots(1, MAX_ANIMATIONS_WAITING)
        self._running: set[_Worker] = set()
        self._lock = threading.Lock()
        self._closed = False

    def decode(self, frame: EncodedFrame) -> bytes:
        """Return the frame as native Explicit VR Little Endian pixels.

        Returns
        -------
        bytes
            In the form that `gateway.imaging.decode.decoded_description` of the frame describes, without
            padding to an even length.

        Raises
        ------
        ImagingError
            Any of its kinds but InvalidRendering. FrameDamaged also when the decoder crashed.
        """
        answer = self._run(DecodeJob(frame))
        if not isinstance(answer, bytes):
            raise FrameDamaged("the worker answered with another kind of result")
        return answer

    def encode(self, frame: EncodedFrame, transfer_syntax_uid: str) -> bytes:
        """Return the frame in another transfer syntax, without item header; raises as `decode`, and NotEncodable."""
        answer = self._run(EncodeJob(frame, transfer_syntax_uid))
        if not isinstance(answer, bytes):
            raise FrameDamaged("the worker answered with another kind of result")
        return answer

    def blank(
        self,
        frame: EncodedFrame,
        blank: Sequence[Rectangle],
        keep: Sequence[Rectangle] | None,
        transfer_syntax_uid: str,
    ) -> bytes:
        """Return the frame with parts made black, as `decode` or `encode` would; see `BlankJob`."""
        job = BlankJob(frame, tuple(blank), None if keep is None else tuple(keep), transfer_syntax_uid)
        answer = self._run(job)
        if not isinstance(answer, bytes):
            raise FrameDamaged("the worker answered with another kind of result")
        return answer

    def lettering(self, frame: EncodedFrame) -> tuple[Rectangle, ...]:
        """Where in the frame something looks like writing; raises as `decode`. Needs the extra ``ocr``."""
        answer = self._run(LetteringJob(frame))
        if not isinstance(answer, bytes):
            raise FrameDamaged("the worker answered with another kind of result")
        try:
            return tuple((int(x0), int(y0), int(x1), int(y1)) for x0, y0, x1, y1 in json.loads(answer))
        except (ValueError, TypeError) as error:
            raise FrameDamaged("the worker answered with something else than rectangles") from error

    def render(self, frame: EncodedFrame, presentation: Presentation, request: RenderRequest) -> RenderedImage:
        """Return a picture of the frame; raises as `decode`, and InvalidRendering."""
        answer = self._run(RenderJob(frame, presentation, request))
        if not isinstance(answer, RenderedImage):
            raise FrameDamaged("the worker answered with another kind of result")
        return answer

    def animate(self, frames: Iterator[RenderJob], count: int, timing: Timing, request: RenderRequest) -> RenderedImage:
        """Return one file of several frames, which are taken from ``frames`` one by one while a worker has them.

        Parameters
        ----------
        frames
            Gives ``count`` jobs, whose own media type does not count. What it raises comes out of here.
        count, timing
            Of the frames.
        request
            Of the file.

        Raises
        ------
        ImagingError
            As `render`.
        """
        answer = self._run(AnimationJob(count, timing, request), frames)
        if not isinstance(answer, RenderedImage):
            raise FrameDamaged("the worker answered with another kind of result")
        return answer

    def close(self) -> None:
        """End every worker; callers that wait, or have a job running, get ImagingBusy."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        for worker in running:
            worker.kill()
        for slots in (self._frames, self._animations):
            for free in slots.idle():
                if free is not None:
                    self._forget(free)
                slots.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def admit(self, description: PixelDescription, encoded_bytes: int) -> None:
        """Raise FrameTooLarge for a frame that no worker would take, before its bytes are fetched."""
        if description.frame_bytes + encoded_bytes > self._memory_bytes:
            raise FrameTooLarge(
                f"the frame has {description.frame_bytes} bytes decoded, a job may use {self._memory_bytes} bytes"
            )

    def _run(self, job: Job, frames: Iterator[RenderJob] | None = None) -> Answer:
        slots, timeout_s = self._frames, self._timeout_s
        if isinstance(job, AnimationJob):
            slots, timeout_s = self._animations, self._animation_timeout_s
        else:
            self.admit(job.frame.description, job.frame.size)
        with self._working(_KINDS[type(job)]), slots.place():
            worker = slots.get(self._timeout_s)
            try:
                worker = self._usable(worker)
                return worker.ask(job, frames, timeout_s, self._memory_bytes)
            except FrameDamaged:
                if self._closed:
                    raise ImagingBusy("the imaging pool is closed") from None
                raise
            finally:
                slots.put(self._kept(worker))

    def _usable(self, worker: "_Worker | None") -> "_Worker":
        """Return a living worker: this one, or a new one in its place."""
        if worker is not None and worker.is_alive:
            return worker
        if worker is not None:
            self._forget(worker)
        with self._lock:
            if self._closed:
                raise ImagingBusy("the imaging pool is closed")
            started = _Worker(self._command, self._memory_bytes, self._nice)
            self._running.add(started)
        try:
            started.wait_until_ready()
        except ImagingError:
            self._forget(started)
            raise
        return started

    def _kept(self, worker: "_Worker | None") -> "_Worker | None":
        """Return the worker if it may serve again; one that failed in any way was ended by `ask`."""
        if worker is None or (worker.is_alive and not self._closed):
            return worker
        self._forget(worker)
        return None

    def _forget(self, worker: "_Worker") -> None:
        worker.end()
        with self._lock:
            self._running.discard(worker)


class _Slots:
    """Workers that take turns, and the callers that may wait for one."""

    def __init__(self, workers: int, max_waiting: int) -> None:
        # Last in, first out: under light load the same warm worker serves, the others stay unstarted.
        self._free: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(workers):
            self._free.put(None)
        self._places = threading.BoundedSemaphore(workers + max_waiting)

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place to wait and to work in. Raises ImagingBusy at once when all are taken."""
        if not self._places.acquire(blocking=False):
            raise ImagingBusy("too many callers wait for a worker")
        try:
            yield
        finally:
            self._places.release()

    def get(self, timeout_s: float) -> "_Worker | None":
        try:
            return self._free.get(timeout=timeout_s)
        except queue.Empty:
            raise ImagingBusy("no worker became free in time") from None

    def put(self, worker: "_Worker | None") -> None:
        self._free.put(worker)

    def idle(self) -> "list[_Worker | None]":
        """All that are free now, taken out."""
        found = []
        while True:
            try:
                found.append(self._free.get_nowait())
            except queue.Empty:
                return found


class _Worker:
    """One process and the socket to it; used by one thread at a time, killed by any."""

    def __init__(self, command: tuple[str, ...], memory_bytes: int, nice: int) -> None:
        self._channel, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno()), str(memory_bytes)],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # codecs print about their input there
                # Nothing is inherited: the gateway's environment may hold credentials.
                env={
                    "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
                    "OPENBLAS_NUM_THREADS": "1",
                    "OMP_NUM_THREADS": "1",
                },
            )
            if nice:
                # Before it is asked for anything; its own priority is what it inherited from here.
                os.setpriority(
                    os.PRIO_PROCESS, self._process.pid, min(os.getpriority(os.PRIO_PROCESS, 0) + nice, _NICEST)
                )
        except OSError as error:
            self._channel.close()
            raise ImagingBusy("a worker process could not be started") from error
        finally:
            theirs.close()

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def wait_until_ready(self) -> None:
        self._channel.settimeout(_START_TIMEOUT_S)
        try:
            said = self._channel.recv(len(READY))
        except OSError:
            said = b""
        if said != READY:
            raise ImagingBusy("a worker process did not start")

    def ask(self, job: Job, frames: Iterator[RenderJob] | None, timeout_s: float, max_answer_bytes: int) -> Answer:
        """Have a job done; whatever goes wrong with the process itself ends it."""
        deadline_s = time.monotonic() + timeout_s
        all_sent = False
        try:
            send_job(self._channel, job, timeout_s)
            for frame in frames or ():
                self._send_frame(frame, deadline_s)
            all_sent = True
            return receive_answer(self._channel, max_answer_bytes, deadline_s)
        except FrameTooLarge:
            self.end()  # what little memory is left there is not for the next job
            raise
        except TimeoutError:
            self.end()
            raise ImagingTimeout(f"the job took longer than {timeout_s:g} s") from None
        except (ConnectionClosed, OSError) as error:
            self.end()
            raise FrameDamaged("the decoder crashed on the frame") from error
        except ImagingError:
            if not all_sent:
                self.end()  # it waits for what does not come
            raise
        except BaseException:
            self.end()  # its answer, still to come, would be read as the answer to the next job
            raise

    def _send_frame(self, frame: RenderJob, deadline_s: float) -> None:
        remaining_s = deadline_s - time.monotonic()
        if remaining_s <= 0:
            raise TimeoutError
        send_job(self._channel, frame, remaining_s)

    def kill(self) -> None:
        """End the process; the thread that waits for its answer sees the connection close."""
        self._process.kill()

    def end(self) -> None:
        """End the process and free the socket; for the thread that uses this worker."""
        self._process.kill()
        self._process.wait()
        self._channel.close()
