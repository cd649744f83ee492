"""Writes a backup, beside a running gateway: whole under its name, or not at all."""

from __future__ import annotations

import base64
import datetime
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

from gateway import assembly, config, views
from gateway.backups import control, steps
from gateway.backups import manifest as manifests
from gateway.backups.manifest import BackupRefused, Manifest, Part
from gateway.config import Settings
from storage.control.relational_steps import RelationalSteps
from storage.control.steps import Steps
from storage.index.sqlite import SqliteIndex

_BLOCK_BYTES = 1 << 20


def write(
    settings: Settings,
    settings_file: Path | None,
    target: Path,
    *,
    with_keys: bool,
    with_index: bool,
    progress: Callable[[int], None] = lambda _files: None,
) -> Manifest:
    """Write a backup to a directory, or to a file when the name ends in .tar.

    Parameters
    ----------
    progress
        Is told now and then how many files are written.

    Raises
    ------
    BackupRefused
        The target is there already, or the index is not in SQLite and was asked for.
    OSError, StorageUnavailable
    """
    if target.exists():
        raise BackupRefused(f"{target} is there already; name another place")
    if with_index and settings.index.engine != "sqlite":
        raise BackupRefused("--with-index: an index in PostgreSQL is backed up by pg_dump, or made anew by a reindex")
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    partial.mkdir(mode=0o700)
    try:
        files = 0
        for name, path in _files(settings, settings_file, with_keys):
            _copy(path, partial / name)
            progress(files := files + 1)
        for _ in _write_audit(assembly.audit_directory(settings), partial):
            progress(files := files + 1)
        _write_from_index(settings, partial, with_index)
        with closing(assembly.control(settings)) as kept:
            _write(partial / manifests.CONTROL, control.lines(kept))
            _write_steps(RelationalSteps(kept), partial)
        written = _manifest(settings, partial)
        _write(partial / manifests.MANIFEST, iter([written.dumps()]))
        if target.suffix == ".tar":
            _pack(partial, target)
        else:
            folders = (manifests.AUDIT, manifests.CERTIFICATES, manifests.KEYS, *manifests.PSEUDONYM_KEYS, ".")
            for folder in (partial / name for name in folders):
                if folder.is_dir():
                    _sync(folder)
            partial.rename(target)
        _sync(target.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return written


def _write_steps(kept: Steps, partial: Path) -> None:
    """Where there are any: an earlier release, which knows of none, takes a backup without them."""
    found = steps.lines(kept)
    if (first := next(found, None)) is not None:
        _write(partial / manifests.STEPS, chain([first], found))


def _files(settings: Settings, settings_file: Path | None, with_keys: bool) -> Iterator[tuple[str, Path]]:
    if settings_file is not None:
        yield manifests.SETTINGS, settings_file
    if settings.access.policy_file is not None:
        yield manifests.POLICY, settings.access.policy_file
    for path in sorted(assembly.certificates_directory(settings).glob("*.json")):
        yield f"{manifests.CERTIFICATES}{path.name}", path
    if with_keys:
        yield from _keys(settings)


def _keys(settings: Settings) -> Iterator[tuple[str, Path]]:
    """Every key that is in a file."""
    if settings.encryption.keys_directory is not None:
        for path in sorted(settings.encryption.keys_directory.glob("*.key")):
            yield f"{manifests.KEYS}{path.name}", path
    if settings.s3.customer_key_file is not None:
        yield manifests.CUSTOMER_KEY, settings.s3.customer_key_file
    if (audit_key := assembly.audit_key_file(settings)) is not None and audit_key.exists():
        yield manifests.AUDIT_KEY, audit_key
    yield from ((name, path) for name, path in views.key_files(settings).items() if path.exists())


def _write_audit(directory: Path, partial: Path) -> Iterator[Path]:
    """Write, and name, every audit file up to its last whole line: they only grow, so that much never changes again."""
    for path in sorted(directory.glob("*.jsonl")):
        with path.open("rb") as file:
            length = _whole_lines(file.fileno())
            _write(partial / manifests.AUDIT / path.name, _blocks(file.fileno(), length))
        yield path


def _whole_lines(descriptor: int) -> int:
    """Bytes up to and with the last line end that is there now."""
    end = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - (1 << 16))
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _blocks(descriptor: int, length: int) -> Iterator[bytes]:
    position = 0
    while position < length:
        block = os.pread(descriptor, min(_BLOCK_BYTES, length - position), position)
        if not block:
            raise BackupRefused("an audit file became shorter while it was read; try again")
        yield block
        position += len(block)


def _write_from_index(settings: Settings, partial: Path, with_index: bool) -> None:
    assembly.check_index(settings)
    with closing(assembly.index(settings)) as index:
        lines = (
            json.dumps(
                {
                    "tenant": tenant,
                    "transaction_uid": uid,
                    "principal": asked.principal,
                    "asked_at_s": asked.asked_at_s,
                    "request": base64.b64encode(asked.request).decode(),
                    "result": None if asked.result is None else base64.b64encode(asked.result).decode(),
                }
            ).encode()
            + b"\n"
            for tenant, uid, asked in index.commitments()
        )
        _write(partial / manifests.COMMITMENTS, lines)
    if with_index:
        with closing(SqliteIndex(assembly.index_path(settings))) as sqlite:
            sqlite.copy(partial / manifests.INDEX)
        (partial / manifests.INDEX).chmod(0o600)
        _sync(partial / manifests.INDEX)


def _manifest(settings: Settings, partial: Path) -> Manifest:
    parts: dict[str, Part] = {}
    for path in sorted(path for path in partial.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            parts[path.relative_to(partial).as_posix()] = manifests.measured(file)
    variables = {*config.variables_set(), *settings.encryption.key_variables.values()}
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    left_out = tuple(name for name, _ in _keys(settings) if name not in parts)
    return Manifest(now, assembly.release(), settings.index.engine, tuple(sorted(variables)), parts, left_out)


def _pack(partial: Path, target: Path) -> None:
    packed = partial / "packed.tar"
    with os.fdopen(os.open(packed, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            names = sorted(path.relative_to(partial).as_posix() for path in partial.rglob("*") if path.is_file())
            for name in names:
                if name != packed.name:
                    archive.add(partial / name, name)
        file.flush()
        os.fsync(file.fileno())
    os.link(packed, target)  # unlike a rename it never replaces what came there meanwhile


def _copy(path: Path, to: Path) -> None:
    with path.open("rb") as file:
        _write(to, iter(lambda: file.read(_BLOCK_BYTES), b""))


def _write(path: Path, blocks: Iterator[bytes]) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        for block in blocks:
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
