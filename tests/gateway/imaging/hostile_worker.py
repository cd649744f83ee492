"""A worker that misbehaves as the frame's first bytes tell it, for test_pool.py."""

import os
import signal
import sys
from collections.abc import Callable

from gateway.imaging.errors import FrameMismatch
from gateway.imaging.jobs import Answer, Job, perform
from gateway.imaging.worker import serve


def misbehave(job: Job, following: Callable[[], Job]) -> Answer:
    match job.frame.data[:5]:
        case b"hang!":
            signal.pause()
        case b"crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case b"leave":
            os._exit(0)
        case b"raise":
            raise RuntimeError("a defect")
        case b"wrong":
            raise FrameMismatch("as asked")
        case b"pid??":
            return str(os.getpid()).encode()
        case b"hoard":
            return bytes(1 << 30)
        case b"envir":
            return "\n".join(sorted(os.environ)).encode()
    return perform(job, following)


serve(sys.argv[1:], misbehave)
