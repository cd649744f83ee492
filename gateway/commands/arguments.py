"""What the commands' arguments have in common."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gateway.config import InvalidSettings
from storage.dicom import identifiers as ids
from storage.errors import InvalidIdentifier

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Commands = object

MAX_WORKERS = 64
_Chosen = TypeVar("_Chosen", bound=StrEnum)


class NotUnderstood(InvalidSettings):
    """The command line asks for what cannot be; each fault says what would be right."""


def with_config(parser: argparse.ArgumentParser, command: Callable[[argparse.Namespace], int], go_on: str = "") -> None:
    """The settings file, and what the command does; ``go_on`` says what to do after Ctrl-C."""
    parser.add_argument(
        "-c", "--config", type=Path, metavar="FILE", help="the settings file, TOML; see docs/settings.md"
    )
    parser.set_defaults(command=command, go_on=go_on)


def with_more(parser: argparse.ArgumentParser, take: Callable[[argparse.Namespace, list[str]], None]) -> None:
    """Let arguments without a name stand behind options too, where argparse leaves them: ``take`` has them."""
    parser.set_defaults(more=take)


def with_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print the report as one JSON document")


def with_rules(parser: argparse.ArgumentParser, applying: str) -> None:
    """What is to be done with what the rules say: to show it, or ``applying`` it; of which tenant; one by one."""
    parser.add_argument("--tenant", type=checked(ids.tenant), help="one tenant (all)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--dry-run", action="store_true", help="only show it, which is the default")
    what.add_argument("--apply", action="store_true", help=applying)
    parser.add_argument("--list", action="store_true", help="name each study")


def with_bucket(parser: argparse.ArgumentParser) -> None:
    """Where a bucket of others is, and by whose credentials."""
    parser.add_argument("--endpoint-url", metavar="URL", help="of s3://BUCKET, when it is not s3.endpoint_url")
    parser.add_argument(
        "--credentials",
        choices=("settings", "boto3"),
        default="settings",
        help="for s3://BUCKET: those of the settings, or those that boto3 finds (environment, profile, role)",
    )


def with_workers(parser: argparse.ArgumentParser, what: str = "processes that read at the same time") -> None:
    """``--workers``: as many as there are processors unless told otherwise."""
    parser.add_argument(
        "--workers",
        type=_workers,
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help=f"{what} (as many as there are processors)",
    )


def checked(check: Callable[[str], str]) -> Callable[[str], str]:
    """An argument that has to be an identifier; argparse tells what is wrong with it."""

    def of(text: str) -> str:
        try:
            return check(text)
        except InvalidIdentifier as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return of


def chosen(kind: type[_Chosen]) -> Callable[[str], _Chosen]:
    """An argument that is one of some words."""

    def of(text: str) -> _Chosen:
        try:
            return kind(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"there is no {text!r}; there are {', '.join(kind)}") from error

    return of


def positive(text: str) -> int:
    """An argument that has to be a whole number from 1 on."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"at least 1, got {number}")
    return number


def _workers(text: str) -> int:
    number = int(text)
    if not 1 <= number <= MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"1 to {MAX_WORKERS}, got {number}")
    return number
