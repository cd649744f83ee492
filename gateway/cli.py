"""The command line: ``gateway COMMAND``; each command is a module of ``gateway.commands``."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version

if gc.isenabled():
    # What is imported stays: looking for garbage in it would take a tenth of the time.
    gc.disable()

from gateway.backups.manifest import BackupError
from gateway.commands import (
    audit,
    backup,
    check_config,
    deid,
    demo,
    erase,
    export,
    hold,
    import_files,
    key,
    migrate,
    policy,
    reindex,
    restore,
    retention,
    serve,
    terminal,
    transition,
    user,
    verify,
    view,
)
from gateway.config import InvalidSettings
from gateway.errors import GatewayError
from gateway.exporting.items import ExportError
from gateway.nursery import StartFailed
from storage.errors import StorageError

gc.enable()

_COMMANDS = (
    serve,
    check_config,
    import_files,
    migrate,
    reindex,
    verify,
    backup,
    restore,
    hold,
    erase,
    retention,
    transition,
    audit,
    key,
    user,
    policy,
    view,
    export,
    deid,
    demo,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0, 1 when it failed or found something wrong, 2 when it was not understood."""
    options = parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except KeyboardInterrupt:
        terminal.error("interrupted" + (f": {options.go_on}" if options.go_on else ""))
    except InvalidSettings as error:
        for fault in error.faults:
            terminal.error(fault)
    except BrokenPipeError:
        # Whoever read the answer has seen enough; the interpreter must not stumble over the rest of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        terminal.error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except (StorageError, GatewayError, BackupError, ExportError, StartFailed) as error:
        terminal.error(str(error))
    return terminal.FAILED


def parser() -> argparse.ArgumentParser:
    """All commands and their arguments."""
    made = argparse.ArgumentParser(
        prog="gateway", description="DICOMweb imaging gateway: modalities send by DIMSE, viewers read by DICOMweb."
    )
    made.add_argument("--version", action="version", version=f"gateway {version('dicomweb-gateway')}")
    commands = made.add_subparsers(metavar="COMMAND", required=True)
    for each in _COMMANDS:
        each.add(commands)
    return made


if __name__ == "__main__":
    sys.exit(main())
