"""What ``--help`` teaches beside the options: examples of each command, and what its exit status says."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from gateway.commands import terminal

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "serve": (
        ("gateway serve -c gateway.toml", "until SIGTERM or Ctrl-C"),
        ("gateway serve --single", "with the defaults and one worker a face: HTTP on port 8080, DIMSE on 11112"),
    ),
    "status": (
        ("gateway status -c gateway.toml", "for a person"),
        ("gateway status -c gateway.toml --json", "for a script; the exit status tells the health"),
    ),
    "check-config": (("gateway check-config -c gateway.toml", "before a start or restart"),),
    "completion": (
        ('eval "$(gateway completion bash)"', "for this shell; the same line in ~/.bashrc is for every one"),
        ("gateway completion zsh > ~/.zfunc/_gateway", "a directory of fpath"),
        ("gateway completion fish > ~/.config/fish/completions/gateway.fish", "for fish"),
    ),
    "echo": (
        ("gateway echo PACS@10.1.0.5:104", "is it there, and does it know us?"),
        ("gateway echo -c gateway.toml PACS", "a peer of dimse.destinations, over TLS if it is so there"),
        ("gateway echo PACS@pacs.example.org:2762 --tls --tls-ca hospital.pem", "over TLS, checked by that authority"),
    ),
    "find": (
        ("gateway find PACS@10.1.0.5:104 'PatientName=Gray*' StudyDate=20260101-", "studies of this year"),
        ("gateway find PACS@10.1.0.5:104 --level series StudyInstanceUID=1.2.3", "what is in a study"),
        ("gateway find PACS@10.1.0.5:104 PatientID=4711 ReferringPhysicianName --json", "with one key more, as JSON"),
    ),
    "send": (
        ("gateway send studies/ PACS@10.1.0.5:104", "everything below a directory"),
        ("gateway send /media/cdrom/DICOMDIR export.zip PACS@10.1.0.5:104 --dry-run", "what would be sent"),
        ("gateway send studies/ PACS@10.1.0.5:104 --journal sent.journal", "given again, it goes on where it was"),
    ),
    "get": (
        ("gateway get PACS@10.1.0.5:104 StudyInstanceUID=1.2.3 --out studies/", "a study"),
        ("gateway get PACS@10.1.0.5:104 PatientID=4711 ModalitiesInStudy=CT --out studies/", "all that a search finds"),
    ),
    "import": (
        ("gateway import -c gateway.toml /mnt/old-pacs", "every DICOM file below"),
        ("gateway import -c gateway.toml s3://old-archive/2019/ --dry-run", "what of a bucket is not known yet"),
    ),
    "migrate": (
        ("gateway migrate -c gateway.toml --from OLDPACS@10.1.0.5:104 --dry-run", "how many studies it has"),
        ("gateway migrate -c gateway.toml --from OLDPACS@10.1.0.5:104 --between 19:00-06:00", "by night"),
    ),
    "reindex": (("gateway reindex -c gateway.toml --workers 4", "while no gateway runs"),),
    "verify": (("gateway verify -c gateway.toml --sample 1%", "each night a part of the archive"),),
    "backup": (("gateway backup -c gateway.toml /backup/gateway-2026-01-31.tar", "everything but the keys"),),
    "restore": (
        ("gateway restore --check /backup/gateway-2026-01-31.tar", "is it whole?"),
        ("gateway restore -c gateway.toml /backup/gateway-2026-01-31.tar", "put it back"),
    ),
    "hold add": (("gateway hold add -c gateway.toml --study 1.2.3 --reason 'case 17/26'", "of one study"),),
    "hold remove": (("gateway hold remove -c gateway.toml 01JEXAMPE0000000000000000Z", "as the list names it"),),
    "hold list": (("gateway hold list -c gateway.toml", "the holds in force"),),
    "quarantine list": (("gateway quarantine list -c gateway.toml", "what is there, why, when and from whom"),),
    "quarantine show": (("gateway quarantine show -c gateway.toml 01JEXAMPE0000000000000000Z", "what differs"),),
    "quarantine release": (
        ("gateway quarantine release -c gateway.toml 01JEXAMPE0000000000000000Z", "after the cause was put right"),
    ),
    "quarantine discard": (
        ("gateway quarantine discard -c gateway.toml 01JEXAMPE0000000000000000Z", "its sender has its copy"),
    ),
    "worklist list": (
        ("gateway worklist list -c gateway.toml --date 20260131 --station CT1", "what CT1 is told for that day"),
        ("gateway worklist list -c gateway.toml --all --json", "with what is over, for a script"),
    ),
    "worklist import": (("gateway worklist import -c gateway.toml orders/", "every worklist file below a directory"),),
    "worklist cancel": (("gateway worklist cancel -c gateway.toml '1.2.3 SPS-1'", "as the list names it"),),
    "erase": (("gateway erase -c gateway.toml --patient-id 4711 --dry-run", "what would go"),),
    "retention": (
        ("gateway retention -c gateway.toml --list", "what the rules would delete"),
        ("gateway retention -c gateway.toml --apply --most 100", "delete it, 100 studies at most"),
    ),
    "transition": (("gateway transition -c gateway.toml --list", "what the rules would move"),),
    "webhooks": (
        ("gateway webhooks -c gateway.toml", "how they stand"),
        ("gateway webhooks -c gateway.toml --test ris", "whether the receiver takes a message"),
    ),
    "audit verify": (("gateway audit verify -c gateway.toml --since 2026-01-01", "as an auditor would"),),
    "audit search": (
        ("gateway audit search -c gateway.toml --action delete --since 2026-01-01", "who deleted what"),
        ("gateway audit search -c gateway.toml --outcome denied --limit 20", "who was turned away"),
    ),
    "audit patient": (("gateway audit patient -c gateway.toml 4711 --since 2026-01-01", "who saw the images"),),
    "key create": (("gateway key create -c gateway.toml viewer --role viewer --days 365", "good for a year"),),
    "key list": (("gateway key list -c gateway.toml", "those that are good"),),
    "key revoke": (("gateway key revoke -c gateway.toml a1b2c3", "by its id, as the list names it"),),
    "user add": (("gateway user add -c gateway.toml ann --role administrator", "asks for the password"),),
    "user list": (("gateway user list -c gateway.toml", "with their roles"),),
    "user password": (("gateway user password -c gateway.toml ann --generate", "makes one and shows it once"),),
    "user disable": (("gateway user disable -c gateway.toml ann", "at once, on every host"),),
    "user enable": (("gateway user enable -c gateway.toml ann", "with the password as it was"),),
    "user totp": (("gateway user totp -c gateway.toml ann", "shows the address for the authenticator"),),
    "user remove": (("gateway user remove -c gateway.toml ann", "the audit trail keeps the name"),),
    "policy check": (("gateway policy check policy.toml", "before it is put in place"),),
    "policy explain": (
        ("gateway policy explain -c gateway.toml --role radiologist --action read --study 1.2.3", "of a study here"),
    ),
    "policy test": (("gateway policy test -c gateway.toml expectations.toml", "in a pipeline"),),
    "view list": (("gateway view list -c gateway.toml", "how far they are"),),
    "view fill": (("gateway view fill -c gateway.toml --view research", "now, and wait for it"),),
    "view withheld": (("gateway view withheld -c gateway.toml --view research", "with the reasons"),),
    "view release": (
        (
            "gateway view release -c gateway.toml --view research 1.2.3.4 --reason 'A. Gray: no text'",
            "once it was seen",
        ),
    ),
    "view reidentify": (("gateway view reidentify -c gateway.toml --view research --patient ABCD", "whose it is"),),
    "viewer install": (
        ("gateway viewer install -c gateway.toml", "from npm's registry; then open /ohif/"),
        ("gateway viewer install -c gateway.toml --from ohif-app-3.13.2.tgz", "on a host without a way out"),
    ),
    "viewer status": (("gateway viewer status -c gateway.toml", "which release is served"),),
    "export": (
        ("gateway export -c gateway.toml --view research --to /srv/out --study 1.2.3", "into a directory"),
        (
            "gateway export -c gateway.toml --view research --to dicom://PEER@10.1.0.9:104 --json --manifest m.json",
            "to a peer",
        ),
    ),
    "deid check": (("gateway deid check image.dcm --option retain_uids", "by the Basic Profile and an option"),),
    "conformance": (
        ("gateway conformance http://127.0.0.1:8080/dicomweb", "read-only, on what is there"),
        (
            "gateway conformance https://pacs.example.org/dicom-web --token-file token --store --html report.html",
            "all of it, with a study of the kit's own",
        ),
    ),
    "demo": (
        ("gateway demo", "then open http://127.0.0.1:8080/"),
        ("gateway demo --sandbox", "for who writes a client: keys of each role, and faults on demand"),
        ("gateway demo --reset", "have that sandbox start over"),
    ),
}
"""Of each command that does something; the tests see that all of them are understood."""

_HELP_COLUMN = 28
_STARTING = (
    ("gateway demo", "look at it on sample studies"),
    ("gateway check-config -c gateway.toml", "are the settings in order?"),
    ("gateway serve -c gateway.toml", "start it"),
    ("gateway status -c gateway.toml", "how it is"),
    ("gateway send studies/ GATEWAY@127.0.0.1:11112", "give it something"),
    ("gateway COMMAND --help", "what a command does, with examples"),
)
_STATUSES = (
    f"exit status: {terminal.OK} well, {terminal.FAILED} failed or found something wrong, "
    f"{terminal.USAGE} not understood,\n             {terminal.UNREACHED} peer or gateway not reached, "
    f"{terminal.INTERRUPTED} interrupted"
)


class Parser(argparse.ArgumentParser):
    """Says what may have been meant, and where to read on, where the command line is not understood."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(each) for each in action.choices]
            raise argparse.ArgumentError(action, f"there is no {str(value)!r}{meant(str(value), known)}")

    def not_understood(self, arguments: list[str]) -> NoReturn:
        """End, since there is no place for some arguments."""
        option = next((each for each in arguments if each.startswith("-")), "")
        hint = meant(option.partition("=")[0], self._option_string_actions) if option else ""
        self.error(f"no such arguments: {' '.join(arguments)}{hint}")

    def error(self, message: str) -> NoReturn:
        """End with what is wrong, and what to do."""
        self.print_usage(sys.stderr)
        terminal.error(message)
        terminal.advise(f"{self.prog} --help says more, with examples")
        sys.exit(terminal.USAGE)


