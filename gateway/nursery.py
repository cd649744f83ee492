"""A process that has imported everything and forks the workers.

Importing takes a second of a processor and most of a worker's memory; forked, workers start in milliseconds and share
what was imported. It is forked from before anything has a thread, a connection or a secret: settings reach each worker
through its own pipe.

``gateway serve`` forks it from itself before it reads its settings, so that the two share what they have imported. Who
has threads by then, and a supervisor whose nursery was lost, starts ``python -m gateway.nursery SOCKET``. For each
message on the socket, the arguments of a worker with its standard input, the pipe on which its end is told, and
whatever it inherits beside, it answers with the worker's process id and a descriptor of the process.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

import setproctitle

from gateway import worker

_MESSAGE_BYTES = 4096
_MOST_PASSED = 8
_STDERR = 2
_M_ARENA_MAX = -8
_ARENAS = 2
_REAPED_WITHIN_S = 5.0


class StartFailed(Exception):
    """A worker did not come up; its own output says why."""


class NurseryLost(StartFailed):
    """The process that forks workers is gone; the next that is asked for starts another."""


class Worker:
    """A forked worker as its supervisor sees it. Safe to use from several threads.

    ``lifeline`` is the other end of its standard input: the worker drains when that is closed.
    """

    def __init__(self, pid: int, process: int, ended: int, lifeline: int) -> None:
        self.pid = pid
        self.lifeline = lifeline
        # By whoever drops it last: one thread may still wait for a worker that another has replaced.
        weakref.finalize(self, _close, process, ended, lifeline)
        self._process = process
        self._ended = ended
        self._lock = threading.Lock()
        self._status: int | None = None
        self._asked = False

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait for its end: the exit status, or minus the signal that killed it; None when nobody can tell any more.

        Raises
        ------
        TimeoutError
            It is still there.
        """
        if not _readable(self._process, timeout_s):
            raise TimeoutError
        with self._lock:
            if not self._asked:
                self._asked = True
                # A nursery that is gone has closed the pipe without a word.
                told = os.read(self._ended, 16) if _readable(self._ended, _REAPED_WITHIN_S) else b""
                self._status = int(told) if told else None
            return self._status

    def runs(self) -> bool:
        """Whether it has not ended yet."""
        return not _readable(self._process, 0.0)

    def signal(self, number: int) -> None:
        """Send a signal; nobody else can get it, even when the worker has just ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, number)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class Nursery:
    """The supervisor's side. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channel: socket.socket | None = None
        self._await_end: Callable[[], object] = lambda: None

    @classmethod
    def forked(cls) -> Nursery:
        """One that is forked from this process, which should hold nothing yet but what it has imported.

        From a process with threads it would take along every lock that another holds: there it is started when it is
        needed, as it is by default.
        """
        made = cls()
        if len(list(Path("/proc/self/task").iterdir())) > 1:
            return made
        _freeze()
        _occupy_standard_descriptors()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        _flush()
        pid = os.fork()
        if not pid:
            _become_nursery(theirs)
        theirs.close()
        made._channel, made._await_end = ours, partial(_await_end, pid)
        return made

    def prepare(self) -> None:
        """Begin to start the process, unless it is there, without waiting for it."""
        with self._lock:
            self._prepare()

    def _prepare(self) -> socket.socket:
        if self._channel is not None:
            return self._channel
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "gateway.nursery", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # A session of its own: Ctrl-C reaches the supervisor alone, which then drains the workers.
                start_new_session=True,
            )
        self._channel, self._await_end = ours, process.wait
        return ours

    def fork(self, arguments: Sequence[str], inherited: Sequence[int]) -> Worker:
        """Fork a worker, which is given the numbers of the descriptors that it inherits as its last arguments.

        Raises
        ------
        NurseryLost
            The process is gone, or cannot fork.
        """
        stdin, lifeline = os.pipe()
        ended, tell_end = os.pipe()
        try:
            process, pid = self._ask(json.dumps(arguments).encode(), [stdin, tell_end, *inherited])
        except OSError as error:
            os.close(lifeline)
            os.close(ended)
            raise NurseryLost("the process that starts the workers is gone; its output says why") from error
        finally:
            os.close(stdin)
            os.close(tell_end)
        return Worker(pid, process, ended, lifeline)

    def _ask(self, message: bytes, passed: list[int]) -> tuple[int, int]:
        with self._lock:
            channel = self._prepare()
            try:
                socket.send_fds(channel, [message], passed)
                answer, processes, _, _ = socket.recv_fds(channel, _MESSAGE_BYTES, 1)
                if not processes:
                    raise OSError(answer.decode() or "no answer")
            except OSError:
                self._let_go()
                raise
        return processes[0], int(answer)

    def _let_go(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
            self._await_end()

    def close(self) -> None:
        """End the process. Idempotent."""
        with self._lock:
            self._let_go()


def _readable(descriptor: int, timeout_s: float | None) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if timeout_s is None else max(0, int(timeout_s * 1000))))


