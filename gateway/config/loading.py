"""Settings from a TOML file and the environment, with every fault told at once."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from gateway.config.settings import Settings


class InvalidSettings(Exception):
    """The settings cannot be used; ``faults`` has one line for each fault: where it is and what would be right."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


def variable(name: str) -> str | None:
    """What an environment variable that a setting names holds."""
    return os.environ.get(name)


def variables_set() -> list[str]:
    """Names of the environment variables that are settings, and set."""
    return sorted(name for name in os.environ if name.upper().startswith("GATEWAY_"))


def load(path: Path | None) -> Settings:
    """Settings from a file, if any, and the environment.

    Relative paths in a file are relative to the file.

    Raises
    ------
    InvalidSettings
        With every fault at once.
    """
    found: dict[str, Any] = {}
    if path is not None:
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            what = "-c names the settings file; without it the defaults hold"
            raise InvalidSettings([f"{path}: {error.strerror or error}; {what}"]) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InvalidSettings([f"{path}: not TOML: {error}"]) from error
        found = _resolved(found, Settings, path.parent)
    try:
        return Settings(**found)
    except ValidationError as error:
        raise InvalidSettings([_fault(each) for each in error.errors()]) from error


def _resolved(value: Any, kind: Any, folder: Path) -> Any:
    """A value of the file, whatever is a path by its type in it taken from the folder; what does not fit as it is."""
    if kind is Path:
        return str(folder / value) if isinstance(value, str) else value
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if not isinstance(value, dict):
            return value
        fields = kind.model_fields
        return {
            name: _resolved(each, fields[name].annotation, folder) if name in fields else each
            for name, each in value.items()
        }
    parts = [each for each in get_args(kind) if each is not Ellipsis]
    if get_origin(kind) is dict and isinstance(value, dict):
        return {name: _resolved(each, parts[1], folder) for name, each in value.items()}
    if get_origin(kind) is tuple and isinstance(value, list):
        return [_resolved(each, parts[0], folder) for each in value]
    if get_origin(kind) in (Union, UnionType, Annotated):
        for part in parts:
            value = _resolved(value, part, folder)
    return value


_FORMS = {
    "source_id": "printable ASCII without a space",
    "site_id": "printable ASCII without a space",
    "host": "a name or an address",
    "[key]": "up to 32 letters, digits and ._-",
    "active_key": "up to 32 letters, digits and ._-",
    "ae_title": "printable ASCII without a backslash",
    "name": "a letter or digit, then up to 63 letters, digits, spaces and ._-",
    "storage_class": "up to 64 letters, digits, underscores and hyphens",
    "modalities": "up to 16 capital letters, digits, underscores and spaces",
    "tenants": "1 to 32 of a-z, 0-9 and -, with a letter or digit at both ends",
    "path_prefix": "segments of letters, digits and ._~-, each after a slash",
    "db_schema": "lower-case letters, digits and underscores, no digit first",
    "sop_classes": "a UID",
}
"""What would be right where a pattern is asked for."""


_SECRET = frozenset(("url", "customer_key", "secret_access_key", "client_secret", "key"))


def _fault(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    kind, context, given = error["type"], error.get("ctx", {}), error.get("input")
    if kind == "extra_forbidden":
        return f"{where}: there is no such setting"
    if kind == "value_error":
        text = str(context["error"])
        return f"{where}: {text}" if where else text
    if kind == "string_too_long":
        return f"{where}: at most {context['max_length']} characters, got {len(str(given))}"
    if kind == "string_pattern_mismatch":
        named = next(str(part) for part in reversed(error["loc"]) if not isinstance(part, int))
        return f"{where}: {_FORMS[named]}, got {given!r}"
    shown = "" if isinstance(given, dict) or where.rpartition(".")[2] in _SECRET else f", got {given!r}"
    return f"{where}: {error['msg'][0].lower()}{error['msg'][1:]}{shown}"
