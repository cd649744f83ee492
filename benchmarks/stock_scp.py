"""A Storage SCP as pynetdicom's documentation writes one: python -m benchmarks.stock_scp PORT DIRECTORY [--fsync].

Of the two ways that are shown there it has the faster one, the encoded data set as it came; all settings are the
library's own.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
from pathlib import Path

from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]


def keep(event: evt.Event, directory: Path, *, fsync: bool) -> int:
    """Write an instance to a file; the status."""
    with (directory / event.request.AffectedSOPInstanceUID).open("wb") as file:
        file.write(event.encoded_dataset())
        if fsync:
            file.flush()
            os.fsync(file.fileno())
    return 0x0000


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--fsync", action="store_true")
    given = parser.parse_args()
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    application_entity = AE()
    application_entity.supported_contexts = [*AllStoragePresentationContexts]
    application_entity.add_supported_context(Verification)
    handlers = [(evt.EVT_C_STORE, lambda event: keep(event, given.directory, fsync=given.fsync))]
    server = application_entity.start_server(("127.0.0.1", given.port), block=False, evt_handlers=handlers)
    stopping.wait()
    server.shutdown()


if __name__ == "__main__":
    main()
