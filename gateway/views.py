"""Views and de-identification of what arrives, as the settings describe them, with keys from where they say."""

from __future__ import annotations

import datetime
import secrets
from pathlib import Path

from gateway.access import scopes
from gateway.audit.key import read_or_make
from gateway.config import InvalidSettings, Settings
from gateway.config.views import DeidentificationSettings
from gateway.context import of_the_gateway
from gateway.deid.profile import Profile
from gateway.deid.pseudonyms import DateShift, Pseudonyms
from gateway.deid.recipe import Recipe
from gateway.deid.safe_private import SafePrivate
from gateway.imaging import lettering
from gateway.stores import KEY_BYTES, key_in_file, key_of
from gateway.viewing.definition import Definition, Lettering
from storage.dicom import identifiers as ids
from storage.dicom.matching import EVERYTHING, Condition


def directory(settings: Settings) -> Path:
    """Where each view has its key, and its rows with SQLite."""
    return settings.storage.directory / "views"


def definition(settings: Settings, name: str) -> Definition:
    """A view. Its key is made when the settings name none and there is none yet. Raises InvalidSettings."""
    given = settings.views[name]
    return Definition(
        name,
        ids.Tenant(given.tenant),
        _scope(settings, name),
        profile(settings, name),
        Pseudonyms(
            _key(given, f"views.{name}", _made_key(settings, "views", name)),
            DateShift(given.min_shift_days, given.max_shift_days),
        ),
        Lettering(given.find_text),
    )


def key_files(settings: Settings) -> dict[str, Path]:
    """Where the keys are that are in files, by ``views/NAME.key`` and ``deidentification/NAME.key``."""
    sections = (("views", settings.views), ("deidentification", settings.deidentification))
    return {
        f"{kind}/{name}.key": given.key_file or _made_key(settings, kind, name)
        for kind, section in sections
        for name, given in section.items()
        if not given.key.get_secret_value()
    }


def check(settings: Settings, named: frozenset[str]) -> None:
    """Validate every view without making anything, and that those ``named`` by the policy are there.

    Raises InvalidSettings.
    """
    if settings.views and settings.storage.read_only:
        raise InvalidSettings(["views: not with storage.read_only: a view keeps objects of its own"])
    for name, given in settings.views.items():
        _scope(settings, name)
        _check(settings, given, f"views.{name}")
    for name, section in settings.deidentification.items():
        _check(settings, section, f"deidentification.{name}")
    if unknown := sorted(named - settings.views.keys()):
        raise InvalidSettings(
            [f"access.policy_file: a rule names the view {unknown[0]!r}, but there is no [views.{unknown[0]}]"]
        )


def _check(settings: Settings, given: DeidentificationSettings, where: str) -> None:
    _profile(given, where)
    _given_key(given, where)
    if given.find_text == "no":
        return
    if not lettering.is_installed():
        raise InvalidSettings([f"{where}.find_text: needs the extra ocr: pip install 'dicomweb-gateway[ocr]'"])
    if settings.imaging.memory_bytes < lettering.MIN_MEMORY_BYTES:
        least = lettering.MIN_MEMORY_BYTES
        raise InvalidSettings([f"{where}.find_text: needs imaging.memory_bytes of at least {least}"])


def profile(settings: Settings, name: str) -> Profile:
    """How a view de-identifies. Raises InvalidSettings."""
    return _profile(settings.views[name], f"views.{name}")


def arriving_profile(settings: Settings, name: str) -> Profile:
    """How a section de-identifies what arrives. Raises InvalidSettings."""
    return _profile(settings.deidentification[name], f"deidentification.{name}")


def arriving(settings: Settings, name: str) -> Definition:
    """How what arrives is de-identified by a section, for a tenant yet to be said; its key is made as that of a view.

    Raises InvalidSettings.
    """
    given, where = settings.deidentification[name], f"deidentification.{name}"
    key = _key(given, where, _made_key(settings, "deidentification", name))
    pseudonyms = Pseudonyms(key, DateShift(given.min_shift_days, given.max_shift_days))
    rules = _profile(given, where)
    return Definition(name, ids.Tenant("main"), EVERYTHING, rules, pseudonyms, Lettering(given.find_text))


def _profile(given: DeidentificationSettings, where: str) -> Profile:
    try:
        return Profile.of(
            given.options,
            Recipe.read(given.recipe_file) if given.recipe_file else None,
            SafePrivate.read(given.safe_private_file) if given.safe_private_file else None,
        )
    except InvalidSettings as error:
        raise InvalidSettings([f"{where}: {fault}" for fault in error.faults]) from error


def _scope(settings: Settings, name: str) -> Condition:
    scope = settings.views[name].scope
    try:
        scopes.check(scope)
    except ValueError as error:
        raise InvalidSettings([f"views.{name}.{error}"]) from error
    if any("${" in value or value.startswith("last ") for values in scope.values() for value in values):
        raise InvalidSettings([f"views.{name}.scope: may not depend on who asks or when"])
    today = datetime.datetime.now(datetime.UTC).date()
    return scopes.compiled(scope, of_the_gateway("view").principal, today)


def _made_key(settings: Settings, kind: str, name: str) -> Path:
    """Where a key is made when the settings name none."""
    return settings.storage.directory / kind / f"{name}.key"


def _given_key(given: DeidentificationSettings, where: str) -> bytes | None:
    if given.key_file is not None:
        return key_in_file(given.key_file, f"{where}.key_file")
    written = given.key.get_secret_value()
    return key_of(written.encode(), f"{where}.key") if written else None


def _key(given: DeidentificationSettings, where: str, path: Path) -> bytes:
    if key := _given_key(given, where):
        return key
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        return key_of(read_or_make(path, lambda: secrets.token_bytes(KEY_BYTES), 0o600), f"{where}: {path}")
    except OSError as error:
        raise InvalidSettings([f"{where}: {path} can be neither read nor made: {error.strerror or error}"]) from error
