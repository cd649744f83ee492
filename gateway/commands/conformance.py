"""``gateway conformance``: ask any DICOMweb server whether it does what PS3.18 says, claim by claim."""

from __future__ import annotations

import argparse
import datetime
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from gateway import assembly
from gateway.commands import terminal
from gateway.commands.arguments import Commands, NotUnderstood, with_json

if TYPE_CHECKING:
    from gateway.conformance.report import Visited

_SERVICES = ("store", "search", "retrieve", "render", "negotiation", "capabilities", "deletion")


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "conformance",
        help="ask any DICOMweb server whether it conforms",
        description="Ask a DICOMweb server, this gateway or another, for what PS3.18 says, claim by claim. Without "
        "--store nothing is changed there: it is asked for what it has. Exit status 1 when a claim fails.",
    )
    parser.add_argument("url", metavar="URL", help="the service root, such as https://pacs.example.org/dicom-web")
    parser.add_argument(
        "--store", action="store_true", help="store a small study of the kit's own, of patient ZZ-CONFORMANCE-KIT, ask "
        "for that, and delete it where the server can; without it only what is there is read",
    )  # fmt: skip
    parser.add_argument(
        "--header", action="append", default=[], metavar="'NAME: VALUE'", help="is sent with each request; may be "
        "given again",
    )  # fmt: skip
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="has a bearer token or an API key")
    parser.add_argument("--tls-ca", type=Path, metavar="FILE", help="authorities that it is checked by (the system's)")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="for each answer (60)")
    parser.add_argument(
        "--only", action="append", default=[], choices=_SERVICES, metavar="SERVICE",
        help=f"{', '.join(_SERVICES)}; may be given again",
    )  # fmt: skip
    parser.add_argument("--name", metavar="TEXT", help="what the reports call the server (its address)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the report in Markdown")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report as a page")
    with_json(parser)
    parser.set_defaults(command=run, go_on="give it again; what it stored is deleted, or named above")


def run(options: argparse.Namespace) -> int:
    """Ask."""
    # A client's libraries, which no server and no other command needs.
    from gateway.conformance import client, material, report, running  # noqa: PLC0415
    from gateway.conformance.claims import Outcome, Service  # noqa: PLC0415
    from gateway.conformance.visit import Visit  # noqa: PLC0415

    made = material.make() if options.store else None
    try:
        asking = client.Client(
            options.url, _headers(options), _context(options), options.timeout, discreet=made is None
        )
    except ValueError as error:
        raise NotUnderstood([str(error)]) from error
    visit = Visit(asking, made)
    claims = running.chosen([Service[each.upper()] for each in options.only])
    results = []
    try:
        with terminal.interruptible():
            visit.prepare()
            try:
                with terminal.progress("claims", len(claims)) as meter:
                    for result in running.run(visit, claims):
                        results.append(result)
                        meter.update(len(results), detail=result.claim.name)
            finally:
                if not visit.leave() and made is not None:
                    terminal.note(f"study {made.study_uid} of patient {made.patient_id} is still there; delete it")
    except client.NotReached as error:
        terminal.error(str(error))
        terminal.advise(error.advice)
        return terminal.UNREACHED
    found = report.Visited(
        options.name or options.url, datetime.datetime.now(datetime.UTC).date(), assembly.release(),
        options.store, results,
    )  # fmt: skip
    for path, text in ((options.markdown, found.markdown), (options.html, found.page)):
        if path is not None:
            path.write_text(text(), encoding="utf-8")
    if options.json:
        terminal.report(found.document())
    else:
        _tell(found)
    return terminal.FAILED if any(each.outcome is Outcome.FAILED for each in results) else terminal.OK


def _headers(options: argparse.Namespace) -> dict[str, str]:
    found = {}
    for given in options.header:
        name, colon, value = given.partition(":")
        if not colon or not name.strip() or not given.isprintable():
            raise NotUnderstood([f"--header {name.strip()!r}: a header is 'NAME: VALUE'"])
        found[name.strip()] = value.strip()
    if options.token_file is not None:
        found["Authorization"] = f"Bearer {options.token_file.read_text(encoding='ascii').strip()}"
    return found


def _context(options: argparse.Namespace) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=options.tls_ca)


def _tell(found: Visited) -> None:
    from gateway.conformance.claims import Outcome, Service  # noqa: PLC0415

    service: Service | None = None
    for each in found.results:
        if each.claim.service is not service:
            service = each.claim.service
            terminal.answer("")
            terminal.answer(str(service))
        terminal.answer(f"  {each.outcome:<13}  {each.claim.text}  ({each.claim.section})")
        if each.detail and each.outcome is not Outcome.PASSED:
            terminal.answer(f"                 {each.detail}")
    terminal.answer("")
    terminal.answer(found.summary)
