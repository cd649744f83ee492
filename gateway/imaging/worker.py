"""The process that decodes and renders: one job at a time, in bounded memory and time.

Started by `gateway.imaging.pool` as ``python -m gateway.imaging.worker SOCKET_FD MEMORY_BYTES``. It ends
when the gateway closes its end of the socket, by dying or otherwise.
"""

import resource
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import imagecodecs
from PIL import AvifImagePlugin, Image, Jpeg2KImagePlugin, features

from gateway.imaging import fonts, icc
from gateway.imaging.errors import FrameTooLarge, ImagingError
from gateway.imaging.jobs import (
    Answer,
    ConnectionClosed,
    Job,
    perform,
    receive_job,
    send_answer,
)

READY = b"ready"
"""Sent once the libraries are loaded, so that loading them does not count as a job's time."""

_GRACE_S = 2.0
_OUT_OF_MEMORY = "the frame needs more memory than one job may use"


def serve(arguments: Sequence[str], answer: Callable[[Job, Callable[[], Job]], Answer] = perform) -> None:
    """Answer jobs until the gateway is gone.

    Parameters
    ----------
    arguments
        The socket's file descriptor, and the bytes of memory a job may use beyond what the libraries take.
    answer
        Does a job. What it raises other than `ImagingError` and MemoryError ends the process.
    """
    channel = socket.socket(fileno=int(arguments[0]))
    memory_bytes = int(arguments[1])
    _load_codecs()
    _limit(memory_bytes)
    channel.sendall(READY)
    while True:
        try:
            job, timeout_s = receive_job(channel, memory_bytes)
        except (ConnectionClosed, OSError):
            return
        except MemoryError:
            send_answer(channel, FrameTooLarge(_OUT_OF_MEMORY))
            return
        # The gateway ends a late worker itself. If the gateway died meanwhile, the kernel does it here:
        # the default action of SIGALRM needs nothing from a codec that hangs.
        signal.setitimer(signal.ITIMER_REAL, timeout_s + _GRACE_S)
        result: Answer | ImagingError
        try:
            result = answer(job, lambda: receive_job(channel, memory_bytes)[0])
        except ImagingError as error:
            result = error
        except MemoryError:
            result = FrameTooLarge(_OUT_OF_MEMORY)
        except ConnectionClosed:
            return
        signal.setitimer(signal.ITIMER_REAL, 0)
        del job
        send_answer(channel, result)


def _load_codecs() -> None:
    """Load what imagecodecs and Pillow load lazily: under the limit they could fail half-loaded."""
    _ = (
        imagecodecs.jpeg8_decode,
        imagecodecs.jpegls_decode,
        imagecodecs.jpeg2k_decode,
        imagecodecs.packbits_decode,
        imagecodecs.htj2k_encode,
        imagecodecs.JPEG8,
        features.check("avif"),
        fonts.font(12),
        fonts.system_fonts(),
        icc.profile(icc.IccProfile.SRGB),
        imagecodecs.HTJ2K,
        AvifImagePlugin.SUPPORTED,
        Jpeg2KImagePlugin.Jpeg2KImageFile,
    )
    # With the two above all that is written here. ``Image.init`` loads 40 more, in a sixth of a worker's start.
    Image.preinit()


def _limit(memory_bytes: int) -> None:
    page_bytes = resource.getpagesize()
    mapped_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * page_bytes
    bound = mapped_bytes + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold patient data
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # nothing here writes files
    # Pillow's own bound on pixels is below a big mammogram, and ours is tighter in bytes.
    Image.MAX_IMAGE_PIXELS = None


if __name__ == "__main__":
    serve(sys.argv[1:])
