"""Settings from a TOML file and the environment, with every fault told at once."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

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
            raise InvalidSettings([f"{path}: {error.strerror or error}"]) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InvalidSettings([f"{path}: not TOML: {error}"]) from error
        _resolve(found, path.parent)
    try:
        return Settings(**found)
    except ValidationError as error:
        raise InvalidSettings([_fault(each) for each in error.errors()]) from error


def _resolve(found: dict[str, Any], folder: Path) -> None:
    for section, name in (
        ("storage", "directory"),
        ("storage", "archive_directory"),
        ("access", "policy_file"),
        ("http", "tls_certificate_file"),
        ("http", "tls_key_file"),
        ("http", "tls_client_ca_file"),
        ("audit", "directory"),
        ("audit", "key_file"),
        ("syslog", "ca_bundle"),
        ("syslog", "client_certificate"),
        ("syslog", "client_key"),
        ("audit", "old_key_files"),
        ("s3", "ca_bundle"),
        ("index", "password_file"),
        ("s3", "customer_key_file"),
        ("encryption", "keys_directory"),
        ("s3", "web_identity_token_file"),
    ):
        values = found.get(section)
        _resolve_in(values, name, folder)
    access = found.get("access")
    issuers = access.get("issuers") if isinstance(access, dict) else None
    for values in issuers if isinstance(issuers, list) else ():
        for name in ("ca_bundle", "client_secret_file"):
            _resolve_in(values, name, folder)
    tenants = found.get("tenants")
    for values in tenants.values() if isinstance(tenants, dict) else ():
        _resolve_in(values, "archive_directory", folder)


def _resolve_in(values: object, name: str, folder: Path) -> None:
    if isinstance(values, dict) and isinstance(values.get(name), str):
        values[name] = str(folder / values[name])
    if isinstance(values, dict) and isinstance(values.get(name), list):
        values[name] = [str(folder / each) if isinstance(each, str) else each for each in values[name]]


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
