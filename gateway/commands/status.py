"""``gateway status``: what the gateway of the settings does just now."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime

from gateway import assembly, config
from gateway.calling import standing
from gateway.calling.standing import DIMSE, HTTP, Standing
from gateway.commands import terminal
from gateway.commands.arguments import Commands, with_config, with_json
from gateway.config import Settings
from gateway.services.associations import Association
from gateway.telemetry.counted import DEPTHS

_FACES = {"http": HTTP, "dimse": DIMSE}
_PEERS = 10
_ASSOCIATIONS = 10
_WORDS = {"commitments": "commitments to answer", **{name: words for name, (_, words) in DEPTHS.items()}}


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "status",
        help="say what the gateway does just now",
        description="Ask the gateway of these settings on this host: whether its faces answer and its engines, what "
        "room there is, what the archive holds, what is waiting, which peers came last, and what failed since the "
        "start. The exit status tells its health: 0 ready, 1 runs and is not ready, 3 does not run.",
    )
    parser.add_argument(
        "--face",
        action="append",
        choices=tuple(_FACES),
        metavar="FACE",
        help="that should answer: http or dimse (both), where `gateway serve` was told so; may be given again",
    )
    with_json(parser)
    with_config(parser, run)


def run(options: argparse.Namespace) -> int:
    """Look."""
    settings = config.load(options.config)
    faces = [_FACES[each] for each in options.face or _FACES]
    found = standing.standing(settings, faces)
    if options.json:
        terminal.report(_document(found, settings))
    else:
        _tell(found, settings, options)
    if not found.runs:
        return terminal.UNREACHED
    return terminal.OK if found.is_ready else terminal.FAILED


def _document(found: Standing, settings: Settings) -> dict[str, object]:
    return {
        "runs": found.runs,
        "ready": found.is_ready,
        "fault": found.fault,
        "version": found.version or assembly.release(),
        "faces": [dataclasses.asdict(each) for each in found.faces],
        "workers_ready": found.workers,
        "engines": {"objects": settings.storage.objects, "index": settings.index.engine},
        "room": {
            "min_free_bytes": settings.storage.min_free_bytes,
            "places": [dataclasses.asdict(each) for each in found.places],
        },
        "index_fault": found.index_fault,
        "tenants": [dataclasses.asdict(each) for each in found.held],
        "work": found.work,
        "failures": found.failures,
        "peers": [dataclasses.asdict(each) for each in found.peers],
        "associations": [dataclasses.asdict(each) for each in found.associations],
    }


def _tell(found: Standing, settings: Settings, options: argparse.Namespace) -> None:
    version = found.version or assembly.release()
    if not found.runs:
        what = "does not run"
    elif found.is_ready:
        what = "is ready"
    else:
        what = "runs, and is not ready"
    terminal.answer(f"gateway {version} {what}")
    terminal.pairs(_lines(found, settings))
    if not found.runs:
        terminal.error("nothing answers at the places above")
        where = f" -c {shlex.quote(str(options.config))}" if options.config is not None else ""
        terminal.advise(f"start it: gateway serve{where}")
    elif not found.is_ready:
        silent = ", ".join(each.name for each in found.faces if not each.answers)
        terminal.error(found.fault or f"no answer: {silent}")
        terminal.advise("the log of `gateway serve` says why; `gateway check-config` checks the settings")


def _lines(found: Standing, settings: Settings) -> Iterator[tuple[str, str]]:
    for face in found.faces:
        state = "answers" if face.answers else "does not answer"
        yield face.name, f"{face.where}  {state}" + (f" ({face.detail})" if face.detail else "")
    if found.workers:
        yield "workers", ", ".join(f"{face} {count} ready" for face, count in found.workers.items())
    engines = f"objects in {settings.storage.objects}, index in {settings.index.engine}"
    yield "engines", engines + ("" if not found.runs else f"  {found.fault}" if found.fault else "  answer")
    least = terminal.size(settings.storage.min_free_bytes)
    free = (
        (each.name, "unknown" if each.free_bytes is None else terminal.size(each.free_bytes)) for each in found.places
    )
    yield "room", ", ".join(f"{name} {size} free" for name, size in free) + f"; nothing is stored below {least}"
    if found.index_fault:
        yield "archive", f"index: {found.index_fault}"
    for each in found.held:
        name = "archive" if len(found.held) == 1 else f"tenant {each.tenant}"
        text = f"{each.studies:,} studies, {each.objects:,} objects, {terminal.size(each.bytes)}"
        yield name, text + (f"; {each.quarantined:,} in quarantine" if each.quarantined else "; none in quarantine")
    if found.work is not None:
        busy = [f"{count:,} {_WORDS[name]}" for name, count in found.work.items() if count]
        yield "at work", ", ".join(busy) or "nothing waits"
    for number, contact in enumerate(found.peers[:_PEERS]):
        last = f"{contact.ae_title} at {contact.address}  {contact.time[:19]}Z  {contact.action} {contact.outcome}"
        yield "last seen" if not number else "", last
    if len(found.peers) > _PEERS:
        yield "", f"and {len(found.peers) - _PEERS} more: --json names them"
    for number, over in enumerate(found.associations[:_ASSOCIATIONS]):
        yield "associations" if not number else "", _association(over)
    if found.runs and found.failures is None and settings.metrics.port is None:
        yield "failures", "not told without metrics.port in the settings, nor are other queues"
    if found.failures is not None:
        failures = [f"{count:,} x {name}" for name, count in found.failures.items()]
        for number, text in enumerate(failures or ["none"]):
            yield "failures" if not number else "", text


def _association(over: Association) -> str:
    when = datetime.fromtimestamp(over.ended_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    who = f"{over.calling} at {over.address}  {when}"
    asked = [
        f"{each.count:,} {each.operation}" + (f" ({each.failed:,} failed)" if each.failed else "")
        for each in over.served
    ]
    how = f"{over.outcome}: {over.detail}" if over.detail else over.outcome
    return "  ".join((who, f"{over.seconds:.1f} s", ", ".join(asked) or "nothing asked", how))
