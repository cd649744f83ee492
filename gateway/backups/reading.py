"""Reads a backup: checks that it is whole, and puts its parts where the settings want them."""

from __future__ import annotations

import base64
import json
import os
import secrets
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from gateway import assembly, views
from gateway.backups import control, steps
from gateway.backups import manifest as manifests
from gateway.backups.manifest import BackupDamaged, BackupRefused, Manifest
from gateway.config import InvalidSettings, Settings
from gateway.rebuilding import alone, not_meanwhile
from storage.control.relational_steps import RelationalSteps
from storage.dicom import identifiers as ids
from storage.index.stored import Commitment

_BLOCK_BYTES = 1 << 20


class Backup(Protocol):
    """An opened backup."""

    def names(self) -> set[str]:
        """Every file in it."""
        ...

    def open(self, name: str) -> BinaryIO:
        """A file of it."""
        ...


class _Directory:
    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> set[str]:
        return {path.relative_to(self._path).as_posix() for path in self._path.rglob("*") if not path.is_dir()}

    def open(self, name: str) -> BinaryIO:
        return os.fdopen(os.open(self._path / name, os.O_RDONLY | os.O_NOFOLLOW), "rb")


class _Tar:
    """Nothing is ever unpacked by the names in it: parts are looked up by those that a backup has."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._members = {member.name: member for member in archive if not member.isdir()}

    def names(self) -> set[str]:
        return set(self._members)

    def open(self, name: str) -> BinaryIO:
        member = self._members[name]
        file = self._archive.extractfile(member) if member.isreg() else None
        if file is None:
            raise BackupDamaged(f"{name} is no file")
        return file  # type: ignore[return-value]


@contextmanager
def opened(path: Path) -> Iterator[tuple[Backup, Manifest]]:
    """A backup that is whole: every part was read and compared. Raises BackupDamaged, OSError."""
    with ExitStack() as held:
        backup: Backup
        if path.is_dir():
            backup = _Directory(path)
        else:
            try:
                backup = _Tar(held.enter_context(tarfile.open(path, mode="r:")))
            except tarfile.TarError as error:
                raise BackupDamaged(f"{path} is not a whole tar file") from error
        yield backup, _checked(backup)


def _checked(backup: Backup) -> Manifest:
    names = backup.names()
    if manifests.MANIFEST not in names:
        raise BackupDamaged(f"there is no {manifests.MANIFEST}: not a backup")
    with backup.open(manifests.MANIFEST) as file:
        manifest = manifests.read(file)
    for name in sorted(names - set(manifest.parts) - {manifests.MANIFEST}):
        raise BackupDamaged(f"{name!r} is not part of the backup")
    for name, part in manifest.parts.items():
        if name not in names:
            raise BackupDamaged(f"{name} is missing")
        with backup.open(name) as file:
            if manifests.measured(file) != part:
                raise BackupDamaged(f"{name} is not what was written")
    return manifest


@dataclass(frozen=True, slots=True)
class Restored:
    """Files put back, files that were there already; likewise keys, users and links, steps, requests for commitment.

    ``commitments`` is None where there is no index yet to put them into. ``keys_missing`` were left out of the backup
    and are not there; they belong where they are said to.
    """

    files: int
    files_known: int
    accounts: int
    accounts_known: int
    steps: int
    steps_known: int
    commitments: int | None
    commitments_known: int
    keys_missing: dict[str, Path]


def restore_settings(backup: Backup, manifest: Manifest, settings_file: Path, *, force: bool) -> None:
    """Put the settings file back, so that the rest can be put where it says. Raises BackupRefused."""
    if manifests.SETTINGS in manifest.parts:
        _put(backup, manifest, {manifests.SETTINGS: settings_file}, force=force)


def restore(backup: Backup, manifest: Manifest, settings: Settings, *, force: bool) -> Restored:
    """Put everything else back. Nothing is written when something else than the backup's is in the way of a part.

    Raises
    ------
    BackupRefused
        A file is there with other content, and ``force`` is not given.
    InvalidSettings
        A part has no place by the settings, or a gateway runs where the index has to be replaced.
    """
    places, keys_missing = _wanted(manifest, settings), _keys_missing(manifest, settings)
    with ExitStack() as held:
        held.enter_context(alone(settings) if manifests.INDEX in places else not_meanwhile(settings))
        written = _put(backup, manifest, places, force=force)
    accounts, accounts_known = _accounts(backup, settings)
    put, there = _steps(backup, settings)
    commitments, known = None, 0
    try:
        assembly.check_index(settings)
    except InvalidSettings:
        if backup_has_none(backup):
            commitments = 0
    else:
        with not_meanwhile(settings):
            commitments, known = _commitments(backup, settings)
    return Restored(
        written, len(places) - written, accounts, accounts_known, put, there, commitments, known, keys_missing
    )


def _accounts(backup: Backup, settings: Settings) -> tuple[int, int]:
    if manifests.CONTROL not in backup.names():
        return 0, 0  # of an earlier release
    with closing(assembly.control(settings)) as kept, backup.open(manifests.CONTROL) as file:
        return control.put_back(kept, file)


def _steps(backup: Backup, settings: Settings) -> tuple[int, int]:
    if manifests.STEPS not in backup.names():
        return 0, 0
    with closing(assembly.control(settings)) as kept, backup.open(manifests.STEPS) as file:
        return steps.put_back(RelationalSteps(kept), file)


def backup_has_none(backup: Backup) -> bool:
    """Whether there is no request for storage commitment in a backup."""
    with backup.open(manifests.COMMITMENTS) as file:
        return not file.read(1)


def _wanted(manifest: Manifest, settings: Settings) -> dict[str, Path]:
    """Where the parts belong that are files. Raises InvalidSettings."""
    found = _places(manifest.parts, settings)
    without = [
        f"{name}: the settings have no place for it; restore with the backup's own"
        for name in found
        if found[name] is None
    ]
    if without:
        raise InvalidSettings(without)
    return {name: path for name, path in found.items() if path is not None}


def _keys_missing(manifest: Manifest, settings: Settings) -> dict[str, Path]:
    """Where keys belong that the backup does not have and that are not there; the trail's is made anew."""
    found = _places((name for name in manifest.keys_left_out if name != manifests.AUDIT_KEY), settings)
    return {name: path for name, path in found.items() if path is not None and not path.exists()}