def _freeze() -> None:
    """What stays as it is need not be looked through by the collector of every fork, which would copy it."""
    gc.collect()
    gc.freeze()


def _occupy_standard_descriptors() -> None:
    """Put nothing where standard input, output or errors are closed: a channel there would be taken for them."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # it was closed when Python began
            stream.flush()


def _await_end(pid: int) -> None:
    # Who was started with SIGCHLD ignored has no status to fetch, and is told so when the process has ended.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _few_arenas() -> None:
    """Have glibc give threads memory from two arenas instead of up to eight a processor, each of which keeps its own.

    Under one interpreter lock threads seldom want memory at the same time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have no arenas
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)


def _become_nursery(channel: socket.socket) -> NoReturn:
    """Be the nursery of the process that this one was forked from, with the channel alone."""
    status = 1
    try:
        # Ctrl-C reaches the supervisor alone, which then drains the workers.
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        for descriptor in [int(each.name) for each in Path("/proc/self/fd").iterdir()]:
            if descriptor > _STDERR and descriptor != channel.fileno():
                with contextlib.suppress(OSError):  # the listing's own
                    os.close(descriptor)
        main(channel)
        status = 0
    except BaseException:  # the process ends with it, as it would at its top
        traceback.print_exc()
    finally:
        _flush()
        os._exit(status)


def main(channel: socket.socket) -> None:
    """Fork workers until the supervisor closes the channel, and tell how each of them ended."""
    setproctitle.setproctitle("gateway nursery")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    children, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken)
    _few_arenas()
    _freeze()
    ends: dict[int, int] = {}
    poll = select.poll()
    for descriptor in (channel.fileno(), children):
        poll.register(descriptor, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if children in ready:
            os.read(children, 4096)
            _reap(ends)
        if channel.fileno() in ready:
            message, passed, _, _ = socket.recv_fds(channel, _MESSAGE_BYTES, _MOST_PASSED)
            if not message:
                return
            _fork(channel, message, passed, ends)


def _reap(ends: dict[int, int]) -> None:
    while ends:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with contextlib.suppress(BrokenPipeError):
            os.write(ends[pid], str(os.waitstatus_to_exitcode(status)).encode())
        os.close(ends.pop(pid))


def _fork(channel: socket.socket, message: bytes, passed: list[int], ends: dict[int, int]) -> None:
    stdin, tell_end, *inherited = passed
    try:
        pid = os.fork()
    except OSError as error:
        for descriptor in passed:
            os.close(descriptor)
        channel.send((error.strerror or "no fork").encode())
        return
    if not pid:
        channel.close()
        for descriptor in (tell_end, *ends.values()):
            os.close(descriptor)
        _become(json.loads(message), stdin, inherited)
    ends[pid] = tell_end
    for descriptor in (stdin, *inherited):
        os.close(descriptor)
    process = os.pidfd_open(pid)
    try:
        socket.send_fds(channel, [str(pid).encode()], [process])
    finally:
        os.close(process)


def _become(arguments: list[str], stdin: int, inherited: Sequence[int]) -> NoReturn:
    """Be the worker, to its end."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setsid()
        os.dup2(stdin, 0)
        os.close(stdin)
        for descriptor in inherited:
            os.set_inheritable(descriptor, False)
        setproctitle.setproctitle(f"gateway {'-'.join(arguments)}")
        status = worker.main([*arguments, *map(str, inherited)])
    except BaseException:  # the process ends with it, as it would at its top
        traceback.print_exc()
    finally:
        _flush()
        # Nothing of the nursery's own is to be ended here a second time.
        os._exit(status)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
