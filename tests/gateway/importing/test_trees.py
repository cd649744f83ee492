"""What a directory gives: regular files below it in one order, and nothing from elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.importing.items import Fate, Item, Told
from gateway.importing.trees import OneFile, Tree


def names(entries: list[Item | Told]) -> list[str]:
    return [entry.name for entry in entries if isinstance(entry, Item)]


def test_files_come_in_the_order_of_names_directory_by_directory(tmp_path: Path) -> None:
    for name in ("b/2", "b/10", "a", "c.dcm", "b/deep/x"):
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    tree = Tree(tmp_path / "source", tmp_path / "data")
    assert names(list(tree.entries(0))) == ["a", "b/10", "b/2", "b/deep/x", "c.dcm"]
    assert list(tree.entries(0)) == list(tree.entries(0))


def test_links_pipes_and_the_gateways_own_directory_are_left_out(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "secret").write_bytes(b"x")
    source = tmp_path / "source"
    (source / "data").mkdir(parents=True)
    (source / "data" / "object").write_bytes(b"x")
    (source / "file").write_bytes(b"x")
    (source / "link").symlink_to(elsewhere / "secret")
    (source / "folder").symlink_to(elsewhere)
    (source / "loop").symlink_to(source)
    os.mkfifo(source / "pipe")
    entries = list(Tree(source, source / "data").entries(0))
    assert names(entries) == ["file"]
    assert {(entry.name, entry.reason) for entry in entries if isinstance(entry, Told)} == {
        ("data", "the gateway's own directory"),
        ("folder", "a symbolic link"),
        ("link", "a symbolic link"),
        ("loop", "a symbolic link"),
        ("pipe", "not a file"),
    }
    assert all(entry.fate is Fate.SKIPPED for entry in entries if isinstance(entry, Told))


def test_a_file_that_became_a_link_or_a_pipe_meanwhile_is_not_opened(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("first", "second"):
        (source / name).write_bytes(b"x")
    tree = Tree(source, tmp_path / "data")
    first, second = (entry for entry in tree.entries(0) if isinstance(entry, Item))
    (source / "first").unlink()
    (source / "first").symlink_to("second")
    (source / "second").unlink()
    os.mkfifo(source / "second")
    for item in (first, second):
        with pytest.raises(OSError), tree.open(item):
            pass


def test_a_changed_file_is_another(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    (before,) = OneFile(path).entries(0)
    path.write_bytes(b"xy")
    (after,) = OneFile(path).entries(0)
    assert isinstance(before, Item)
    assert isinstance(after, Item)
    assert before.state != after.state
