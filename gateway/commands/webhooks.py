"""``gateway webhooks``: how the webhooks stand, and whether a receiver takes a message."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict

from gateway import assembly, config
from gateway.commands import terminal
from gateway.commands.administration import opened
from gateway.commands.arguments import Commands, with_config, with_json
from gateway.config import InvalidSettings
from gateway.config.notifying import WebhookSettings
from gateway.services import webhooks


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "webhooks",
        help="show how the webhooks stand, or send one a message to try it",
        description="Show for each of [[webhooks]] how many changes it has not come to, and since when its receiver "
        'takes nothing. With --test send it one message of the type "test", signed as every other: exit status 1 '
        "when it is not taken. May run beside the gateway.",
    )
    parser.add_argument("--test", metavar="NAME", help="send the webhook of this name a message, and do nothing else")
    with_json(parser)
    with_config(parser, run)


def run(options: argparse.Namespace) -> int:
    """Show, or try."""
    settings = config.load(options.config)
    if options.test is not None:
        return _try(_named(settings.webhooks, options.test), options)
    with opened(settings) as (archive, _), closing(assembly.control(settings)) as control:
        found = [(each, webhooks.standing(each, archive.index, control)) for each in settings.webhooks]
    if options.json:
        terminal.report({"webhooks": [{"name": each.name, "url": str(each.url), **asdict(how)} for each, how in found]})
    elif not found:
        terminal.answer("there is none: settings have no [[webhooks]]")
    else:
        terminal.table(
            ("name", "url", "changes behind", "stands"),
            [(each.name, str(each.url), _behind(how), _stands(how)) for each, how in found],
        )
    return terminal.OK


def _named(there: Sequence[WebhookSettings], name: str) -> WebhookSettings:
    for each in there:
        if each.name == name:
            return each
    known = ", ".join(each.name for each in there) or "none"
    raise InvalidSettings([f"webhooks: there is none of the name {name!r}; there are: {known}"])


def _try(given: WebhookSettings, options: argparse.Namespace) -> int:
    reason = webhooks.tried(given)
    found = {"name": given.name, "url": str(given.url), "taken": not reason, "reason": reason}
    if not reason:
        terminal.done(options, found, f"{given.url} took a message")
        return terminal.OK
    if options.json:
        terminal.report(found)
    terminal.error(f"{given.url} did not take a message: {reason}")
    terminal.advise("see that it is reachable from here, has the secret, and answers with a status of 200 to 299")
    return terminal.FAILED


def _behind(how: webhooks.Standing) -> str:
    return "not begun" if how.behind is None else str(how.behind)


def _stands(how: webhooks.Standing) -> str:
    if not how.failures:
        return "well"
    since, following = (
        datetime.datetime.fromtimestamp(each, datetime.UTC).isoformat(timespec="seconds")
        for each in (how.failing_since_s, how.next_s)
    )
    return f"fails since {since} (attempts: {how.failures}); tried again at {following}"
