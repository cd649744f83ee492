"""Claims of the conformance statement: marks such as [N1] in its text, ``@claim("N1")`` on the test that proves it."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

STATEMENT = Path(__file__).parents[2] / "docs" / "conformance.md"
_MARK = re.compile(r"\[([A-Z]\d+)\]")

Test = TypeVar("Test", bound=Callable[..., Any])


def claim(*marks: str) -> Callable[[Test], Test]:
    """Say which claims a test proves."""
    if not marks or not all(re.fullmatch(r"[A-Z]\d+", mark) for mark in marks):
        raise ValueError(f"not claims: {marks}")
    return lambda test: test


def stated() -> list[str]:
    """The marks of the statement, in its order."""
    return _MARK.findall(STATEMENT.read_text(encoding="utf-8"))


def proven(folder: Path = Path(__file__).parents[1]) -> dict[str, list[str]]:
    """The tests of each claim, as module and name."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not node.name.startswith("test_"):
                continue
            for each in node.decorator_list:
                if isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id == "claim":
                    for mark in each.args:
                        assert isinstance(mark, ast.Constant)
                        found.setdefault(str(mark.value), []).append(f"{path.stem}::{node.name}")
    return found
