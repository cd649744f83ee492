"""``gateway viewer``: have OHIF on the gateway's own origin."""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
from pathlib import Path

from gateway import config
from gateway.commands import terminal
from gateway.commands.arguments import Commands, with_config, with_json
from gateway.config import Settings
from gateway.viewer import release


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "viewer",
        help="the OHIF viewer at /ohif: install, status",
        description="Have the OHIF viewer served by the gateway itself, configured for its root, its views and its "
        "share links. A running gateway notices at once.",
    )
    what = parser.add_subparsers(metavar="WHAT", required=True)
    getting = what.add_parser(
        "install",
        help="fetch it, check its digest, and lay it out",
        description=f"Fetch {release.PACKAGE} from the npm registry ({release.VERSION} unless told otherwise; 50 MB, "
        "some 250 MB on disk), check it against its digest, and put it where the gateway serves it from, in place of "
        "what is there.",
    )
    getting.add_argument("--release", default=release.VERSION, metavar="VERSION", help=f"which ({release.VERSION})")
    getting.add_argument(
        "--from",
        dest="package",
        type=Path,
        metavar="FILE",
        help="a package that is here already, got elsewhere by `npm pack @ohif/app@VERSION`",
    )
    getting.add_argument(
        "--registry",
        default=os.environ.get("NPM_CONFIG_REGISTRY", release.REGISTRY),
        metavar="URL",
        help="where it is fetched from (NPM_CONFIG_REGISTRY, or npm's)",
    )
    telling = what.add_parser("status", help="say what is installed")
    for each, command in ((getting, _install), (telling, _status)):
        with_json(each)
        with_config(each, command)


def _install(options: argparse.Namespace) -> int:
    from gateway.viewer import installing  # noqa: PLC0415 - a client's libraries, which no server needs

    settings = config.load(options.config)
    directory = release.folder(settings)
    with terminal.interruptible(), tempfile.TemporaryDirectory() as folder:
        if options.package is not None:
            package, found = options.package, installing.given(options.package, options.release)
        else:
            with terminal.progress("KB of the package") as meter:
                package, found = installing.fetch(
                    options.registry,
                    options.release,
                    Path(folder),
                    lambda size, total: meter.update(size >> 10, total and total >> 10),
                )
        if not options.json:
            terminal.note("laying it out, with compressed copies of what is text; this takes some seconds")
        size = installing.install(package, found, directory)
    if options.json:
        terminal.report({"directory": str(directory), "bytes": size, **dataclasses.asdict(found)})
    else:
        terminal.answer(f"OHIF {found.version} is in {directory}; the gateway serves it at {_address(settings)}")
    return terminal.OK


def _status(options: argparse.Namespace) -> int:
    settings = config.load(options.config)
    directory = release.folder(settings)
    found = release.installed(directory)
    if options.json:
        about = dataclasses.asdict(found) if found is not None else None
        terminal.report({"directory": str(directory), "installed": about})
    elif found is None:
        terminal.answer(f"no viewer is in {directory}; `gateway viewer install` fetches it")
    else:
        terminal.answer(f"OHIF {found.version} is in {directory}, from {found.source}; served at {_address(settings)}")
    return terminal.OK if found is not None else terminal.FAILED


def _address(settings: Settings) -> str:
    public = settings.http.public_url
    return f"{str(public).rstrip('/') if public is not None else settings.http.path_prefix}/ohif/"
