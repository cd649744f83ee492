"""The command line: ``gateway serve | demo | check-config | reindex``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gateway import assembly, config, log
from gateway.config import InvalidSettings, Settings
from gateway.supervisor import StartFailed, Supervisor, stop_signal
from storage import reconcile
from storage.errors import StorageError

_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)

OK, FAILED, USAGE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0, 1 when it failed, 2 when it was not understood."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except InvalidSettings as error:
        for fault in error.faults:
            _err.print(f"[red]error[/] {_plain(fault)}", soft_wrap=True)
        return FAILED
    except (StorageError, StartFailed) as error:
        _err.print(f"[red]error[/] {_plain(str(error))}", soft_wrap=True)
        return FAILED
    except OSError as error:
        _err.print(f"[red]error[/] {_plain(str(error))}", soft_wrap=True)
        return FAILED


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gateway", description="DICOMweb imaging gateway: modalities send by DIMSE, viewers read by DICOMweb."
    )
    parser.add_argument("--version", action="version", version=f"gateway {version('dicomweb-gateway')}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    serve = commands.add_parser("serve", help="start the gateway", description="Start the gateway and keep it running.")
    serve.add_argument("--single", action="store_true", help="one worker process a face, for a laptop or a test")
    _with_config(serve, _serve)

    check = commands.add_parser(
        "check-config",
        help="check settings and policy, starting nothing",
        description="Check settings and policy; each fault is told with its place and what would be right.",
    )
    _with_config(check, _check_config)

    reindex = commands.add_parser(
        "reindex",
        help="rebuild the index from the objects",
        description="Rebuild the index from the objects alone, while the gateway is stopped. The old index is kept.",
    )
    _with_config(reindex, _reindex)

    demo = commands.add_parser(
        "demo",
        help="start on sample data, nothing to configure",
        description="Start the gateway on the embedded engines and send it the sample studies by C-STORE and STOW-RS.",
    )
    demo.add_argument("--directory", type=Path, default=Path(".demo"), help="where the demo keeps its data (.demo)")
    demo.add_argument("--samples", type=Path, default=Path("sample_dicom/studies"), help="the studies to send")
    demo.add_argument("--once", action="store_true", help="end as soon as everything is stored and shown")
    demo.set_defaults(command=_demo)
    return parser


def _with_config(parser: argparse.ArgumentParser, command: Callable[[argparse.Namespace], int]) -> None:
    parser.add_argument("-c", "--config", type=Path, help="the settings file, TOML; see docs/settings.md")
    parser.set_defaults(command=command)


def _check_config(options: argparse.Namespace) -> int:
    assembly.check(config.load(options.config))
    _out.print("the settings are in order")
    return OK


def _serve(options: argparse.Namespace) -> int:
    settings = config.load(options.config)
    assembly.check(settings)
    if options.single:
        settings = single(settings)
    assembly.check_index(settings)
    log.configure("supervisor", settings.log.level)
    stop = stop_signal()
    with Supervisor(settings) as supervisor:
        logging.getLogger("gateway").info(
            "DICOMweb on http://%s:%d%s/dicomweb, DIMSE as %s on %s:%d",
            *supervisor.http_address,
            settings.http.path_prefix,
            settings.dimse.ae_title,
            *supervisor.dimse_address,
        )
        for name in off(settings):
            logging.getLogger("gateway").warning("off: %s", name)
        stop.wait()
    return OK


def single(settings: Settings) -> Settings:
    """The same settings with one worker a face."""
    return settings.model_copy(
        update={
            "http": settings.http.model_copy(update={"workers": 1}),
            "dimse": settings.dimse.model_copy(update={"workers": 1}),
        }
    )


def off(settings: Settings) -> list[str]:
    """What protects the archive elsewhere and is off here; told at every start."""
    found = []
    if not settings.storage.fsync:
        found.append("storage.fsync: what is acknowledged may be lost in a power cut")
    if settings.access.policy_file is None:
        found.append("access.policy_file: every program on this machine may do everything")
    return found


def _reindex(options: argparse.Namespace) -> int:
    settings = config.load(options.config)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with assembly.rebuilding(settings) as archive, Progress(*columns, console=_err) as progress:
        task = progress.add_task("counting objects", total=None)
        total = sum(1 for _ in archive.objects.list(""))
        progress.update(task, description="indexing", total=total)
        report = reconcile.reindex(archive, lambda so_far: progress.update(task, completed=so_far.objects))
    _out.print(
        f"{report.indexed} instances indexed, {report.quarantined} in quarantine, {report.records} records applied, "
        f"{report.removed} second copies removed"
    )
    for key, reason in report.damaged:
        _err.print(f"[yellow]left alone[/] {_plain(key)}: {_plain(reason)}", soft_wrap=True)
    return FAILED if report.damaged else OK


def _demo(options: argparse.Namespace) -> int:
    from gateway import demo  # noqa: PLC0415 - a client's libraries, which no server needs

    return OK if demo.run(options.directory, options.samples, once=options.once) else FAILED


if __name__ == "__main__":
    sys.exit(main())
