"""What docs/security.md shows of the policy and of identity providers is valid, complete, and does what it says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from gateway import cli, config
from gateway.access import policy
from gateway.config.access import IssuerSettings

TEXT = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")


def example(name: str) -> str:
    """The example that begins with the name of its file."""
    return next(each for each in re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL) if each.startswith(f"# {name}"))


def test_the_policy_is_what_its_table_of_expectations_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("policy.toml", "expectations.toml"):
        (tmp_path / name).write_text(example(name))
    (tmp_path / "gateway.toml").write_text('[access]\npolicy_file = "policy.toml"\n')
    table = str(tmp_path / "expectations.toml")
    assert cli.main(["policy", "test", table, "-c", str(tmp_path / "gateway.toml")]) == 0, capsys.readouterr().err
    assert capsys.readouterr().out == "4 expectations, 0 differ\n"


def test_the_provider_of_the_example_is_one(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(example("gateway.toml"))
    (found,) = config.load(tmp_path / "gateway.toml").access.issuers
    assert found.issuer == "https://id.example.org/realms/hospital"


def test_every_setting_of_a_provider_is_described() -> None:
    section = TEXT.partition("### An OpenID provider")[2].partition("\n### ")[0]
    assert {name for name in IssuerSettings.model_fields if f"`{name}`" not in section} == set()


def test_every_built_in_role_is_described() -> None:
    line = next(line for line in TEXT.splitlines() if line.startswith("| built-in roles"))
    assert {name for name in policy.BUILT_IN.roles if f"`{name}`" not in line} == set()
    assert tomllib.loads(example("policy.toml"))["role"]