def meant(given: str, known: Iterable[str]) -> str:
    """What somebody may have meant, or could have; as the end of a sentence."""
    known = list(known)
    close = difflib.get_close_matches(given, known, 1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}" if known else ""


class Help(argparse.HelpFormatter):
    """Breaks lines of descriptions, and leaves examples as they are written."""

    def __init__(self, prog: str, **given: Any) -> None:
        super().__init__(prog, **{"max_help_position": _HELP_COLUMN, **given})

    def add_argument(self, action: argparse.Action) -> None:
        """See HelpFormatter, which forgets that the list of commands is indented once more."""
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            longest = max(map(len, action.choices)) + 2 * self._indent_increment
            self._action_max_length = max(self._action_max_length, longest)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return "".join(indent + line for line in text.splitlines(keepends=True))
        return super()._fill_text(text, width, indent)


def leaves(parser: argparse.ArgumentParser, path: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The commands that do something, with their names."""
    children = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    if not children and path:
        yield path, parser
    for each in children:
        for name, child in each.choices.items():
            yield from leaves(child, f"{path} {name}".strip())


def teach(parser: argparse.ArgumentParser, path: str = "") -> None:
    """Give a command, and those below it, what their help says at its end."""
    parser.formatter_class = Help
    if not path:
        lines = "\n".join(f"  {status:<4} {meaning}" for status, meaning in terminal.STATUSES.items())
        parser.epilog = f"{_examples(_STARTING)}\n\nexit status:\n{lines}"
    else:
        beneath = [name for name in EXAMPLES if name == path or name.startswith(f"{path} ")]
        one = len(beneath) > 1
        examples = tuple(each for name in beneath for each in (EXAMPLES[name][:1] if one else EXAMPLES[name]))
        parser.epilog = f"{_examples(examples)}\n\n{_STATUSES}"
    parser.set_defaults(leaf=parser)
    for each in parser._actions:
        if isinstance(each, argparse._SubParsersAction):
            for name, child in each.choices.items():
                teach(child, f"{path} {name}".strip())


def _examples(found: tuple[tuple[str, str], ...]) -> str:
    return "examples:\n" + "\n".join(f"  {command}\n      {what}" for command, what in found)
