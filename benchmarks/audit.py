"""Microseconds that a record of the audit trail costs whoever waits for it.

::

    python -m benchmarks.audit [--records 20000]

A search is a record each, written to a file without waiting for the disk. Reads of one series are one access: all but
the first are counted.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from gateway.audit import verifying
from gateway.audit.events import AuditEvent
from gateway.audit.key import AuditKey
from gateway.audit.trail import AuditTrail
from gateway.context import Caller, Principal, PrincipalKind, Source

CALLER = Caller(Principal("viewer", PrincipalKind.API_KEY), Source("DICOMweb", "10.1.2.3"))
STUDY, SERIES = "1.2.840.113619.2.55.3.604688119", "1.2.840.113619.2.55.3.604688119.1"
ROUNDS = 5


def search(_number: int) -> AuditEvent:
    return AuditEvent("search", "allowed", CALLER, "main", ("STUDY", STUDY), query=f"StudyInstanceUID={STUDY}")


def read(number: int) -> AuditEvent:
    return AuditEvent("read", "allowed", CALLER, "main", (STUDY, SERIES, f"{SERIES}.{number}", "1"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=20_000)
    count = parser.parse_args().records
    key = AuditKey(bytes(32))
    with tempfile.TemporaryDirectory() as name:
        trail = AuditTrail(Path(name) / "audit", "benchmark", key)
        for event in (search, read):
            best_s = float("inf")
            for _ in range(ROUNDS):
                started_s = time.perf_counter()
                for number in range(count):
                    trail.write(event(number))
                best_s = min(best_s, time.perf_counter() - started_s)
            print(f"{event.__name__}: {best_s / count * 1e6:.1f} us")
        trail.close()
        started_s = time.perf_counter()
        found = verifying.verify([Path(name) / "audit"], {key.id: key})
        print(f"verify: {(time.perf_counter() - started_s) / found.records * 1e6:.1f} us a record")


if __name__ == "__main__":
    main()
