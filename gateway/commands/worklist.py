"""``gateway worklist``: which procedure steps are scheduled, put there from files, and cancelled."""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from gateway import assembly, config
from gateway.access.door import Door
from gateway.commands import terminal
from gateway.commands.administration import administrator, with_tenant
from gateway.commands.arguments import Commands, with_config, with_json
from gateway.errors import Busy, InvalidRequest
from gateway.services.scheduled_step import LISTED, STEPS
from gateway.services.worklist import WorklistService
from storage.control.relational_steps import RelationalSteps
from storage.control.steps import Step, item_of
from storage.dicom import compose, file_meta, json_model, short
from storage.dicom.json_model import JsonDataSet
from storage.dicom.limits import Limits
from storage.errors import StepTooLarge, Unreadable

_MAX_BYTES = 4 << 20
_KEYS = {"date": f"{STEPS}.00400002", "station": f"{STEPS}.00400001", "modality": f"{STEPS}.00080060"}


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "worklist",
        help="see what is scheduled, schedule procedure steps from files, cancel them",
        description="What modalities are told by the Modality Worklist. May run beside the gateway.",
    )
    what = parser.add_subparsers(metavar="WHAT", required=True)
    listing = what.add_parser("list", help="list what is scheduled; shows who the patients are")
    listing.add_argument("--date", help="the day, or days as 20260101-20260131")
    listing.add_argument("--station", metavar="AE", help="AE title of the modality")
    listing.add_argument("--modality", help="such as CT")
    listing.add_argument("--all", action="store_true", help="what is over or was cancelled too")
    importing = what.add_parser(
        "import", help="schedule steps from worklist files (DICOM, DICOM JSON), or change those that are known"
    )
    importing.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a file, or a directory of files")
    cancelling = what.add_parser("cancel", help="cancel a step that is not completed")
    cancelling.add_argument("step", help="as `gateway worklist list` names it: Study Instance UID and step ID")
    cancelling.add_argument("id", nargs="?", default="", help=argparse.SUPPRESS)
    for each, command in ((listing, _list), (importing, _import), (cancelling, _cancel)):
        with_json(each)
        with_tenant(each)
        with_config(each, command)


@contextmanager
def _service(options: argparse.Namespace) -> Iterator[tuple[WorklistService, Limits]]:
    settings = config.load(options.config)
    with closing(assembly.audit_trail(settings, "command")) as trail, closing(assembly.control(settings)) as control:
        door = Door(settings.access.policy_file, trail)
        yield WorklistService(RelationalSteps(control), door), assembly.limits(settings)


def _list(options: argparse.Namespace) -> int:
    pairs = [(path, getattr(options, name)) for name, path in _KEYS.items() if getattr(options, name)]
    with _service(options) as (service, _):
        decision = service.enter(administrator(), options.tenant, pairs)
        found = list(service.find(decision, pairs, states=frozenset() if options.all else LISTED))
    if options.json:
        terminal.report({"steps": [{"step": each.uid, "state": each.state, "dataSet": each.body} for each in found]})
        return terminal.OK
    terminal.table(("start", "state", "station", "modality", "patient", "accession", "step"), map(_told, found), 64)
    if not found:
        terminal.note("nothing is scheduled that matches; `gateway worklist import FILES` schedules steps")
    return terminal.OK


def _told(step: Step) -> tuple[str, ...]:
    item, text = item_of(step.body, STEPS), json_model.text_of
    start = f"{text(item, '00400002')} {text(item, '00400003')[:4]}".strip()
    stations = ", ".join(str(each) for each in item.get("00400001", {}).get("Value", ()))
    patient = f"{text(step.body, '00100010')} ({text(step.body, '00100020')})"
    told = (start, step.state, stations, text(item, "00080060"), patient, text(step.body, "00080050"), step.uid)
    return tuple(map(terminal.safe, told))


def _import(options: argparse.Namespace) -> int:
    files = [file for path in options.paths for file in _files(path)]
    if not files:
        raise InvalidRequest("there is no file to import")
    scheduled: list[Step] = []
    refused: dict[str, str] = {}
    with _service(options) as (service, limits), terminal.progress("scheduling", len(files)) as meter:
        for file in files:
            try:
                for body in _read(file, limits):
                    scheduled.append(service.schedule(administrator(), options.tenant, body))
            except (InvalidRequest, Busy, StepTooLarge, Unreadable, OSError) as error:
                refused[str(file)] = error.strerror or "" if isinstance(error, OSError) else str(error)
            meter.update(meter.done + 1)
    for name, why in refused.items():
        terminal.error(terminal.safe(f"{name}: {why}"))
    found = {"scheduled": [each.uid for each in scheduled], "refused": refused}
    terminal.done(options, found, f"{len(scheduled)} scheduled, {len(refused)} files refused")
    return terminal.FAILED if refused else terminal.OK


def _files(path: Path) -> list[Path]:
    """A file, or those below a directory; an empty one there is a mark, such as other worklist servers lock by."""
    if not path.is_dir():
        return [path]
    return sorted(each for each in path.rglob("*") if each.is_file() and each.stat().st_size)


def _read(file: Path, limits: Limits) -> Iterator[JsonDataSet]:
    """The data sets of a file: of a DICOM file one, of DICOM JSON one or a list. Raises Unreadable, OSError."""
    with file.open("rb") as opened:
        encoded = opened.read(_MAX_BYTES + 1)
    if len(encoded) > _MAX_BYTES:
        raise InvalidRequest(f"longer than {_MAX_BYTES} bytes")
    if encoded.lstrip()[:1] in (b"{", b"["):
        try:
            found = json_model.received(encoded)
        except ValueError as error:
            raise InvalidRequest("neither a DICOM file nor JSON") from error
        for each in found if isinstance(found, list) else [found]:
            # Written and read once: what is not of the model is found now, and not when a modality asks.
            written = b"".join(compose.data_set(compose.checked(each), _no_bulk, limits, encapsulated=False))
            yield short.read(written, file_meta.EXPLICIT_VR_LITTLE_ENDIAN, limits)
        return
    stream = io.BytesIO(encoded)
    meta, _, taken = file_meta.read(stream, limits)
    yield short.read(taken + stream.read(), meta.transfer_syntax_uid, limits)


def _no_bulk(_uri: str) -> Sequence[compose.BulkValue]:
    raise InvalidRequest("a worklist item has no bulk data")


def _cancel(options: argparse.Namespace) -> int:
    uid = f"{options.step} {options.id}".strip()
    with _service(options) as (service, _):
        service.cancel(administrator(), options.tenant, uid)
    terminal.done(options, {"step": uid, "cancelled": True}, "cancelled")
    return terminal.OK
