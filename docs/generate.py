"""Writes the parts of the documents that come from the code.

``python -m docs.generate`` writes them; with ``--check`` it names the files that are not what it would write.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydicom.uid import UID
from pynetdicom import AllStoragePresentationContexts, sop_class

from docs import contract
from gateway import cli, errors
from gateway.commands import teaching, terminal
from gateway.config import Settings
from gateway.dicomweb import api, changefeed, commitment, media_types, multipart, negotiation, parameters, qido
from gateway.dicomweb.failures import REASONS
from gateway.dicomweb.negotiation import Choice
from gateway.dimse import status
from gateway.dimse.commands import Field
from gateway.dimse.contexts import SERVED, STORAGE_SYNTAXES
from gateway.entrance import api as entrance_api
from gateway.fhir import api as fhir_api
from gateway.fhir import asked, imaging_studies, values
from gateway.http import problem
from gateway.http.route import Route
from gateway.imaging import errors as imaging
from gateway.imaging.decode import SUPPORTED_TRANSFER_SYNTAXES
from gateway.imaging.encode import ENCODERS, LOSSY_METHODS
from gateway.imaging.render import MAX_VIEWPORT
from gateway.services import frames, question
from gateway.services.commitment import MAX_REFERENCES
from gateway.services.report import MAX_ITEMS
from gateway.services.retrieve import RetrieveService
from gateway.worker import routes as every_route
from storage import errors as storage
from storage.dicom import file_meta, keys
from storage.dicom.attributes import ATTRIBUTES, Attribute, Computed

FOLDER = Path(__file__).parent
_BLOCK = re.compile(r"(<!-- generated: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_EXPLICIT = file_meta.EXPLICIT_VR_LITTLE_ENDIAN
_EXAMPLE_WIDTH = 60
_OF_EVERY_ROUTE = frozenset((400, 401, 403, 429, 503))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)


def _code(text: str) -> str:
    return f"`{text}`"


# Settings


def settings() -> str:
    """The whole of settings.md."""
    parts = [
        "# Settings\n\n"
        "Generated from `gateway/config` by `make docs`; do not edit.\n\n"
        "Settings come from a TOML file (`gateway serve -c FILE`) and from the environment, which wins. In the file\n"
        "a section is a table; in the environment a name is `GATEWAY_SECTION__NAME`. Relative paths in a file are\n"
        "relative to the file, in the environment to the working directory. An unknown name or a value out of range\n"
        "ends the start with a message that names it; `gateway check-config -c FILE` checks without starting. Lists\n"
        'are given in the environment as JSON, such as `["https://viewer.example.org"]`.\n'
    ]
    for name, field in Settings.model_fields.items():
        section, model = name, cast(Any, field.annotation)
        if get_origin(model) is dict:
            section, model = f"{name}.NAME", get_args(model)[1]
        if get_origin(model) is tuple:
            parts.append(_rules(name, get_args(model)[0]))
            continue
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        head = ("Name", "Environment", "Type", "Default", "What it is")
        rows = [_setting(section, key, each) for key, each in model.model_fields.items()]
        parts.append(f"\n## {section}\n\n{_plain(inspect.getdoc(model))}\n\n{table(head, rows)}")
    return "".join(parts)


def _rules(name: str, model: type[BaseModel]) -> str:
    """A section that may stand several times."""
    beside = f"In the environment all of them are a list of JSON objects in `GATEWAY_{name.upper()}`."
    rows = [
        (_code(key), _type(each), "needed" if each.is_required() else _default(each.default), _plain(each.description))
        for key, each in model.model_fields.items()
    ]
    head = ("Name", "Type", "Default", "What it is")
    return f"\n## [[{name}]]\n\n{_plain(inspect.getdoc(model))} {beside}\n\n{table(head, rows)}"


def _setting(section: str, name: str, field: FieldInfo) -> tuple[str, ...]:
    environment = f"GATEWAY_{section}__{name}".upper().replace(".", "__")
    return (
        _code(f"{section}.{name}"),
        _code(environment),
        _type(field),
        _default(field.get_default(call_default_factory=True)),
        _plain(field.description),
    )


def _type(field: FieldInfo) -> str:
    text = str(field.annotation)
    names = {
        "IPvAnyNetwork": "list of networks",
        "Literal": ", ".join(_code(each) for each in re.findall(r"'([^']*)'", text)),
        "HttpUrl": "URL",
        "Path": "path",
        "SecretStr": "secret text",
        "tuple[": "list of texts",
        "bool": "true or false",
        "int": "whole number",
        "float": "number",
        "str": "text",
    }
    found = next(name for part, name in names.items() if part in text)
    low = next((f"from {each.ge}" for each in field.metadata if isinstance(each, Ge)), "")
    above = next((f"above {each.gt}" for each in field.metadata if isinstance(each, Gt)), "")
    high = next((f"to {each.le}" for each in field.metadata if isinstance(each, Le)), "")
    bounds = " ".join(filter(None, (low, above, high)))
    return f"{found}, {bounds}" if bounds else found


def _default(value: object) -> str:
    if value is None or value in ((), {}) or isinstance(value, SecretStr):
        return "none"
    if isinstance(value, tuple):
        return _code(json.dumps(value))
    if isinstance(value, bool):
        return _code(str(value).lower())
    if isinstance(value, int | float):
        return _code(f"{value:g}" if isinstance(value, float) and value < 1e6 else str(value))
    return _code(f'"{value}"')


def _plain(text: str | None) -> str:
    assert text, "a setting without its line of help"
    return " ".join(text.replace("``", "`").split())


# Commands


def commands() -> str:
    """The whole of cli.md."""
    statuses = table(("Exit status", "What it says"), [(str(each), what) for each, what in terminal.STATUSES.items()])
    parts = [
        "# Commands\n\n"
        "Generated from `gateway/commands` by `make docs`; do not edit. `gateway COMMAND --help` says the same.\n\n"
        "Answers go to standard output; progress, notes, errors and what to do next to standard error. With `--json`\n"
        "the answer is one JSON document. What a command does beside a running gateway, and after an interruption, is\n"
        "in [operations](operations.md).\n\n"
        f"{statuses}"
    ]
    for name, parser in teaching.leaves(cli.parser()):
        examples = "".join(f"{command:<{_EXAMPLE_WIDTH}}  # {what}\n" for command, what in teaching.EXAMPLES[name])
        actions = [each for each in parser._actions if each.dest != "help"]
        head = ("Argument", "What it is")
        rows = [(_code(_argument(each)), _plain(each.help).replace("%%", "%")) for each in actions]
        description = _plain(parser.description or _help_of(name))
        parts.append(f"\n## gateway {name}\n\n{description}\n\n```\n{examples}```\n\n{table(head, rows)}")
    return "".join(parts)


def _help_of(path: str) -> str:
    """What the list of commands says of one, as a sentence."""
    parser = cli.parser()
    said = ""
    for name in path.split():
        [children] = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
        said = next(str(each.help) for each in children._choices_actions if each.dest == name)
        parser = children.choices[name]
    return f"{said[:1].upper()}{said[1:]}."


def _argument(action: argparse.Action) -> str:
    """An argument as it is written: its names, and what stands behind them."""
    chosen = f"{{{','.join(map(str, action.choices))}}}" if action.choices else ""
    value = str(action.metavar or chosen or action.dest.upper())
    if not action.option_strings:
        return f"[{value} ...]" if action.nargs == "*" else f"{value} ..." if action.nargs == "+" else value
    names = ", ".join(action.option_strings)
    return names if action.nargs == 0 else f"{names} {value}"


# Conformance


def services() -> str:
    """SOP classes whose requests are served, but for those of storage."""
    head = ("SOP Class", "UID", "Request")
    return table(
        head, [(UID(uid).name, _code(uid), ", ".join(map(_message, fields))) for uid, fields in SERVED.items()]
    )


def _message(field: int) -> str:
    return Field(field).name.removesuffix("_RQ").replace("_", "-")


def sop_classes() -> str:
    """SOP classes that are known by name; others of the same kinds are taken too."""
    found = [UID(str(context.abstract_syntax)) for context in AllStoragePresentationContexts]
    # Newer than pydicom's dictionary: pynetdicom has the keyword alone.
    keywords = {str(uid): name for name, uid in vars(sop_class).items() if isinstance(uid, UID)}
    rows = sorted((uid.name if uid.name != uid else keywords[uid], _code(uid)) for uid in found)
    return table(("SOP Class", "UID"), rows)


def transfer_syntaxes() -> str:
    """Transfer syntaxes of storage, and what becomes of each over DICOMweb."""
    head = (
        "Transfer Syntax",
        "UID",
        "Instance, default",
        "Instance, `*`",
        "Frame, default",
        "Frame, `*`",
        "Frame as",
        "Decoded",
        "Written",
    )
    return table(head, [_transfer_syntax(uid) for uid in sorted(STORAGE_SYNTAXES, key=_by_number)])


def _by_number(uid: str) -> tuple[int, ...]:
    return tuple(int(part) for part in uid.split("."))


def _transfer_syntax(uid: str) -> tuple[str, ...]:
    located = cast(Any, SimpleNamespace(transfer_syntax_uid=uid))
    stored = str(RetrieveService.served_syntax(located))
    frames = _EXPLICIT if uid in file_meta.NATIVE else uid
    choices = [Choice(media_types.OCTET_STREAM, True, wanted) for wanted in ("", "*")]
    instance = [negotiation.instance_syntax(choice, stored, _EXPLICIT) for choice in choices]
    frame = [negotiation.frame_syntax(choice, frames, _EXPLICIT) for choice in choices]
    decodable = uid in SUPPORTED_TRANSFER_SYNTAXES
    images = [
        name for name, carried in media_types.BULK.items() if name != media_types.OCTET_STREAM and frames in carried
    ]
    return (
        UID(uid).name,
        _code(uid),
        *(_served(answer, uid, decodable=decodable) for answer in (*instance, *frame)),
        ", ".join(images),
        "yes" if decodable else "no",
        "" if uid not in {*ENCODERS, _EXPLICIT} else "lossy" if uid in LOSSY_METHODS else "yes",
    )


def _served(answer: str | None, stored: str, *, decodable: bool) -> str:
    if answer == stored:
        return "as stored"
    assert answer == _EXPLICIT
    return "Explicit VR LE" if decodable else "not available"


def attributes() -> str:
    """The attribute registry."""
    head = ("Attribute", "Tag", "VR", "Level", "Matching", "Returned by default")
    return table(head, [_attribute(each) for each in ATTRIBUTES])


def _attribute(attribute: Attribute) -> tuple[str, ...]:
    tags = " > ".join(f"({tag[:4]},{tag[4:]})" for tag in attribute.path.split("."))
    return (
        attribute.keyword,
        tags,
        attribute.vr,
        attribute.level.name.capitalize(),
        _matching(attribute),
        "always" if attribute.required else "when known" if attribute.returned else "",
    )


def _matching(attribute: Attribute) -> str:
    if attribute.computed in (Computed.MODALITIES_IN_STUDY, Computed.SOP_CLASSES_IN_STUDY):
        return "single value, list"
    if attribute.computed or attribute.keyword == "TimezoneOffsetFromUTC":
        return ""
    where = "" if attribute.column else " (metadata)"
    if attribute.vr == "SQ":
        return f"sequence{where}"
    if attribute.vr == "UI":
        return f"single value, list of UIDs{where}"
    if attribute.vr in keys.RANGE_VRS:
        return f"single value, range{where}"
    if attribute.vr == "PN":
        return f"single value, wildcard, fuzzy{where}"
    return f"single value, wildcard{where}" if attribute.vr in keys.WILDCARD_VRS else f"single value{where}"


def routes() -> str:
    """Every route, the action that it needs, and its statuses."""
    rows = [
        (each.method, _code(each.path), each.action.value if each.action is not None else "(public)", _answers(each))
        for each in every_route()
    ]
    return table(("Method", "Path", "Action", "Statuses"), rows)


def _answers(route: Route) -> str:
    operation = {**api.OPERATIONS, **fhir_api.OPERATIONS, **entrance_api.OPERATIONS}.get((route.method, route.path))
    if operation is None:
        return ""
    answers = ", ".join(str(status) for status in operation.answers)
    refusals = ", ".join(str(status) for status in sorted(set(operation.refusals) - _OF_EVERY_ROUTE))
    return f"{answers}; {refusals}" if refusals else answers


def media_types_of_answers() -> str:
    """What resources go out as; those that give the same stand together."""
    resources: dict[tuple[str, ...], list[str]] = {}
    for (method, path), operation in api.OPERATIONS.items():
        found = tuple(next(iter(operation.answers.values())))
        if found:
            resources.setdefault(found, []).append(f"{method} {path.removeprefix(api.PREFIX)}")
    rows = [(", ".join(map(_code, paths)), ", ".join(map(_code, found))) for found, paths in resources.items()]
    return table(("Resources", "Media types"), rows)


def aliases() -> str:
    """Other names of media types."""
    names: dict[str, list[str]] = {}
    for alias, name in media_types.ALIASES.items():
        names.setdefault(name, []).append(_code(alias))
    return table(("Media type", "Also as"), [(_code(name), ", ".join(found)) for name, found in names.items()])


def limits() -> str:
    """Bounds that are no settings."""
    rows = (
        ("Characters of an `Accept` header or `accept` parameter", negotiation.MAX_ACCEPT_CHARACTERS, 400),
        ("Query parameters of a search", qido.MAX_PARAMETERS, 400),
        ("Attributes to match in a search", question.MAX_KEYS, 400),
        ("Values in a list to match", question.MAX_VALUES, 400),
        ("Values with wildcards, or values that have to match together", keys.MAX_TOGETHER, 400),
        ("Sequences in a path to match", question.MAX_DEPTH, 400),
        ("Frames in one request", frames.MAX_FRAMES, 400),
        ("Pixels of a side of `viewport`", MAX_VIEWPORT, 400),
        ("Pixels of a side of a thumbnail", parameters.MAX_THUMBNAIL, "made smaller"),
        ("Content items of a rendered report", MAX_ITEMS, "left out"),
        ("Parts of a multipart request", multipart.MAX_PARTS, 413),
        ("Empty parts of a multipart request", multipart.MAX_EMPTY_PARTS, 400),
        ("Bytes of a part's header", multipart.MAX_PART_HEADER_BYTES, 400),
        ("Characters of a boundary", multipart.MAX_BOUNDARY_CHARACTERS, 400),
        ("Instances of a commitment request", MAX_REFERENCES, 400),
        ("Bytes of a commitment request", commitment.MAX_BODY_BYTES, 413),
        ("Changes of a page", changefeed.MAX_LIMIT, 400),
        ("Seconds to wait for a change", changefeed.MAX_WAIT_S, 400),
        ("FHIR: parameters of a search", asked.MOST_PARAMETERS, 400),
        ("FHIR: values of a parameter", values.MOST, 400),
        ("FHIR: resources of a page", asked.MOST, "the next page"),
        ("FHIR: series of a page of studies", imaging_studies.MOST_SERIES, "the next page"),
        ("FHIR: instances that are told of a study", imaging_studies.MOST_INSTANCES, "none is told"),
    )
    return table(("What", "At most", "Beyond"), [(name, f"{value:,}", str(beyond)) for name, value, beyond in rows])


def store_statuses() -> str:
    """Statuses of C-STORE responses."""
    return _statuses([status.SUCCESS], status.OF_STORE, status.PROCESSING_FAILURE)


def find_statuses() -> str:
    """Statuses of C-FIND responses."""
    own = [status.SUCCESS, status.PENDING, status.PENDING_WARNING, status.CANCEL]
    return _statuses(own, status.OF_FIND, status.FIND_UNABLE)


def retrieve_statuses() -> str:
    """Statuses of C-MOVE and C-GET responses."""
    own = [
        status.SUCCESS,
        status.SUBOPERATIONS,
        status.SUBOPERATIONS_WARNING,
        status.SUBOPERATIONS_FAILED,
        status.DESTINATION_UNKNOWN,
        status.CANCEL,
    ]
    return _statuses(own, status.OF_RETRIEVE, status.FIND_UNABLE)


def action_statuses() -> str:
    """Statuses of N-ACTION responses."""
    own = [status.SUCCESS, status.NO_SUCH_OBJECT, status.NO_SUCH_ACTION]
    return _statuses(own, status.OF_ACTION, status.PROCESSING_FAILURE)


def performed_statuses() -> str:
    """Statuses of N-CREATE, N-SET and N-GET, and the errors behind them."""
    return _statuses([status.SUCCESS], status.OF_PERFORMED, status.PROCESSING_FAILURE)


def _statuses(
    own: Sequence[status.Status], mapped: Mapping[type[Exception], status.Status], defect: status.Status
) -> str:
    causes: dict[status.Status, list[str]] = {each: [] for each in own}
    for kind, each in mapped.items():
        causes.setdefault(each, []).append(kind.__name__)
    causes.setdefault(defect, []).append("any other error")
    rows = [
        (_code(f"0x{each.code:04X}"), each.meaning, ", ".join(kinds), each.reference)
        for each, kinds in sorted(causes.items(), key=lambda item: (item[0] not in own, item[0].code))
    ]
    return table(("Status", "Meaning", "Errors", "Reference"), rows)


def failure_reasons() -> str:
    """Failure Reason values of STOW-RS responses."""
    causes: dict[Any, list[str]] = {}
    for kind, reason in REASONS.items():
        causes.setdefault(reason, []).append(kind.__name__)
    rows = [
        (
            _code(f"0x{reason:04X}"),
            str(int(reason)),
            _plain(reason.name.replace("_", " ").capitalize().replace(" sop ", " SOP ")),
            ", ".join(kinds),
        )
        for reason, kinds in sorted(causes.items())
    ]
    return table(("Failure Reason", "Decimal", "Meaning", "Errors, each the nearest class in its line"), rows)


def http_statuses() -> str:
    """The HTTP status of each domain error."""
    rows = []
    for module, base in (
        (errors, errors.GatewayError),
        (imaging, imaging.ImagingError),
        (storage, storage.StorageError),
    ):
        for kind in _kinds(module, base):
            found = problem.status_of(kind())
            rows.append((kind.__name__, f"{found.value} {found.phrase}", _plain(inspect.getdoc(kind))))
    return table(("Error", "Status", "Meaning"), rows)


def _kinds(module: ModuleType, base: type[Exception]) -> list[type[Exception]]:
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, base) and value is not base
    ]


BLOCKS: dict[str, Callable[[], str]] = {
    "services": services,
    "sop-classes": sop_classes,
    "transfer-syntaxes": transfer_syntaxes,
    "attributes": attributes,
    "routes": routes,
    "media-types": media_types_of_answers,
    "aliases": aliases,
    "limits": limits,
    "store-statuses": store_statuses,
    "find-statuses": find_statuses,
    "retrieve-statuses": retrieve_statuses,
    "action-statuses": action_statuses,
    "performed-statuses": performed_statuses,
    "failure-reasons": failure_reasons,
    "http-statuses": http_statuses,
}
"""What stands between the markers ``generated: NAME`` and ``end``."""


def filled(text: str) -> str:
    """A document with its generated parts written anew."""
    return _BLOCK.sub(lambda found: f"{found[1]}\n{BLOCKS[found['name']]()}\n{found[3]}", text)


def expected() -> dict[Path, str]:
    """Every generated file and what it should hold."""
    conformance = FOLDER / "conformance.md"
    return {
        FOLDER / "settings.md": settings(),
        FOLDER / "cli.md": commands(),
        conformance: filled(conformance.read_text(encoding="utf-8")),
        contract.FILE: contract.kept(),
    }


def stale() -> dict[Path, str]:
    """The files that are not what they should be, and what they should hold."""
    return {
        path: text for path, text in expected().items() if not path.exists() or path.read_text(encoding="utf-8") != text
    }


def main(arguments: Sequence[str]) -> int:
    """Write the files, or with ``--check`` name those that are stale; the exit status is 1 when there are some."""
    found = stale()
    if "--check" in arguments:
        for path in found:
            sys.stderr.write(f"stale: {path.relative_to(FOLDER.parent)}; run make docs\n")
        return 1 if found else 0
    for path, text in found.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
