"""System programs that some tests need, and what happens where one is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest


def need_program(name: str, package: str) -> pytest.MarkDecorator:
    """Mark a test that runs the system program ``name``.

    Where the program is missing the test is skipped; under ``CI=true`` it fails instead, so that a check
    cannot fall silent on the machine that guards the main branch.
    """
    reason = f"needs {name} (Debian package {package})"
    missing = shutil.which(name) is None
    if missing and in_ci():
        pytest.fail(reason, pytrace=False)
    return pytest.mark.skipif(missing, reason=reason)


def has_program(name: str, package: str) -> bool:
    """Whether a program that a part of a test runs is here; under ``CI=true`` it has to be."""
    found = shutil.which(name) is not None
    if not found and in_ci():
        pytest.fail(f"needs {name} (Debian package {package})", pytrace=False)
    return found


@contextmanager
def running(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A program beside the test, which is killed in the end: a test that fails does not wait for it for ever."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def in_ci() -> bool:
    """Whether this run is the one that must not skip anything."""
    return os.environ.get("CI") == "true"
