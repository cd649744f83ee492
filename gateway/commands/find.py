"""``gateway find``: ask a peer what it has, by C-FIND."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import closing
from pathlib import Path

from gateway import assembly
from gateway.calling import questions
from gateway.calling.questions import TOLD, Answer, Level
from gateway.commands import keys, terminal
from gateway.commands.arguments import Commands, chosen, with_config, with_json, with_more
from gateway.commands.peers import Called, called, with_manner, with_peer
from gateway.dimse.asking import Conditions, NotAnswered, RemoteArchive
from gateway.services.spool import Spool

_MOST = 200
_MISMATCH = 0xA900
_PLACES = ("StudyInstanceUID", "SeriesInstanceUID")
_HEADS = {
    "ModalitiesInStudy": "Modalities",
    "NumberOfPatientRelatedStudies": "Studies",
    "NumberOfStudyRelatedInstances": "Instances",
    "NumberOfSeriesRelatedInstances": "Instances",
    "NumberOfFrames": "Frames",
}
_ABOVE = {
    Level.SERIES: "StudyInstanceUID=UID",
    Level.IMAGE: "StudyInstanceUID=UID and SeriesInstanceUID=UID",
}


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "find",
        help="ask a peer what it has (C-FIND)",
        description="List what a peer has, as its C-FIND matches it: * and ? stand for any text, 20260101-20260131 "
        "for days. A keyword without a value is told of, too.",
    )
    with_peer(parser)
    parser.add_argument(
        "keys", nargs="*", default=[], metavar="KEYWORD[=VALUE]", help="such as PatientID=4711, StudyDate=20260101-"
    )
    parser.add_argument(
        "--level",
        type=chosen(Level),
        choices=tuple(Level),
        default=Level.STUDY,
        metavar="{patient,study,series,image}",
        help="what is listed (study); series and images need the UIDs of what they are in, at most peers",
    )
    parser.add_argument("--limit", type=_limit, default=_MOST, metavar="N", help=f"most matches ({_MOST}); 0 for all")
    with_more(parser, _more)
    with_manner(parser)
    with_json(parser)
    with_config(parser, run)


def _more(options: argparse.Namespace, more: list[str]) -> None:
    options.keys = [*options.keys, *more]


def run(options: argparse.Namespace) -> int:
    """Ask."""
    found = called(options)
    asked = keys.parse(options.keys)
    level: Level = options.level
    # One more, which tells that there are more.
    most = options.limit + 1 if options.limit else None
    matches: list[Answer] = []
    with (
        terminal.interruptible(),
        keys.as_given(),
        tempfile.TemporaryDirectory(prefix="gateway-find-") as folder,
        closing(archive(found, Path(folder), (level.model,))) as peer,
    ):
        try:
            for each in questions.ask(peer, level, asked, most):
                matches.append(each)
        except NotAnswered as error:
            if error.status == _MISMATCH and level in _ABOVE:
                error.advice = f"at this level it probably wants {_ABOVE[level]} too"
            raise
    more = bool(options.limit) and len(matches) > options.limit
    matches = matches[: options.limit] if options.limit else matches
    if options.json:
        terminal.report({"peer": str(found.peer.address), "matches": matches, "more": more})
        return terminal.OK
    if not matches:
        terminal.note(f"{found.peer.address} has nothing that matches")
    else:
        # What is the same in each match needs no column.
        columns = [each for each in asked if each not in (*TOLD[level], *_PLACES)] + list(TOLD[level])
        heads = [_HEADS.get(each, each) for each in columns]
        terminal.table(heads, [[questions.texts(each, keyword) for keyword in columns] for each in matches])
    if more:
        terminal.note(f"there are more than {options.limit}: narrow it down, or --limit 0 shows all")
    return terminal.OK


def archive(found: Called, folder: Path, models: tuple[str, ...]) -> RemoteArchive:
    """The peer, to be asked by some models; what it sends waits in a folder until it is whole."""
    storage = found.settings.storage
    conditions = Conditions(
        found.dimse, assembly.limits(found.settings), found.peer.tls, within_s=found.dimse.dimse_timeout_s
    )
    spool = Spool(folder, storage.spool_memory_bytes, storage.max_instance_bytes)
    return RemoteArchive(found.peer.address, conditions, spool, models)


def _limit(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"0 for all, or a number, got {number}")
    return number
