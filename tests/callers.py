"""Principals that tests act as."""

from __future__ import annotations

from gateway.access.policy import BUILT_IN

_found = BUILT_IN.by_loopback("127.0.0.1")
assert _found is not None
THIS_MACHINE = _found
"""Somebody on this machine, without a policy file: may do everything."""
