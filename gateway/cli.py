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
    completion,
    conformance,
    deid,
    demo,
    echo,
    erase,
    export,
    find,
    get,
    hold,
    import_files,
    key,
    migrate,
    policy,
    quarantine,
    reindex,
    restore,
    retention,
    send,
    serve,
    status,
    teaching,
    terminal,
    transition,
    user,
    verify,
    view,
    viewer,
    webhooks,
    worklist,
)
from gateway.commands.arguments import NotUnderstood
from gateway.config import InvalidSettings
from gateway.dimse.asking import NotAnswered
from gateway.dimse.ending import Ended
from gateway.dimse.requesting import NotAssociated
from gateway.errors import GatewayError
from gateway.exporting.items import ExportError
from gateway.nursery import StartFailed
from gateway.viewer.release import InstallError
from storage.errors import StorageError, StorageUnavailable

gc.enable()

_COMMANDS = (
    serve,
    status,
    check_config,
    echo,
    find,
    send,
    get,
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
    quarantine,
    worklist,
    view,
    viewer,
    webhooks,
    export,
    deid,
    conformance,
    demo,
    completion,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is one of ``terminal.STATUSES``."""
    known = parser()
    given = sys.argv[1:] if arguments is None else arguments
    if not given:
        known.print_help(sys.stderr)
        return terminal.USAGE
    options, more = known.parse_known_args(given)
    if more:
        if "more" not in options or any(each.startswith("-") for each in more):
            options.leaf.not_understood(more)
        options.more(options, more)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except KeyboardInterrupt:
        terminal.error("interrupted" + (f": {options.go_on}" if options.go_on else ""))
        return terminal.INTERRUPTED
    except InvalidSettings as error:
        for fault in error.faults:
            terminal.error(fault)
        return terminal.USAGE if isinstance(error, NotUnderstood) else terminal.FAILED
    except BrokenPipeError:
        # Whoever read the answer has seen enough; the interpreter must not stumble over the rest of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        terminal.error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        if isinstance(error, PermissionError):
            terminal.advise("give the command as the user who runs the gateway, or as one who may read and write there")
    except NotAssociated as error:
        terminal.error(str(error))
        terminal.advise(error.advice)
        return terminal.UNREACHED
    except NotAnswered as error:
        terminal.error(str(error))
        terminal.advise(error.advice)
    except Ended as error:
        terminal.error(f"the peer ended the association, or did not answer in time: {error}")
        terminal.advise("its log says why; --timeout SECONDS waits longer")
        return terminal.UNREACHED
    except StorageUnavailable as error:
        terminal.error(str(error))
        terminal.advise("does the engine run, and do the settings name it rightly? `gateway status` asks all of them")
    except (StorageError, GatewayError, BackupError, ExportError, InstallError, StartFailed) as error:
        terminal.error(str(error))
    return terminal.FAILED


def parser() -> argparse.ArgumentParser:
    """All commands and their arguments."""
    made = teaching.Parser(
        prog="gateway", description="DICOMweb imaging gateway: modalities send by DIMSE, viewers read by DICOMweb."
    )
    made.add_argument("--version", action="version", version=f"gateway {version('dicomweb-gateway')}")
    commands = made.add_subparsers(metavar="COMMAND", required=True)
    for each in _COMMANDS:
        each.add(commands)
    made.set_defaults(whole=made)
    teaching.teach(made)
    return made


if __name__ == "__main__":
    sys.exit(main())