def _places(names: Iterable[str], settings: Settings) -> dict[str, Path | None]:
    """Where files belong, by their names in a backup; None where the settings have no place for one."""
    found: dict[str, Path | None] = {}
    pseudonym_keys = views.key_files(settings)
    for name in names:
        if name.startswith(manifests.AUDIT):
            found[name] = assembly.audit_directory(settings) / name.removeprefix(manifests.AUDIT)
        elif name.startswith(manifests.CERTIFICATES):
            found[name] = assembly.certificates_directory(settings) / name.removeprefix(manifests.CERTIFICATES)
        elif name.startswith(manifests.KEYS):
            keys = settings.encryption.keys_directory
            found[name] = keys / name.removeprefix(manifests.KEYS) if keys else None
        elif name.startswith(manifests.PSEUDONYM_KEYS):
            found[name] = pseudonym_keys.get(name)
        elif name == manifests.POLICY:
            found[name] = settings.access.policy_file
        elif name == manifests.CUSTOMER_KEY:
            found[name] = settings.s3.customer_key_file
        elif name == manifests.AUDIT_KEY:
            found[name] = assembly.audit_key_file(settings)
        elif name == manifests.INDEX:
            found[name] = assembly.index_path(settings) if settings.index.engine == "sqlite" else None
    return found


def _put(backup: Backup, manifest: Manifest, places: dict[str, Path], *, force: bool) -> int:
    """Put parts in their places; how many were not there yet."""
    missing: dict[str, Path] = {}
    for name, path in places.items():
        if path.exists():
            part, audit = manifest.parts[name], name.startswith(manifests.AUDIT)
            with path.open("rb") as there:
                # An audit file that has grown since holds everything that the backup has of it.
                if manifests.measured(there, part.bytes if audit else None) == part:
                    continue
            if audit:
                raise BackupRefused(f"{path} is another audit file of that name; move it to where it is kept")
            if not force:
                raise BackupRefused(f"{path} is there with other content; look at it, or replace it by --force")
        missing[name] = path
    for name, path in missing.items():
        if name == manifests.INDEX:
            # What a log beside the old one holds is not for this one.
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
        _write(backup, name, path)
    return len(missing)


def _write(backup: Backup, name: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        with (
            backup.open(name) as source,
            os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
        ):
            while block := source.read(_BLOCK_BYTES):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _commitments(backup: Backup, settings: Settings) -> tuple[int, int]:
    """How many requests were put back, and how many the index had."""
    put = known = 0
    with closing(assembly.index(settings)) as index, backup.open(manifests.COMMITMENTS) as file:
        for line in file:
            found = json.loads(line)
            result = None if found["result"] is None else base64.b64decode(found["result"])
            asked = Commitment(found["principal"], found["asked_at_s"], base64.b64decode(found["request"]), result)
            tenant = ids.tenant(found["tenant"])
            if index.ask_commitment(tenant, found["transaction_uid"], asked):
                put += 1
            else:
                known += 1
    return put, known
